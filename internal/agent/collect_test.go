package agent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// collect collects garbage on every server.
func (f *fleet) collect() {
	f.t.Helper()
	for _, s := range f.servers {
		s.collect()
	}
}

// collect collects garbage and requires that a second collection has nothing to do.
func (s *server) collect() agent.Report {
	s.fleet.t.Helper()
	report, err := s.agent.Collect(s.fleet.ctx, false)
	s.fleet.must(err)
	again, err := s.agent.Collect(s.fleet.ctx, true)
	s.fleet.must(err)
	for _, object := range again.Objects {
		if object.Verdict == lineage.VerdictRemovable {
			s.fleet.t.Errorf("%s is left by a collection, and the next one would remove it", object.Name)
		}
	}
	return report
}

func (s *server) inventory() lineage.Inventory {
	s.fleet.t.Helper()
	inventory, err := s.pool.Inventory(s.fleet.ctx)
	s.fleet.must(err)
	return inventory
}

// agents lists what is in a server's pool of the agent's making, apart from the places for it.
func (s *server) agents() []string {
	s.fleet.t.Helper()
	var found []string
	for _, dataset := range s.inventory().Datasets {
		if role := dataset.Properties["hoody:role"]; role != "" && role != "parent" {
			found = append(found, dataset.Name)
		}
		for _, snapshot := range dataset.Snapshots {
			if strings.HasPrefix(snapshot.Name, "hoody-") {
				found = append(found, dataset.Name+"@"+snapshot.Name)
			}
		}
	}
	return found
}

// depth is how many datasets a container's files stand on, its own included.
func (s *server) depth(container store.Container) int {
	inventory := s.inventory()
	depth := 0
	for name := agent.ContainerDataset(container.ID); name != ""; depth++ {
		dataset, _ := inventory.Dataset(name)
		name, _, _ = lineage.SplitSnapshot(dataset.Origin)
	}
	return depth
}

func (s *server) object(report agent.Report, name string) lineage.Object {
	s.fleet.t.Helper()
	for _, object := range report.Objects {
		if object.Name == name {
			return object
		}
	}
	s.fleet.t.Errorf("the report says nothing of %s", name)
	return lineage.Object{}
}

func dataset(container store.Container) string {
	return agent.ContainerDataset(container.ID)
}

// taken takes a snapshot of a container for its user.
func (f *fleet) taken(container store.Container) store.Snapshot {
	f.t.Helper()
	made, err := f.servers[0].agent.CreateSnapshot(f.ctx, caller, container.ID, agent.CreateSnapshotRequest{})
	f.must(err)
	return made.Snapshot
}

func (f *fleet) delete(container store.Container) {
	f.t.Helper()
	f.must(f.servers[0].agent.DeleteContainer(f.ctx, caller, container.ID))
	f.catchUp()
}

func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var all [][]int
	for _, shorter := range permutations(n - 1) {
		for at := range n {
			all = append(all, slices.Insert(slices.Clone(shorter), at, n-1))
		}
	}
	return all
}

func TestDeletingInAnyOrderLeavesNothingAndLosesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	stride := 3
	if testing.Short() {
		stride = 9
	}
	for round, order := range permutations(4) {
		if round%stride > 0 {
			continue
		}
		source := f.create(here, fmt.Sprintf("source-%d", round))
		f.write(source, "data/file", []byte("first"))
		first := f.taken(source)
		f.write(source, "data/file", random(byte(round), 100<<10))
		near := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
		far := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
		f.write(far, "data/own", []byte("own"))
		grandchild := f.settled(f.copy(far, there, agent.CopyRequest{}).ID, store.StatusRunning)
		all := []store.Container{source, near, far, grandchild}
		hashes := make([]string, len(all))
		for i, container := range all {
			hashes[i] = f.hash(container)
		}
		f.collect()
		for done, gone := range order {
			f.delete(all[gone])
			f.collect()
			for _, left := range order[done+1:] {
				container := all[left]
				if f.hash(container) != hashes[left] {
					t.Errorf("order %v, after %d: the content of container %d changed", order, done, left)
				}
				if !f.holds(f.serverOf(container), first.GUID) {
					t.Errorf("order %v, after %d: container %d lists a snapshot that is gone", order, done, left)
				}
				_, err := here.agent.RestoreSnapshot(f.ctx, caller, container.ID, first.Name)
				f.must(err)
				if got := f.read(container, "data/file"); got != "first" {
					t.Errorf("order %v, after %d: restored %q", order, done, got)
				}
				hashes[left] = f.hash(container)
				f.collect()
			}
		}
		for _, s := range f.servers {
			if left := s.agents(); len(left) > 0 {
				t.Fatalf("order %v: all is deleted, and on %s is left %v", order, s.id, left)
			}
			tombstones, err := s.store.Tombstones(f.ctx)
			f.must(err)
			if len(tombstones) > 0 {
				t.Fatalf("order %v: tombstones are left: %+v", order, tombstones)
			}
		}
	}
}

func TestManySyncsStayFlat(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.taken(source)
	copies := []store.Container{
		f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning),
		f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning),
	}
	type size struct{ datasets, snapshots, depth int }
	var early []size
	rounds := 50
	if testing.Short() {
		rounds = 12
	}
	for round := 1; round <= rounds; round++ {
		f.write(source, "data/file", []byte(fmt.Sprint(round)))
		for i, copied := range copies {
			copies[i] = f.sync(copied, store.StatusRunning)
		}
		if round%7 > 2 { // now and then none runs for a while
			f.collect()
		}
		if round != 10 && round != rounds {
			continue
		}
		f.collect()
		var now []size
		for _, s := range f.servers {
			at := size{datasets: len(s.inventory().Datasets)}
			for _, dataset := range s.inventory().Datasets {
				at.snapshots += len(dataset.Snapshots)
			}
			for _, copied := range copies {
				if f.serverOf(copied) == s {
					at.depth = s.depth(copied)
				}
			}
			now = append(now, at)
			t.Logf("after %d syncs: %+v", round, at)
		}
		if early == nil {
			early = now
		} else if !slices.Equal(early, now) {
			t.Errorf("after 10 syncs %+v, after %d %+v", early, round, now)
		}
	}
	for _, copied := range copies {
		if f.hash(copied) != f.hash(source) {
			t.Error("a copy is not what its source is")
		}
	}
}

func TestABaseIsABookmarkAndTheNewestASnapshot(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/big", random(1, 2<<20))
	var copies []store.Container
	for round := range 4 {
		f.write(source, "data/small", []byte{byte(round)})
		copies = append(copies, f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning))
	}
	f.collect()
	kept, err := here.pool.Dataset(f.ctx, dataset(source))
	f.must(err)
	if len(kept.Snapshots) != 2 || len(kept.Bookmarks) != 3 { // its marker and the newest base; the other bases
		t.Errorf("the source holds %+v and %+v, want one base as a snapshot and three as bookmarks", kept.Snapshots, kept.Bookmarks)
	}
	// Nothing changed since the newest: a no-op stays one.
	copies[3] = f.sync(copies[3], store.StatusRunning)
	if !copies[3].LastOperation.Progress.NoOp {
		t.Errorf("sync of unchanged sides: %+v", copies[3].LastOperation)
	}
	// The oldest starts from a bookmark, and moves little, or nothing at all: its server holds the state already.
	copies[0] = f.sync(copies[0], store.StatusRunning)
	if moved := copies[0].LastOperation.Progress.BytesDone; moved != 0 || f.hash(copies[0]) != f.hash(source) {
		t.Errorf("sync with what is there moved %d bytes", moved)
	}
	f.delete(copies[2])
	f.delete(copies[3])
	f.delete(copies[0])
	f.collect()
	f.write(source, "data/small", []byte("new"))
	copies[1] = f.sync(copies[1], store.StatusRunning) // knows only a state of which the source has a bookmark
	if moved := copies[1].LastOperation.Progress.BytesDone; moved == 0 || moved > 512<<10 || f.hash(copies[1]) != f.hash(source) {
		t.Errorf("sync from a bookmark moved %d bytes", moved)
	}
	f.delete(copies[1])
	f.collect()
	kept, err = here.pool.Dataset(f.ctx, dataset(source))
	f.must(err)
	if len(kept.Snapshots) != 1 || len(kept.Bookmarks) != 0 {
		t.Errorf("without copies the source holds %+v and %+v", kept.Snapshots, kept.Bookmarks)
	}
	if left := there.agents(); len(left) > 0 {
		t.Errorf("left on the other server: %v", left)
	}
}

func TestARestoredCopyKeepsItsBase(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/big", random(1, 2<<20))
	first := f.taken(source)
	f.write(source, "data/small", []byte("one"))
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(source, "data/small", []byte("two"))
	copied = f.sync(copied, store.StatusRunning)
	_, err := here.agent.RestoreSnapshot(f.ctx, caller, copied.ID, first.Name)
	f.must(err)
	f.collect()
	f.write(source, "data/small", []byte("three"))
	copied = f.sync(copied, store.StatusRunning)
	if moved := copied.LastOperation.Progress.BytesDone; moved == 0 || moved > 512<<10 || f.hash(copied) != f.hash(source) {
		t.Errorf("sync after a restore moved %d bytes", moved)
	}
}

func TestADeletedSnapshotGoesWhereNobodyElseListsIt(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", []byte("one"))
	snapshot := f.taken(source)
	f.write(source, "data/file", []byte("two"))
	near := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	far := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	remove := func(container store.Container) {
		_, err := here.agent.DeleteSnapshot(f.ctx, caller, container.ID, snapshot.Name)
		f.must(err)
		f.collect()
	}
	holds := func(want ...bool) {
		t.Helper()
		for i, s := range f.servers {
			if f.holds(s, snapshot.GUID) != want[i] {
				t.Errorf("server %d holds the snapshot: %v", i, !want[i])
			}
		}
	}
	remove(source)
	holds(true, true) // the near copy lists it
	remove(far)
	holds(true, false)
	remove(near)
	holds(false, false)
}

func TestForeignThingsStayAndAreReported(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(source, "data/file", []byte("new"))
	_, err := here.pool.Snapshot(f.ctx, dataset(copied), "by-hand")
	f.must(err)
	f.must(here.pool.Create(f.ctx, "hoody/generations/by-hand", nil))
	copied = f.sync(copied, store.StatusRunning)
	f.must(here.pool.Clone(f.ctx, dataset(source)+"@"+newestOf(t, here, dataset(source)), "containers/admins", nil))
	report := here.collect()
	displaced := "hoody/generations/" + copied.LastOperation.ID
	for name, want := range map[string]lineage.Verdict{
		displaced: lineage.VerdictKept, displaced + "@by-hand": lineage.VerdictForeign, "hoody/generations/by-hand": lineage.VerdictForeign,
	} {
		if got := here.object(report, name); got.Verdict != want || len(got.Reasons) == 0 {
			t.Errorf("%s is %s because of %v, want %s", name, got.Verdict, got.Reasons, want)
		}
		if dataset, short, ok := lineage.SplitSnapshot(name); ok {
			if held, _ := here.inventory().Dataset(dataset); !slices.ContainsFunc(held.Snapshots, func(s lineage.Snapshot) bool { return s.Name == short }) {
				t.Errorf("%s is gone", name)
			}
		}
	}
	f.delete(source)
	f.delete(copied)
	here.collect()
	for _, name := range []string{"containers/admins", "hoody/generations/by-hand", displaced} {
		if _, err := here.pool.Dataset(f.ctx, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func newestOf(t *testing.T, s *server, name string) string {
	t.Helper()
	dataset, _ := s.inventory().Dataset(name)
	newest, ok := dataset.Newest()
	if !ok {
		t.Fatalf("%s has no snapshot", name)
	}
	return newest.Name
}

// TestNamesOfTheRuntimeClash: the runtime counts its snapshots anew after each checkout.
func TestNamesOfTheRuntimeClash(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	container := f.create(here, "container")
	instance := agent.InstanceName(container.ID)
	for round := range 3 {
		f.write(container, "data/file", []byte(fmt.Sprint(round)))
		f.must(here.runtime.AddSnapshot(f.ctx, instance, "snap0"))
		f.write(container, "data/file", []byte("later"))
		f.taken(container)
		list, err := here.agent.Snapshots(f.ctx, caller, container.ID)
		f.must(err)
		_, err = here.agent.RestoreSnapshot(f.ctx, caller, container.ID, list.Snapshots[0].Name) // adopts what the runtime made
		f.must(err)
		here.collect()
	}
	list, err := here.agent.Snapshots(f.ctx, caller, container.ID)
	f.must(err)
	adopted := 0
	for _, snapshot := range list.Snapshots {
		if !strings.HasPrefix(snapshot.Name, "snap0") {
			continue
		}
		_, err := here.agent.RestoreSnapshot(f.ctx, caller, container.ID, snapshot.Name)
		f.must(err)
		here.collect()
		if got := f.read(container, "data/file"); !slices.Contains([]string{"0", "1", "2"}, got) {
			t.Errorf("restored %s holds %q", snapshot.Name, got)
		}
		adopted++
	}
	if adopted != 3 {
		t.Errorf("%d adopted snapshots of 3", adopted)
	}
	f.delete(container)
	here.collect()
	if left := here.agents(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestWhatIsBusyGoesLater(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	f.write(source, "data/file", []byte("new"))
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.delete(copied)
	here.setFault(func(op, object string) error {
		if op == "destroy-snapshot:before" && strings.HasSuffix(object, lineage.FreezeSuffix) {
			return errdefs.New(errdefs.ErrBusy, "", "it is being sent")
		}
		return nil
	})
	report := here.collectOnce()
	here.setFault(nil)
	deferred := 0
	for _, object := range report.Objects {
		if object.Verdict == lineage.VerdictDeferred {
			deferred++
		}
	}
	if deferred != 1 || report.Removed == 0 {
		t.Errorf("%d deferred and %d removed: %+v", deferred, report.Removed, report.Objects)
	}
	here.collect()
	if kept, _ := here.inventory().Dataset(dataset(source)); len(kept.Snapshots) != 1 {
		t.Errorf("the source holds %+v", kept.Snapshots)
	}
}

// What cannot be destroyed, whatever the reason, is told; it is no reason to leave everything else.
func TestWhatIsBrokenKeepsNothingElse(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	for _, name := range []string{"a", "b", "c"} {
		source := f.create(here, name)
		f.write(source, "data/file", []byte("new"))
		f.taken(source)
		f.delete(source)
	}
	broken := ""
	here.setFault(func(op, object string) error {
		if op == "destroy-snapshot:before" && (broken == "" || broken == object) {
			broken = object
			return errdefs.New(errdefs.ErrInternal, "", "I/O error")
		}
		return nil
	})
	report, err := here.agent.Collect(f.ctx, false)
	here.setFault(nil)
	if !errors.Is(err, errdefs.ErrInternal) || !strings.Contains(err.Error(), broken) || report.Removed == 0 {
		t.Errorf("%d removed, %v", report.Removed, err)
	}
	dataset, _, _ := lineage.SplitSnapshot(broken)
	if left := here.agents(); !slices.Equal(left, []string{dataset, broken}) {
		t.Errorf("left: %v, broken: %s", left, broken)
	}
	here.collect()
	if left := here.agents(); len(left) > 0 {
		t.Errorf("left in the end: %v", left)
	}
}

// stalePool shows its holdings once as they were.
type stalePool struct {
	agent.Pool
	was *atomic.Pointer[lineage.Inventory]
}

func (p stalePool) Inventory(ctx context.Context) (lineage.Inventory, error) {
	if was := p.was.Swap(nil); was != nil {
		return *was, nil
	}
	return p.Pool.Inventory(ctx)
}

// A collection may see the pool in the middle of a restore and the records after that was undone: what then bears the
// container's name stands on the image, and must not take that over.
func TestTheImageIsNotTakenOver(t *testing.T) {
	var was atomic.Pointer[lineage.Inventory]
	f := newFleet(t, 1, func(f *fleet) {
		f.watch = func(_ string, pool agent.Pool) agent.Pool { return stalePool{pool, &was} }
	})
	here := f.servers[0]
	box := f.create(here, "box")
	snapshot := f.taken(box)
	f.write(box, "data/file", []byte("new"))
	origin := func() string {
		kept, _ := here.inventory().Dataset(dataset(box))
		return kept.Origin
	}
	image := origin()
	if !strings.HasPrefix(image, "images/") {
		t.Fatalf("the container stands on %q", image)
	}
	var swapped lineage.Inventory
	var once sync.Once
	here.setFault(func(op, _ string) (err error) {
		if op == "start:before" {
			once.Do(func() {
				swapped = here.inventory()
				err = errdefs.New(errdefs.ErrExhausted, "", "no space for what is restored")
			})
		}
		return err
	})
	if _, err := here.agent.RestoreSnapshot(f.ctx, caller, box.ID, snapshot.Name); err == nil {
		t.Fatal("the restore did not fail")
	}
	here.setFault(nil)
	was.Store(&swapped)
	here.collectOnce()
	if is := origin(); is != image {
		t.Errorf("the container stands on %q, it stood on %q", is, image)
	}
}

func (s *server) collectOnce() agent.Report {
	s.fleet.t.Helper()
	report, err := s.agent.Collect(s.fleet.ctx, false)
	s.fleet.must(err)
	return report
}

func TestSpaceComesBack(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	before, err := here.pool.Space(f.ctx)
	f.must(err)
	source := f.create(here, "source")
	for round := range 3 {
		f.write(source, "data/big", random(byte(round), 4<<20))
		f.taken(source)
	}
	f.delete(source)
	report := here.collectOnce()
	after, err := here.pool.Space(f.ctx)
	f.must(err)
	if used := before.Free - min(before.Free, after.Free); used > 1<<20 || report.Freed == 0 {
		t.Errorf("%d bytes are still in use; the collection freed %d", used, report.Freed)
	}
}

// TestACopyOfAnUndoSnapshotLeavesNothing: what it was made from is not its source's to delete.
func TestACopyOfAnUndoSnapshotLeavesNothing(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	first := f.taken(source)
	f.write(source, "data/file", []byte("displaced"))
	_, err := here.agent.RestoreSnapshot(f.ctx, caller, source.ID, first.Name)
	f.must(err)
	list, err := here.agent.Snapshots(f.ctx, caller, source.ID)
	f.must(err)
	undo := list.Snapshots[slices.IndexFunc(list.Snapshots, func(s store.Snapshot) bool { return s.Undo })]
	copied := f.settled(f.copy(source, there, agent.CopyRequest{SourceSnapshot: undo.Name}).ID, store.StatusRunning)
	f.collect()
	if got := f.read(copied, "data/file"); got != "displaced" || !f.holds(there, undo.GUID) {
		t.Errorf("the copy of what was displaced holds %q", got)
	}
	copied = f.sync(copied, store.StatusRunning)
	f.delete(copied)
	f.collect()
	if left := there.agents(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestCollectsByItself: the end of an operation is followed by a collection, whatever else goes on.
func TestCollectsByItself(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	here.collects = time.Hour
	here.restart()
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	for round := range 5 {
		f.write(source, "data/file", []byte{byte(round)})
		copied = f.sync(copied, store.StatusRunning)
		if f.hash(copied) != f.hash(source) {
			t.Errorf("round %d: the copy is not what its source is", round)
		}
	}
	f.delete(source)
	f.delete(copied)
	for len(here.agents()) > 0 {
		select {
		case <-f.ctx.Done():
			t.Fatalf("left: %v", here.agents())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
