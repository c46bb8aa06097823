// Package store keeps the fleet's records in etcd: embedded in the process, or an existing cluster. One implementation
// serves both.
//
// Writes are transactions (Store.Update). Reads come from the Mirror, an in-memory copy of everything below the prefix
// that etcd's watch keeps current; it goes on serving when etcd is away and then says so. Records that come out of the
// mirror are pointers shared by everybody and must not be changed; records that come out of a transaction or of Store's
// Get methods belong to the caller.
package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store/embedded"
)

// Defaults of Options.
const (
	DefaultPrefix        = "/hoody/v1/"
	defaultLeaseTTL      = 15 * time.Second
	defaultHeartbeat     = 3 * time.Second
	defaultUpdateTimeout = 10 * time.Second
	defaultJobRetention  = 7 * 24 * time.Hour
	defaultMaxJobs       = 1000
	defaultHousekeeping  = 10 * time.Minute

	defaultEventRetention = 7 * 24 * time.Hour
	defaultMaxEvents      = 10_000
)

// EmbeddedOptions says where the embedded etcd lives and whom else it serves.
type EmbeddedOptions = embedded.Options

// Options says which etcd holds the records and how to treat it. Either Embedded or Endpoints must be set.
type Options struct {
	Embedded *EmbeddedOptions // run an etcd in this process

	Endpoints          []string // client URLs of an existing etcd
	TLS                *tls.Config
	Username, Password string

	Prefix   string      // of every key; "" = DefaultPrefix
	Logger   *zap.Logger // nil = none
	ServerID string      // this host's server id; whose finished jobs housekeeping removes and who Register registers

	// Instance tells this host from another one that claims the same ServerID: a token that the host keeps across
	// restarts of the agent, such as its machine id. Needed by Register only.
	Instance string

	// Observe is told of every transaction ("update") and linearizable read ("read"), and whether etcd failed it; what the
	// transaction itself refused is no failure. It is called concurrently. Nil means nobody listens.
	Observe func(operation string, took time.Duration, err error)

	LeaseTTL      time.Duration // how long a server counts as alive after its last sign, whole seconds; 0 = defaultLeaseTTL
	Heartbeat     time.Duration // how often the mirror asks etcd for a sign of life; 0 = defaultHeartbeat
	UpdateTimeout time.Duration // bound of a linearizable read and of each part of an Update: writing, finding out about a lost answer, the mirror; 0 = defaultUpdateTimeout
	JobRetention  time.Duration // how long finished jobs stay; 0 = defaultJobRetention
	MaxJobs       int           // how many of a server's that went well stay for longer than a day; 0 = defaultMaxJobs
	Housekeeping  time.Duration // pause between two rounds of removing them; 0 = defaultHousekeeping

	EventRetention time.Duration // how long events stay; 0 = defaultEventRetention
	MaxEvents      int           // how many of them stay, of the whole fleet; 0 = defaultMaxEvents

	dialOptions []grpc.DialOption // more of them, for tests
}

func (o Options) withDefaults() (Options, error) {
	if (o.Embedded == nil) == (len(o.Endpoints) == 0) {
		return o, fmt.Errorf("store: either an embedded etcd or endpoints must be given: %w", errdefs.ErrInvalid)
	}
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if !strings.HasSuffix(o.Prefix, "/") {
		o.Prefix += "/"
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Observe == nil {
		o.Observe = func(string, time.Duration, error) {}
	}
	o.LeaseTTL = cmp.Or(o.LeaseTTL, defaultLeaseTTL)
	o.Heartbeat = cmp.Or(o.Heartbeat, defaultHeartbeat)
	o.UpdateTimeout = cmp.Or(o.UpdateTimeout, defaultUpdateTimeout)
	o.JobRetention = cmp.Or(o.JobRetention, defaultJobRetention)
	o.MaxJobs = cmp.Or(o.MaxJobs, defaultMaxJobs)
	o.Housekeeping = cmp.Or(o.Housekeeping, defaultHousekeeping)
	o.EventRetention = cmp.Or(o.EventRetention, defaultEventRetention)
	o.MaxEvents = cmp.Or(o.MaxEvents, defaultMaxEvents)
	return o, nil
}

// Store is an open store. Its methods are safe for concurrent use.
type Store struct {
	opts   Options
	logger *zap.Logger
	keys   keyspace
	id     string

	server   *embedded.Server // nil with an external etcd
	client   *clientv3.Client
	mirror   *Mirror
	receipts receiptLease
	quotas   quotas
	slots    chan struct{} // held by the transactions under way
	turn     chan struct{} // held by the writer whose turn it is, see attempt.backOff

	stop    context.CancelFunc
	running sync.WaitGroup // the mirror's feed and housekeeping
	closing sync.Once
}

// Open connects to etcd, starting it first if it is to be embedded, and loads the mirror. ctx bounds opening only.
// It returns errdefs.ErrBusy when another process uses the embedded etcd's directory and errdefs.ErrUnavailable when
// etcd does not answer in time. The caller must Close the store.
func Open(ctx context.Context, opts Options) (_ *Store, err error) {
	opts, err = opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{
		opts:   opts,
		logger: opts.Logger.Named("store"),
		keys:   keyspace(opts.Prefix),
		slots:  make(chan struct{}, maxUnderWay),
		turn:   make(chan struct{}, 1),
		stop:   func() {},
	}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	endpoints := opts.Endpoints
	if opts.Embedded != nil {
		if s.server, err = embedded.Start(ctx, *opts.Embedded, opts.Logger); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
		endpoints = []string{s.server.Endpoint()}
	}
	if s.client, err = connect(endpoints, opts); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if opts.Embedded == nil {
		if err = checkVersions(ctx, s.client); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	if s.id, err = s.loadID(ctx); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.mirror = newMirror(s.keys, s.logger)
	feed := &feed{mirror: s.mirror, client: s.client, keys: s.keys, storeID: s.id, heartbeat: opts.Heartbeat, logger: s.logger}
	if err := feed.load(ctx); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	// Before anything has to be written. What takes longer than a start may is gone on with later.
	relief, cancel := context.WithTimeout(ctx, openingRelief)
	if err := s.relieveQuota(relief); err != nil {
		s.logger.Warn("relieve etcd's quota", zap.Error(err))
	}
	cancel()
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.running.Go(func() { feed.run(background) })
	s.running.Go(func() { s.keepHouse(background) })
	return s, nil
}

func connect(endpoints []string, opts Options) (*clientv3.Client, error) {
	reconnect := backoff.DefaultConfig
	reconnect.BaseDelay, reconnect.MaxDelay = 100*time.Millisecond, 3*time.Second
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   endpoints,
		TLS:         opts.TLS,
		Username:    opts.Username,
		Password:    opts.Password,
		DialTimeout: 5 * time.Second,
		// A peer that vanished without a word is noticed by these; etcd tolerates no ping more often than every 5 s.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		// gRPC's own backoff grows to two minutes, far longer than the outages we mean to ride out.
		DialOptions: append([]grpc.DialOption{
			grpc.WithChainUnaryInterceptor(requireLeader(len(endpoints))),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 3 * time.Second}),
		}, opts.dialOptions...),
		Logger: zap.NewNop(), // its errors come back from the calls
	})
	if err != nil {
		return nil, etcdError("connect to etcd", err)
	}
	return client, nil
}

// loadID reads the store's id; the first process to open the store makes it.
func (s *Store) loadID(ctx context.Context) (id string, err error) {
	fresh := make([]byte, 16)
	_, _ = rand.Read(fresh) // never fails: crypto/rand ends the process instead
	err = s.bounded(ctx, func(ctx context.Context) error {
		key := s.keys.storeID()
		// A full etcd refuses what might write, whether it would or not.
		known, err := s.client.Get(ctx, key)
		if err != nil {
			return etcdError("read store id", err)
		}
		if len(known.Kvs) > 0 {
			id = string(known.Kvs[0].Value)
			return nil
		}
		response, err := s.client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
			Then(clientv3.OpPut(key, hex.EncodeToString(fresh))).
			Else(clientv3.OpGet(key)).
			Commit()
		if err != nil {
			return etcdError("make store id", err)
		}
		if id = hex.EncodeToString(fresh); !response.Succeeded {
			id = string(response.Responses[0].GetResponseRange().Kvs[0].Value)
		}
		return nil
	})
	return id, err
}

// bounded runs fn under the option's timeout: etcd's client waits for a lost server for as long as its context lets it.
func (s *Store) bounded(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.UpdateTimeout)
	defer cancel()
	return fn(ctx)
}

// StoreID identifies the content: made at random when the store was first opened, it stays for the store's life.
// A pool stamped with another id belongs to another store.
func (s *Store) StoreID() string { return s.id }

// Mirror is the in-memory copy to read from. It goes on answering after Close, from what it held then.
func (s *Store) Mirror() *Mirror { return s.mirror }

// Close ends the background work, the connection and the embedded etcd, in this order. Close leases first: a lease
// left open ends by its TTL. Waits of the mirror and subscriptions end. Further calls do nothing.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		s.stop()
		s.running.Wait()
		if s.mirror != nil {
			s.mirror.close()
		}
		if s.client != nil {
			if err = s.client.Close(); errors.Is(err, context.Canceled) {
				err = nil // what the client says of its own closing
			}
		}
		if s.server != nil {
			s.server.Close()
		}
	})
	if err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}
