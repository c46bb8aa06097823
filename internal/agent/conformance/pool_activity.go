package conformance

import (
	"github.com/hoodynetwork/hoody-agent/internal/agent"
)

// activity wants a dataset's measures to move with its files and its snapshots, and with nothing else.
func activity(s *sandbox) {
	parent := s.create("parent")
	quiet, busy := s.create("parent/quiet"), s.create("parent/busy")
	s.create("parent/quiet/below")
	for _, d := range []string{quiet, busy} {
		s.write(d, "f", noise(1, 256*kib))
		s.snapshot(d, "s1")
	}
	look := func() (q, b agent.Activity) {
		s.Helper()
		all, err := s.pool.Activity(s.ctx, parent)
		s.ok(err, "activity")
		if _, has := all[quiet]; !has || len(all) != 2 {
			s.Fatalf("activity of %v, want the two below the parent", all)
		}
		return all[quiet], all[busy]
	}
	quietBefore, before := look()
	if before.Written != 0 || before.Referenced < 256*kib {
		s.Errorf("right after a snapshot: %+v", before)
	}
	s.write(busy, "g", noise(2, 256*kib))
	var quietAfter, after agent.Activity
	s.until("the write shows", func() bool {
		quietAfter, after = look()
		return after.Written >= 256*kib
	})
	if after.Referenced < before.Referenced+256*kib || after.Snapshots != before.Snapshots || quietAfter != quietBefore {
		s.Errorf("after a write: %+v, was %+v; the quiet one %+v, was %+v", after, before, quietAfter, quietBefore)
	}
	s.until("a second begins in which there was no snapshot yet", func() bool {
		name := "again"
		s.snapshot(busy, name)
		_, now := look()
		s.ok(s.pool.DestroySnapshot(s.ctx, busy+"@"+name), "destroy the snapshot")
		return now.Snapshots != before.Snapshots && now.Written == 0
	})
	all, err := s.pool.Activity(s.ctx, s.name("none"))
	s.ok(err, "activity below a missing parent")
	if len(all) != 0 {
		s.Errorf("activity below a missing parent: %v", all)
	}
}
