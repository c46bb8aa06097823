package demo

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// copyThere: another server and another project at once.
func (s *story) copyThere(ctx context.Context) (err error) {
	if s.remote, err = s.copy(ctx, s.source, s.there, s.other, "web-eu", nil); err != nil {
		return err
	}
	s.fact(s.remote.ServerID == s.there.ID && s.remote.ProjectID == s.other.ID, "it runs on %s, in the project staging, after %s", s.there.Name, span(s.remote.took))
	s.fact(s.remote.moved >= s.data && s.remote.snapshots >= 3, "%s moved, %s on the network, in %d snapshots (%s)",
		size(s.remote.moved), size(s.remote.wire), s.remote.snapshots, rate(s.remote.moved, s.remote.took))
	if err := s.same(ctx, s.source.box, s.remote.box, "source and copy hold the same files, apart from identity"); err != nil {
		return err
	}
	return s.checkCopy(ctx, s.remote)
}

// copyAgain: a server gets nothing that it has.
func (s *story) copyAgain(ctx context.Context) error {
	again, err := s.copy(ctx, s.source, s.there, s.other, "web-again", nil)
	if err != nil {
		return err
	}
	s.fact(again.moved == 0, "a second copy of the same state to %s: %s moved (%s)", s.there.Name, size(again.moved), span(again.took))
	if err := s.same(ctx, s.source.box, again.box, "it holds the same files"); err != nil {
		return err
	}
	if err := s.there.API.Delete(ctx, again.ID); err != nil {
		return err
	}
	return s.copyFive(ctx)
}

// copyFive: five copies of a state that the other server does not have yet, asked for at once.
func (s *story) copyFive(ctx context.Context) error {
	if err := s.source.random(ctx, "srv/for-the-five.bin", 0, s.change); err != nil {
		return err
	}
	before, err := s.there.Host.Used(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	var five [5]made
	var failed [5]error
	var group sync.WaitGroup
	for i := range five {
		group.Go(func() {
			five[i], failed[i] = s.copy(ctx, s.source, s.there, s.other, fmt.Sprintf("developer-%d", i+1), nil)
		})
	}
	group.Wait()
	took := time.Since(began)
	after, err := s.there.Host.Used(ctx)
	if err != nil {
		return err
	}
	transfers, moved, equal := 0, int64(0), 0
	want, err := s.source.hash(ctx)
	if err != nil {
		return err
	}
	for i, copied := range five {
		if failed[i] != nil {
			return failed[i]
		}
		if moved += copied.moved; copied.moved > 0 {
			transfers++
		}
		hash, err := copied.hash(ctx)
		if err != nil {
			return err
		}
		if hash == want {
			equal++
		}
		if i == 0 {
			s.kept = copied // what nobody runs on any more may be collected at any moment
			continue
		}
		if err := s.there.API.Delete(ctx, copied.ID); err != nil {
			return err
		}
	}
	s.fact(moved < s.change*11/10+little, "%s changed, then five copies at once: %s moved, for %d of them (%s for all five)",
		size(s.change), size(moved), transfers, span(took))
	s.fact(equal == len(five), "%d of five hold the source's files", equal)
	s.fact(after-before < s.change+5*little, "the pool of %s grew by %s", s.there.Name, size(after-before))
	return nil
}
