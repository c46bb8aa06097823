package zfs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// generationDefaults are the properties of every filesystem that is made here, unless the caller says otherwise. Incus
// sets mountpoint and canmount to the same values before each mount. atime=off: reading a container must not make it
// look changed.
var generationDefaults = agent.Properties{"mountpoint": "legacy", "canmount": "noauto", "atime": "off"}

// parentProperties are those of datasets that only hold others: never mounted, not even by hand.
var parentProperties = agent.Properties{"mountpoint": "none", "canmount": "off"}

// withDefaults checks properties and merges them into the defaults. An empty value takes a default away, so that the
// dataset inherits.
func withDefaults(properties agent.Properties) (agent.Properties, error) {
	merged := maps.Clone(generationDefaults)
	for name, value := range properties {
		if err := checkProperty(name, value); err != nil {
			return nil, err
		}
		merged[name] = value
	}
	maps.DeleteFunc(merged, func(_, value string) bool { return value == "" })
	return merged, nil
}

// options are properties as "-o name=value", in the order of their names.
func options(properties agent.Properties) []string {
	args := make([]string, 0, 2*len(properties))
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		args = append(args, "-o", name+"="+properties[name])
	}
	return args
}

// Create makes a filesystem with mountpoint=legacy, canmount=noauto and atime=off, unless properties say otherwise.
// Missing parents are made as datasets that cannot be mounted. ErrAlreadyExists when the name is taken.
func (p *Pool) Create(ctx context.Context, dataset string, properties agent.Properties) error {
	return p.make(ctx, "create", dataset, properties, func(full string, properties agent.Properties) error {
		return p.library.create(ctx, full, properties)
	})
}

// Clone makes a filesystem from "dataset@snapshot", with properties as Create. It moves no data.
func (p *Pool) Clone(ctx context.Context, snapshot, dataset string, properties agent.Properties) error {
	origin, _, err := p.snapshot(snapshot)
	if err != nil {
		return fmt.Errorf("clone to %s: %w", dataset, err)
	}
	return p.make(ctx, "clone "+snapshot+" to", dataset, properties, func(full string, properties agent.Properties) error {
		args := append([]string{"zfs", "clone"}, options(properties)...)
		return p.runner.run(ctx, append(args, origin, full)...)
	})
}

// make makes a dataset after its parents.
func (p *Pool) make(ctx context.Context, op, dataset string, properties agent.Properties,
	do func(full string, properties agent.Properties) error,
) error {
	full, err := p.dataset(dataset)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	merged, err := withDefaults(properties)
	if err != nil {
		return fmt.Errorf("%s %s: %w", op, dataset, err)
	}
	if err := p.withParents(ctx, dataset, func() error { return do(full, merged) }); err != nil {
		return fmt.Errorf("%s %s: %w", op, dataset, err)
	}
	return nil
}

// withParents does what needs a dataset's parents, and once more if it failed for want of them. They are nearly always
// there, so nothing is asked beforehand.
func (p *Pool) withParents(ctx context.Context, dataset string, do func() error) error {
	failed := do()
	if !errors.Is(failed, errdefs.ErrNotFound) {
		return failed
	}
	made, err := p.makeParents(ctx, dataset)
	if err != nil {
		return err
	}
	if !made { // something else was not found
		return failed
	}
	return do()
}

// makeParents makes what is missing between the root and a dataset, top down, and tells whether anything was. It does not
// use create -p or clone -p, whose parents inherit a mount point.
func (p *Pool) makeParents(ctx context.Context, dataset string) (made bool, err error) {
	slash := strings.LastIndexByte(dataset, '/')
	if slash < 0 {
		return false, nil
	}
	parent := dataset[:slash]
	_, err = p.library.get(ctx, p.root+"/"+parent)
	if !errors.Is(err, errdefs.ErrNotFound) {
		return false, err
	}
	if _, err := p.makeParents(ctx, parent); err != nil {
		return false, err
	}
	err = p.library.create(ctx, p.root+"/"+parent, parentProperties)
	if err != nil && !errors.Is(err, errdefs.ErrAlreadyExists) { // somebody else needed it, too
		return false, fmt.Errorf("parent %s: %w", parent, err)
	}
	return true, nil
}

// Rename moves a filesystem with its snapshots, bookmarks and partly received state, mounted or not. What is mounted
// stays mounted, under the new name. Missing parents are made.
func (p *Pool) Rename(ctx context.Context, from, to string) error {
	source, err := p.dataset(from)
	if err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	target, err := p.dataset(to)
	if err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	rename := func() error { return p.runner.run(ctx, "zfs", "rename", "-u", source, target) }
	err = p.withParents(ctx, to, rename)
	if errors.Is(err, errdefs.ErrNotFound) {
		if away := p.rootThere(ctx); away != nil {
			err = away
		}
	}
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", from, to, err)
	}
	return nil
}

// rootThere tells a dataset that does not exist from a pool that is away, of which ZFS says the same.
func (p *Pool) rootThere(ctx context.Context) error {
	if _, err := p.library.property(ctx, p.root, "name"); err != nil {
		return rootAway(err)
	}
	return nil
}

// rootAway is the error of what was asked of the root: that exists, so where it is not found the pool is not imported. Nobody may take
// it for a dataset that does not exist.
func rootAway(err error) error {
	if errors.Is(err, errdefs.ErrNotFound) {
		return fmt.Errorf("the pool is not there: %w: %v", errdefs.ErrUnavailable, err)
	}
	return err
}

// noneProperties cannot be inherited; "none" is what they are when nobody set them (zfs-inherit(8)).
var noneProperties = []string{"quota", "refquota", "reservation", "refreservation"}

// SetProperties sets properties in the order of their names, one command each: what is before a failure stays set. An
// empty value takes a local setting back.
func (p *Pool) SetProperties(ctx context.Context, dataset string, properties agent.Properties) error {
	full, err := p.dataset(dataset)
	if err != nil {
		return fmt.Errorf("set properties: %w", err)
	}
	for name, value := range properties { // all, before the first is set
		if err := checkProperty(name, value); err != nil {
			return fmt.Errorf("set properties of %s: %w", dataset, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		value := properties[name]
		switch {
		case value != "":
			err = p.library.set(ctx, full, name, value)
		case slices.Contains(noneProperties, name):
			err = p.library.set(ctx, full, name, "none")
		default:
			err = p.runner.run(ctx, "zfs", "inherit", name, full)
		}
		if err != nil {
			return fmt.Errorf("set %s of %s: %w", name, dataset, err)
		}
	}
	return nil
}

// Promote makes a clone the owner of its origin and of the snapshots before it; their GUIDs, holds and bookmarks go
// along. ErrFailedPrecondition: not a clone. ErrAlreadyExists: a snapshot of that name is on both sides. ErrBusy: one of
// the snapshots is being sent or is mounted.
func (p *Pool) Promote(ctx context.Context, dataset string) error {
	full, err := p.dataset(dataset)
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if err := p.runner.run(ctx, "zfs", "promote", full); err != nil {
		return fmt.Errorf("promote %s: %w", dataset, err)
	}
	return nil
}

// Rollback throws away what was written to a dataset since its newest snapshot, without -r and -f: ErrBusy when that is not the newest, when a bookmark is
// newer, and when Mounted tells that the dataset is mounted, which ZFS would not mind; nor does it mind a private mount (tried on 2.3.9), which nobody sees.
func (p *Pool) Rollback(ctx context.Context, snapshot string) error {
	full, dataset, err := p.snapshot(snapshot)
	if err != nil {
		return fmt.Errorf("roll back: %w", err)
	}
	mounted, err := p.Mounted(ctx, dataset)
	if err == nil && mounted {
		err = fmt.Errorf("mounted: %w", errdefs.ErrBusy)
	}
	if err == nil {
		err = p.runner.run(ctx, "zfs", "rollback", full)
	}
	if err != nil {
		return fmt.Errorf("roll back to %s: %w", snapshot, err)
	}
	return nil
}

// Snapshot makes dataset@name and reads it back.
func (p *Pool) Snapshot(ctx context.Context, dataset, name string) (lineage.Snapshot, error) {
	full, _, err := p.snapshot(dataset + "@" + name)
	if err != nil {
		return lineage.Snapshot{}, fmt.Errorf("snapshot: %w", err)
	}
	mounts, err := p.mountsOf(p.root + "/" + dataset)
	if err != nil {
		return lineage.Snapshot{}, fmt.Errorf("snapshot %s@%s: %w", dataset, name, err)
	}
	p.writeBack(ctx, mounts)
	if err := p.runner.run(ctx, "zfs", "snapshot", full); err != nil {
		return lineage.Snapshot{}, fmt.Errorf("snapshot %s@%s: %w", dataset, name, err)
	}
	made, err := p.entry(ctx, full)
	if err != nil {
		return lineage.Snapshot{}, fmt.Errorf("snapshot %s@%s: made, but %w", dataset, name, err)
	}
	return made.snapshot(name), nil
}

// RenameSnapshot gives "dataset@snapshot" another short name.
func (p *Pool) RenameSnapshot(ctx context.Context, snapshot, name string) error {
	full, dataset, err := p.snapshot(snapshot)
	if err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	if err := checkComponent("snapshot name", name); err != nil {
		return fmt.Errorf("rename %s: %w", snapshot, err)
	}
	if err := p.runner.run(ctx, "zfs", "rename", full, dataset+"@"+name); err != nil {
		return fmt.Errorf("rename %s to @%s: %w", snapshot, name, err)
	}
	return nil
}

// Bookmark makes dataset#name from "dataset@snapshot". When the name is taken by a bookmark of the same snapshot that
// is success, otherwise ErrAlreadyExists.
func (p *Pool) Bookmark(ctx context.Context, snapshot, name string) error {
	full, dataset, err := p.snapshot(snapshot)
	if err != nil {
		return fmt.Errorf("bookmark: %w", err)
	}
	if err := checkComponent("bookmark name", name); err != nil {
		return fmt.Errorf("bookmark %s: %w", snapshot, err)
	}
	bookmark := dataset + "#" + name
	taken := p.runner.run(ctx, "zfs", "bookmark", full, bookmark)
	if taken == nil {
		return nil
	}
	if errors.Is(taken, errdefs.ErrAlreadyExists) {
		same, err := p.sameGUID(ctx, full, bookmark)
		if err != nil {
			return fmt.Errorf("bookmark %s as #%s: %w", snapshot, name, err)
		}
		if same {
			return nil
		}
	}
	return fmt.Errorf("bookmark %s as #%s: %w", snapshot, name, taken)
}

func (p *Pool) sameGUID(ctx context.Context, a, b string) (bool, error) {
	first, err := p.entry(ctx, a)
	if err != nil {
		return false, err
	}
	second, err := p.entry(ctx, b)
	if err != nil {
		return false, err
	}
	return first.guid == second.guid, nil
}
