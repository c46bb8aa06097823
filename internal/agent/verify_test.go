package agent_test

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// What both containers do after the copy is no difference: a verification is about what the copy was made from.
func TestVerifyComparesWhatACopyWasMadeFrom(t *testing.T) {
	f := newFleet(t, 2, withNetwork)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", random(1, 300<<10))
	f.write(source, "etc/machine-id", []byte("the source's\n"))
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(source, "data/file", []byte("changed"))
	f.write(copied, "data/own", []byte("new"))
	if f.hash(copied) == f.hash(source) {
		t.Fatal("the live files are still the same")
	}
	var seen [2]uint64
	v, err := there.agent.Verify(f.ctx, copied.ID, func(entries, bytes uint64) { seen = [2]uint64{entries, bytes} })
	f.must(err)
	if seen != [2]uint64{v.Entries, v.Bytes} {
		t.Errorf("told of %v at last, compared were %d entries with %d bytes", seen, v.Entries, v.Bytes)
	}
	if !v.Equal() || v.Snapshot != copied.Generation.Base || !v.Current || v.Shared || v.Entries < 4 || v.Bytes < 300<<10 || v.Source != source.ID {
		t.Errorf("%+v", v)
	}
	if left, err := os.ReadDir(there.dir + "/pool/data"); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return e.Name()[:2] == "mo" }) {
		t.Errorf("mounts stay: %v, %v", left, err)
	}

	near := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	if v, err = here.agent.Verify(f.ctx, near.ID, nil); err != nil || !v.Equal() || !v.Shared || !v.Current || v.Entries < 4 {
		t.Errorf("on the same server: %+v, %v", v, err)
	}
}

func TestVerifyNamesWhatDiffers(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", []byte("before"))
	f.write(source, "data/gone", []byte("x"))
	older := f.snapshot(source, "")
	f.write(source, "data/file", []byte("behind"))
	f.withRootfs(source, func(m agent.Mount) { f.must(m.Root().Remove("rootfs/data/gone")) })
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	// A source whose blocks are not what they were: it lists another state under the snapshot's identity.
	f.digests = func(request *agent.DigestRequest, answer *agent.Digests) {
		if answer == nil {
			request.Snapshots = []lineage.GUID{older.GUID}
			return
		}
		answer.Snapshot = copied.Generation.Base
	}
	v, err := there.agent.Verify(f.ctx, copied.ID, nil)
	f.must(err)
	var paths []string
	for _, d := range v.Differences {
		paths = append(paths, d.Path)
	}
	if !slices.Equal(paths, []string{"rootfs/data/file", "rootfs/data/gone"}) || v.Differences[1].Here != "" {
		t.Errorf("%+v", v.Differences)
	}
}

// When the source has let go of what the copy was made from, an older state that both list is compared.
func TestVerifyFallsBackToTheHistory(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", []byte("1"))
	listed := f.snapshot(source, "")
	f.write(source, "data/file", []byte("2"))
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	base := lineage.Locate(here.inventory())[copied.Generation.Base]
	f.must(here.pool.DestroySnapshot(f.ctx, base))
	v, err := there.agent.Verify(f.ctx, copied.ID, nil)
	f.must(err)
	if !v.Equal() || v.Current || v.Snapshot != listed.GUID {
		t.Errorf("%+v", v)
	}
	f.must(here.pool.DestroySnapshot(f.ctx, lineage.Locate(here.inventory())[listed.GUID]))
	if _, err := there.agent.Verify(f.ctx, copied.ID, nil); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("without a common snapshot: %v", err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	f := newFleet(t, 3)
	here, there, third := f.servers[0], f.servers[1], f.servers[2]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	other := f.create(here, "other")
	foreign := f.snapshot(other, "")
	base := []lineage.GUID{copied.Generation.Base}
	for name, test := range map[string]struct {
		do   func() error
		want error
	}{
		"no copy":               {func() error { _, err := here.agent.Verify(f.ctx, source.ID, nil); return err }, errdefs.ErrFailedPrecondition},
		"another server's copy": {func() error { _, err := here.agent.Verify(f.ctx, copied.ID, nil); return err }, errdefs.ErrFailedPrecondition},
		"a peer without the copy": {func() error {
			_, err := here.agent.OpenDigests(f.ctx, third.id, agent.DigestRequest{ContainerID: copied.ID, Snapshots: base})
			return err
		}, errdefs.ErrPermissionDenied},
		"a peer asks who is not the source": {func() error {
			_, err := third.agent.OpenDigests(f.ctx, there.id, agent.DigestRequest{ContainerID: copied.ID, Snapshots: base})
			return err
		}, errdefs.ErrPermissionDenied},
		"no such copy": {func() error {
			_, err := here.agent.OpenDigests(f.ctx, there.id, agent.DigestRequest{ContainerID: "64c1aa00b2d34e5f60718999", Snapshots: base})
			return err
		}, errdefs.ErrPermissionDenied},
		"no copy at all": {func() error {
			_, err := here.agent.OpenDigests(f.ctx, here.id, agent.DigestRequest{ContainerID: source.ID, Snapshots: base})
			return err
		}, errdefs.ErrPermissionDenied},
		"a snapshot of another container": {func() error {
			_, err := here.agent.OpenDigests(f.ctx, there.id, agent.DigestRequest{ContainerID: copied.ID, Snapshots: []lineage.GUID{foreign.GUID}})
			return err
		}, errdefs.ErrNotFound},
		"nothing asked for": {func() error {
			_, err := here.agent.OpenDigests(f.ctx, there.id, agent.DigestRequest{ContainerID: copied.ID, Snapshots: []lineage.GUID{}})
			return err
		}, errdefs.ErrNotFound},
	} {
		if err := test.do(); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	f.digests = func(_ *agent.DigestRequest, answer *agent.Digests) {
		if answer != nil {
			answer.Snapshot = foreign.GUID
		}
	}
	if _, err := there.agent.Verify(f.ctx, copied.ID, nil); !errors.Is(err, errdefs.ErrCorrupt) {
		t.Errorf("an answer that was not asked for: %v", err)
	}
	f.digests = nil
	f.delete(source)
	if _, err := there.agent.Verify(f.ctx, copied.ID, nil); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a deleted source: %v", err)
	}
}

// Lists that nobody reads to their end hold a place each; closing them gives it back, and so does the end of the request.
func TestVerifyIsBounded(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", random(1, 100<<10))
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	request := agent.DigestRequest{ContainerID: copied.ID, Snapshots: []lineage.GUID{copied.Generation.Base}}
	ctx, cancel := context.WithCancel(f.ctx)
	var open []agent.Digests
	for range 2 {
		one, err := here.agent.OpenDigests(ctx, there.id, request)
		f.must(err)
		open = append(open, one)
	}
	if _, err := here.agent.OpenDigests(f.ctx, there.id, request); !errors.Is(err, errdefs.ErrBusy) {
		t.Errorf("a third list: %v", err)
	}
	if _, err := there.agent.Verify(f.ctx, copied.ID, nil); !errors.Is(err, errdefs.ErrBusy) {
		t.Errorf("a verification: %v", err)
	}
	f.must(open[0].Close())
	if _, err := open[0].Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a closed list ends with %v", err)
	}
	cancel()
	f.must(open[1].Close())
	if _, err := there.agent.Verify(f.ctx, copied.ID, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
