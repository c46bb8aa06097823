package agent_test

import (
	"errors"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

func TestCopyAndSyncAcrossServers(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/big", random(1, 3<<20))
	f.write(source, "data/small", []byte("one"))
	first, err := here.agent.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{})
	f.must(err)
	f.write(source, "data/small", []byte("two"))

	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	if got, want := f.hash(copied), f.hash(source); got != want {
		t.Fatal("the copy's content is not the source's")
	}
	if !f.holds(there, first.Snapshot.GUID) {
		t.Error("the history did not come along")
	}
	if copied.SnapshotCount != 1 || copied.SourceContainerID != source.ID || copied.SSHPublicKey == source.SSHPublicKey {
		t.Errorf("copy: %+v", copied)
	}

	again := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	if moved := again.LastOperation.Progress.BytesDone; moved != 0 {
		t.Errorf("the second copy of the same state moved %d bytes", moved)
	}

	f.write(source, "data/big", random(1, 3<<20+100))
	f.write(source, "data/small", []byte("three"))
	f.write(copied, "data/local", []byte("local"))
	copied = f.sync(copied, store.StatusRunning)
	if got, want := f.hash(copied), f.hash(source); got != want {
		t.Error("after sync the copy's content is not the source's")
	}
	if moved := copied.LastOperation.Progress.BytesDone; moved == 0 || moved > 512<<10 {
		t.Errorf("sync of a small change moved %d bytes", moved)
	}

	copied = f.sync(copied, store.StatusRunning)
	if !copied.LastOperation.Progress.NoOp || copied.LastOperation.Progress.BytesDone != 0 {
		t.Errorf("sync of unchanged sides: %+v", copied.LastOperation)
	}
	f.write(copied, "data/local", []byte("local"))
	copied = f.sync(copied, store.StatusRunning)
	if copied.LastOperation.Progress.NoOp || copied.LastOperation.Progress.BytesDone != 0 || f.read(copied, "data/local") != "" {
		t.Errorf("sync with only the copy changed: %+v", copied.LastOperation)
	}
	for _, s := range f.servers {
		if left := f.leftovers(s); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// sync syncs a copy and waits for it.
func (f *fleet) sync(container store.Container, want store.Status) store.Container {
	f.t.Helper()
	_, err := f.servers[0].agent.Sync(f.ctx, caller, container.ID)
	f.must(err)
	synced := f.settled(container.ID, want)
	if synced.LastOperation == nil || synced.LastOperation.Kind != store.JobSync || synced.LastOperation.State != store.JobDone {
		f.t.Fatalf("last operation %+v, want a finished sync", synced.LastOperation)
	}
	return synced
}

func TestCopyOnTheSameServerMovesNothing(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	f.write(source, "data/big", random(1, 1<<20))
	copied := f.settled(f.copy(source, here, agent.CopyRequest{Name: "copied"}).ID, store.StatusRunning)
	if f.hash(copied) != f.hash(source) || copied.LastOperation.Progress.BytesDone != 0 {
		t.Errorf("copy: %+v", copied.LastOperation)
	}
	f.write(source, "data/big", random(2, 1<<20))
	copied = f.sync(copied, store.StatusRunning)
	if f.hash(copied) != f.hash(source) || copied.LastOperation.Progress.BytesDone != 0 {
		t.Errorf("sync: %+v", copied.LastOperation)
	}
	// A copy of a copy, and its sync with what was synced.
	grandchild := f.settled(f.copy(copied, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(source, "data/more", []byte("more"))
	copied = f.sync(copied, store.StatusRunning)
	grandchild = f.sync(grandchild, store.StatusRunning)
	if f.hash(grandchild) != f.hash(source) {
		t.Error("the copy's copy is not what the source is")
	}
}

func TestFiveCopiesAtOnceShareOneFreezeAndOneTransfer(t *testing.T) {
	f := newFleet(t, 2)
	source := f.create(f.servers[0], "source")
	f.write(source, "data/big", random(1, 4<<20))
	var copies []store.Container
	for range 5 {
		copies = append(copies, f.copy(source, f.servers[1], agent.CopyRequest{}))
	}
	transfers := 0
	for _, copied := range copies {
		copied = f.settled(copied.ID, store.StatusRunning)
		if f.hash(copied) != f.hash(source) {
			t.Error("a copy's content is not the source's")
		}
		if copied.LastOperation.Progress.BytesDone > 0 {
			transfers++
		}
	}
	dataset, err := f.servers[0].pool.Dataset(f.ctx, agent.ContainerDataset(source.ID))
	f.must(err)
	if freezes := len(dataset.Snapshots) - 1; freezes != 1 || transfers != 1 { // one is the marker
		t.Errorf("%d freezes and %d transfers, want one of each", freezes, transfers)
	}
}

func TestCopyOfASnapshotHoldsThatStateAndItsPast(t *testing.T) {
	f := newFleet(t, 2)
	source := f.create(f.servers[0], "source")
	alias := "release"
	for _, state := range []string{"one", "two", "three"} {
		f.write(source, "data/state", []byte(state))
		request := agent.CreateSnapshotRequest{}
		if state == "two" {
			request.Alias = &alias
		}
		_, err := f.servers[0].agent.CreateSnapshot(f.ctx, caller, source.ID, request)
		f.must(err)
	}
	copied := f.settled(f.copy(source, f.servers[1], agent.CopyRequest{SourceSnapshot: alias}).ID, store.StatusRunning)
	if got := f.read(copied, "data/state"); got != "two" || copied.SnapshotCount != 2 {
		t.Errorf("copy of %q holds %q and lists %d snapshots", alias, got, copied.SnapshotCount)
	}
}

func TestDeletingTheSourceLeavesCopiesThatCannotSync(t *testing.T) {
	f := newFleet(t, 2)
	source := f.create(f.servers[0], "source")
	f.write(source, "data/file", []byte("kept"))
	near := f.settled(f.copy(source, f.servers[0], agent.CopyRequest{}).ID, store.StatusRunning)
	far := f.settled(f.copy(source, f.servers[1], agent.CopyRequest{}).ID, store.StatusRunning)
	f.must(f.servers[1].agent.DeleteContainer(f.ctx, caller, source.ID))
	f.catchUp()
	for _, copied := range []store.Container{near, far} {
		if got := f.read(copied, "data/file"); got != "kept" {
			t.Errorf("copy holds %q", got)
		}
		_, err := f.servers[0].agent.Sync(f.ctx, caller, copied.ID)
		var refused *errdefs.Error
		if !errors.As(err, &refused) || refused.Code != "SOURCE_CONTAINER_NOT_FOUND" {
			t.Errorf("sync: %v, want SOURCE_CONTAINER_NOT_FOUND", err)
		}
	}
	if _, err := f.servers[0].agent.Container(f.ctx, caller, source.ID); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("the deleted source: %v", err)
	}
	// Its name is free again.
	f.create(f.servers[0], "source")
}

func TestRuntimesOwnSnapshotsAreAdoptedAtCheckout(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(copied, "data/file", []byte("by hand"))
	instance := agent.InstanceName(copied.ID)
	f.must(here.runtime.AddSnapshot(f.ctx, instance, "by-hand"))
	f.must(here.runtime.Configure(f.ctx, instance, map[string]string{"volatile.last_state.idmap": "its own"}))
	f.write(source, "data/new", []byte("new"))
	f.sync(copied, store.StatusRunning)

	seen, err := here.runtime.Instance(f.ctx, instance)
	f.must(err)
	if len(seen.Snapshots) > 0 {
		t.Errorf("the runtime still claims to have %v", seen.Snapshots)
	}
	listed := f.listed(copied)
	if len(listed) != 2 || listed[0].Name != "by-hand" || listed[0].IDMap != "its own" || listed[0].Undo || !f.holds(here, listed[0].GUID) {
		t.Errorf("snapshots: %+v, want the adopted one, held by the pool, and what undoes the sync", listed)
	}
}

func TestASnapshotDestroyedByHandDoesNotGoAlong(t *testing.T) {
	f := newFleet(t, 2)
	here := f.servers[0]
	source := f.create(here, "source")
	var kept, lost store.Snapshot
	for i, into := range []*store.Snapshot{&lost, &kept} {
		f.write(source, "data/file", []byte{byte(i)})
		made, err := here.agent.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{})
		f.must(err)
		*into = made.Snapshot
	}
	dataset, err := here.pool.Dataset(f.ctx, agent.ContainerDataset(source.ID))
	f.must(err)
	for _, snapshot := range dataset.Snapshots {
		if snapshot.GUID == lost.GUID {
			f.must(here.pool.DestroySnapshot(f.ctx, dataset.Name+"@"+snapshot.Name))
		}
	}
	copied := f.settled(f.copy(source, f.servers[1], agent.CopyRequest{}).ID, store.StatusRunning)
	list, err := f.servers[1].agent.Snapshots(f.ctx, caller, copied.ID)
	f.must(err)
	if len(list.Snapshots) != 1 || list.Snapshots[0].GUID != kept.GUID {
		t.Errorf("the copy lists %+v, want only what it has", list.Snapshots)
	}
}
