package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// Snapshot implements agent.Pool.
func (p *Pool) Snapshot(ctx context.Context, dataset, name string) (lineage.Snapshot, error) {
	var made snapshot
	err := p.effect(ctx, "snapshot", dataset+"@"+name, func() error {
		if !validComponent(name) {
			return fmt.Errorf("snapshot name: %w", errdefs.ErrInvalid)
		}
		d, l, err := p.lockLive(dataset)
		if err != nil {
			return err
		}
		defer l.mu.Unlock()
		if _, taken := d.snapshot(name); taken {
			return fmt.Errorf("snapshot: %w", errdefs.ErrAlreadyExists) // before all the reading
		}
		if d.Hollow {
			return fmt.Errorf("partly received: %w", errdefs.ErrBusy)
		}
		t, kept, err := p.liveTree(d, l, true)
		if kept {
			defer p.releaseBlocks(t)
		}
		if err != nil {
			return err
		}
		content, err := p.saveTree(t)
		if err != nil {
			return err
		}
		defer p.trees.release(content)
		return p.commit(func(s *state) error {
			_, by, ok := s.byID(d.ID) // it may have been renamed since, and another swapped in
			if !ok {
				return fmt.Errorf("dataset: %w", errdefs.ErrNotFound)
			}
			d := s.edit(by)
			if _, taken := d.snapshot(name); taken {
				return fmt.Errorf("snapshot: %w", errdefs.ErrAlreadyExists)
			}
			made = snapshot{
				Name: name, GUID: newGUID(), TXG: s.TXG, Creation: p.now(), Tree: content, Referenced: t.referenced(),
			}
			d.Snapshots = append(d.Snapshots, made)
			d.Base, d.Referenced = content, made.Referenced
			return nil
		})
	})
	if err != nil {
		return lineage.Snapshot{}, err
	}
	return made.public(), nil
}

// now is the pool's clock, which counts whole seconds.
func (p *Pool) now() time.Time { return p.options.Now().UTC().Truncate(time.Second) }

func (s snapshot) public() lineage.Snapshot {
	return lineage.Snapshot{
		Name: s.Name, GUID: s.GUID, CreateTXG: s.TXG, Creation: s.Creation, Referenced: s.Referenced,
	}
}

// Bookmark implements agent.Pool.
func (p *Pool) Bookmark(ctx context.Context, snapshot, name string) error {
	return p.effect(ctx, "bookmark", snapshot, func() error {
		if !validComponent(name) {
			return fmt.Errorf("bookmark name %q: %w", name, errdefs.ErrInvalid)
		}
		return p.commit(func(s *state) error {
			_, snap, err := s.snapshot(snapshot)
			if err != nil {
				return err
			}
			dataset, _, _ := lineage.SplitSnapshot(snapshot)
			d := s.edit(dataset)
			for _, b := range d.Bookmarks {
				if b.Name == name && b.GUID == snap.GUID {
					return nil
				}
				if b.Name == name {
					return fmt.Errorf("bookmark %s is of another snapshot: %w", name, errdefs.ErrAlreadyExists)
				}
			}
			d.Bookmarks = append(d.Bookmarks, bookmark{Name: name, GUID: snap.GUID, TXG: snap.TXG, Tree: snap.Tree})
			slices.SortStableFunc(d.Bookmarks, func(a, b bookmark) int { return int(a.TXG) - int(b.TXG) })
			return nil
		})
	})
}

// DestroySnapshot implements agent.Pool.
func (p *Pool) DestroySnapshot(ctx context.Context, full string) error {
	return p.effect(ctx, "destroy-snapshot", full, func() error {
		return p.commit(func(s *state) error {
			if dataset, name, ok := strings.Cut(full, "#"); ok {
				return destroyBookmark(s, dataset, name)
			}
			d, snap, err := s.snapshot(full)
			if err != nil {
				return err
			}
			if clones := s.clonesOf(d, snap.GUID); len(clones) > 0 {
				return fmt.Errorf("has clones %q: %w", clones, errdefs.ErrBusy)
			}
			if p.pinned[origin{d.ID, snap.GUID}] > 0 {
				return fmt.Errorf("is being sent: %w", errdefs.ErrBusy)
			}
			dataset, _, _ := lineage.SplitSnapshot(full)
			d = s.edit(dataset)
			d.Snapshots = slices.DeleteFunc(d.Snapshots, func(x snapshot) bool { return x.Name == snap.Name })
			return nil
		})
	})
}

// RenameSnapshot implements agent.Pool.
func (p *Pool) RenameSnapshot(ctx context.Context, full, to string) error {
	return p.effect(ctx, "rename-snapshot", full, func() error {
		if !validComponent(to) {
			return fmt.Errorf("snapshot name %q: %w", to, errdefs.ErrInvalid)
		}
		return p.renameSnapshot(full, to)
	})
}

// renameSnapshot gives a snapshot another name; clones know their origin by GUID, and follow.
func (p *Pool) renameSnapshot(full, to string) error {
	return p.commit(func(s *state) error {
		d, snap, err := s.snapshot(full)
		if err != nil {
			return err
		}
		if _, taken := d.snapshot(to); taken {
			return fmt.Errorf("snapshot %s: %w", to, errdefs.ErrAlreadyExists)
		}
		dataset, _, _ := lineage.SplitSnapshot(full)
		d = s.edit(dataset)
		for i := range d.Snapshots {
			if d.Snapshots[i].GUID == snap.GUID {
				d.Snapshots[i].Name = to
			}
		}
		return nil
	})
}

func destroyBookmark(s *state, dataset, name string) error {
	if _, err := s.dataset(dataset); err != nil {
		return err
	}
	d := s.edit(dataset)
	before := len(d.Bookmarks)
	d.Bookmarks = slices.DeleteFunc(d.Bookmarks, func(b bookmark) bool { return b.Name == name })
	if len(d.Bookmarks) == before {
		return fmt.Errorf("no such bookmark: %w", errdefs.ErrNotFound)
	}
	return nil
}

// Written implements agent.Pool.
func (p *Pool) Written(ctx context.Context, snapshot string) (uint64, error) {
	then, now, err := p.thenAndNow(ctx, snapshot)
	if err != nil {
		return 0, fmt.Errorf("written since %s: %w", snapshot, err)
	}
	return written(then, now), nil
}

// WrittenLately implements agent.Pool. Here nothing is late.
func (p *Pool) WrittenLately(ctx context.Context, dataset string, snapshots []string) (map[string]uint64, error) {
	since := make(map[string]uint64, len(snapshots))
	for _, name := range snapshots {
		bytes, err := p.Written(ctx, dataset+"@"+name)
		if err == nil {
			since[name] = bytes
		} else if _, there := p.Dataset(ctx, dataset); there != nil || !errors.Is(err, errdefs.ErrNotFound) {
			return nil, err
		}
	}
	return since, nil
}

// Diff implements agent.Pool. A renamed path is one removed and one added here: trees know paths, not inodes.
func (p *Pool) Diff(ctx context.Context, snapshot string, limit int) ([]agent.Change, error) {
	then, now, err := p.thenAndNow(ctx, snapshot)
	if err != nil {
		return nil, fmt.Errorf("diff since %s: %w", snapshot, err)
	}
	known := then.byPath()
	var changes []agent.Change
	for _, c := range delta(then, now) {
		kind := agent.ChangeModified
		if c.Removed {
			kind = agent.ChangeRemoved
		} else if known[c.Entry.Path] == nil {
			kind = agent.ChangeAdded
		}
		if len(changes) == limit {
			return changes, fmt.Errorf("diff since %s: more than %d changes: %w", snapshot, limit, errdefs.ErrExhausted)
		}
		changes = append(changes, agent.Change{Path: c.Entry.Path, Kind: kind})
	}
	return changes, nil
}

// thenAndNow returns a snapshot's tree and that of the dataset's files.
func (p *Pool) thenAndNow(ctx context.Context, full string) (then, now *tree, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	dataset, name, ok := lineage.SplitSnapshot(full)
	if !ok {
		return nil, nil, fmt.Errorf("not a dataset@snapshot: %w", errdefs.ErrInvalid)
	}
	d, l, err := p.lockLive(dataset)
	if err != nil {
		return nil, nil, err
	}
	defer l.mu.Unlock()
	then, err = p.treeOf(func(s *state) (sum, error) {
		d, _, ok := s.byID(d.ID)
		if !ok {
			return sum{}, fmt.Errorf("dataset: %w", errdefs.ErrNotFound)
		}
		snap, ok := d.snapshot(name)
		if !ok {
			return sum{}, fmt.Errorf("no such snapshot: %w", errdefs.ErrNotFound)
		}
		return snap.Tree, nil
	})
	if err != nil {
		return nil, nil, err
	}
	now, _, err = p.liveTree(d, l, false)
	return then, now, err
}
