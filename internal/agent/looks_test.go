package agent_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// looks counts how often an agent lists its whole pool, which is two commands, and reads one dataset, which is one.
type looks struct {
	agent.Pool
	lists, reads atomic.Int64
}

func (l *looks) Inventory(ctx context.Context) (lineage.Inventory, error) {
	l.lists.Add(1)
	return l.Pool.Inventory(ctx)
}

func (l *looks) Dataset(ctx context.Context, name string) (lineage.Dataset, error) {
	l.reads.Add(1)
	return l.Pool.Dataset(ctx, name)
}

// TestLooksAtThePool holds what operations cost in commands, which is most of the time that a copy on one server takes.
func TestLooksAtThePool(t *testing.T) {
	pools := make(map[string]*looks)
	f := newFleet(t, 2, func(f *fleet) {
		f.recordEvery = time.Hour // what notes records in the pool looks into it
		f.watch = func(server string, pool agent.Pool) agent.Pool {
			pools[server] = &looks{Pool: pool}
			return pools[server]
		}
	})
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/big", random(1, 3<<20))
	f.snapshot(source, "") // which is looked for, too
	var local, remote store.Container
	const background = 1 // of each kind: what notes records in the pool, or looks around
	for _, operation := range []struct {
		what                                         string
		do                                           func()
		listsHere, readsHere, listsThere, readsThere int64
	}{
		{"copy here", func() { local = f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning) }, 2, 5, 0, 0},
		{"copy there", func() { remote = f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning) }, 1, 1, 4, 6},
		{"sync here", func() { f.write(source, "data/small", []byte("one")); f.sync(local, store.StatusRunning) }, 2, 6, 0, 0},
		{"sync there", func() { f.write(source, "data/small", []byte("two")); f.sync(remote, store.StatusRunning) }, 1, 1, 4, 6},
		{"sync there of what has not changed", func() { f.sync(remote, store.StatusRunning) }, 1, 1, 1, 1},
	} {
		for _, pool := range pools {
			pool.lists.Store(0)
			pool.reads.Store(0)
		}
		operation.do()
		for _, side := range []struct {
			server       *server
			lists, reads int64
		}{{here, operation.listsHere, operation.readsHere}, {there, operation.listsThere, operation.readsThere}} {
			lists, reads := pools[side.server.id].lists.Load(), pools[side.server.id].reads.Load()
			if lists > side.lists+background || reads > side.reads+background {
				t.Errorf("%s: server %s listed its pool %d times and read %d datasets; it took %d and %d", operation.what, side.server.id, lists, reads, side.lists, side.reads)
			}
		}
	}
}
