//go:build e2e

package zfs

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestRealSendReceiveKeepsGUIDs(t *testing.T) {
	p := openReal(t)
	p.create("src")
	p.fill("src", "one", 3<<20)
	s1 := p.snap("src", "s1")
	p.fill("src", "two", 1<<20)
	s2 := p.snap("src", "s2")

	p.create("hoody/incoming")
	p.replicate(agent.SendSpec{To: "src@s1", Embed: true},
		agent.ReceiveSpec{To: "hoody/incoming/j@r1", Properties: agent.Properties{"hoody:role": "replica"}})
	p.replicate(agent.SendSpec{From: "src@s1", To: "src@s2", Embed: true}, agent.ReceiveSpec{To: "hoody/incoming/j@r2"})
	got := p.get("hoody/incoming/j")
	if len(got.Snapshots) != 2 || got.Snapshots[0].GUID != s1.GUID || got.Snapshots[1].GUID != s2.GUID {
		t.Errorf("snapshots %+v, want guids %v %v", got.Snapshots, s1.GUID, s2.GUID)
	}
	if got.Properties["hoody:role"] != "replica" {
		t.Errorf("properties %v", got.Properties)
	}
	for property, want := range map[string]string{"mountpoint": "legacy\tlocal", "canmount": "noauto\tlocal", "atime": "off\tlocal"} {
		if value := p.property("hoody/incoming/j", property); value != want {
			t.Errorf("%s is %q", property, value)
		}
	}
	if mounted, err := p.Mounted(t.Context(), "hoody/incoming/j"); err != nil || mounted {
		t.Errorf("mounted %v, %v", mounted, err)
	}
	// Once more is no error: the stream is consumed and ignored. ZFS would ignore it under other names, too.
	p.replicate(agent.SendSpec{From: "src@s1", To: "src@s2", Embed: true}, agent.ReceiveSpec{To: "hoody/incoming/j@r2"})
	again := p.stream(agent.SendSpec{From: "src@s1", To: "src@s2", Embed: true})
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "hoody/incoming/j@r1"}, again), errdefs.ErrAlreadyExists)
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "hoody/incoming/j@r3"}, again), errdefs.ErrStale)
}

// Empty difference plus explicit origin: the copy owns a snapshot of the source's GUID and shares all blocks.
func TestRealExplicitOrigin(t *testing.T) {
	p := openReal(t)
	p.create("src")
	p.fill("src", "f", 4<<20)
	p.snap("src", "s1")
	p.replicate(agent.SendSpec{To: "src@s1"}, agent.ReceiveSpec{To: "decoy@s1"}) // the same GUID, nearer to the target
	sync := p.snap("src", "sync")
	p.replicate(agent.SendSpec{From: "src@s1", To: "src@sync"}, agent.ReceiveSpec{To: "copy@sync", Origin: "src@s1"})
	got := p.get("copy")
	if got.Origin != "src@s1" || p.newestGUID("copy") != sync.GUID {
		t.Errorf("copy %+v", got)
	}
	if got.Used > 256<<10 {
		t.Errorf("the copy uses %d bytes of its own", got.Used)
	}
	// And it can be continued.
	p.fill("src", "g", 1<<20)
	p.snap("src", "s2")
	p.replicate(agent.SendSpec{From: "src@sync", To: "src@s2"}, agent.ReceiveSpec{To: "copy@s2"})
	// A wrong origin is refused.
	err := p.receiveBytes(agent.ReceiveSpec{To: "wrong@s2", Origin: "src@s1"}, p.stream(agent.SendSpec{From: "src@sync", To: "src@s2"}))
	p.want(err, errdefs.ErrStale)
	err = p.receiveBytes(agent.ReceiveSpec{To: "wrong@s2", Origin: "src@nosuch"}, p.stream(agent.SendSpec{From: "src@sync", To: "src@s2"}))
	p.want(err, errdefs.ErrStale)
}

// A lineage that crosses datasets starts a new dataset on the target at the boundary.
func TestRealLineageAcrossDatasets(t *testing.T) {
	p := openReal(t)
	p.create("src")
	p.fill("src", "f", 2<<20)
	p.snap("src", "s1")
	p.snap("src", "s2")
	p.must(p.Clone(t.Context(), "src@s2", "clone", nil))
	p.fill("clone", "g", 1<<20)
	u1 := p.snap("clone", "u1")
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "t/base@s1"}, p.stream(agent.SendSpec{To: "src@s1"})), errdefs.ErrNotFound)
	p.create("t")
	p.replicate(agent.SendSpec{To: "src@s1"}, agent.ReceiveSpec{To: "t/base@s1"})
	p.replicate(agent.SendSpec{From: "src@s1", To: "src@s2"}, agent.ReceiveSpec{To: "t/base@s2"})
	p.replicate(agent.SendSpec{From: "src@s2", To: "clone@u1"}, agent.ReceiveSpec{To: "t/c1@u1", Origin: "t/base@s2"})
	p.replicate(agent.SendSpec{From: "src@s1", To: "clone@u1"}, agent.ReceiveSpec{To: "t/c2@u1", Origin: "t/base@s1"})
	for _, dataset := range []string{"t/c1", "t/c2"} {
		if p.newestGUID(dataset) != u1.GUID {
			t.Errorf("%s has another guid", dataset)
		}
	}
	err := p.receiveBytes(agent.ReceiveSpec{To: "t/base@u1"}, p.stream(agent.SendSpec{From: "src@s2", To: "clone@u1"}))
	p.want(err, errdefs.ErrAlreadyExists) // never into an existing dataset
}

func TestRealBookmarkAsBase(t *testing.T) {
	p := openReal(t)
	p.create("src")
	p.fill("src", "f", 1<<20)
	p.snap("src", "s1")
	p.replicate(agent.SendSpec{To: "src@s1"}, agent.ReceiveSpec{To: "dst@s1"})
	p.must(p.Bookmark(t.Context(), "src@s1", "b1"))
	p.must(p.DestroySnapshot(t.Context(), "src@s1"))
	p.fill("src", "g", 1<<20)
	s2 := p.snap("src", "s2")
	spec := agent.SendSpec{From: "src#b1", To: "src@s2"}
	size, err := p.Estimate(t.Context(), spec)
	p.must(err)
	if size < 1<<20 || size > 2<<20 {
		t.Errorf("estimate %d", size)
	}
	p.replicate(spec, agent.ReceiveSpec{To: "dst@s2"})
	if p.newestGUID("dst") != s2.GUID {
		t.Error("another guid")
	}
}

func TestRealStreamErrors(t *testing.T) {
	p := openReal(t)
	p.create("src")
	p.fill("src", "f", 2<<20)
	p.snap("src", "s1")
	p.fill("src", "g", 2<<20)
	p.snap("src", "s2")
	p.snap("src", "s3")
	full := p.stream(agent.SendSpec{To: "src@s1"})
	increment := p.stream(agent.SendSpec{From: "src@s1", To: "src@s2"})
	p.must(p.receiveBytes(agent.ReceiveSpec{To: "dst@s1"}, full))

	p.want(p.receiveBytes(agent.ReceiveSpec{To: "dst@other"}, full), errdefs.ErrAlreadyExists)
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "dst@s3"}, p.stream(agent.SendSpec{From: "src@s2", To: "src@s3"})), errdefs.ErrStale)

	// Written to since.
	p.fill("dst", "mine", 1<<20)
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "dst@s2"}, increment), errdefs.ErrStale)

	// A name that is taken by another snapshot.
	p.must(p.receiveBytes(agent.ReceiveSpec{To: "dst2@s1"}, full))
	shell(t, "zfs snapshot "+p.root+"/dst2@s2")
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "dst2@s2"}, increment), errdefs.ErrAlreadyExists)

	// A plain clone never takes an increment.
	p.must(p.Clone(t.Context(), "src@s1", "plain", nil))
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "plain@s2"}, increment), errdefs.ErrStale)

	// An increment without what it builds on.
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "nobase@s2"}, []byte(strings.Repeat("x", 1000))), errdefs.ErrCorrupt)
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "empty@s2"}, nil), errdefs.ErrAborted)

	// A flipped bit in the middle.
	broken := bytes.Clone(full)
	broken[len(broken)/2] ^= 1
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "broken@s1"}, broken), errdefs.ErrAborted)

	// What the header shows is refused before ZFS acts on it.
	compound := shellBytes(t, "zfs send -p "+p.root+"/src@s1")
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "compound@s1"}, compound), errdefs.ErrUnsupported)
	shell(t, "zfs create -V 8M "+p.root+"/volume; zfs snapshot "+p.root+"/volume@s1")
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "v@s1"}, shellBytes(t, "zfs send "+p.root+"/volume@s1")), errdefs.ErrUnsupported)
	for _, name := range []string{"compound", "v", "empty"} {
		if _, err := p.Dataset(t.Context(), name); errdefs.ClassOf(err) != errdefs.ErrNotFound {
			t.Errorf("%s is there: %v", name, err)
		}
	}

	// The sender's own.
	read := func(spec agent.SendSpec) error {
		sending, err := p.Send(t.Context(), spec)
		p.must(err)
		defer sending.Close()
		_, err = io.Copy(io.Discard, sending)
		return err
	}
	p.want(read(agent.SendSpec{To: "src@nosuch"}), errdefs.ErrNotFound)
	p.want(read(agent.SendSpec{From: "src@nosuch", To: "src@s2"}), errdefs.ErrNotFound)
	p.want(read(agent.SendSpec{From: "src@s2", To: "src@s1"}), errdefs.ErrInvalid)
	p.create("unrelated")
	p.snap("unrelated", "u")
	p.want(read(agent.SendSpec{From: "unrelated@u", To: "src@s1"}), errdefs.ErrInvalid)
	_, err := p.Estimate(t.Context(), agent.SendSpec{To: "src@nosuch"})
	p.want(err, errdefs.ErrNotFound)
}

func shellBytes(t *testing.T, line string) []byte { t.Helper(); return []byte(shellRaw(t, line)) }
