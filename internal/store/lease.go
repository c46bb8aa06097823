package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Lease keeps a server alive in everybody's eyes until it is closed or the process dies.
type Lease struct {
	store  *Store
	server string
	logger *zap.Logger
	token  string        // what tells this lease from one of another process
	lost   chan struct{} // closed when another host, or process, has taken the id
	stop   context.CancelFunc
	done   sync.WaitGroup

	mu    sync.Mutex
	cause error // why it is lost
	id    clientv3.LeaseID
	since time.Time // that the alive key tells
}

// presence is the value of a server's alive key.
type presence struct {
	Instance string    `json:"instance"`
	Token    string    `json:"token"`
	Since    time.Time `json:"since"`
}

// Register writes the server's record and shows it as alive for as long as the lease is open. The record's CreatedAt
// and Draining are kept from before. A lease that etcd lets expire, because neither could reach the other in time,
// is taken out again in the background.
//
// It returns errdefs.ErrBusy when a host with another Options.Instance is alive under the same id, and errdefs.ErrInvalid
// when that option or the id is missing. The same host takes its id over at once, even while its last process's lease
// runs. ctx bounds the registration only; Close the lease before the store.
func (s *Store) Register(ctx context.Context, server Server) (*Lease, error) {
	if err := checkID(KindServer, server.ID); err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	if s.opts.Instance == "" {
		return nil, fmt.Errorf("register server %s: no instance token given: %w", server.ID, errdefs.ErrInvalid)
	}
	l := &Lease{
		store:  s,
		server: server.ID,
		token:  rand.Text(),
		logger: s.logger.With(zap.String("server", server.ID)),
		lost:   make(chan struct{}),
	}
	err := l.grant(ctx, func(tx *Tx) error {
		record := server
		if was, err := tx.Server(server.ID); err == nil {
			record.CreatedAt, record.Draining = was.CreatedAt, was.Draining
		} else if !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
		return tx.PutServer(record)
	})
	if err != nil {
		return nil, fmt.Errorf("register server %s: %w", server.ID, err)
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	l.done.Go(func() { l.keep(background) })
	return l, nil
}

// Lost is closed when another host registered under the same id while this one was cut off, or another process of the same instance, such
// as that of a host that was cloned: this one must stop working.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Cause is why the lease is lost, once it is: errdefs.ErrBusy, or ErrOtherProcess.
func (l *Lease) Cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}

// Close ends the lease: the server is not alive any more. When etcd is away the TTL does it. Further calls do nothing.
func (l *Lease) Close() error {
	l.stop()
	l.done.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == clientv3.NoLease {
		return nil
	}
	id := l.id
	l.id = clientv3.NoLease
	err := l.store.bounded(context.Background(), func(ctx context.Context) error {
		_, err := l.store.client.Revoke(ctx, id)
		return etcdError("close lease of server "+l.server, err)
	})
	if errors.Is(err, errdefs.ErrStale) {
		return nil // expired meanwhile
	}
	return err
}

// grant takes out a lease and puts the alive key under it, with more in the same transaction.
func (l *Lease) grant(ctx context.Context, more func(tx *Tx) error) error {
	var granted *clientv3.LeaseGrantResponse
	if err := l.store.bounded(ctx, func(ctx context.Context) (err error) {
		granted, err = l.store.client.Grant(ctx, int64(max(l.store.opts.LeaseTTL, time.Second)/time.Second))
		return etcdError("grant lease", err)
	}); err != nil {
		return err
	}
	since := time.Now().UTC()
	value, err := encode("presence", presence{Instance: l.store.opts.Instance, Token: l.token, Since: since})
	if err != nil {
		return err
	}
	written, err := l.store.Update(ctx, func(tx *Tx) error {
		key := tx.keys.record(kindAlive, l.server)
		if held := tx.get(key); held != "" {
			holder, err := decode[presence]("presence of server "+l.server, []byte(held))
			if err != nil {
				return err
			}
			l.mu.Lock()
			before := l.since // zero when the process registers: then who was here before it has ended, as a rule
			l.mu.Unlock()
			if holder.Instance == l.store.opts.Instance && holder.Token != l.token && !before.IsZero() && holder.Since.After(before) {
				return ErrOtherProcess
			}
			if holder.Instance != l.store.opts.Instance {
				return fmt.Errorf("another host is alive under this server id since %s: %w",
					holder.Since.Format(time.RFC3339), errdefs.ErrBusy)
			}
		}
		tx.put(key, value, clientv3.WithLease(granted.ID))
		return more(tx)
	})
	if err != nil && written == 0 { // else only the mirror is behind
		// Not under the caller's context: it may be what ended the update. A lease that stays behind just expires.
		_ = l.store.bounded(context.WithoutCancel(ctx), func(ctx context.Context) error {
			_, err := l.store.client.Revoke(ctx, granted.ID)
			return err
		})
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id, l.since = granted.ID, since
	return nil
}

// keep renews the lease and takes out a new one when it is lost, until ctx ends.
func (l *Lease) keep(ctx context.Context) {
	for {
		err := l.renew(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrOtherProcess) {
			l.lose(err)
			return
		}
		l.logger.Warn("lease lost, registering again", zap.Error(err))
		for {
			err := l.grant(ctx, func(*Tx) error { return nil })
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			if errors.Is(err, errdefs.ErrBusy) && !errors.Is(err, errConflicts) {
				l.lose(err)
				return
			}
			l.logger.Warn("register again", zap.Error(err))
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryWait):
			}
		}
	}
}

// ErrOtherProcess is why a lease is lost to a process of the same instance: the host runs twice, as it does once it was cloned.
var ErrOtherProcess = fmt.Errorf("another process runs under this server id on a host of the same machine id: %w", errdefs.ErrBusy)

func (l *Lease) lose(cause error) {
	l.logger.Error("lease lost to somebody else", zap.Error(cause))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cause = cause
	close(l.lost)
}

// renew returns when the lease cannot be renewed any more, the alive key is gone or somebody else's (ErrOtherProcess), or ctx ends. The client
// sends a renewal every third of the TTL, which keeps a lease whatever has become of the key.
func (l *Lease) renew(ctx context.Context) error {
	l.mu.Lock()
	id := l.id
	l.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	renewals, err := l.store.client.KeepAlive(ctx, id)
	if err != nil {
		return err
	}
	for range renewals {
		if err := l.checkKey(ctx); err != nil {
			return err
		}
	}
	return nil
}

// checkKey looks whether the alive key is this process's still.
func (l *Lease) checkKey(ctx context.Context) error {
	var held *clientv3.GetResponse
	if err := l.store.bounded(ctx, func(ctx context.Context) (err error) {
		held, err = l.store.client.Get(ctx, l.store.keys.record(kindAlive, l.server))
		return err
	}); err != nil {
		return nil // the renewals tell how long that may last
	}
	if len(held.Kvs) == 0 {
		return fmt.Errorf("the alive key is gone: %w", errdefs.ErrNotFound)
	}
	holder, err := decode[presence]("presence of server "+l.server, held.Kvs[0].Value)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		return err
	case holder.Token == l.token:
		return nil
	case holder.Since.After(l.since):
		return ErrOtherProcess
	default: // of the past: etcd was set back
		return fmt.Errorf("the alive key is an old one: %w", errdefs.ErrStale)
	}
}
