//go:build e2e

package zfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// What was written a moment ago counts, although ZFS's own property does not show it yet.
func TestRealWrittenIsNotLate(t *testing.T) {
	p := openReal(t)
	p.create("a")
	p.snap("a", "s1")
	if written, err := p.Written(t.Context(), "a@s1"); err != nil || written != 0 {
		t.Errorf("written %d, %v", written, err)
	}
	mount, err := p.Mount(t.Context(), "a") // stays mounted: unmounting would write everything
	p.must(err)
	defer mount.Unmount(t.Context())
	for i := range 3 {
		p.snap("a", fmt.Sprint("t", i))
		p.must(mount.Root().WriteFile("f", fmt.Append(nil, "now", i), 0o600))
		if written, err := p.Written(t.Context(), fmt.Sprint("a@t", i)); err != nil || written == 0 {
			t.Errorf("written %d, %v", written, err)
		}
	}
	_, err = p.Written(t.Context(), "a@nosuch")
	p.want(err, errdefs.ErrNotFound)
	_, err = p.Written(t.Context(), "nosuch@s1")
	p.want(err, errdefs.ErrNotFound)
}

func TestRealDiff(t *testing.T) {
	p := openReal(t)
	p.create("a")
	odd := "ü \\ tab\there\nnewline"
	p.edit("a", func(root *os.Root) error {
		return errors.Join(root.Mkdir("rootfs", 0o755), root.WriteFile("rootfs/old", []byte("x"), 0o600),
			root.WriteFile("rootfs/gone", nil, 0o600), root.WriteFile("rootfs/changed", []byte("1"), 0o600),
			root.WriteFile("rootfs/linked", nil, 0o600))
	})
	p.snap("a", "s1")
	unchanged, err := p.Diff(t.Context(), "a@s1", 10)
	p.must(err)
	if len(unchanged) != 0 {
		t.Errorf("unchanged dataset: %v", unchanged)
	}
	p.edit("a", func(root *os.Root) error {
		return errors.Join(root.Rename("rootfs/old", "rootfs/new"), root.Remove("rootfs/gone"),
			root.WriteFile("rootfs/changed", []byte("2"), 0o600), root.WriteFile("rootfs/"+odd, nil, 0o600),
			root.Link("rootfs/linked", "rootfs/second"), root.WriteFile("backup.yaml", nil, 0o600))
	})
	want := map[agent.Change]bool{
		{Path: ".", Kind: agent.ChangeModified}:              true,
		{Path: "rootfs", Kind: agent.ChangeModified}:         true,
		{Path: "rootfs/old", Kind: agent.ChangeRenamed}:      true,
		{Path: "rootfs/new", Kind: agent.ChangeRenamed}:      true,
		{Path: "rootfs/gone", Kind: agent.ChangeRemoved}:     true,
		{Path: "rootfs/changed", Kind: agent.ChangeModified}: true,
		{Path: "rootfs/" + odd, Kind: agent.ChangeAdded}:     true,
		{Path: "rootfs/linked", Kind: agent.ChangeModified}:  true,
		{Path: "backup.yaml", Kind: agent.ChangeAdded}:       true,
	}
	check := func(how string) {
		t.Helper()
		changes, err := p.Diff(t.Context(), "a@s1", 100)
		p.must(err)
		for _, change := range changes {
			if !want[change] {
				t.Errorf("%s: unexpected %q", how, change)
			}
		}
		for change := range want {
			if !slices.Contains(changes, change) {
				t.Errorf("%s: missing %q in %q", how, change, changes)
			}
		}
	}
	check("not mounted")
	if mounted, err := p.Mounted(t.Context(), "a"); err != nil || mounted {
		t.Errorf("diff leaves a mount: %v, %v", mounted, err)
	}
	elsewhere := t.TempDir()
	shell(t, "mount -t zfs "+p.root+"/a "+elsewhere)
	check("mounted elsewhere")
	shell(t, "umount "+elsewhere)

	first, err := p.Diff(t.Context(), "a@s1", 3)
	p.want(err, errdefs.ErrExhausted)
	if len(first) != 3 {
		t.Errorf("%d changes, limit 3", len(first))
	}
	_, err = p.Diff(t.Context(), "a@nosuch", 3)
	p.want(err, errdefs.ErrNotFound)
	_, err = p.Diff(t.Context(), "nosuch@s", 3)
	p.want(err, errdefs.ErrNotFound)
	if n := len(p.get("a").Snapshots); n != 1 {
		t.Errorf("diff leaves %d snapshots", n)
	}
}

// A file that was deleted and is still open has no name that zfs diff could tell.
func TestRealDiffOfADeletedOpenFile(t *testing.T) {
	p := openReal(t)
	p.create("a")
	p.edit("a", func(root *os.Root) error { return root.WriteFile("old", []byte("old"), 0o600) })
	p.snap("a", "s1")
	mount, err := p.Mount(t.Context(), "a")
	p.must(err)
	defer mount.Unmount(t.Context())
	old, err := mount.Root().OpenFile("old", os.O_RDWR, 0)
	p.must(err)
	defer old.Close()
	young, err := mount.Root().OpenFile("young", os.O_RDWR|os.O_CREATE, 0o600)
	p.must(err)
	defer young.Close()
	for _, file := range []*os.File{old, young} {
		_, err := file.WriteString("written")
		p.must(err)
		p.must(mount.Root().Remove(filepath.Base(file.Name())))
	}
	changes, err := p.Diff(t.Context(), "a@s1", 100)
	p.must(err)
	if !slices.ContainsFunc(changes, func(c agent.Change) bool { return c.Path == nameless }) {
		t.Errorf("no file without a name among %q", changes)
	}
}

// What a program has stored through a mapping is in a snapshot, and what it stores after that is noticed.
func TestRealMappedFile(t *testing.T) {
	p := openReal(t)
	p.create("a")
	mount, err := p.Mount(t.Context(), "a")
	p.must(err)
	defer mount.Unmount(t.Context())
	p.must(mount.Root().WriteFile("f", make([]byte, 16<<10), 0o600))
	file, err := mount.Root().OpenFile("f", os.O_RDWR, 0)
	p.must(err)
	defer file.Close()
	pages, err := unix.Mmap(int(file.Fd()), 0, 16<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	p.must(err)
	defer func() { p.must(unix.Munmap(pages)) }()
	pages[0] = 1
	p.snap("a", "s1")
	snapshot, err := p.MountSnapshot(t.Context(), "a@s1")
	p.must(err)
	content, err := snapshot.Root().ReadFile("f")
	p.must(errors.Join(err, snapshot.Unmount(t.Context())))
	if content[0] != 1 {
		t.Error("the snapshot has not what was stored before")
	}
	if changes, err := p.Diff(t.Context(), "a@s1", 100); err != nil || len(changes) > 0 {
		t.Errorf("unchanged: %q, %v", changes, err)
	}
	pages[0] = 2
	if written, err := p.Written(t.Context(), "a@s1"); err != nil || written == 0 {
		t.Errorf("written %d, %v", written, err)
	}
	if changes, err := p.Diff(t.Context(), "a@s1", 100); err != nil || !slices.Contains(changes, agent.Change{Path: "f", Kind: agent.ChangeModified}) {
		t.Errorf("changed: %q, %v", changes, err)
	}
}
