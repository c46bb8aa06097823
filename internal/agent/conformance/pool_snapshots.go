package conformance

import (
	"os"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

func snapshots(s *sandbox) {
	d := s.create("d")
	var made []lineage.Snapshot
	for _, name := range []string{"s2", "s1", "hoody-3"} { // order is by age, not by name
		made = append(made, s.snapshot(d, name))
	}
	listed := s.dataset(d).Snapshots
	if len(listed) != len(made) {
		s.Fatalf("listed %+v", listed)
	}
	seen := make(map[lineage.GUID]bool)
	for i, got := range listed {
		if want := made[i]; got.Name != want.Name || got.GUID != want.GUID || got.CreateTXG != want.CreateTXG || !got.Creation.Equal(want.Creation) {
			s.Errorf("listed %+v, made %+v", got, want)
		}
		if got.GUID == 0 || seen[got.GUID] || got.DeferDestroy || got.Creation.IsZero() {
			s.Errorf("snapshot %+v", got)
		}
		seen[got.GUID] = true
		if i > 0 && got.CreateTXG < listed[i-1].CreateTXG {
			s.Errorf("%s is older than %s before it", got.Name, listed[i-1].Name)
		}
	}
	_, err := s.pool.Snapshot(s.ctx, d, "s1")
	s.fails(err, "snapshot twice", errdefs.ErrAlreadyExists)
	_, err = s.pool.Snapshot(s.ctx, s.name("none"), "s1")
	s.fails(err, "snapshot of a missing dataset", errdefs.ErrNotFound)
	_, err = s.pool.Snapshot(s.ctx, d, "a/b")
	s.fails(err, "snapshot with a bad name", errdefs.ErrInvalid)
	inv, err := s.pool.Inventory(s.ctx)
	s.ok(err, "inventory")
	if in, _ := inv.Dataset(d); len(in.Snapshots) != 3 || in.Snapshots[2].GUID != made[2].GUID {
		s.Errorf("inventory has %+v", in)
	}
}

// snapshotsDoNotChange writes into files in place, as containers do.
func snapshotsDoNotChange(s *sandbox) {
	d := s.create("d")
	first := noise(1, 300*kib)
	s.write(d, "rootfs/data", first)
	s.write(d, "rootfs/small", []byte("aaaa"))
	s.snapshot(d, "s1")
	m, err := s.pool.Mount(s.ctx, d)
	s.ok(err, "mount")
	defer m.Unmount(s.ctx)
	second := slices.Clone(first)
	for round, content := range []string{"bbbb", "cccc"} { // same size, and soon after each other
		copy(second[200*kib:], content)
		f, err := m.Root().OpenFile("rootfs/data", os.O_WRONLY, 0)
		s.ok(err, "open")
		_, err = f.WriteAt([]byte(content), 200*kib)
		s.ok(err, "write in place")
		s.ok(f.Close(), "close")
		s.ok(m.Root().WriteFile("rootfs/small", []byte(content), 0o644), "rewrite")
		s.snapshot(d, []string{"s2", "s3"}[round])
	}
	s.ok(appendTo(m, "rootfs/small", []byte("+")), "append")
	s.ok(m.Unmount(s.ctx), "unmount")
	s.snapshotHolds(d+"@s1", "rootfs/data", first)
	s.snapshotHolds(d+"@s1", "rootfs/small", []byte("aaaa"))
	s.snapshotHolds(d+"@s2", "rootfs/small", []byte("bbbb"))
	s.snapshotHolds(d+"@s3", "rootfs/data", second)
	s.snapshotHolds(d+"@s3", "rootfs/small", []byte("cccc"))
	s.holds(d, "rootfs/small", []byte("cccc+"))
}

func clones(s *sandbox) {
	d := s.create("d")
	s.write(d, "f", []byte("1"))
	snap := s.snapshot(d, "s1")
	s.write(d, "f", []byte("2"))
	c := s.name("below/missing/c")
	s.ok(s.pool.Clone(s.ctx, d+"@s1", c, agent.Properties{"hoody:role": "clone"}), "clone below missing parents")
	got := s.dataset(c)
	if got.Origin != d+"@s1" || len(got.Snapshots) != 0 || got.Properties["hoody:role"] != "clone" {
		s.Errorf("clone: %+v", got)
	}
	s.holds(c, "f", []byte("1"))
	s.write(c, "f", []byte("3"))
	s.holds(d, "f", []byte("2"))
	s.snapshotHolds(d+"@s1", "f", []byte("1"))
	if own := s.snapshot(c, "s1"); own.GUID == snap.GUID {
		s.Error("a clone's snapshot has the origin's identity")
	}
	s.fails(s.pool.Clone(s.ctx, d+"@none", s.name("x"), nil), "clone a missing snapshot", errdefs.ErrNotFound)
	s.fails(s.pool.Clone(s.ctx, s.name("none@s1"), s.name("x"), nil), "clone of a missing dataset", errdefs.ErrNotFound)
	s.fails(s.pool.Clone(s.ctx, d+"@s1", c, nil), "clone onto another", errdefs.ErrAlreadyExists)
}

func promote(s *sandbox) {
	d := s.create("d")
	var guids []lineage.GUID
	for _, name := range []string{"s1", "s2", "s3"} {
		s.write(d, "f", []byte(name))
		guids = append(guids, s.snapshot(d, name).GUID)
	}
	c := s.clone(d+"@s2", "c")
	s.write(c, "f", []byte("own"))
	own := s.snapshot(c, "own").GUID
	other := s.clone(d+"@s1", "other")
	young := s.clone(d+"@s3", "young")
	s.ok(s.pool.Promote(s.ctx, c), "promote")
	if got := s.guids(c); !slices.Equal(got, []lineage.GUID{guids[0], guids[1], own}) {
		s.Errorf("promoted clone has %v", got)
	}
	if got := s.guids(d); !slices.Equal(got, guids[2:]) {
		s.Errorf("former owner has %v", got)
	}
	for name, want := range map[string]string{c: "", d: c + "@s2", other: c + "@s1", young: d + "@s3"} {
		if got := s.dataset(name).Origin; got != want {
			s.Errorf("origin of %s is %q, want %q", name, got, want)
		}
	}
	s.holds(c, "f", []byte("own"))
	s.holds(d, "f", []byte("s3"))
	s.snapshotHolds(c+"@s1", "f", []byte("s1"))
	s.ok(s.pool.Destroy(s.ctx, young), "destroy the young clone")
	s.ok(s.pool.Destroy(s.ctx, d), "destroy the former owner")
	s.holds(c, "f", []byte("own"))
}

func promoteRefuses(s *sandbox) {
	d := s.create("d")
	s.snapshot(d, "same")
	s.snapshot(d, "s2")
	c := s.clone(d+"@s2", "c")
	s.snapshot(c, "same")
	s.fails(s.pool.Promote(s.ctx, c), "promote with equal names", errdefs.ErrAlreadyExists)
	if len(s.guids(d)) != 2 || len(s.guids(c)) != 1 {
		s.Error("a refused promote moved snapshots")
	}
	s.fails(s.pool.Promote(s.ctx, d), "promote what is no clone")
	s.fails(s.pool.Promote(s.ctx, s.name("none")), "promote a missing dataset", errdefs.ErrNotFound)
}

// promoteMovesBookmarks: garbage collection turns bases into bookmarks and promotes across them.
func promoteMovesBookmarks(s *sandbox) {
	d := s.create("d")
	s.write(d, "f", noise(1, 300*kib))
	s.snapshot(d, "s1")
	s.receive(s.name("copy")+"@s1", "", s.send(agent.SendSpec{To: d + "@s1"}))
	s.ok(s.pool.Bookmark(s.ctx, d+"@s1", "b1"), "bookmark")
	s.ok(s.pool.DestroySnapshot(s.ctx, d+"@s1"), "destroy what only the bookmark knows from here on")
	s.snapshot(d, "s2")
	s.snapshot(d, "s3")
	s.ok(s.pool.Bookmark(s.ctx, d+"@s3", "b3"), "a bookmark that is too young")
	c := s.clone(d+"@s2", "c")
	s.write(c, "g", noise(2, 300*kib))
	s.ok(s.pool.Promote(s.ctx, c), "promote")
	for dataset, want := range map[string]string{c: "b1", d: "b3"} {
		if got := s.dataset(dataset).Bookmarks; len(got) != 1 || got[0].Name != want {
			s.Errorf("%s has the bookmarks %+v, want %s", dataset, got, want)
		}
	}
	s.ok(s.pool.Destroy(s.ctx, d), "destroy the former owner")
	s.snapshot(c, "s4")
	s.receive(s.name("copy")+"@s4", "", s.send(agent.SendSpec{From: c + "#b1", To: c + "@s4"}))
	s.holds(s.name("copy"), "f", noise(1, 300*kib))
	s.holds(s.name("copy"), "g", noise(2, 300*kib))
}

// rollback: garbage collection takes what a retired dataset holds beyond its last snapshot.
func rollback(s *sandbox) {
	d := s.create("d")
	s.write(d, "f", []byte("one"))
	s.snapshot(d, "s1")
	s.write(d, "f", []byte("two"))
	s.snapshot(d, "s2")
	c := s.clone(d+"@s2", "c")
	s.write(d, "f", []byte("three"))
	s.write(d, "g", noise(1, 300*kib))
	s.fails(s.pool.Rollback(s.ctx, d+"@s1"), "roll back past a snapshot", errdefs.ErrBusy)
	s.fails(s.pool.Rollback(s.ctx, d+"@none"), "roll back to a missing snapshot", errdefs.ErrNotFound)
	s.fails(s.pool.Rollback(s.ctx, s.name("none@s1")), "roll back a missing dataset", errdefs.ErrNotFound)
	s.holds(d, "f", []byte("three"))
	s.ok(s.pool.Rollback(s.ctx, d+"@s2"), "roll back")
	s.holds(d, "f", []byte("two"))
	s.holds(c, "f", []byte("two"))
	s.snapshotHolds(d+"@s1", "f", []byte("one"))
	if got := s.guids(d); len(got) != 2 {
		s.Errorf("after a rollback: %v", got)
	}
	s.ok(s.pool.Rollback(s.ctx, d+"@s2"), "roll back to what is there")
	s.snapshot(d, "s3")
	s.ok(s.pool.Bookmark(s.ctx, d+"@s3", "b3"), "bookmark")
	s.ok(s.pool.DestroySnapshot(s.ctx, d+"@s3"), "destroy the snapshot of the bookmark")
	s.fails(s.pool.Rollback(s.ctx, d+"@s2"), "roll back past a bookmark", errdefs.ErrBusy)
}

func renameSnapshot(s *sandbox) {
	d := s.create("d")
	made := s.snapshot(d, "s1")
	s.snapshot(d, "s2")
	c := s.clone(d+"@s1", "c")
	s.fails(s.pool.RenameSnapshot(s.ctx, d+"@s1", "s2"), "rename to a taken name", errdefs.ErrAlreadyExists)
	s.fails(s.pool.RenameSnapshot(s.ctx, d+"@none", "s3"), "rename a missing snapshot", errdefs.ErrNotFound)
	s.fails(s.pool.RenameSnapshot(s.ctx, d+"@s1", "a/b"), "rename to a bad name", errdefs.ErrInvalid)
	s.ok(s.pool.RenameSnapshot(s.ctx, d+"@s1", "hoody-3"), "rename")
	if got, ok := s.dataset(d).Snapshot("hoody-3"); !ok || got.GUID != made.GUID {
		s.Errorf("renamed to %+v, was %+v", got, made)
	}
	if got := s.dataset(c).Origin; got != d+"@hoody-3" {
		s.Errorf("the clone's origin is %s", got)
	}
}

func bookmarks(s *sandbox) {
	d := s.create("d")
	one := s.snapshot(d, "s1")
	s.snapshot(d, "s2")
	s.ok(s.pool.Bookmark(s.ctx, d+"@s1", "b"), "bookmark")
	s.ok(s.pool.Bookmark(s.ctx, d+"@s1", "b"), "the same bookmark")
	s.fails(s.pool.Bookmark(s.ctx, d+"@s2", "b"), "bookmark of another snapshot", errdefs.ErrAlreadyExists)
	s.fails(s.pool.Bookmark(s.ctx, d+"@none", "c"), "bookmark of a missing snapshot", errdefs.ErrNotFound)
	s.ok(s.pool.DestroySnapshot(s.ctx, d+"@s1"), "destroy the snapshot")
	got := s.dataset(d).Bookmarks
	if len(got) != 1 || got[0].Name != "b" || got[0].GUID != one.GUID || got[0].CreateTXG != one.CreateTXG {
		s.Errorf("bookmarks %+v of %+v", got, one)
	}
	inv, err := s.pool.Inventory(s.ctx)
	s.ok(err, "inventory")
	if in, _ := inv.Dataset(d); len(in.Bookmarks) != 1 || len(in.Snapshots) != 1 {
		s.Errorf("inventory has %+v", in)
	}
	s.ok(s.pool.DestroySnapshot(s.ctx, d+"#b"), "destroy the bookmark")
	if got := s.dataset(d).Bookmarks; len(got) != 0 {
		s.Errorf("bookmarks %+v", got)
	}
}

func writtenBytes(s *sandbox) {
	d := s.create("d")
	s.write(d, "f", noise(1, 512*kib))
	s.snapshot(d, "s1")
	since := func(snapshot string) uint64 {
		s.Helper()
		n, err := s.pool.Written(s.ctx, snapshot)
		s.ok(err, "written since %s", snapshot)
		return n
	}
	if n := since(d + "@s1"); n != 0 {
		s.Errorf("written %d right after the snapshot", n)
	}
	s.holds(d, "f", noise(1, 512*kib))
	// Reading writes nothing, but a mount as such does: 1 KiB on OpenZFS 2.3.9.
	if n := since(d + "@s1"); n > 64*kib {
		s.Errorf("written %d by reading", n)
	}
	m, err := s.pool.Mount(s.ctx, d)
	s.ok(err, "mount")
	defer m.Unmount(s.ctx)
	// What the page cache has not given to the disk yet counts too: zero is a proof.
	s.ok(m.Root().WriteFile("g", noise(2, 512*kib), 0o644), "write")
	n := since(d + "@s1")
	if n < 512*kib || n > 4*mib {
		s.Errorf("written %d for 512 KiB", n)
	}
	s.ok(m.Unmount(s.ctx), "unmount")
	s.snapshot(d, "s2")
	if n := since(d + "@s2"); n != 0 {
		s.Errorf("written %d since the second snapshot", n)
	}
	if n := since(d + "@s1"); n < 512*kib {
		s.Errorf("written %d since the first snapshot", n)
	}
	lately, err := s.pool.WrittenLately(s.ctx, d, []string{"s1", "s2", "none"}) // nothing is in the cache
	if _, listed := lately["none"]; err != nil || len(lately) != 2 || listed || lately["s1"] < 512*kib || lately["s2"] != 0 {
		s.Errorf("written lately: %v, %v", lately, err)
	}
	_, err = s.pool.WrittenLately(s.ctx, s.name("none"), []string{"s1"})
	s.fails(err, "written lately to a missing dataset", errdefs.ErrNotFound)
	s.with(d, func(m agent.Mount) error { return m.Root().Chmod("g", 0o600) })
	if n := since(d + "@s2"); n == 0 {
		s.Error("a changed mode does not count as written")
	}
	_, err = s.pool.Written(s.ctx, d+"@none")
	s.fails(err, "written since a missing snapshot", errdefs.ErrNotFound)
}

func diff(s *sandbox) {
	d := s.create("d")
	for _, file := range []string{"rootfs/changed", "rootfs/removed", "rootfs/same", "rootfs/old name"} {
		s.write(d, file, []byte(file))
	}
	s.snapshot(d, "s")
	got, err := s.pool.Diff(s.ctx, d+"@s", 10)
	s.ok(err, "diff of nothing")
	if len(got) != 0 {
		s.Errorf("nothing changed: %+v", got)
	}
	s.with(d, func(m agent.Mount) error {
		if err := m.Root().Remove("rootfs/removed"); err != nil {
			return err
		}
		if err := m.Root().Rename("rootfs/old name", "rootfs/new name"); err != nil {
			return err
		}
		return appendTo(m, "rootfs/changed", []byte("!"))
	})
	s.write(d, "rootfs/added here", []byte("x"))
	got, err = s.pool.Diff(s.ctx, d+"@s", 100)
	s.ok(err, "diff")
	kinds := make(map[string]agent.ChangeKind)
	for _, c := range got {
		kinds[c.Path] = c.Kind
	}
	for path, want := range map[string]agent.ChangeKind{
		"rootfs/changed": agent.ChangeModified, "rootfs/removed": agent.ChangeRemoved, "rootfs/added here": agent.ChangeAdded,
	} {
		if kinds[path] != want {
			s.Errorf("%s is %q, want %q", path, kinds[path], want)
		}
	}
	if kinds["rootfs/old name"] == "" || kinds["rootfs/new name"] == "" {
		s.Errorf("a rename is missing, the old path or the new one: %+v", got)
	}
	if kind := kinds["rootfs/same"]; kind != "" {
		s.Errorf("rootfs/same is %q", kind)
	}
	_, err = s.pool.Diff(s.ctx, d+"@s", 2)
	s.fails(err, "diff past the limit", errdefs.ErrExhausted)
	_, err = s.pool.Diff(s.ctx, d+"@none", 10)
	s.fails(err, "diff of a missing snapshot", errdefs.ErrNotFound)
}
