package sim

import (
	"context"
	"fmt"

	"github.com/oklog/ulid/v2"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// Rollback implements agent.Pool.
func (p *Pool) Rollback(ctx context.Context, full string) error {
	return p.effect(ctx, "rollback", full, func() error {
		name, short, ok := lineage.SplitSnapshot(full)
		if !ok {
			return fmt.Errorf("not a dataset@snapshot: %w", errdefs.ErrInvalid)
		}
		locked, l, err := p.lockLive(name)
		if err != nil {
			return err
		}
		defer l.mu.Unlock()
		var before string
		err = p.commit(func(s *state) error {
			d, _, err := s.snapshot(full)
			if err != nil {
				return err
			}
			newest, _ := d.newest()
			switch {
			case d.ID != locked.ID:
				return fmt.Errorf("renamed meanwhile: %w", errdefs.ErrBusy)
			case newest.Name != short:
				return fmt.Errorf("not the newest snapshot: %w", errdefs.ErrBusy)
			case len(d.Bookmarks) > 0 && d.Bookmarks[len(d.Bookmarks)-1].TXG > newest.TXG:
				return fmt.Errorf("a bookmark is newer: %w", errdefs.ErrBusy)
			case p.liveOf(d).mounts > 0:
				return fmt.Errorf("mounted: %w", errdefs.ErrBusy)
			}
			if err := p.receiving(d); err != nil {
				return err
			}
			d = s.edit(name)
			before, d.Data = d.Data, ulid.Make().String()
			d.Base, d.Referenced = newest.Tree, newest.Referenced
			return nil
		})
		if err != nil {
			return err
		}
		return p.dropLive(before, l)
	})
}
