package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/hoodynetwork/hoody-agent/internal/admin"
	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api"
	"github.com/hoodynetwork/hoody-agent/internal/auth"
	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lxc"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
	"github.com/hoodynetwork/hoody-agent/internal/store"
	"github.com/hoodynetwork/hoody-agent/internal/transfer"
	"github.com/hoodynetwork/hoody-agent/internal/zfs"
)

// host is what an agent works on: storage and runtime of one server.
type host struct {
	pool    agent.Pool
	runtime agent.Runtime
	// poolState asks how the pool as a whole is.
	poolState func(context.Context) (poolState, error)
	close     func() error
}

// assemble builds the agent of this host: pool, runtime, store, peers and API.
func assemble(ctx context.Context, d daemon) (*node, error) {
	h, err := openHost(ctx, d)
	if err != nil {
		return nil, err
	}
	n, err := assembleOn(ctx, d, h)
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return n, nil
}

// openHost opens the real storage and runtime. It waits for an Incus that is starting, as long as ctx allows.
func openHost(ctx context.Context, d daemon) (host, error) {
	runtime := lxc.New(lxc.Options{
		Socket: d.cfg.Incus.Socket, Pool: d.cfg.Incus.Pool, Logger: d.log.Named("incus"), Observe: d.metrics.IncusCall,
	})
	if err := waitFor(ctx, d.log, "incus", runtime.Check); err != nil {
		return host{}, err
	}
	root := d.cfg.ZFS.Dataset
	if root == "" {
		var err error
		if root, err = runtime.PoolDataset(ctx); err != nil {
			return host{}, err
		}
	}
	pool, err := zfs.Open(ctx, root, zfs.Options{StateDir: d.cfg.StateDir, IdlePriority: d.cfg.ZFS.IdlePriority, Log: d.log.Named("zfs"), Observe: d.metrics.ZFSCommand})
	if err != nil {
		return host{}, err
	}
	if err := pool.CleanMounts(ctx); err != nil {
		return host{}, fmt.Errorf("mounts of an earlier run: %w", err)
	}
	state := func(ctx context.Context) (poolState, error) {
		status, err := pool.Status(ctx)
		return poolState{root: root, health: status.Health, used: status.Used, fragmentation: status.Fragmentation}, err
	}
	return host{pool: pool, runtime: runtime, poolState: state, close: func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*zfs.DefaultGrace)
		defer cancel()
		return pool.Close(ctx)
	}}, nil
}

// waitFor repeats check while what it needs is unavailable: after a boot the parts come up in their own time.
func waitFor(ctx context.Context, log *zap.Logger, what string, check func(context.Context) error) error {
	for waiting := false; ; waiting = true {
		err := check(ctx)
		if err == nil || !errors.Is(err, errdefs.ErrUnavailable) {
			return err
		}
		if !waiting {
			log.Warn("waiting", zap.String("for", what), zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(time.Second):
		}
	}
}

// assembleOn builds an agent on a host's storage and runtime, with the credentials and the store of its configuration.
func assembleOn(ctx context.Context, d daemon, h host) (*node, error) {
	credentials, err := openCredentials(d)
	if err != nil {
		return nil, err
	}
	records, err := openStore(ctx, d)
	if err != nil {
		return nil, err
	}
	n, err := assembleFrom(d, h, credentials, records)
	if err != nil {
		return nil, errors.Join(err, records.Close())
	}
	return n, nil
}

// openCredentials loads the certificate that others know this server by; nil for an agent that needs none.
func openCredentials(d daemon) (*pki.Credentials, error) {
	if !d.cfg.NeedsCredentials() {
		return nil, nil
	}
	credentials, err := pki.Load(d.cfg.Peer.Credentials, d.log.Named("pki"))
	if err != nil {
		return nil, err
	}
	if credentials.ServerID() != d.serverID {
		return nil, fmt.Errorf("certificate in %s is for server %s, this is %s", d.cfg.Peer.Credentials, credentials.ServerID(), d.serverID)
	}
	return credentials, nil
}

// assembleFrom builds an agent from its parts. The node closes records and h; until there is one they are the caller's.
func assembleFrom(d daemon, h host, credentials *pki.Credentials, records *store.Store) (*node, error) {
	verifier, err := openVerifier(d)
	if err != nil {
		return nil, err
	}
	links := newLinks(d, credentials, records)
	vital := &vitals{d: d, host: h, mirror: records.Mirror(), condition: records.Condition, credentials: credentials}
	a, err := agent.New(agent.Options{
		Server: serverRecord(d.cfg, d.serverID, d.build.version), Store: records, Pool: h.pool, Runtime: h.runtime, Peers: links.clients(),
		Logger:           d.log.Named("agent"),
		Observe:          observerOf(d.metrics, vital),
		UndoSnapshots:    orNone(d.cfg.Operations.UndoSnapshots),
		UndoExpiry:       d.cfg.Operations.UndoExpiry,
		DiffLimit:        d.cfg.Operations.DiffLimit,
		StopTimeout:      d.cfg.Operations.StopTimeout,
		NoForceStop:      !d.cfg.Operations.ForceStopAfterTimeout,
		OperationTimeout: d.cfg.Operations.StartTimeout,
		AcceptDecrypted:  d.cfg.ZFS.AcceptDecrypted,
		Transfers:        transfer.NewGate(d.cfg.Peer.MaxTransfers, d.cfg.Peer.MaxTransfersPerPeer),
	})
	if err != nil {
		return nil, errors.Join(err, links.close())
	}
	vital.degraded, vital.findings = a.Degraded, a.Findings
	written := new(writtenBytes)
	limiter := api.NewLimiter(limitsOf(d.cfg))
	closing, endStreams := context.WithCancel(context.Background())
	return &node{
		checks: vital.checks(),
		admin: admin.NewHandler(admin.Options{
			ServerID: d.serverID, Version: d.build.version, Started: d.started, Records: records, Storage: h.pool, Agent: a, Health: d.health,
			Pool: vital.lastPool, Meet: func(ctx context.Context) []admin.Meeting { return links.meet(ctx, records.Mirror().Servers()) },
			Log: d.log.Named("admin"),
		}),
		api: api.New(a, verifier, api.Options{
			Logger: d.log.Named("api"), Observe: d.metrics.APIRequest, Limiter: limiter, Stale: records.Mirror().Stale, Closing: closing,
		}),
		endStreams: endStreams,
		run: func(ctx context.Context) error {
			group, ctx := errgroup.WithContext(ctx)
			group.Go(func() error { return links.serve(ctx, a) })
			group.Go(func() error { return a.Run(ctx) })
			if limit := d.cfg.Metrics.MaxCopies; limit > 0 && d.cfg.Metrics.Listen != "" {
				group.Go(func() error {
					written.follow(ctx, d.log, func(ctx context.Context) (map[string]uint64, error) { return a.SourceWritten(ctx, limit) })
					return nil
				})
			}
			return group.Wait()
		},
		close:   func() error { return errors.Join(links.close(), records.Close(), h.close()) },
		sources: seen{d: d, records: records, agent: a, links: links, vitals: vital, written: written}.sources(),
		reload:  reloadParts(links, limiter),
		ready:   a.Registered(),
		// Locks that a deadlock would hold. Nothing here waits for ZFS, Incus or etcd.
		alive: func() { records.Mirror().Revision(); d.health.States(); vital.lastPool() },
	}, nil
}

// reloadParts hands a configuration to the parts that it changes while they run.
func reloadParts(links *links, limiter *api.Limiter) func(config.Config) {
	return func(cfg config.Config) {
		links.reload(cfg)
		limiter.Set(limitsOf(cfg))
	}
}

// limitsOf is what clients may ask for, by the configuration.
func limitsOf(cfg config.Config) api.Limits {
	limits := cfg.API.Limits
	return api.Limits{PerSecond: limits.RequestsPerSecond, Burst: limits.Burst, Streams: limits.Streams}
}

// openVerifier reads the key that tokens are checked with, or makes one for an agent that was given none.
func openVerifier(d daemon) (*auth.Verifier, error) {
	a := d.cfg.Auth
	keyFile := a.KeyFile
	if keyFile == "" && a.JWKSFile == "" {
		keys, err := ensureTokenKeys(tokenKeyDir(d.cfg.StateDir))
		if err != nil {
			return nil, err
		}
		keyFile = keys.public
	}
	return auth.NewVerifier(auth.Config{
		Algorithm: auth.Algorithm(a.Algorithm), KeyFile: keyFile, JWKSFile: a.JWKSFile, Issuer: a.Issuer, Audience: a.Audience, Leeway: a.Leeway,
	}, d.log.Named("auth"))
}

func serverRecord(cfg config.Config, id, version string) store.Server {
	now := time.Now().UTC()
	record := store.Server{
		ID: id, Name: cfg.Server.Name, Country: cfg.Server.Country, Region: cfg.Server.Region, City: cfg.Server.City, Datacenter: cfg.Server.Datacenter,
		MaxContainers: cfg.Server.MaxContainers, MaxSnapshots: cfg.Server.MaxSnapshots, PeerAddress: cmp.Or(cfg.Peer.Advertise, cfg.Peer.Listen),
		APIAddress: cmp.Or(cfg.API.Advertise, cfg.API.Listen), Version: version, CreatedAt: now, UpdatedAt: now,
	}
	var memory unix.Sysinfo_t
	if err := unix.Sysinfo(&memory); err == nil {
		record.MemoryBytes = uint64(memory.Totalram) * uint64(memory.Unit)
	}
	if record.Name == "" {
		if name, err := os.Hostname(); err == nil {
			record.Name = name
		}
	}
	return record
}

// orNone makes a configured zero what the agent takes for none, and not for its default.
func orNone(count int) int {
	if count == 0 {
		return -1
	}
	return count
}
