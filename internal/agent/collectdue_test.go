package agent_test

import (
	"slices"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// based tells whether a pool holds a snapshot or its bookmark.
func (f *fleet) based(s *server, guid lineage.GUID) bool {
	f.t.Helper()
	inventory, err := s.pool.Inventory(f.ctx)
	f.must(err)
	return slices.ContainsFunc(inventory.Datasets, func(d lineage.Dataset) bool {
		return slices.ContainsFunc(d.Snapshots, func(s lineage.Snapshot) bool { return s.GUID == guid }) ||
			slices.ContainsFunc(d.Bookmarks, func(b lineage.Bookmark) bool { return b.GUID == guid })
	})
}

// What another server's agent writes lets go of something here: it does not wait for a collection from time to time.
func TestWhatAnotherServerLetsGoOfIsCollected(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	for _, s := range f.servers {
		s.collects = time.Hour
		s.restart()
	}
	source := f.create(here, "source")
	f.write(source, "data/file", random(0, 1000)) // or its marker would be the first base
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	first := copied.SyncBase
	f.write(source, "data/file", random(1, 1000))
	f.must(second(there.agent.Sync(f.ctx, caller, copied.ID)))
	copied = f.settled(copied.ID, store.StatusRunning)
	if copied.SyncBase == first {
		t.Fatal("the sync brought nothing")
	}
	f.until("what the copy was synced with before goes", func() bool { return !f.based(here, first) })

	listed := f.snapshot(copied, "listed")
	f.must(second(here.agent.DeleteSnapshot(f.ctx, caller, copied.ID, "listed")))
	f.until("a snapshot that was deleted through another server goes", func() bool { return !f.based(there, listed.GUID) })

	last := copied.SyncBase
	f.must(there.agent.DeleteContainer(f.ctx, caller, copied.ID))
	f.until("what a deleted copy was synced with goes", func() bool { return !f.based(here, last) })
}
