package conformance

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// readOnce is a stream that cannot be anything but read.
func readOnce(data []byte) io.Reader { return io.MultiReader(bytes.NewReader(data)) }

// half makes a dataset with data worth cutting, and receives a part of it.
func half(s *sandbox, part float64) (source, target string, full []byte) {
	s.Helper()
	source, target = s.create("d"), s.name("copy")
	s.write(source, "rootfs/data", noise(1, 16*mib))
	s.snapshot(source, "s1")
	full = s.send(agent.SendSpec{To: source + "@s1"})
	cut := full[:int(float64(len(full))*part)]
	s.fails(s.tryReceive(target+"@s1", "", cut), "receive a cut stream", errdefs.ErrAborted)
	return source, target, full
}

// resumeToken reads a dataset's resume token; empty for none.
func (s *sandbox) resumeToken(dataset string) (string, error) {
	d, err := s.pool.Dataset(s.ctx, dataset)
	return d.ResumeToken, err
}

// token returns a dataset's resume token, which must exist.
func (s *sandbox) token(dataset string) string {
	s.Helper()
	token, err := s.resumeToken(dataset)
	s.ok(err, "resume token of %s", dataset)
	if token == "" {
		s.Fatalf("%s has no resume token", dataset)
	}
	return token
}

func resume(s *sandbox) {
	source, target, full := half(s, 0.6)
	guid := s.guids(source)[0]
	token := s.token(target)
	point, err := s.pool.DescribeToken(s.ctx, token)
	s.ok(err, "describe token")
	if point.To != guid || point.From != 0 || point.Bytes == 0 || point.Bytes > uint64(len(full)) {
		s.Errorf("token says %+v, want %s", point, guid)
	}
	rest := s.send(agent.SendSpec{Token: token})
	if len(rest) > len(full)*7/10 {
		s.Errorf("%d of %d bytes again after 60 %% arrived", len(rest), len(full))
	}
	estimate, err := s.pool.Estimate(s.ctx, agent.SendSpec{Token: token})
	s.ok(err, "estimate of the rest")
	if estimate > uint64(len(rest))*2+mib {
		s.Errorf("estimate %d for %d bytes", estimate, len(rest))
	}
	// Cut the rest as well.
	s.fails(s.tryReceive(target+"@s1", "", rest[:len(rest)/2]), "receive a cut rest", errdefs.ErrAborted)
	rest = s.send(agent.SendSpec{Token: s.token(target)})
	s.receive(target+"@s1", "", rest)
	if got := s.guids(target); len(got) != 1 || got[0] != guid {
		s.Errorf("arrived %v", got)
	}
	s.holds(target, "rootfs/data", noise(1, 16*mib))
	if token, err := s.resumeToken(target); err != nil || token != "" {
		s.Errorf("token after the end: %q, %v", token, err)
	}
}

func resumeIncrement(s *sandbox) {
	d, base := s.create("d"), s.name("base")
	s.write(d, "f", []byte("1"))
	from := s.snapshot(d, "s1")
	s.receive(base+"@s1", "", s.send(agent.SendSpec{To: d + "@s1"}))
	s.write(d, "rootfs/data", noise(1, 8*mib))
	to := s.snapshot(d, "s2")
	increment := s.send(agent.SendSpec{From: d + "@s1", To: d + "@s2"})
	for _, place := range []struct{ target, origin string }{
		{base, ""},                       // continues a dataset
		{s.name("branch"), base + "@s1"}, // starts one
	} {
		s.fails(s.tryReceive(place.target+"@s2", place.origin, increment[:len(increment)/2]), "receive a cut increment", errdefs.ErrAborted)
		token := s.token(place.target)
		point, err := s.pool.DescribeToken(s.ctx, token)
		if err != nil || point.To != to.GUID || point.From != from.GUID {
			s.Errorf("token says %+v, %v", point, err)
		}
		// The origin was settled when the receive began.
		s.receive(place.target+"@s2", "", s.send(agent.SendSpec{Token: token}))
		s.holds(place.target, "rootfs/data", noise(1, 8*mib))
		s.holds(place.target, "f", []byte("1"))
	}
	if got := s.dataset(s.name("branch")).Origin; got != base+"@s1" {
		s.Errorf("origin %q", got)
	}
}

func resumeAfterRename(s *sandbox) {
	source, target, _ := half(s, 0.5)
	s.ok(s.pool.Rename(s.ctx, source, s.name("renamed")), "rename the source")
	s.ok(s.pool.Rename(s.ctx, target, s.name("moved")), "rename the target")
	s.receive(s.name("moved")+"@s1", "", s.send(agent.SendSpec{Token: s.token(s.name("moved"))}))
	s.holds(s.name("moved"), "rootfs/data", noise(1, 16*mib))
}

func staleToken(s *sandbox) {
	source, target, _ := half(s, 0.5)
	token := s.token(target)
	rest := s.send(agent.SendSpec{Token: token})
	s.receive(target+"@s1", "", rest)
	s.fails(s.tryReceive(target+"@s1", "", rest), "a rest that was received", errdefs.ErrStale, errdefs.ErrAlreadyExists)
	if got := s.guids(target); len(got) != 1 {
		s.Errorf("snapshots %v", got)
	}
	s.ok(s.pool.DestroySnapshot(s.ctx, source+"@s1"), "destroy the snapshot on the source")
	s.ok(s.pool.Destroy(s.ctx, target), "destroy the copy")
	s.fails(s.sendError(agent.SendSpec{Token: token}), "send a destroyed snapshot", errdefs.ErrStale)
}

func badToken(s *sandbox) {
	_, err := s.pool.DescribeToken(s.ctx, "1-nonsense")
	s.fails(err, "describe nonsense", errdefs.ErrInvalid, errdefs.ErrCorrupt)
	s.fails(s.sendError(agent.SendSpec{Token: "1-nonsense"}), "send nonsense", errdefs.ErrInvalid, errdefs.ErrCorrupt, errdefs.ErrStale)
	_, err = s.resumeToken(s.name("none"))
	s.fails(err, "token of a missing dataset", errdefs.ErrNotFound)
	if token, err := s.resumeToken(s.top); err != nil || token != "" {
		s.Errorf("token of a whole dataset: %q, %v", token, err)
	}
}

func abort(s *sandbox) {
	source, target, full := half(s, 0.5)
	s.ok(s.pool.AbortReceive(s.ctx, target), "abort")
	if _, err := s.pool.Dataset(s.ctx, target); !errors.Is(err, errdefs.ErrNotFound) {
		s.Errorf("the dataset did not go: %v", err)
	}
	s.receive(target+"@s1", "", full)
	s.ok(s.pool.AbortReceive(s.ctx, target), "abort nothing")
	s.write(source, "rootfs/more", noise(2, 4*mib))
	s.snapshot(source, "s2")
	increment := s.send(agent.SendSpec{From: source + "@s1", To: source + "@s2"})
	s.fails(s.tryReceive(target+"@s2", "", increment[:len(increment)/2]), "receive a cut increment", errdefs.ErrAborted)
	s.token(target)
	s.ok(s.pool.AbortReceive(s.ctx, target), "abort an increment")
	if d := s.dataset(target); d.ResumeToken != "" || len(d.Snapshots) != 1 {
		s.Errorf("after abort: %+v", d)
	}
	s.holds(target, "rootfs/data", noise(1, 16*mib))
	s.receive(target+"@s2", "", increment)
	s.holds(target, "rootfs/more", noise(2, 4*mib))
}

func corrupt(s *sandbox) {
	d := s.create("d")
	s.write(d, "rootfs/data", noise(1, 2*mib))
	s.snapshot(d, "s1")
	full := s.send(agent.SendSpec{To: d + "@s1"})
	s.fails(s.tryReceive(s.name("a")+"@s1", "", []byte(strings.Repeat("this is no stream ", 1000))), "receive nonsense", errdefs.ErrCorrupt)
	s.fails(s.tryReceive(s.name("b")+"@s1", "", nil), "receive nothing", errdefs.ErrAborted, errdefs.ErrCorrupt)
	for i, at := range []int{len(full) / 3, len(full) / 2, len(full) - 20} {
		bent := slices.Clone(full)
		bent[at] ^= 0x40
		name := s.name("c" + string(rune('0'+i)))
		// ZFS answers a wrong checksum with the words it has for a cut stream.
		s.fails(s.tryReceive(name+"@s1", "", bent), "receive a bent stream", errdefs.ErrCorrupt, errdefs.ErrAborted)
		if d, err := s.pool.Dataset(s.ctx, name); err == nil && len(d.Snapshots) != 0 {
			s.Errorf("a bent stream made %+v", d.Snapshots)
		}
	}
}

// receiveStops cancels a receive whose stream has stopped to flow, and goes on later.
func receiveStops(s *sandbox) {
	d, target := s.create("d"), s.name("copy")
	s.write(d, "rootfs/data", noise(1, 8*mib))
	s.snapshot(d, "s1")
	full := s.send(agent.SendSpec{To: d + "@s1"})
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- s.pool.Receive(ctx, agent.ReceiveSpec{To: target + "@s1"}, reader) }()
	_, err := writer.Write(full[:len(full)/2])
	s.ok(err, "write a half")
	s.until("the dataset appears", func() bool { _, err := s.pool.Dataset(s.ctx, target); return err == nil })
	s.fails(s.tryReceive(target+"@s1", "", full), "receive twice at once", errdefs.ErrBusy, errdefs.ErrAlreadyExists)
	cancel()
	s.fails(<-ended, "a cancelled receive", errdefs.ErrAborted, context.Canceled)
	writer.Close()
	reader.Close()
	s.until("what arrived can be resumed", func() bool {
		token, err := s.resumeToken(target)
		if err != nil || token == "" {
			return false
		}
		stream, err := s.pool.Send(s.ctx, agent.SendSpec{Token: token})
		s.ok(err, "send the rest")
		defer stream.Close()
		err = s.pool.Receive(s.ctx, agent.ReceiveSpec{To: target + "@s1"}, stream)
		if err != nil && !errors.Is(err, errdefs.ErrBusy) {
			s.Fatalf("resume: %v", err)
		}
		return err == nil
	})
	s.holds(target, "rootfs/data", noise(1, 8*mib))
}

// partlyReceived is a dataset between begin and end of its first stream.
func partlyReceived(s *sandbox) {
	_, target, full := half(s, 0.5)
	s.fails(s.tryReceive(target+"@s1", "", full), "receive anew without abort", errdefs.ErrBusy, errdefs.ErrAlreadyExists)
	_, err := s.pool.Mount(s.ctx, target)
	s.fails(err, "mount what is not whole")
	_, err = s.pool.Snapshot(s.ctx, target, "mine")
	s.fails(err, "snapshot what is not whole")
	if got := s.guids(target); len(got) != 0 {
		s.Errorf("snapshots %v", got)
	}
	s.ok(s.pool.Destroy(s.ctx, target), "destroy what is not whole")
}
