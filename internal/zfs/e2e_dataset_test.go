//go:build e2e

package zfs

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

func TestRealOpen(t *testing.T) {
	p := openReal(t)
	_, err := Open(t.Context(), p.root+"/missing", Options{})
	p.want(err, errdefs.ErrNotFound)
	_, err = Open(t.Context(), "nosuchpool/x", Options{})
	p.want(err, errdefs.ErrNotFound)
	space, err := p.Space(t.Context())
	p.must(err)
	if space.Free == 0 || space.Size < space.Free {
		t.Errorf("space %+v", space)
	}
}

func TestRealCreateDefaults(t *testing.T) {
	p := openReal(t)
	p.must(p.Create(t.Context(), "hoody/incoming/a", agent.Properties{"hoody:role": "generation", "refquota": "10485760"}))
	for _, want := range []struct{ dataset, property, value string }{
		{"hoody", "canmount", "off\tlocal"},
		{"hoody/incoming", "mountpoint", "none\tlocal"},
		{"hoody/incoming/a", "mountpoint", "legacy\tlocal"},
		{"hoody/incoming/a", "canmount", "noauto\tlocal"},
		{"hoody/incoming/a", "atime", "off\tlocal"},
		{"hoody/incoming/a", "refquota", "10485760\tlocal"},
		{"hoody/incoming/a", "hoody:role", "generation\tlocal"},
	} {
		if got := p.property(want.dataset, want.property); got != want.value {
			t.Errorf("%s of %s is %q, want %q", want.property, want.dataset, got, want.value)
		}
	}
	p.want(p.Create(t.Context(), "hoody/incoming/a", nil), errdefs.ErrAlreadyExists)
	p.want(p.Create(t.Context(), "x", agent.Properties{"nosuchproperty": "1"}), errdefs.ErrInvalid)
	p.want(p.Create(t.Context(), "x", agent.Properties{"compression": "nosuch"}), errdefs.ErrInvalid)
	p.want(p.Create(t.Context(), "x", agent.Properties{"refquota": "many"}), errdefs.ErrInvalid)
	p.want(p.Create(t.Context(), "../x", nil), errdefs.ErrInvalid)
	_, err := p.Dataset(t.Context(), "nosuch")
	p.want(err, errdefs.ErrNotFound)
}

func TestRealProperties(t *testing.T) {
	p := openReal(t)
	p.create("a")
	p.must(p.SetProperties(t.Context(), "a", agent.Properties{"hoody:job": "j1", "refquota": "20971520", "compression": "off"}))
	if got := p.get("a").Properties; got["hoody:job"] != "j1" || len(got) != 1 {
		t.Errorf("properties %v", got)
	}
	p.must(p.SetProperties(t.Context(), "a", agent.Properties{"hoody:job": "", "refquota": "", "compression": ""}))
	if got := p.get("a").Properties; len(got) != 0 {
		t.Errorf("properties %v", got)
	}
	if got := p.property("a", "refquota"); !strings.HasPrefix(got, "0\t") {
		t.Errorf("refquota %q", got)
	}
	if got := p.property("a", "compression"); strings.HasSuffix(got, "local") {
		t.Errorf("compression %q", got)
	}
	p.want(p.SetProperties(t.Context(), "a", agent.Properties{"canmount": ""}), errdefs.ErrInvalid)
	p.want(p.SetProperties(t.Context(), "a", agent.Properties{"guid": "1"}), errdefs.ErrInvalid)
	p.want(p.SetProperties(t.Context(), "nosuch", agent.Properties{"hoody:job": "j"}), errdefs.ErrNotFound)
	p.want(p.SetProperties(t.Context(), "nosuch", agent.Properties{"hoody:job": ""}), errdefs.ErrNotFound)
	// A child inherits what is set on its parent, and must not be listed with it.
	p.create("a/child")
	p.must(p.SetProperties(t.Context(), "a", agent.Properties{"hoody:role": "parent"}))
	if got := p.get("a/child").Properties; len(got) != 0 {
		t.Errorf("inherited properties are listed: %v", got)
	}
	p.fill("a", "f", 4<<20)
	shell(t, "zpool sync")
	p.want(p.SetProperties(t.Context(), "a", agent.Properties{"refquota": "1048576"}), errdefs.ErrExhausted)
}

func TestRealRename(t *testing.T) {
	p := openReal(t)
	p.create("containers/c")
	p.snap("containers/c", "s")
	mount, err := p.Mount(t.Context(), "containers/c")
	p.must(err)
	p.must(p.Rename(t.Context(), "containers/c", "hoody/generations/g"))
	mounted, err := p.Mounted(t.Context(), "hoody/generations/g")
	p.must(err)
	if !mounted {
		t.Error("the mount does not follow the rename")
	}
	if _, err := mount.Root().Stat("."); err != nil {
		t.Error(err)
	}
	p.must(mount.Unmount(t.Context()))
	p.create("containers/c")
	p.want(p.Rename(t.Context(), "hoody/generations/g", "containers/c"), errdefs.ErrAlreadyExists)
	p.want(p.Rename(t.Context(), "containers/nosuch", "containers/x"), errdefs.ErrNotFound)
}

func TestRealCloneAndPromote(t *testing.T) {
	p := openReal(t)
	p.create("a")
	p.fill("a", "f", 1<<20)
	s1 := p.snap("a", "s1")
	p.must(p.Clone(t.Context(), "a@s1", "b", agent.Properties{"hoody:role": "generation"}))
	if got := p.get("b"); got.Origin != "a@s1" || got.Properties["hoody:role"] != "generation" {
		t.Errorf("clone %+v", got)
	}
	p.want(p.Clone(t.Context(), "a@s1", "b", nil), errdefs.ErrAlreadyExists)
	p.want(p.Clone(t.Context(), "a@nosuch", "c", nil), errdefs.ErrNotFound)
	p.want(p.Promote(t.Context(), "a"), errdefs.ErrFailedPrecondition)
	p.want(p.Promote(t.Context(), "nosuch"), errdefs.ErrNotFound)

	// A name on both sides is in the way, and nothing moves.
	shell(t, "zfs snapshot "+p.root+"/b@s1")
	p.want(p.Promote(t.Context(), "b"), errdefs.ErrAlreadyExists)
	p.must(p.DestroySnapshot(t.Context(), "b@s1"))

	p.must(p.Promote(t.Context(), "b"))
	if got := p.get("a"); got.Origin != "b@s1" || len(got.Snapshots) != 0 {
		t.Errorf("former owner %+v", got)
	}
	if moved, ok := p.get("b").Snapshot("s1"); !ok || moved.GUID != s1.GUID {
		t.Errorf("promoted snapshot %+v, want guid %v", moved, s1.GUID)
	}
}

func TestRealSnapshotAndBookmark(t *testing.T) {
	p := openReal(t)
	p.create("a")
	s1 := p.snap("a", "s1")
	if s1.GUID == 0 || s1.CreateTXG == 0 || s1.Creation.IsZero() {
		t.Errorf("snapshot %+v", s1)
	}
	_, err := p.Snapshot(t.Context(), "a", "s1")
	p.want(err, errdefs.ErrAlreadyExists)
	_, err = p.Snapshot(t.Context(), "nosuch", "s1")
	p.want(err, errdefs.ErrNotFound)
	p.must(p.Bookmark(t.Context(), "a@s1", "b1"))
	p.must(p.Bookmark(t.Context(), "a@s1", "b1")) // once more is no error
	p.snap("a", "s2")
	p.want(p.Bookmark(t.Context(), "a@s2", "b1"), errdefs.ErrAlreadyExists)
	p.want(p.Bookmark(t.Context(), "a@nosuch", "b2"), errdefs.ErrNotFound)
	got := p.get("a")
	if len(got.Bookmarks) != 1 || got.Bookmarks[0].GUID != s1.GUID || got.Bookmarks[0].CreateTXG != s1.CreateTXG {
		t.Errorf("bookmarks %+v", got.Bookmarks)
	}
	p.must(p.DestroySnapshot(t.Context(), "a#b1"))
	p.want(p.DestroySnapshot(t.Context(), "a#b1"), errdefs.ErrNotFound)
	p.must(p.DestroySnapshot(t.Context(), "a@s1"))
	p.want(p.DestroySnapshot(t.Context(), "a@s1"), errdefs.ErrNotFound)
}

func TestRealDestroyRules(t *testing.T) {
	p := openReal(t)
	p.create("a")
	for i := range 3 {
		p.fill("a", "f", 1<<20)
		p.snap("a", fmt.Sprint("s", i))
	}
	intact := func(why string) {
		t.Helper()
		if n := len(p.get("a").Snapshots); n != 3 {
			t.Fatalf("%s: %d snapshots left", why, n)
		}
	}

	p.must(p.Clone(t.Context(), "a@s1", "clone", nil))
	p.want(p.Destroy(t.Context(), "a"), errdefs.ErrBusy)
	p.want(p.DestroySnapshot(t.Context(), "a@s1"), errdefs.ErrBusy)
	intact("clone")
	p.must(p.Destroy(t.Context(), "clone"))

	shell(t, "zfs hold keep "+p.root+"/a@s2")
	t.Cleanup(func() { _ = exec.Command("zfs", "release", "keep", p.root+"/a@s2").Run() })
	p.want(p.Destroy(t.Context(), "a"), errdefs.ErrBusy)
	p.want(p.DestroySnapshot(t.Context(), "a@s2"), errdefs.ErrBusy)
	intact("hold")
	shell(t, "zfs release keep "+p.root+"/a@s2")

	p.create("a/child")
	p.want(p.Destroy(t.Context(), "a"), errdefs.ErrBusy)
	intact("child")
	p.must(p.Destroy(t.Context(), "a/child"))

	mount, err := p.Mount(t.Context(), "a")
	p.must(err)
	p.want(p.Destroy(t.Context(), "a"), errdefs.ErrBusy)
	intact("mount")
	p.must(mount.Unmount(t.Context()))

	p.must(p.Bookmark(t.Context(), "a@s1", "b")) // goes with the dataset
	p.must(p.Destroy(t.Context(), "a"))
	p.want(p.Destroy(t.Context(), "a"), errdefs.ErrNotFound)
}

// ZFS itself has to refuse what changes between our look and the deed.
func TestRealDestroyRace(t *testing.T) {
	p := openReal(t)
	p.create("a")
	p.snap("a", "s1")
	p.snap("a", "s2")
	p.must(p.Clone(t.Context(), "a@s2", "clone", nil))
	err := p.runner.run(t.Context(), "zfs", "destroy", p.root+"/a@%")
	p.want(err, errdefs.ErrBusy)
	if n := len(p.get("a").Snapshots); n != 2 {
		t.Fatalf("destroying all snapshots is not atomic: %d left", n)
	}
	p.want(p.library.destroy(t.Context(), p.root+"/a"), errdefs.ErrBusy)
}

func TestRealDeferredDestroyIsListed(t *testing.T) {
	p := openReal(t)
	p.create("a")
	p.snap("a", "s1")
	p.must(p.Clone(t.Context(), "a@s1", "clone", nil))
	shell(t, "zfs destroy -d "+p.root+"/a@s1")
	if s, ok := p.get("a").Snapshot("s1"); !ok || !s.DeferDestroy {
		t.Errorf("snapshot %+v, %v", s, ok)
	}
}

func TestRealInventory(t *testing.T) {
	p := openReal(t)
	p.create("containers/c0")
	for i := range 3 {
		p.snap("containers/c0", fmt.Sprint("s", i))
	}
	p.must(p.Bookmark(t.Context(), "containers/c0@s0", "b"))
	shell(t, "zfs create -V 8M "+p.root+"/volume")
	count := func() (commands int64, datasets int) {
		before := p.commands.Load()
		inventory, err := p.Inventory(t.Context())
		p.must(err)
		return p.commands.Load() - before, len(inventory.Datasets)
	}
	few, before := count()
	const more = 300
	p.must(p.Clone(t.Context(), "containers/c0@s2", "containers/n000", agent.Properties{"hoody:role": "generation"}))
	var script strings.Builder
	for i := 1; i < more; i++ {
		fmt.Fprintf(&script, "zfs clone -o hoody:role=generation -o mountpoint=legacy %[1]s/containers/c0@s2 %[1]s/containers/n%03[2]d\n", p.root, i)
	}
	shell(t, "set -e\n"+script.String())
	many, after := count()
	if few != many || many != 2 || after != before+more {
		t.Errorf("%d commands for %d datasets, %d for %d", few, before, many, after)
	}
	inventory, err := p.Inventory(t.Context())
	p.must(err)
	if !slices.IsSortedFunc(inventory.Datasets, func(a, b lineage.Dataset) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not sorted")
	}
	c0, _ := inventory.Dataset("containers/c0")
	if len(c0.Snapshots) != 3 || c0.Snapshots[0].Name != "s0" || len(c0.Bookmarks) != 1 {
		t.Errorf("c0 %+v", c0)
	}
	volume, _ := inventory.Dataset("volume")
	if !volume.Volume {
		t.Errorf("volume %+v", volume)
	}
	if n, _ := inventory.Dataset("containers/n299"); n.Origin != "containers/c0@s2" || n.Properties["hoody:role"] != "generation" {
		t.Errorf("n299 %+v", n)
	}
	if _, listed := inventory.Dataset(""); listed {
		t.Error("the root is listed")
	}
}

// A dataset that is renamed all the time is there all the time, once; one that is made meanwhile disturbs nobody.
func TestRealInventoryDuringRenames(t *testing.T) {
	p := openReal(t)
	const here, there = "containers/c", "hoody/generations/g"
	p.create(here)
	p.create("hoody/generations/other")
	seen := map[string]int{}
	for i := range 20 {
		var busy sync.WaitGroup
		busy.Go(func() { // a checkout's two renames, more or less
			for _, err := range []error{
				p.Rename(t.Context(), here, there),
				p.Create(t.Context(), fmt.Sprint("containers/new", i), nil),
				p.Rename(t.Context(), there, here),
			} {
				if err != nil {
					t.Error(err)
				}
			}
		})
		inventory, err := p.Inventory(t.Context())
		busy.Wait()
		if errdefs.Retryable(err) {
			seen["gave up"]++
			continue
		}
		p.must(err)
		_, isHere := inventory.Dataset(here)
		_, isThere := inventory.Dataset(there)
		switch {
		case isHere == isThere:
			t.Fatalf("here %v, there %v", isHere, isThere)
		case isHere:
			seen["here"]++
		default:
			seen["there"]++
		}
	}
	t.Log(seen)
}

func TestRealMounts(t *testing.T) {
	p := openReal(t)
	p.create("a")
	_, err := p.Mount(t.Context(), "nosuch")
	p.want(err, errdefs.ErrNotFound)
	first, err := p.Mount(t.Context(), "a")
	p.must(err)
	second, err := p.Mount(t.Context(), "a")
	p.must(err)
	p.must(first.Root().WriteFile("f", []byte("x"), 0o600))
	if got, err := second.Root().ReadFile("f"); err != nil || string(got) != "x" {
		t.Errorf("read %q, %v", got, err)
	}
	// No way out of the tree.
	p.must(first.Root().Symlink("/etc", "out"))
	if _, err := first.Root().ReadFile("out/hostname"); err == nil {
		t.Error("a link leads out of the mount")
	}
	path := first.(*privateMount).path
	for _, option := range []string{"nodev", "nosuid", "noexec"} {
		if line := shell(t, "grep "+path+" /proc/self/mountinfo"); !strings.Contains(line, option) {
			t.Errorf("mounted without %s: %s", option, line)
		}
	}
	open, err := first.Root().Open("f")
	p.must(err)
	p.want(first.Unmount(t.Context()), errdefs.ErrBusy)
	open.Close()
	p.must(first.Unmount(t.Context()))
	p.must(first.Unmount(t.Context()))
	if mounted, err := p.Mounted(t.Context(), "a"); err != nil || !mounted {
		t.Errorf("mounted %v, %v", mounted, err)
	}
	// The next start finds what this one left.
	p.must(p.CleanMounts(t.Context()))
	if mounted, err := p.Mounted(t.Context(), "a"); err != nil || mounted {
		t.Errorf("mounted %v, %v", mounted, err)
	}
	left, err := os.ReadDir(p.mountDir)
	p.must(err)
	if len(left) != 0 {
		t.Errorf("mount points left: %v", left)
	}
	p.must(second.Unmount(t.Context()))
	p.must(p.CleanMounts(t.Context()))
}
