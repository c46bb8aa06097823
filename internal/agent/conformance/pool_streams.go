package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

func fullStream(s *sandbox) {
	d := s.create("d")
	content := noise(1, 2*mib)
	s.write(d, "rootfs/data", content)
	snap := s.snapshot(d, "s1")
	estimate, err := s.pool.Estimate(s.ctx, agent.SendSpec{To: d + "@s1"})
	s.ok(err, "estimate")
	stream := s.send(agent.SendSpec{To: d + "@s1"})
	if estimate < uint64(len(stream))/2 || estimate > uint64(len(stream))*2+mib {
		s.Errorf("estimate %d for a stream of %d bytes", estimate, len(stream))
	}
	to := s.name("copy") + "@arrived"
	err = s.pool.Receive(s.ctx, agent.ReceiveSpec{To: to, GUID: snap.GUID ^ 2}, readOnce(stream))
	s.fails(err, "stream of another snapshot", agent.ErrWrongSnapshot, errdefs.ErrCorrupt)
	if _, err := s.pool.Dataset(s.ctx, s.name("copy")); !errors.Is(err, errdefs.ErrNotFound) {
		s.Errorf("a refused stream left a dataset: %v", err)
	}
	spec := agent.ReceiveSpec{To: to, GUID: snap.GUID, Properties: agent.Properties{"hoody:job": "7"}}
	s.ok(s.pool.Receive(s.ctx, spec, readOnce(stream)), "receive")
	got := s.dataset(s.name("copy"))
	if len(got.Snapshots) != 1 || got.Snapshots[0].Name != "arrived" || got.Snapshots[0].GUID != snap.GUID || got.Origin != "" {
		s.Errorf("received %+v", got)
	}
	if got.Properties["hoody:job"] != "7" || got.ResumeToken != "" {
		s.Errorf("received %+v", got)
	}
	s.holds(s.name("copy"), "rootfs/data", content)
	mounted, err := s.pool.Mounted(s.ctx, s.name("copy"))
	if err != nil || mounted {
		s.Errorf("mounted by receiving: %v, %v", mounted, err)
	}
	written, err := s.pool.Written(s.ctx, to)
	if err != nil || written != 0 {
		s.Errorf("written since it arrived: %d, %v", written, err)
	}
}

// streamKeepsFiles covers what a file system is made of beside content.
func streamKeepsFiles(s *sandbox) {
	d := s.create("d")
	old := time.Date(2020, 2, 29, 12, 0, 0, 0, time.UTC)
	s.with(d, func(m agent.Mount) error {
		r := m.Root()
		return errors.Join(
			r.MkdirAll("rootfs/etc/empty", 0o755),
			r.WriteFile("rootfs/run.sh", []byte("#!"), 0o755), r.Chmod("rootfs/run.sh", 0o750),
			r.WriteFile("rootfs/none", nil, 0o600),
			r.Symlink("../usr", "rootfs/lib"), r.Symlink("/nowhere/at all", "rootfs/dangling"),
			r.Chmod("rootfs/etc/empty", fs.ModeSticky|0o711),
			r.Chtimes("rootfs/run.sh", old, old),
		)
	})
	s.snapshot(d, "s1")
	s.receive(s.name("copy")+"@s1", "", s.send(agent.SendSpec{To: d + "@s1"}))
	s.with(s.name("copy"), func(m agent.Mount) error {
		r := m.Root()
		script, err1 := r.Stat("rootfs/run.sh")
		empty, err2 := r.Stat("rootfs/etc/empty")
		link, err3 := r.Readlink("rootfs/lib")
		dangling, err4 := r.Readlink("rootfs/dangling")
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			return err
		}
		if script.Mode() != 0o750 || !script.ModTime().Equal(old) {
			s.Errorf("run.sh is %v of %v", script.Mode(), script.ModTime())
		}
		if empty.Mode() != fs.ModeDir|fs.ModeSticky|0o711 {
			s.Errorf("empty is %v", empty.Mode())
		}
		if link != "../usr" || dangling != "/nowhere/at all" {
			s.Errorf("links lead to %q and %q", link, dangling)
		}
		return nil
	})
	s.holds(s.name("copy"), "rootfs/none", []byte{})
}

func increments(s *sandbox) {
	d, copied := s.create("d"), s.name("copy")
	var guids []lineage.GUID
	from := ""
	for i, name := range []string{"s1", "s2", "s3"} {
		s.write(d, "rootfs/f"+name, noise(uint64(i), 100*kib))
		s.write(d, "rootfs/same", []byte(name))
		if name == "s3" {
			s.with(d, func(m agent.Mount) error { return m.Root().Remove("rootfs/fs1") })
		}
		guids = append(guids, s.snapshot(d, name).GUID)
		stream := s.send(agent.SendSpec{From: from, To: d + "@" + name})
		spec := agent.ReceiveSpec{To: copied + "@" + name, GUID: guids[i], Continues: name == "s3"} // for s2 the pool finds out
		if spec.Continues {
			missing := spec
			missing.To = s.name("missing") + "@s3"
			s.fails(s.pool.Receive(s.ctx, missing, bytes.NewReader(stream)), "continue a dataset that is not there", errdefs.ErrNotFound)
		}
		s.ok(s.pool.Receive(s.ctx, spec, bytes.NewReader(stream)), "receive %s", spec.To)
		from = d + "@" + name
	}
	if got := s.guids(copied); !slices.Equal(got, guids) {
		s.Errorf("arrived %v, want %v", got, guids)
	}
	s.holds(copied, "rootfs/same", []byte("s3"))
	s.holds(copied, "rootfs/fs1", nil)
	s.snapshotHolds(copied+"@s1", "rootfs/fs1", noise(0, 100*kib))
	s.snapshotHolds(copied+"@s2", "rootfs/same", []byte("s2"))
}

func incrementIsSmall(s *sandbox) {
	d := s.create("d")
	content := noise(1, 8*mib)
	s.write(d, "rootfs/data", content)
	s.snapshot(d, "s1")
	s.with(d, func(m agent.Mount) error {
		f, err := m.Root().OpenFile("rootfs/data", os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte("changed"), 5*mib)
		return errors.Join(err, f.Close())
	})
	copy(content[5*mib:], "changed")
	s.snapshot(d, "s2")
	increment := s.send(agent.SendSpec{From: d + "@s1", To: d + "@s2"})
	if len(increment) > mib {
		s.Errorf("%d bytes for seven changed ones", len(increment))
	}
	s.receive(s.name("copy")+"@s1", "", s.send(agent.SendSpec{To: d + "@s1"}))
	s.receive(s.name("copy")+"@s2", "", increment)
	s.holds(s.name("copy"), "rootfs/data", content)
}

func receiveRefuses(s *sandbox) {
	d := s.create("d")
	for _, name := range []string{"s1", "s2", "s3"} {
		s.write(d, "f", []byte(name))
		s.snapshot(d, name)
	}
	first := s.send(agent.SendSpec{To: d + "@s1"})
	second := s.send(agent.SendSpec{From: d + "@s1", To: d + "@s2"})
	third := s.send(agent.SendSpec{From: d + "@s2", To: d + "@s3"})
	copied := s.name("copy")

	s.fails(s.tryReceive(copied+"@s2", "", second), "increment into a missing dataset", errdefs.ErrNotFound, errdefs.ErrStale)
	s.fails(s.tryReceive(s.name("no/parent")+"@s1", "", first), "receive below a missing parent", errdefs.ErrNotFound)
	s.receive(copied+"@s1", "", first)
	s.fails(s.tryReceive(copied+"@s3", "", third), "increment that skips one", errdefs.ErrStale)
	s.fails(s.tryReceive(copied+"@other", "", first), "full stream into a dataset", errdefs.ErrAlreadyExists)
	s.receive(copied+"@s2", "", second)
	s.ok(s.tryReceive(copied+"@s2", "", second), "the same increment again")
	s.fails(s.tryReceive(copied+"@s1", "", second), "onto a taken name", errdefs.ErrAlreadyExists, errdefs.ErrStale)
	if got := len(s.guids(copied)); got != 2 {
		s.Errorf("%d snapshots after refusals", got)
	}
	s.write(copied, "f", []byte("local"))
	s.fails(s.tryReceive(copied+"@s3", "", third), "onto changed files")
	s.holds(copied, "f", []byte("local"))
	if got := len(s.guids(copied)); got != 2 {
		s.Errorf("%d snapshots after refusals", got)
	}
}

func origins(s *sandbox) {
	d := s.create("d")
	var guids []lineage.GUID
	for i, name := range []string{"s1", "s2"} {
		s.write(d, "rootfs/"+name, noise(uint64(i), 200*kib))
		guids = append(guids, s.snapshot(d, name).GUID)
	}
	base := s.name("base")
	s.receive(base+"@b1", "", s.send(agent.SendSpec{To: d + "@s1"}))
	increment := s.send(agent.SendSpec{From: d + "@s1", To: d + "@s2"})
	s.fails(s.tryReceive(s.name("x")+"@s2", d+"@s2", increment), "wrong origin", errdefs.ErrStale)
	s.fails(s.tryReceive(s.name("x")+"@s2", base+"@none", increment), "missing origin", errdefs.ErrNotFound, errdefs.ErrStale)
	if _, err := s.pool.Dataset(s.ctx, s.name("x")); !errors.Is(err, errdefs.ErrNotFound) {
		s.Errorf("a refused receive left a dataset: %v", err)
	}
	branch := s.name("branch")
	s.receive(branch+"@b2", base+"@b1", increment)
	got := s.dataset(branch)
	if got.Origin != base+"@b1" || len(got.Snapshots) != 1 || got.Snapshots[0].GUID != guids[1] {
		s.Errorf("received %+v", got)
	}
	s.holds(branch, "rootfs/s1", noise(0, 200*kib))
	s.holds(branch, "rootfs/s2", noise(1, 200*kib))
	// The exact one that was named, though the pool holds that GUID twice; and twice from the same.
	s.receive(s.name("other")+"@b2", d+"@s1", increment)
	if got := s.dataset(s.name("other")).Origin; got != d+"@s1" {
		s.Errorf("origin %s", got)
	}
	s.fails(s.pool.DestroySnapshot(s.ctx, base+"@b1"), "destroy the origin", errdefs.ErrBusy)
}

func cloneStream(s *sandbox) {
	d := s.create("d")
	s.write(d, "f", []byte("1"))
	s.snapshot(d, "s1")
	s.write(d, "f", []byte("2"))
	s.snapshot(d, "s2")
	c := s.clone(d+"@s2", "c")
	s.write(c, "g", []byte("own"))
	s.snapshot(c, "c1")
	s.receive(s.name("copy")+"@s1", "", s.send(agent.SendSpec{To: d + "@s1"}))
	s.receive(s.name("copy")+"@s2", "", s.send(agent.SendSpec{From: d + "@s1", To: d + "@s2"}))
	stream := s.send(agent.SendSpec{From: d + "@s2", To: c + "@c1"})
	s.fails(s.tryReceive(s.name("copy")+"@c1", "", stream), "clone stream into a dataset that has its base", errdefs.ErrAlreadyExists)
	s.receive(s.name("branch")+"@c1", s.name("copy")+"@s2", stream)
	s.holds(s.name("branch"), "f", []byte("2"))
	s.holds(s.name("branch"), "g", []byte("own"))
	// From an older ancestor across the boundary.
	s.receive(s.name("older")+"@c1", s.name("copy")+"@s1", s.send(agent.SendSpec{From: d + "@s1", To: c + "@c1"}))
	s.holds(s.name("older"), "f", []byte("2"))
	s.holds(s.name("older"), "g", []byte("own"))
}

// estimateOfChain: the streams of a history are estimated together, about as large as they are one by one.
func estimateOfChain(s *sandbox) {
	d := s.create("d")
	var specs []agent.SendSpec
	var alone uint64
	for i := range 4 {
		s.write(d, "f", noise(uint64(i), 300*kib))
		s.snapshot(d, fmt.Sprintf("s%d", i))
		spec := agent.SendSpec{To: fmt.Sprintf("%s@s%d", d, i)}
		if i > 0 {
			spec.From = fmt.Sprintf("%s@s%d", d, i-1)
		}
		estimate, err := s.pool.Estimate(s.ctx, spec)
		s.ok(err, "estimate of one")
		alone += estimate
		specs = append(specs, spec)
	}
	together, err := s.pool.Estimate(s.ctx, specs...)
	s.ok(err, "estimate of all")
	if together < alone/2 || together > alone*2 {
		s.Errorf("estimate of all %d, of each %d", together, alone)
	}
	if none, err := s.pool.Estimate(s.ctx); none != 0 || err != nil {
		s.Errorf("estimate of nothing: %d, %v", none, err)
	}
}

func fromBookmark(s *sandbox) {
	d := s.create("d")
	s.write(d, "f", noise(1, 300*kib))
	base := s.snapshot(d, "s1")
	s.receive(s.name("copy")+"@s1", "", s.send(agent.SendSpec{To: d + "@s1"}))
	s.ok(s.pool.Bookmark(s.ctx, d+"@s1", "b"), "bookmark")
	s.write(d, "g", noise(2, 300*kib))
	s.snapshot(d, "s2")
	s.ok(s.pool.DestroySnapshot(s.ctx, d+"@s1"), "destroy the base")
	spec := agent.SendSpec{From: d + "#b", To: d + "@s2"}
	if _, err := s.pool.Estimate(s.ctx, spec); err != nil {
		s.Errorf("estimate: %v", err)
	}
	s.receive(s.name("copy")+"@s2", "", s.send(spec))
	if got := s.guids(s.name("copy")); len(got) != 2 || got[0] != base.GUID {
		s.Errorf("arrived %v", got)
	}
	s.holds(s.name("copy"), "f", noise(1, 300*kib))
	s.holds(s.name("copy"), "g", noise(2, 300*kib))
}

// plannedLineage carries a plan out: a history with a restore and a copy, received beside itself.
func plannedLineage(s *sandbox) {
	content := make(map[lineage.GUID]string)
	snap := func(dataset, name string) {
		s.write(dataset, "rootfs/state", []byte(dataset+name))
		content[s.snapshot(dataset, name).GUID] = dataset + name
	}
	d := s.create("d")
	snap(d, "hoody-1")
	snap(d, "daily")
	snap(d, "hoody-3")
	restored := s.clone(d+"@daily", "restored")
	snap(restored, "hoody-4")
	s.ok(s.pool.Rename(s.ctx, d, s.name("generations/old")), "rename aside")
	s.ok(s.pool.Rename(s.ctx, restored, d), "swap in")
	copied := s.clone(d+"@hoody-4", "copied")
	s.ok(s.pool.Promote(s.ctx, d), "promote")
	snap(copied, "hoody-5")

	inv, err := s.pool.Inventory(s.ctx)
	s.ok(err, "inventory")
	nodes, err := lineage.Ancestry(inv, copied+"@hoody-5", s.name("generations/old")+"@hoody-3")
	s.ok(err, "ancestry")
	var wanted []lineage.GUID
	for _, n := range nodes {
		wanted = append(wanted, n.GUID)
	}
	if len(wanted) != len(content) {
		s.Fatalf("history %+v", nodes)
	}
	steps, err := lineage.Plan(nodes, wanted, nil, func(i int) string { return s.name(fmt.Sprintf("incoming-%d", i)) })
	s.ok(err, "plan")
	for _, step := range steps {
		s.receive(step.Target, step.Origin, s.send(agent.SendSpec{From: step.From, To: step.Send}))
		dataset, _, _ := lineage.SplitSnapshot(step.Target)
		if newest, ok := s.dataset(dataset).Newest(); !ok || newest.GUID != step.GUID {
			s.Fatalf("%+v brought %+v", step, newest)
		}
	}
	for _, step := range steps {
		s.snapshotHolds(step.Target, "rootfs/state", []byte(content[step.GUID]))
	}
}

func sendRefuses(s *sandbox) {
	d := s.create("d")
	s.snapshot(d, "s1")
	s.snapshot(d, "s2")
	other := s.create("other")
	s.snapshot(other, "s1")
	s.fails(s.sendError(agent.SendSpec{To: d + "@none"}), "send a missing snapshot", errdefs.ErrNotFound)
	s.fails(s.sendError(agent.SendSpec{To: s.name("none@s1")}), "send from a missing dataset", errdefs.ErrNotFound)
	s.fails(s.sendError(agent.SendSpec{From: d + "@none", To: d + "@s2"}), "send from a missing base", errdefs.ErrNotFound)
	s.fails(s.sendError(agent.SendSpec{From: d + "@s2", To: d + "@s1"}), "send backwards")
	s.fails(s.sendError(agent.SendSpec{From: other + "@s1", To: d + "@s2"}), "send from a stranger")
	_, err := s.pool.Estimate(s.ctx, agent.SendSpec{To: d + "@none"})
	s.fails(err, "estimate a missing snapshot", errdefs.ErrNotFound)
}

func sendPins(s *sandbox) {
	d := s.create("d")
	s.write(d, "f", noise(1, 8*mib))
	s.snapshot(d, "s1")
	stream, err := s.pool.Send(s.ctx, agent.SendSpec{To: d + "@s1"})
	s.ok(err, "send")
	_, err = io.ReadFull(stream, make([]byte, mib))
	s.ok(err, "read")
	s.fails(s.pool.DestroySnapshot(s.ctx, d+"@s1"), "destroy what is being sent", errdefs.ErrBusy)
	if got := s.dataset(d).Snapshots; len(got) != 1 || got[0].DeferDestroy {
		s.Errorf("snapshots %+v", got)
	}
	s.ok(s.pool.Rename(s.ctx, d, s.name("renamed")), "rename what is being sent")
	_, err = io.Copy(io.Discard, stream)
	s.ok(err, "read the rest")
	s.ok(stream.Close(), "close")
	s.ok(s.pool.DestroySnapshot(s.ctx, s.name("renamed")+"@s1"), "destroy what was sent")
}

func sendStops(s *sandbox) {
	d := s.create("d")
	s.write(d, "f", noise(1, 8*mib))
	s.snapshot(d, "s1")
	stream, err := s.pool.Send(s.ctx, agent.SendSpec{To: d + "@s1"})
	s.ok(err, "send")
	_, err = io.ReadFull(stream, make([]byte, 10*kib))
	s.ok(err, "read")
	stream.Close() // however it ended: the reader gave up
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	stream, err = s.pool.Send(ctx, agent.SendSpec{To: d + "@s1"})
	s.ok(err, "send again")
	_, err = io.ReadFull(stream, make([]byte, 10*kib))
	s.ok(err, "read again")
	cancel()
	if n, err := io.Copy(io.Discard, stream); err == nil {
		s.Errorf("a cancelled send ends well, after %d more bytes", n)
	}
	stream.Close()
	s.until("the snapshot is free again", func() bool { return s.pool.DestroySnapshot(s.ctx, d+"@s1") == nil })
}
