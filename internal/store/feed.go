package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// feed keeps a mirror current: it loads everything once, then follows etcd's watch from the revision of the load, and
// loads again only when etcd no longer has the events in between.
type feed struct {
	mirror    *Mirror
	client    *clientv3.Client
	keys      keyspace
	storeID   string
	cluster   uint64 // etcd's id of itself, as of the last load
	heartbeat time.Duration
	logger    *zap.Logger
}

const (
	retryWait    = 500 * time.Millisecond
	replacedWait = 10 * time.Second

	// maxMissedHeartbeats may go by without an answer before the mirror counts as stale.
	maxMissedHeartbeats = 2
)

var (
	errReload   = errors.New("etcd cannot tell what changed since")
	errReplaced = errors.New("etcd holds another store than the one that was opened, or an older state of it")
)

// run follows the store until ctx ends. Where it cannot be followed any more it is not followed again before it is loaded: an older state may have
// grown past the mirror meanwhile, and what it lacks of what the mirror shows would never be found out.
func (f *feed) run(ctx context.Context) {
	mustLoad := false
	for {
		wait := retryWait
		err := f.step(ctx, mustLoad)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errReload):
			f.logger.Info("loading the store anew", zap.Error(err))
			mustLoad = true
			continue // an older state must not be written to meanwhile
		case err == nil:
			mustLoad = false
		default:
			f.mirror.lost(err)
			if errors.Is(err, errReplaced) {
				wait = replacedWait // until somebody does something about it
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// step loads the store, or follows it for as long as that goes well.
func (f *feed) step(ctx context.Context, load bool) error {
	if !load {
		return f.follow(ctx)
	}
	late := time.AfterFunc(maxMissedHeartbeats*f.heartbeat, func() {
		f.mirror.lost(fmt.Errorf("the store is being loaded anew: %w", errdefs.ErrUnavailable))
	})
	defer late.Stop()
	return f.load(ctx)
}

// load replaces the mirror's content by everything below the prefix, at one revision. However much that is: each request has a time limit of its own.
func (f *feed) load(ctx context.Context) error {
	// Whose it is, and how old, before all of it is read.
	head, err := f.get(ctx, f.keys.storeID())
	if err != nil {
		return etcdError("load store", err)
	}
	if len(head.Kvs) == 0 || string(head.Kvs[0].Value) != f.storeID || head.Header.Revision < f.mirror.Revision() {
		return fmt.Errorf("load store: %w: %w", errdefs.ErrCorrupt, errReplaced)
	}
	fresh, now := newContent(), time.Now()
	// Job histories come first: a job is put together from both.
	apply := func(kv *mvccpb.KeyValue) { fresh.apply(f.keys, kv, false, now) }
	revision, err := readAll(ctx, f.get, f.keys.kind(kindJobHistory), 0, apply)
	if err != nil {
		return etcdError("load store", err)
	}
	id, err := f.get(ctx, f.keys.storeID(), clientv3.WithRev(revision))
	if err != nil {
		return etcdError("load store", err)
	}
	if len(id.Kvs) == 0 || string(id.Kvs[0].Value) != f.storeID {
		return fmt.Errorf("load store: %w: %w", errdefs.ErrCorrupt, errReplaced)
	}
	f.cluster = id.Header.ClusterId
	if _, err := readAll(ctx, f.get, string(f.keys), revision, apply); err != nil {
		return etcdError("load store", err)
	}
	return f.mirror.replace(fresh, revision, now)
}

// get reads within the time after which a lost server would be noticed anyway.
func (f *feed) get(ctx context.Context, key string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, max(10*f.heartbeat, 10*time.Second))
	defer cancel()
	return f.client.Get(ctx, key, options...)
}

// follow applies events until the watch breaks or ctx ends. The client reconnects a watch by itself and says nothing,
// so a heartbeat finds out whether somebody still answers: a progress request, which etcd answers on the watch itself.
func (f *feed) follow(ctx context.Context) error {
	// A member cut off from its leader would go on answering; with this it ends the watch instead.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	watcher := clientv3.NewWatcher(f.client)
	defer func() { _ = watcher.Close() }()
	// From the revision that the mirror has, not the next one: etcd answers no progress request of a watch that begins
	// in the future. The same happens to a watch that the client has resumed, which is why silence ends in a new one.
	// The notice of the watch's creation tells whose and how old the data is that answers.
	// Watch itself waits for that notice, for as long as nobody answers.
	unanswered := time.AfterFunc((maxMissedHeartbeats+1)*f.heartbeat, func() {
		f.mirror.lost(fmt.Errorf("watch: no answer: %w", errdefs.ErrUnavailable))
		cancel()
	})
	events := watcher.Watch(ctx, string(f.keys), clientv3.WithPrefix(), clientv3.WithCreatedNotify(),
		clientv3.WithRev(f.mirror.Revision()))
	unanswered.Stop()

	beat := time.NewTicker(f.heartbeat)
	defer beat.Stop()
	silent := 0
	for {
		select {
		case response, open := <-events:
			if !open {
				return etcdError("watch", context.Cause(ctx))
			}
			if err := f.take(response); err != nil {
				return err
			}
			silent = 0
		case <-f.mirror.nudge:
			f.ask(ctx, watcher)
		case <-beat.C:
			if silent++; silent > maxMissedHeartbeats {
				return fmt.Errorf("watch: no answer to %d heartbeats: %w", maxMissedHeartbeats, errdefs.ErrUnavailable)
			}
			f.ask(ctx, watcher)
		}
	}
}

// ask requests a progress notification. An error only means that the connection is down, which the silence tells too.
func (f *feed) ask(ctx context.Context, watcher clientv3.Watcher) {
	ctx, cancel := context.WithTimeout(ctx, f.heartbeat)
	defer cancel()
	_ = watcher.RequestProgress(ctx)
}

func (f *feed) take(response clientv3.WatchResponse) error {
	if response.CompactRevision != 0 {
		return fmt.Errorf("watch: compacted at %d: %w", response.CompactRevision, errReload)
	}
	if err := response.Err(); err != nil {
		return etcdError("watch", err)
	}
	current, known := response.Header.Revision, f.mirror.Revision()
	if response.Header.ClusterId != f.cluster || current < known {
		return fmt.Errorf("watch: etcd cluster %x is at %d, the mirror at %d of %x: %w",
			response.Header.ClusterId, current, known, f.cluster, errReload)
	}
	switch {
	case response.IsProgressNotify():
		f.mirror.advance(nil, current, true)
	case len(response.Events) > 0:
		// While a watch catches up, the header is further on than the events it comes with.
		last := response.Events[len(response.Events)-1].Kv.ModRevision
		f.mirror.advance(response.Events, last, last == current)
	}
	return nil
}

// advance applies events up to and including the revision; current tells that etcd has nothing newer.
func (m *Mirror) advance(events []*clientv3.Event, revision int64, current bool) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	var changes []Change
	for _, event := range m.historiesFirst(events) {
		if event.Kv.ModRevision <= m.revision {
			continue // the first revision of a watch is one that we have
		}
		change := m.content.apply(m.keys, event.Kv, event.Type == clientv3.EventTypeDelete, now)
		if change.Kind != "" {
			changes = append(changes, change)
		}
		if err := m.content.unreadable[string(event.Kv.Key)]; err != nil {
			m.logger.Error("unreadable record", zap.ByteString("key", event.Kv.Key), zap.Error(err))
		}
	}
	m.revision = max(m.revision, revision)
	if current {
		m.confirm(now)
	}
	m.release()
	m.publish(changes...)
}

// historiesFirst orders the events of each revision, which come in no particular order, so that a job finds its history.
func (m *Mirror) historiesFirst(events []*clientv3.Event) []*clientv3.Event {
	rank := func(event *clientv3.Event) int {
		if kind, _, _ := m.keys.split(string(event.Kv.Key)); kind == kindJobHistory {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(events, func(a, b *clientv3.Event) int {
		return cmp.Or(cmp.Compare(a.Kv.ModRevision, b.Kv.ModRevision), cmp.Compare(rank(a), rank(b)))
	})
	return events
}

// replace swaps in what a load brought. A store that went back in time is refused: its records would look like news.
func (m *Mirror) replace(fresh *content, revision int64, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if revision < m.revision {
		return fmt.Errorf("load store: revision %d after %d: %w: %w", revision, m.revision, errdefs.ErrCorrupt, errReplaced)
	}
	for key, err := range fresh.unreadable {
		m.logger.Error("unreadable record", zap.String("key", key), zap.Error(err))
	}
	for server, at := range m.content.gone {
		if _, alive := fresh.alive[server]; !alive {
			fresh.gone[server] = at
		}
	}
	for server := range m.content.alive {
		if _, alive := fresh.alive[server]; !alive {
			fresh.gone[server] = now
		}
	}
	m.content, m.revision = fresh, revision
	m.loads++
	m.confirm(now)
	m.release()
	m.publish(Change{Resync: true})
	return nil
}

// confirm notes that the mirror is current. The caller holds the lock.
func (m *Mirror) confirm(now time.Time) {
	m.heard, m.replaced = now, nil
	if m.stale {
		m.stale = false
		m.logger.Info("store is back", zap.Int64("revision", m.revision))
	}
}

// lost notes that the mirror may be behind from now on, and whether that is because the store is another one.
func (m *Mirror) lost(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if errors.Is(err, errReplaced) && m.replaced == nil {
		m.replaced = err
		m.logger.Error("etcd does not hold our store any more; nothing is written", zap.Error(err))
	}
	if !m.stale {
		m.stale = true
		m.logger.Warn("store is away, serving from memory", zap.Int64("revision", m.revision), zap.Time("since", m.heard), zap.Error(err))
	}
}
