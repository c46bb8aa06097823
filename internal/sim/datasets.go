package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Create implements agent.Pool.
func (p *Pool) Create(ctx context.Context, dataset string, properties agent.Properties) error {
	return p.effect(ctx, "create", dataset, func() error {
		empty, err := p.saveTree(emptyTree())
		if err != nil {
			return err
		}
		defer p.trees.release(empty)
		return p.commit(func(s *state) error { return addDataset(s, dataset, newDataset(empty, 0), empty, properties, true) })
	})
}

// Clone implements agent.Pool.
func (p *Pool) Clone(ctx context.Context, snapshot, dataset string, properties agent.Properties) error {
	return p.effect(ctx, "clone", dataset, func() error {
		empty, err := p.saveTree(emptyTree())
		if err != nil {
			return err
		}
		defer p.trees.release(empty)
		return p.commit(func(s *state) error {
			from, snap, err := s.snapshot(snapshot)
			if err != nil {
				return fmt.Errorf("origin %s: %w", snapshot, err)
			}
			d := newDataset(snap.Tree, snap.Referenced)
			d.Origin = origin{from.ID, snap.GUID}
			return addDataset(s, dataset, d, empty, properties, true)
		})
	})
}

// newDataset is a dataset that holds a tree.
func newDataset(base sum, referenced uint64) *dataset {
	return &dataset{ID: ulid.Make().String(), Data: ulid.Make().String(), Base: base, Referenced: referenced}
}

// addDataset puts a new dataset into the state, with missing parents if allowed.
func addDataset(s *state, name string, d *dataset, empty sum, properties agent.Properties, parents bool) error {
	if !validName(name) {
		return fmt.Errorf("dataset name: %w", errdefs.ErrInvalid)
	}
	if _, ok := s.Datasets[name]; ok {
		return fmt.Errorf("dataset: %w", errdefs.ErrAlreadyExists)
	}
	if err := addParents(s, name, empty, parents); err != nil {
		return err
	}
	if err := d.set(properties); err != nil {
		return err
	}
	s.Datasets[name] = d
	return nil
}

// addParents makes what is missing above a name, or refuses to.
func addParents(s *state, name string, empty sum, allowed bool) error {
	parent := path.Dir(name)
	if parent == "." || s.Datasets[parent] != nil {
		return nil
	}
	if !allowed {
		return fmt.Errorf("parent %s: %w", parent, errdefs.ErrNotFound)
	}
	return addDataset(s, parent, newDataset(empty, 0), empty, nil, true)
}

// Rename implements agent.Pool. Children move along, as in ZFS.
func (p *Pool) Rename(ctx context.Context, from, to string) error {
	return p.effect(ctx, "rename", from, func() error {
		empty, err := p.saveTree(emptyTree())
		if err != nil {
			return err
		}
		defer p.trees.release(empty)
		return p.commit(func(s *state) error {
			if _, err := s.dataset(from); err != nil {
				return err
			}
			if !validName(to) || strings.HasPrefix(to, from+"/") {
				return fmt.Errorf("new name %s: %w", to, errdefs.ErrInvalid)
			}
			if s.Datasets[to] != nil {
				return fmt.Errorf("new name %s: %w", to, errdefs.ErrAlreadyExists)
			}
			if err := addParents(s, to, empty, true); err != nil {
				return err
			}
			for name, d := range maps.Clone(s.Datasets) {
				if rest, ok := strings.CutPrefix(name, from); ok && (rest == "" || rest[0] == '/') {
					delete(s.Datasets, name)
					s.Datasets[to+rest] = d
				}
			}
			return nil
		})
	})
}

// SetProperties implements agent.Pool.
func (p *Pool) SetProperties(ctx context.Context, dataset string, properties agent.Properties) error {
	return p.effect(ctx, "set", dataset, func() error {
		return p.commit(func(s *state) error {
			if _, err := s.dataset(dataset); err != nil {
				return err
			}
			d := s.edit(dataset)
			if err := d.set(properties); err != nil {
				return err
			}
			if _, changed := properties["refquota"]; changed && d.Referenced > d.refquota() {
				return fmt.Errorf("refquota is less than the %d bytes in use: %w", d.Referenced, errdefs.ErrExhausted)
			}
			return nil
		})
	})
}

// nativeProperties are those of ZFS that somebody may want to set here. Only refquota has an effect.
var nativeProperties = []string{
	"acltype", "atime", "canmount", "checksum", "compression", "copies", "devices", "dnodesize", "exec", "logbias", "mountpoint", "primarycache",
	"quota", "readonly", "recordsize", "refquota", "refreservation", "relatime", "reservation", "setuid", "snapdir", "sync", "xattr",
}

// set changes properties; empty values take them back.
func (d *dataset) set(properties agent.Properties) error {
	for name, value := range properties {
		size := name == "quota" || name == "refquota" || name == "reservation" || name == "refreservation"
		if _, ok := parseSize(value); size && !ok || !strings.Contains(name, ":") && !slices.Contains(nativeProperties, name) {
			return fmt.Errorf("property %s=%q: %w", name, value, errdefs.ErrInvalid)
		}
		if value == "" {
			delete(d.Properties, name)
			continue
		}
		if d.Properties == nil {
			d.Properties = make(map[string]string)
		}
		d.Properties[name] = value
	}
	return nil
}

// refquota is how much the dataset may hold.
func (d *dataset) refquota() uint64 {
	size, _ := parseSize(d.Properties["refquota"])
	return size
}

// parseSize reads ZFS's sizes: 1048576, 10M, 1.5GiB, none. No limit is the largest number.
func parseSize(text string) (uint64, bool) {
	if text == "" || text == "none" || text == "0" {
		return 1<<64 - 1, true
	}
	number := strings.TrimRight(strings.ToUpper(text), "IB")
	unit := 1.0
	for at, suffix := range []string{"K", "M", "G", "T", "P", "E"} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = rest, float64(uint64(1)<<(10*(at+1)))
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	return uint64(n * unit), err == nil && n >= 0 && n*unit < 1<<63
}

// Promote implements agent.Pool.
func (p *Pool) Promote(ctx context.Context, dataset string) error {
	return p.effect(ctx, "promote", dataset, func() error {
		return p.commit(func(s *state) error { return p.promote(s, dataset) })
	})
}

func (p *Pool) promote(s *state, name string) error {
	d, err := s.dataset(name)
	if err != nil {
		return err
	}
	parent, parentName, ok := s.byID(d.Origin.Dataset)
	if !ok {
		return fmt.Errorf("not a clone: %w", errdefs.ErrFailedPrecondition)
	}
	at, ok := parent.byGUID(d.Origin.GUID)
	if !ok {
		return fmt.Errorf("origin is gone: %w", errdefs.ErrInternal)
	}
	d, parent = s.edit(name), s.edit(parentName)
	count := slices.IndexFunc(parent.Snapshots, func(x snapshot) bool { return x.GUID == at.GUID }) + 1
	moved := parent.Snapshots[:count]
	for _, x := range moved {
		if _, taken := d.snapshot(x.Name); taken {
			return fmt.Errorf("both have a snapshot %s: %w", x.Name, errdefs.ErrAlreadyExists)
		}
		if p.pinned[origin{parent.ID, x.GUID}] > 0 {
			return fmt.Errorf("snapshot %s is being sent: %w", x.Name, errdefs.ErrBusy)
		}
	}
	d.Snapshots = slices.Concat(moved, d.Snapshots)
	parent.Snapshots = slices.Clone(parent.Snapshots[count:])
	marks := slices.IndexFunc(parent.Bookmarks, func(b bookmark) bool { return b.TXG > at.TXG })
	if marks < 0 {
		marks = len(parent.Bookmarks)
	}
	d.Bookmarks = slices.Concat(parent.Bookmarks[:marks], d.Bookmarks)
	parent.Bookmarks = slices.Clone(parent.Bookmarks[marks:])
	d.Origin, parent.Origin = parent.Origin, origin{d.ID, at.GUID}
	for other, clone := range s.Datasets {
		movedAlong := slices.ContainsFunc(moved, func(x snapshot) bool { return x.GUID == clone.Origin.GUID })
		if clone.Origin.Dataset == parent.ID && movedAlong {
			s.edit(other).Origin.Dataset = d.ID
		}
	}
	return nil
}

// Destroy implements agent.Pool.
func (p *Pool) Destroy(ctx context.Context, name string) error { return p.destroy(ctx, name, false) }

// DestroyEmpty implements agent.Pool.
func (p *Pool) DestroyEmpty(ctx context.Context, name string) error {
	return p.destroy(ctx, name, true)
}

func (p *Pool) destroy(ctx context.Context, name string, empty bool) error {
	return p.effect(ctx, "destroy", name, func() error {
		locked, l, err := p.lockLive(name)
		if err != nil {
			return err
		}
		defer l.mu.Unlock()
		var gone *dataset
		err = p.commit(func(s *state) error {
			d, err := s.dataset(name)
			if err != nil {
				return err
			}
			if d.ID != locked.ID {
				return fmt.Errorf("renamed meanwhile: %w", errdefs.ErrBusy)
			}
			if err := p.mayDestroy(s, name, d); err != nil {
				return err
			}
			if empty && len(d.Snapshots) > 0 {
				return fmt.Errorf("has snapshots: %w", errdefs.ErrBusy)
			}
			gone = d
			delete(s.Datasets, name)
			return nil
		})
		if err != nil {
			return err
		}
		return errors.Join(p.dropReceipt(gone.Partial), p.dropLive(gone.Data, l))
	})
}

// mayDestroy refuses to take away what others stand on. p.mu must be held.
func (p *Pool) mayDestroy(s *state, name string, d *dataset) error {
	if s.children(name) {
		return fmt.Errorf("has children: %w", errdefs.ErrBusy)
	}
	for _, snap := range d.Snapshots {
		if clones := s.clonesOf(d, snap.GUID); len(clones) > 0 && !slices.Equal(clones, []string{name}) {
			return fmt.Errorf("snapshot %s has clones %q: %w", snap.Name, clones, errdefs.ErrBusy)
		}
		if p.pinned[origin{d.ID, snap.GUID}] > 0 {
			return fmt.Errorf("snapshot %s is being sent: %w", snap.Name, errdefs.ErrBusy)
		}
	}
	if p.liveOf(d).mounts > 0 {
		return fmt.Errorf("mounted: %w", errdefs.ErrBusy)
	}
	return p.receiving(d)
}

// validName follows ZFS's rules for dataset names.
func validName(name string) bool {
	for component := range strings.SplitSeq(name, "/") {
		if !validComponent(component) {
			return false
		}
	}
	return len(name) < 256
}

func validComponent(name string) bool {
	allowed := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.: ", r)
	}
	return name != "" && name != "." && name != ".." && !strings.ContainsFunc(name, func(r rune) bool { return !allowed(r) })
}
