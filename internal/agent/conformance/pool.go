package conformance

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// Pool checks a storage pool. open is called once for each test.
func Pool(t *testing.T, open func(t *testing.T) agent.Pool) {
	for _, test := range []struct {
		name string
		run  func(s *sandbox)
	}{
		{"Create", create},
		{"Properties", properties},
		{"Files", files},
		{"MountFollowsRename", mountFollowsRename},
		{"MountSnapshot", mountSnapshot},
		{"Rename", rename},
		{"Destroy", destroy},
		{"Snapshots", snapshots},
		{"SnapshotsDoNotChange", snapshotsDoNotChange},
		{"Clones", clones},
		{"Promote", promote},
		{"PromoteRefuses", promoteRefuses},
		{"PromoteMovesBookmarks", promoteMovesBookmarks},
		{"Rollback", rollback},
		{"RenameSnapshot", renameSnapshot},
		{"Bookmarks", bookmarks},
		{"Written", writtenBytes},
		{"Diff", diff},
		{"Activity", activity},
		{"Swap", swap},
		{"Space", space},
		{"Concurrent", concurrent},
		{"Cancelled", cancelled},

		{"FullStream", fullStream},
		{"StreamKeepsFiles", streamKeepsFiles},
		{"Increments", increments},
		{"IncrementIsSmall", incrementIsSmall},
		{"ReceiveRefuses", receiveRefuses},
		{"Origins", origins},
		{"CloneStream", cloneStream},
		{"FromBookmark", fromBookmark},
		{"EstimateOfChain", estimateOfChain},
		{"PlannedLineage", plannedLineage},
		{"SendRefuses", sendRefuses},
		{"SendPinsItsSnapshot", sendPins},
		{"SendStops", sendStops},

		{"Series", seriesArrives},
		{"SeriesOfAllSorts", seriesOfAllSorts},
		{"SeriesIsAskedFor", seriesIsAskedFor},
		{"SeriesIsCut", seriesIsCut},
		{"SeriesIsAnother", seriesIsAnother},
		{"SeriesIsStale", seriesIsStale},
		{"SeriesRefuses", seriesRefuses},
		{"SeriesPins", seriesPins},

		{"Resume", resume},
		{"ResumeIncrement", resumeIncrement},
		{"ResumeAfterRename", resumeAfterRename},
		{"StaleToken", staleToken},
		{"BadToken", badToken},
		{"Abort", abort},
		{"Corrupt", corrupt},
		{"ReceiveStops", receiveStops},
		{"PartlyReceived", partlyReceived},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(newSandbox(t, open(t))) })
	}
}

func create(s *sandbox) {
	deep := s.name("a/b/c")
	s.ok(s.pool.Create(s.ctx, deep, agent.Properties{"hoody:role": "test", "refquota": "1G"}), "create with missing parents")
	d := s.dataset(deep)
	if d.Name != deep || d.Volume || d.Origin != "" || len(d.Snapshots) != 0 || d.ResumeToken != "" {
		s.Errorf("new dataset: %+v", d)
	}
	if len(d.Properties) != 1 || d.Properties["hoody:role"] != "test" {
		s.Errorf("properties %v, want the agent's own only", d.Properties)
	}
	s.dataset(s.name("a/b"))
	s.fails(s.pool.Create(s.ctx, deep, nil), "create twice", errdefs.ErrAlreadyExists)
	s.fails(s.pool.Create(s.ctx, s.name("a!b"), nil), "create a bad name", errdefs.ErrInvalid)
	_, err := s.pool.Dataset(s.ctx, s.name("none"))
	s.fails(err, "read a missing dataset", errdefs.ErrNotFound)
	mounted, err := s.pool.Mounted(s.ctx, deep)
	if err != nil || mounted {
		s.Errorf("a new dataset is mounted: %v, %v", mounted, err)
	}

	inv, err := s.pool.Inventory(s.ctx)
	s.ok(err, "inventory")
	if !slices.IsSortedFunc(inv.Datasets, func(a, b lineage.Dataset) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	}) {
		s.Error("inventory is not sorted by name")
	}
	if listed, ok := inv.Dataset(deep); !ok || listed.Properties["hoody:role"] != "test" {
		s.Errorf("inventory has %+v", listed)
	}
}

func properties(s *sandbox) {
	parent := s.create("p")
	child := s.create("p/child")
	s.ok(s.pool.SetProperties(s.ctx, parent, agent.Properties{"hoody:job": "1", "hoody:container": "c"}), "set")
	if got := s.dataset(child).Properties; len(got) != 0 {
		s.Errorf("child shows inherited properties %v", got)
	}
	s.ok(s.pool.SetProperties(s.ctx, parent, agent.Properties{"hoody:job": "", "hoody:container": "d", "refquota": "64M"}), "set and take back")
	if got := s.dataset(parent).Properties; len(got) != 1 || got["hoody:container"] != "d" {
		s.Errorf("properties %v", got)
	}
	s.ok(s.pool.SetProperties(s.ctx, parent, agent.Properties{"hoody:job": "", "refquota": ""}), "take back what is not set")
	s.fails(s.pool.SetProperties(s.ctx, s.name("none"), agent.Properties{"hoody:job": "1"}), "set on a missing dataset", errdefs.ErrNotFound)
	s.fails(s.pool.SetProperties(s.ctx, parent, agent.Properties{"refquota": "much"}), "set nonsense", errdefs.ErrInvalid)
}

func files(s *sandbox) {
	d := s.create("files")
	s.write(d, "rootfs/etc/motd", []byte("hello"))
	s.holds(d, "rootfs/etc/motd", []byte("hello"))
	m, err := s.pool.Mount(s.ctx, d)
	s.ok(err, "mount")
	mounted, err := s.pool.Mounted(s.ctx, d)
	if err != nil || !mounted {
		s.Errorf("mounted: %v, %v", mounted, err)
	}
	s.ok(m.Root().Symlink("/etc", "rootfs/out"), "symlink")
	if f, err := m.Root().Open("rootfs/out/hostname"); err == nil {
		f.Close()
		s.Error("a link leads out of the dataset")
	}
	s.ok(m.Unmount(s.ctx), "unmount")
	s.ok(m.Unmount(s.ctx), "unmount again")
	mounted, err = s.pool.Mounted(s.ctx, d)
	if err != nil || mounted {
		s.Errorf("still mounted: %v, %v", mounted, err)
	}
	_, err = s.pool.Mount(s.ctx, s.name("none"))
	s.fails(err, "mount a missing dataset", errdefs.ErrNotFound)
}

func mountSnapshot(s *sandbox) {
	d := s.create("d")
	s.write(d, "rootfs/f", []byte("then"))
	s.with(d, func(m agent.Mount) error { return m.Root().Symlink("f", "rootfs/l") })
	s.snapshot(d, "s1")
	s.write(d, "rootfs/f", []byte("now"))
	m, err := s.pool.MountSnapshot(s.ctx, d+"@s1")
	s.ok(err, "mount a snapshot")
	again, err := s.pool.MountSnapshot(s.ctx, d+"@s1")
	s.ok(err, "mount it twice")
	live, err := s.pool.Mount(s.ctx, d)
	s.ok(err, "mount the dataset beside it")
	for root, want := range map[*os.Root]string{m.Root(): "then", again.Root(): "then", live.Root(): "now"} {
		if got, err := root.ReadFile("rootfs/f"); err != nil || string(got) != want {
			s.Errorf("read %q, %v, want %q", got, err, want)
		}
	}
	if target, err := m.Root().Readlink("rootfs/l"); err != nil || target != "f" {
		s.Errorf("link to %q, %v", target, err)
	}
	s.ok(live.Unmount(s.ctx), "unmount the dataset")
	s.ok(again.Unmount(s.ctx), "unmount")
	s.fails(s.pool.DestroySnapshot(s.ctx, d+"@s1"), "destroy a mounted snapshot", errdefs.ErrBusy)
	s.ok(m.Unmount(s.ctx), "unmount")
	s.ok(m.Unmount(s.ctx), "unmount again")
	s.ok(s.pool.DestroySnapshot(s.ctx, d+"@s1"), "destroy it")
	_, err = s.pool.MountSnapshot(s.ctx, d+"@s1")
	s.fails(err, "mount a missing snapshot", errdefs.ErrNotFound)
	_, err = s.pool.MountSnapshot(s.ctx, d)
	s.fails(err, "mount what is no snapshot", errdefs.ErrInvalid)
}

func mountFollowsRename(s *sandbox) {
	from, to := s.create("from"), s.name("to")
	m, err := s.pool.Mount(s.ctx, from)
	s.ok(err, "mount")
	defer m.Unmount(s.ctx)
	s.ok(s.pool.Rename(s.ctx, from, to), "rename a mounted dataset")
	s.ok(m.Root().WriteFile("late", []byte("x"), 0o644), "write after the rename")
	mounted, err := s.pool.Mounted(s.ctx, to)
	if err != nil || !mounted {
		s.Errorf("mounted under the new name: %v, %v", mounted, err)
	}
	s.ok(m.Unmount(s.ctx), "unmount")
	s.holds(to, "late", []byte("x"))
}

func rename(s *sandbox) {
	a := s.create("a")
	s.write(a, "f", []byte("1"))
	snap := s.snapshot(a, "s")
	clone := s.clone(a+"@s", "clone")
	s.create("a/child")
	b := s.name("new/parent/b")
	s.ok(s.pool.Rename(s.ctx, a, b), "rename below missing parents")
	_, err := s.pool.Dataset(s.ctx, a)
	s.fails(err, "read the old name", errdefs.ErrNotFound)
	if got := s.guids(b); !slices.Equal(got, []lineage.GUID{snap.GUID}) {
		s.Errorf("snapshots after rename: %v", got)
	}
	s.dataset(b + "/child")
	if got := s.dataset(clone).Origin; got != b+"@s" {
		s.Errorf("clone's origin is %s", got)
	}
	s.holds(b, "f", []byte("1"))
	s.fails(s.pool.Rename(s.ctx, b, clone), "rename onto another", errdefs.ErrAlreadyExists)
	s.fails(s.pool.Rename(s.ctx, a, s.name("x")), "rename a missing dataset", errdefs.ErrNotFound)
}

func destroy(s *sandbox) {
	a := s.create("a")
	s.snapshot(a, "s1")
	s.snapshot(a, "s2")
	child := s.create("a/child")
	clone := s.clone(a+"@s1", "clone")
	s.fails(s.pool.Destroy(s.ctx, a), "destroy with a child", errdefs.ErrBusy)
	s.ok(s.pool.Destroy(s.ctx, child), "destroy the child")
	s.fails(s.pool.Destroy(s.ctx, a), "destroy with a clone", errdefs.ErrBusy)
	if len(s.guids(a)) != 2 {
		s.Error("a refused destroy took snapshots")
	}
	s.fails(s.pool.DestroySnapshot(s.ctx, a+"@s1"), "destroy a snapshot with a clone", errdefs.ErrBusy)
	if d := s.dataset(a); len(d.Snapshots) != 2 || d.Snapshots[0].DeferDestroy {
		s.Errorf("a refused destroy left marks: %+v", d.Snapshots)
	}
	s.ok(s.pool.DestroySnapshot(s.ctx, a+"@s2"), "destroy a snapshot")
	s.fails(s.pool.DestroySnapshot(s.ctx, a+"@s2"), "destroy a snapshot again", errdefs.ErrNotFound)
	s.ok(s.pool.Destroy(s.ctx, clone), "destroy the clone")
	s.fails(s.pool.DestroyEmpty(s.ctx, a), "destroy as empty what has a snapshot", errdefs.ErrBusy)
	if len(s.guids(a)) != 1 {
		s.Error("a refused destroy took the snapshot")
	}
	empty := s.create("empty")
	s.ok(s.pool.DestroyEmpty(s.ctx, empty), "destroy what is empty")
	s.fails(s.pool.DestroyEmpty(s.ctx, empty), "destroy again what was empty", errdefs.ErrNotFound)
	s.ok(s.pool.Destroy(s.ctx, a), "destroy with own snapshots")
	s.fails(s.pool.Destroy(s.ctx, a), "destroy again", errdefs.ErrNotFound)
	s.fails(s.pool.DestroySnapshot(s.ctx, a+"@s1"), "destroy a missing dataset's snapshot", errdefs.ErrNotFound)
	s.fails(s.pool.DestroySnapshot(s.ctx, s.top+"#b"), "destroy a missing bookmark", errdefs.ErrNotFound)
}

// swap is what a checkout does.
func swap(s *sandbox) {
	current := "containers/" + s.top[len("hoody/"):]
	aside, fresh := s.name("generations/old"), s.name("incoming/new")
	s.ok(s.pool.Create(s.ctx, current, nil), "create %s", current)
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		// A clone of what the sandbox holds: it goes first.
		if err := s.pool.Destroy(ctx, current); err != nil {
			s.Errorf("clean up: %v", err)
		}
	})
	s.write(current, "f", []byte("old"))
	s.snapshot(current, "s")
	s.write(current, "f", []byte("newer"))
	s.ok(s.pool.Clone(s.ctx, current+"@s", fresh, nil), "clone")
	s.write(fresh, "g", []byte("fresh"))
	s.ok(s.pool.Rename(s.ctx, current, aside), "rename aside")
	s.ok(s.pool.Rename(s.ctx, fresh, current), "rename in")
	s.holds(current, "f", []byte("old"))
	s.holds(current, "g", []byte("fresh"))
	s.holds(aside, "f", []byte("newer"))
	s.holds(aside, "g", nil)
	if got := s.dataset(current).Origin; got != aside+"@s" {
		s.Errorf("origin after the swap: %s", got)
	}
}

func space(s *sandbox) {
	got, err := s.pool.Space(s.ctx)
	s.ok(err, "space")
	if got.Size == 0 || got.Free == 0 || got.Free > got.Size {
		s.Errorf("space: %+v", got)
	}
}

func concurrent(s *sandbox) {
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			name := s.name(fmt.Sprintf("parent/d%d", i)) // all make the parent
			if err := s.pool.Create(s.ctx, name, nil); err != nil {
				s.Errorf("create: %v", err)
				return
			}
			for j := range 3 {
				if _, err := s.pool.Snapshot(s.ctx, name, fmt.Sprintf("s%d", j)); err != nil {
					s.Errorf("snapshot: %v", err)
				}
				if _, err := s.pool.Inventory(s.ctx); err != nil {
					s.Errorf("inventory: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for i := range 4 {
		if got := s.guids(s.name(fmt.Sprintf("parent/d%d", i))); len(got) != 3 {
			s.Errorf("d%d has %d snapshots", i, len(got))
		}
	}
}

func cancelled(s *sandbox) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	s.fails(s.pool.Create(ctx, s.name("x"), nil), "create after cancel")
	_, err := s.pool.Inventory(ctx)
	s.fails(err, "inventory after cancel")
	if errdefs.ClassOf(err) != errdefs.ErrUnavailable {
		s.Errorf("class of %v is %v", err, errdefs.ClassOf(err))
	}
}

// appendTo opens a file for writing at its end, as a program in a container does.
func appendTo(m agent.Mount, file string, content []byte) error {
	f, err := m.Root().OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
