package agent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// snapshot takes a snapshot; an empty alias means none.
func (f *fleet) snapshot(container store.Container, alias string) store.Snapshot {
	f.t.Helper()
	request := agent.CreateSnapshotRequest{}
	if alias != "" {
		request.Alias = &alias
	}
	made, err := f.serverOf(container).agent.CreateSnapshot(f.ctx, caller, container.ID, request)
	f.must(err)
	return made.Snapshot
}

// restore restores a snapshot and requires the state that the container is left in.
func (f *fleet) restore(container store.Container, name string, want store.Status) store.Container {
	f.t.Helper()
	restored, err := f.serverOf(container).agent.RestoreSnapshot(f.ctx, caller, container.ID, name)
	f.must(err)
	if restored.Snapshot.LastUsedAt == nil || restored.Container.LastUsedSnapshot != restored.Snapshot.Name {
		f.t.Errorf("restored %+v, last used of the container %q", restored.Snapshot, restored.Container.LastUsedSnapshot)
	}
	return f.settled(container.ID, want)
}

// listed returns a container's snapshots, oldest first.
func (f *fleet) listed(container store.Container) []store.Snapshot {
	f.t.Helper()
	history, err := f.records.GetHistory(f.ctx, container.ID)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		f.t.Fatal(err)
	}
	return history.Snapshots
}

// undos returns what a container keeps to undo, oldest first.
func (f *fleet) undos(container store.Container) []store.Snapshot {
	f.t.Helper()
	return slices.DeleteFunc(slices.Clone(f.listed(container)), func(s store.Snapshot) bool { return !s.Undo })
}

// states makes a container with three states in data/state, each of them a snapshot with it as the alias, and now.
func (f *fleet) states(s *server) store.Container {
	f.t.Helper()
	source := f.create(s, "source")
	for _, state := range []string{"one", "two", "three"} {
		f.write(source, "data/state", []byte(state))
		f.snapshot(source, state)
	}
	f.write(source, "data/state", []byte("now"))
	return source
}

func (f *fleet) holdsState(container store.Container, want string) {
	f.t.Helper()
	if got := f.read(container, "data/state"); got != want {
		f.t.Errorf("container %s holds state %q, want %q", container.Name, got, want)
	}
}

func TestRestoreGoesBackAndForth(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	// With a clone of each state, and a bookmark.
	dataset := agent.ContainerDataset(source.ID)
	current, err := here.pool.Dataset(f.ctx, dataset)
	f.must(err)
	for _, snapshot := range current.Snapshots {
		f.must(here.pool.Bookmark(f.ctx, dataset+"@"+snapshot.Name, snapshot.Name))
	}
	for _, state := range []string{"one", "three", ""} {
		f.settled(f.copy(source, here, agent.CopyRequest{SourceSnapshot: state}).ID, store.StatusRunning)
	}
	for _, state := range []string{"one", "three", "two"} {
		restored := f.restore(source, state, store.StatusRunning)
		f.holdsState(restored, state)
		if seen, err := here.runtime.Instance(f.ctx, agent.InstanceName(source.ID)); err != nil || seen.Status != agent.InstanceRunning || !seen.Autostart {
			t.Errorf("after the restore the instance is %+v (%v), want it to run", seen, err)
		}
		if restored.SnapshotCount != 3 || restored.UpdatedAt.Before(source.UpdatedAt) {
			t.Errorf("%d snapshots, updated at %s", restored.SnapshotCount, restored.UpdatedAt)
		}
	}
	undos := f.undos(source)
	if len(undos) != 1 || !strings.HasPrefix(undos[0].Name, "before-restore-") || undos[0].ExpiresAt == nil {
		t.Fatalf("kept to undo: %+v, want the one state that no snapshot had", undos)
	}
	f.must(second(here.agent.Operate(f.ctx, caller, source.ID, agent.OperationStop, 0)))
	f.holdsState(f.restore(source, undos[0].Name, store.StatusStopped), "now")
	if seen, err := here.runtime.Instance(f.ctx, agent.InstanceName(source.ID)); err != nil || seen.Status != agent.InstanceStopped {
		t.Errorf("after the restore the instance is %+v (%v), want it stopped as before", seen, err)
	}
	if left := f.leftovers(here); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What a copy inherited was its source's when it was taken; restored, it is the copy's.
func TestARestoredCopyStaysItself(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	made, err := here.agent.CreateContainer(f.ctx, caller, f.project.ID, agent.CreateContainerRequest{ServerID: here.id, Name: "source", Image: "debian/13"})
	f.must(err)
	source := f.settled(made.View.Container.ID, store.StatusRunning)
	f.snapshot(source, "one")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	before := make(map[string]string)
	for _, path := range []string{"etc/machine-id", "etc/hostname", "etc/ssh/ssh_host_ed25519_key.pub"} {
		before[path] = f.read(copied, path)
	}
	f.restore(copied, "one", store.StatusRunning)
	for path, content := range before {
		if content == "" || f.read(copied, path) != content || f.read(source, path) == content {
			t.Errorf("%s is %q, was %q", path, f.read(copied, path), content)
		}
	}
	f.onlyOwnKeys(copied, source)
}

func TestSyncAfterARestoreBringsTheSourcesContent(t *testing.T) {
	t.Parallel()
	for _, remote := range []bool{false, true} {
		t.Run(fmt.Sprint("remote ", remote), func(t *testing.T) {
			f := newFleet(t, 2)
			source := f.states(f.servers[0])
			target := f.servers[0]
			if remote {
				target = f.servers[1]
			}
			copied := f.settled(f.copy(source, target, agent.CopyRequest{}).ID, store.StatusRunning)
			follows := func(state string, noOp bool) {
				t.Helper()
				copied = f.sync(copied, store.StatusRunning)
				f.holdsState(copied, state)
				if f.hash(copied) != f.hash(source) || copied.LastOperation.Progress.NoOp != noOp {
					t.Errorf("sync to %q: %+v", state, copied.LastOperation)
				}
			}
			f.holdsState(f.restore(copied, "one", store.StatusRunning), "one")
			follows("now", false)
			f.restore(source, "three", store.StatusRunning)
			follows("three", false)
			follows("three", true)
			// The copy goes where the source is already; that is still no reason to skip it.
			f.restore(copied, "three", store.StatusRunning)
			f.write(copied, "data/state", []byte("local"))
			follows("three", false)
			// Back to exactly the sync base, after both have moved on.
			f.write(source, "data/state", []byte("four"))
			follows("four", false)
			f.restore(source, "one", store.StatusRunning)
			f.restore(copied, "one", store.StatusRunning)
			follows("one", false)
		})
	}
}

func TestACopysHistoryIsItsOwn(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.states(here)
	f.restore(source, "three", store.StatusRunning)
	near := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	far := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	alias := "mine"
	renamed, err := there.agent.RenameSnapshot(f.ctx, caller, near.ID, "two", &alias)
	f.must(err)
	f.must(second(here.agent.DeleteSnapshot(f.ctx, caller, source.ID, "one")))
	f.must(second(here.agent.DeleteSnapshot(f.ctx, caller, far.ID, "three")))
	for _, test := range []struct {
		container store.Container
		aliases   string
	}{{source, "two three"}, {near, "one mine three"}, {far, "one two"}} {
		var aliases []string
		for _, snapshot := range f.listed(test.container) {
			if test.container.ID != source.ID && snapshot.LastUsedAt != nil {
				t.Errorf("%s says that it was put back to %s", test.container.Name, snapshot.Name)
			}
			if snapshot.Undo {
				continue
			}
			aliases = append(aliases, *snapshot.Alias)
		}
		if got := strings.Join(aliases, " "); got != test.aliases {
			t.Errorf("%s lists %q, want %q", test.container.Name, got, test.aliases)
		}
	}
	if renamed.Snapshot.Name != "two" || *renamed.Snapshot.Alias != "mine" {
		t.Errorf("renamed: %+v", renamed.Snapshot)
	}
	f.must(here.agent.DeleteContainer(f.ctx, caller, source.ID))
	for _, copied := range []store.Container{near, far} {
		for _, snapshot := range f.listed(copied) {
			f.holdsState(f.restore(copied, *snapshot.Alias, store.StatusRunning), map[string]string{"one": "one", "two": "two", "mine": "two", "three": "three"}[*snapshot.Alias])
		}
		if code(second(here.agent.Sync(f.ctx, caller, copied.ID))) != "SOURCE_CONTAINER_NOT_FOUND" {
			t.Error("an orphan syncs")
		}
	}
	// By its name, which stays when the alias goes; and the alias that went names nothing.
	f.must(second(here.agent.RenameSnapshot(f.ctx, caller, near.ID, "mine", nil)))
	f.holdsState(f.restore(near, "two", store.StatusRunning), "two")
	if _, err := here.agent.RestoreSnapshot(f.ctx, caller, near.ID, "mine"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("restore by an alias that was taken away: %v", err)
	}
}

func TestASyncCanBeUndone(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(source, "data/state", []byte("source's"))
	copied = f.sync(copied, store.StatusRunning)
	if undos := f.undos(copied); len(undos) != 0 {
		t.Errorf("kept %+v of a copy that had not changed", undos)
	}
	f.write(copied, "data/state", []byte("local"))
	copied = f.sync(copied, store.StatusRunning)
	f.holdsState(copied, "source's")
	undos := f.undos(copied)
	if len(undos) != 1 || !strings.HasPrefix(undos[0].Name, "before-sync-") || copied.SnapshotCount != 0 {
		t.Fatalf("kept to undo: %+v, %d snapshots counted", undos, copied.SnapshotCount)
	}
	copied = f.restore(copied, undos[0].Name, store.StatusRunning)
	f.holdsState(copied, "local")
	// Nobody lists what the sync had brought, and the source may have moved on: that is kept as well.
	if again := f.undos(copied); len(again) != 2 || !strings.HasPrefix(again[1].Name, "before-restore-") {
		t.Errorf("kept to undo the restore: %+v", again)
	}
	copied = f.sync(copied, store.StatusRunning)
	f.holdsState(copied, "source's")

	// A copy of it takes none of that along.
	if second := f.settled(f.copy(copied, here, agent.CopyRequest{}).ID, store.StatusRunning); len(f.listed(second)) != 0 {
		t.Errorf("a copy lists %+v", f.listed(second))
	}
	// Unless it is asked for by name: then it is what the copy holds, and still not in its list.
	f.holdsState(f.settled(f.copy(copied, here, agent.CopyRequest{SourceSnapshot: undos[0].Name}).ID, store.StatusRunning), "local")
	// At most so many, those that were wanted last; the others went on purpose.
	first := undos[0]
	for i := range 5 {
		f.write(copied, "data/state", fmt.Append(nil, "local ", i))
		copied = f.sync(copied, store.StatusRunning)
	}
	undos = f.undos(copied)
	if len(undos) != 3 {
		t.Fatalf("kept to undo: %+v, want three", undos)
	}
	f.holdsState(f.restore(copied, undos[0].Name, store.StatusRunning), "local 2")
	tombstones, err := f.records.Tombstones(f.ctx)
	f.must(err)
	if len(tombstones) != 1 || tombstones[0].ContainerID != copied.ID || len(tombstones[0].Snapshots) != 5 || !slices.Contains(tombstones[0].Snapshots, first.GUID) {
		t.Errorf("tombstones: %+v, want five snapshots of the copy", tombstones)
	}
}

func TestRuntimesOwnSnapshotsCanBeRestored(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	instance := agent.InstanceName(source.ID)
	f.must(here.runtime.AddSnapshot(f.ctx, instance, "by-hand"))
	f.must(here.runtime.Configure(f.ctx, instance, map[string]string{"volatile.last_state.idmap": "its own"}))
	f.restore(source, "one", store.StatusRunning)
	if seen, err := here.runtime.Instance(f.ctx, instance); err != nil || len(seen.Snapshots) > 0 || seen.IDMap == "its own" {
		t.Errorf("the runtime still claims to have %v, the id map is %q (%v)", seen.Snapshots, seen.IDMap, err)
	}
	f.holdsState(f.restore(source, "by-hand", store.StatusRunning), "now")
	if seen, err := here.runtime.Instance(f.ctx, instance); err != nil || seen.IDMap != "its own" {
		t.Errorf("restored under the id map %q (%v), want the snapshot's", seen.IDMap, err)
	}
}

func TestRestoresAndTheirLikeAreRefusedWithAReason(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source, paused, busy := f.states(here), f.create(here, "paused"), f.create(here, "busy")
	f.snapshot(paused, "one")
	f.must(second(here.agent.Operate(f.ctx, caller, paused.ID, agent.OperationPause, 0)))
	// One whose operation hangs, and the source, which a copy that hangs wants to freeze.
	f.snapshot(busy, "one")
	gate := make(chan struct{})
	here.setFault(func(op, _ string) error {
		if op == "snapshot:before" {
			<-gate
		}
		return nil
	})
	copied := f.copy(source, here, agent.CopyRequest{})
	taken := make(chan error, 1)
	go func() {
		taken <- second(here.agent.CreateSnapshot(f.ctx, caller, busy.ID, agent.CreateSnapshotRequest{}))
	}()
	for {
		if container, err := f.records.GetContainer(f.ctx, busy.ID); err != nil || container.JobID != "" {
			f.must(err)
			break
		}
	}
	f.catchUp()
	restore := func(who agent.Caller, id, name string) error {
		return second(here.agent.RestoreSnapshot(f.ctx, who, id, name))
	}
	remove := func(who agent.Caller, id, name string) error {
		return second(here.agent.DeleteSnapshot(f.ctx, who, id, name))
	}
	rename := func(who agent.Caller, id, name, alias string) error {
		return second(here.agent.RenameSnapshot(f.ctx, who, id, name, &alias))
	}
	them := agent.Caller{UserID: stranger}
	for name, test := range map[string]struct {
		err   error
		class error
		code  string
	}{
		"restore by a stranger":           {restore(them, source.ID, "one"), errdefs.ErrNotFound, "CONTAINER_NOT_FOUND"},
		"delete by a stranger":            {remove(them, source.ID, "one"), errdefs.ErrNotFound, "CONTAINER_NOT_FOUND"},
		"rename by a stranger":            {rename(them, source.ID, "one", "x"), errdefs.ErrNotFound, "CONTAINER_NOT_FOUND"},
		"restore of what is paused":       {restore(caller, paused.ID, "one"), errdefs.ErrFailedPrecondition, "OPERATION_STATE_CONFLICT"},
		"restore of an unknown one":       {restore(caller, paused.ID, "one-"), errdefs.ErrFailedPrecondition, "OPERATION_STATE_CONFLICT"},
		"delete of an unknown one":        {remove(caller, source.ID, "four"), errdefs.ErrNotFound, "RESOURCE_NOT_FOUND"},
		"rename of an unknown one":        {rename(caller, source.ID, "four", "x"), errdefs.ErrNotFound, "RESOURCE_NOT_FOUND"},
		"rename to another's alias":       {rename(caller, source.ID, "one", "two"), errdefs.ErrAlreadyExists, "RESOURCE_ALREADY_EXISTS"},
		"restore while one is taken":      {restore(caller, busy.ID, "one"), errdefs.ErrBusy, "SNAPSHOT_OPERATION_IN_PROGRESS"},
		"delete while one is taken":       {remove(caller, busy.ID, "one"), errdefs.ErrBusy, "SNAPSHOT_OPERATION_IN_PROGRESS"},
		"rename while one is taken":       {rename(caller, busy.ID, "one", "x"), errdefs.ErrBusy, "SNAPSHOT_OPERATION_IN_PROGRESS"},
		"restore of what is to be frozen": {restore(caller, source.ID, "one"), errdefs.ErrBusy, "SNAPSHOT_OPERATION_IN_PROGRESS"},
		"delete where one is to go along": {remove(caller, source.ID, "one"), errdefs.ErrBusy, "SNAPSHOT_OPERATION_IN_PROGRESS"},
	} {
		if errdefs.ClassOf(test.err) != test.class || code(test.err) != test.code {
			t.Errorf("%s: %v (%v, %s), want %v, %s", name, test.err, errdefs.ClassOf(test.err), code(test.err), test.class, test.code)
		}
	}
	close(gate)
	f.must(<-taken)
	for _, container := range []store.Container{source, busy, copied} {
		f.settled(container.ID, store.StatusRunning)
	}
}

func TestAFailedRestorePutsTheOldGenerationBack(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	starts := 0
	here.setFault(func(op, _ string) error {
		if op == "start:before" {
			if starts++; starts <= costlyAttempts {
				return errdefs.New(errdefs.ErrInternal, "", "init dies")
			}
		}
		return nil
	})
	_, err := here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "one")
	here.setFault(nil)
	if code(err) != "CONTAINER_HOST_COMMAND_FAILED" || !strings.Contains(err.Error(), "init dies") {
		t.Errorf("restore: %v, want the failed start", err)
	}
	failed := f.settled(source.ID, store.StatusRunning)
	f.holdsState(failed, "now")
	if failed.LastOperation.State != store.JobFailed || failed.LastUsedSnapshot != "" || len(f.listed(failed)) != 3 {
		t.Errorf("after the failed restore: %+v, %+v", failed.LastOperation, f.listed(failed))
	}
	if left := f.leftovers(here); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// What was to undo it is there, and free to go.
	if tombstones, err := f.records.Tombstones(f.ctx); err != nil || len(tombstones) != 1 || len(tombstones[0].Snapshots) != 1 || !f.holds(here, tombstones[0].Snapshots[0]) {
		t.Errorf("tombstones: %+v (%v), want one of what is not needed any more", tombstones, err)
	}
	f.holdsState(f.restore(source, "one", store.StatusRunning), "one")
}

// Somebody holds what a failed restore made: the container runs all the same, and collection comes back to it.
func TestAFailedRestoreStartsBeforeItCleansUp(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	starts := 0
	here.setFault(func(op, object string) error {
		switch {
		case op == "start:before" && starts < costlyAttempts:
			starts++
			return errdefs.New(errdefs.ErrInternal, "", "init dies")
		case op == "destroy:before" && strings.HasPrefix(object, "hoody/incoming/"):
			return errdefs.New(errdefs.ErrBusy, "", "%s is held", object)
		}
		return nil
	})
	_, err := here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "one")
	if code(err) != "CONTAINER_HOST_COMMAND_FAILED" {
		t.Errorf("restore: %v, want the failed start", err)
	}
	f.holdsState(f.settled(source.ID, store.StatusRunning), "now")
	here.setFault(nil)
	f.must(second(here.agent.Collect(f.ctx, false)))
	if left := f.leftovers(here); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A container that seemed to be stopped when a restore looked, and was started since, is to run again.
func TestAStartBesideARestoreCounts(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	f.must(second(here.agent.Operate(f.ctx, caller, source.ID, agent.OperationStop, 0)))
	looked, started := make(chan struct{}), make(chan struct{})
	var once sync.Once
	here.setFault(func(op, _ string) error {
		if op != "configure:before" {
			return nil
		}
		once.Do(func() { close(looked) })
		select {
		case <-started:
			return nil
		default:
			return errdefs.New(errdefs.ErrBusy, "", "it is being started")
		}
	})
	restored := make(chan error, 1)
	go func() {
		_, err := here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "one")
		restored <- err
	}()
	<-looked
	f.must(here.runtime.Start(f.ctx, agent.InstanceName(source.ID)))
	close(started)
	f.must(<-restored)
	f.holdsState(f.settled(source.ID, store.StatusRunning), "one")
}

func TestASnapshotThatIsGoneFailsItsRestore(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	current, err := here.pool.Dataset(f.ctx, agent.ContainerDataset(source.ID))
	f.must(err)
	for _, snapshot := range current.Snapshots {
		if snapshot.GUID == f.listed(source)[0].GUID {
			f.must(here.pool.DestroySnapshot(f.ctx, current.Name+"@"+snapshot.Name))
		}
	}
	if _, err := here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "one"); code(err) != "RESOURCE_NOT_FOUND" {
		t.Errorf("restore of what was destroyed by hand: %v", err)
	}
	f.holdsState(f.settled(source.ID, store.StatusRunning), "now")
}

// expire makes a snapshot as old as it may get.
func (f *fleet) expire(container store.Container, name string) {
	f.t.Helper()
	_, err := f.records.Update(f.ctx, func(tx *store.Tx) error {
		history, err := tx.History(container.ID)
		if err != nil {
			return err
		}
		for i := range history.Snapshots {
			if history.Snapshots[i].Name == name {
				past := time.Now().Add(-time.Second)
				history.Snapshots[i].ExpiresAt = &past
			}
		}
		return tx.PutHistory(history)
	})
	f.must(err)
	f.catchUp()
}

func TestExpiredSnapshotsGo(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.states(here)
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	f.expire(source, "two")
	// While somebody is about to take it along, it stays.
	gate := make(chan struct{})
	here.setFault(func(op, _ string) error {
		if op == "snapshot:before" {
			<-gate
		}
		return nil
	})
	f.write(source, "data/more", []byte("more")) // unchanged, it would not be frozen anew
	waiting := f.copy(source, here, agent.CopyRequest{})
	sweep := func(s *server, want int) {
		t.Helper()
		if dropped, err := s.agent.DropExpiredSnapshots(f.ctx); dropped != want || err != nil {
			t.Errorf("%d snapshots dropped (%v), want %d", dropped, err, want)
		}
	}
	sweep(here, 0)
	close(gate)
	f.settled(waiting.ID, store.StatusRunning)
	f.must(here.agent.DeleteContainer(f.ctx, caller, waiting.ID)) // it took along what had expired, and would be swept as well
	sweep(there, 0)
	sweep(here, 1)
	sweep(here, 0)
	if names := f.names(source); names != "one three" {
		t.Errorf("left: %s", names)
	}
	if reread := f.settled(source.ID, store.StatusRunning); reread.SnapshotCount != 2 {
		t.Errorf("%d snapshots counted", reread.SnapshotCount)
	}
	f.holdsState(f.restore(copied, "two", store.StatusRunning), "two") // the copy's own has its own expiry

	// An agent looks for them by itself, not only when told to.
	f.expire(source, "one")
	here.restart()
	for f.names(source) != "three" {
		select {
		case <-f.ctx.Done():
			t.Fatalf("still there: %s", f.names(source))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// names lists the names of a container's snapshots, oldest first.
func (f *fleet) names(container store.Container) string {
	f.t.Helper()
	var names []string
	for _, snapshot := range f.listed(container) {
		names = append(names, snapshot.Name)
	}
	return strings.Join(names, " ")
}

func TestTheLimitIsTheServersOfTheContainer(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(there, "source")
	_, err := f.records.Update(f.ctx, func(tx *store.Tx) error {
		server, err := tx.Server(there.id)
		if err != nil {
			return err
		}
		server.MaxSnapshots = 1
		return tx.PutServer(server)
	})
	f.must(err)
	f.catchUp()
	f.snapshot(source, "one")
	if _, err := here.agent.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{}); code(err) != "CONTAINER_SNAPSHOT_LIMIT" {
		t.Errorf("one more than the container's server allows: %v", err)
	}
	list, err := here.agent.Snapshots(f.ctx, caller, source.ID)
	f.must(err)
	if list.MaxSnapshots != 1 {
		t.Errorf("limit told: %d", list.MaxSnapshots)
	}
	f.write(source, "data/state", []byte("changed"))
	f.restore(source, "one", store.StatusRunning) // what is kept to undo it does not count
	f.must(second(here.agent.DeleteSnapshot(f.ctx, caller, source.ID, "one")))
	f.snapshot(source, "two")
}

func TestSnapshotsThatCannotBeReadAreNotChanged(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	f.etcd.Close()
	ctx, cancel := context.WithTimeout(f.ctx, 100*time.Millisecond)
	defer cancel()
	for what, err := range map[string]error{
		"create": second(here.agent.CreateSnapshot(ctx, caller, source.ID, agent.CreateSnapshotRequest{})),
		"rename": second(here.agent.RenameSnapshot(ctx, caller, source.ID, "one", nil)),
	} {
		if !errors.Is(err, errdefs.ErrUnavailable) || code(err) != "SNAPSHOT_INVENTORY_UNAVAILABLE" {
			t.Errorf("%s without the store: %v", what, err)
		}
	}
}

func TestWhatACopyReadsCanBeDeleted(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.states(here)
	f.write(source, "data/big", random(1, 1<<20))
	want := f.hash(source)
	reads, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	there.setFault(func(op, _ string) error {
		if op == "receive:frame" {
			once.Do(func() { close(reads) })
			<-gate
		}
		return nil
	})
	copied := f.copy(source, there, agent.CopyRequest{})
	f.wait(reads)
	// It has what it wants by its GUIDs, whatever becomes of names, lists and records.
	f.must(second(here.agent.DeleteSnapshot(f.ctx, caller, source.ID, "two")))
	f.restore(source, "one", store.StatusRunning)
	f.must(here.agent.DeleteContainer(f.ctx, caller, source.ID))
	close(gate)
	copied = f.settled(copied.ID, store.StatusRunning)
	if f.hash(copied) != want || f.names(copied) != "one two three" {
		t.Errorf("the copy lists %q, its content is the source's: %t", f.names(copied), f.hash(copied) == want)
	}
	for _, state := range []string{"two", "one", "three"} {
		f.holdsState(f.restore(copied, state, store.StatusRunning), state)
	}
}

// What undoes a sync or restore is collected when the next ones push it out, and not before.
func TestUndoSnapshotsAreCollectedPastTheirLimit(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	var kept []lineage.GUID
	for i := range 5 {
		f.write(source, "data/state", fmt.Append(nil, "local ", i))
		f.restore(source, "one", store.StatusRunning)
		undos := f.undos(source)
		kept = append(kept, undos[len(undos)-1].GUID)
		f.must(second(here.agent.Collect(f.ctx, false)))
	}
	for i, guid := range kept {
		if f.holds(here, guid) != (i >= 2) {
			t.Errorf("undo snapshot %d of 5 is in the pool: %t", i, f.holds(here, guid))
		}
	}
	for i, undo := range f.undos(source) {
		f.holdsState(f.restore(source, undo.Name, store.StatusRunning), fmt.Sprint("local ", i+2))
		f.must(second(here.agent.Collect(f.ctx, false)))
	}
}

// However the clock went, what an operation has just displaced is not what it pushes out.
func TestWhatWasJustDisplacedIsKept(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	displace := func(state string) {
		f.write(source, "data/state", []byte(state))
		f.restore(source, "one", store.StatusRunning)
	}
	f.clock.advance(24 * time.Hour)
	for i := range 3 {
		displace(fmt.Sprint("ahead ", i))
	}
	f.clock.advance(-24 * time.Hour)
	displace("in time")
	f.must(second(here.agent.Collect(f.ctx, false)))
	undos := f.undos(source)
	f.holdsState(f.restore(source, undos[len(undos)-1].Name, store.StatusRunning), "in time")
}

// An orphan that has not changed since its last sync: nothing but itself holds what it holds.
func TestWhatNobodyListsIsKeptByARestore(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.must(here.agent.DeleteContainer(f.ctx, caller, source.ID))
	f.holdsState(f.restore(copied, "one", store.StatusRunning), "one")
	f.restore(copied, "two", store.StatusRunning) // from a state that is listed: nothing to keep
	undos := f.undos(copied)
	if len(undos) != 1 {
		t.Fatalf("kept to undo: %+v, want the state that was nowhere else", undos)
	}
	f.must(second(here.agent.Collect(f.ctx, false)))
	f.holdsState(f.restore(copied, undos[0].Name, store.StatusRunning), "now")
}

func TestARestoredStateThatIsNoLongerListedIsKeptByASync(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(copied, "data/state", []byte("mine"))
	f.sync(copied, store.StatusRunning)
	mine := f.undos(copied)[0]
	f.restore(copied, mine.Name, store.StatusRunning)
	if _, err := here.agent.DeleteSnapshot(f.ctx, caller, copied.ID, mine.Name); err != nil {
		t.Fatal(err)
	}
	f.sync(copied, store.StatusRunning)
	f.holdsState(copied, "now")
	undos := slices.DeleteFunc(f.undos(copied), func(s store.Snapshot) bool { return !strings.HasPrefix(s.Name, "before-sync") })
	if len(undos) != 1 {
		t.Fatalf("kept to undo: %+v, want the state that was nowhere else", undos)
	}
	f.must(second(here.agent.Collect(f.ctx, false)))
	f.holdsState(f.restore(copied, undos[0].Name, store.StatusRunning), "mine")
}

// The only snapshot that leads back to a state was destroyed by hand: that it is still listed keeps nothing.
func TestARestoredStateWhoseSnapshotIsGoneIsKeptByASync(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(copied, "data/state", []byte("mine"))
	f.sync(copied, store.StatusRunning)
	mine := f.undos(copied)[0]
	f.restore(copied, mine.Name, store.StatusRunning)
	// A clone keeps its origin from being destroyed. Promoted, it has the snapshot itself, and what was displaced is the clone.
	f.must(here.pool.Promote(f.ctx, agent.ContainerDataset(copied.ID)))
	destroy := func() bool {
		inventory, err := here.pool.Inventory(f.ctx)
		f.must(err)
		at := lineage.Locate(inventory)[mine.GUID]
		for _, dataset := range inventory.Datasets {
			if dataset.Origin == at {
				f.must(here.pool.Destroy(f.ctx, dataset.Name))
			}
		}
		f.must(here.pool.DestroySnapshot(f.ctx, at))
		return f.holds(here, mine.GUID)
	}
	for destroy() {
	}
	watchful(here)
	f.until("the list says so", func() bool { return f.undos(copied)[0].Missing })
	f.sync(copied, store.StatusRunning)
	f.holdsState(copied, "now")
	undos := slices.DeleteFunc(f.undos(copied), func(s store.Snapshot) bool { return s.Missing || !strings.HasPrefix(s.Name, "before-sync") })
	if len(undos) != 1 {
		t.Fatalf("kept to undo: %+v, want the state that was nowhere else", undos)
	}
	f.must(second(here.agent.Collect(f.ctx, false)))
	f.holdsState(f.restore(copied, undos[0].Name, store.StatusRunning), "mine")
}
