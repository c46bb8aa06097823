package modeltest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// What an admin does to snapshots with the zfs command, of which no agent is told: one that he makes is his, whatever becomes
// of the container, and one that he destroys is missing from lists until it comes back with a copy.

// errHeld is that clones stand on a snapshot: zfs destroy refuses, and all is as it was.
var errHeld = errdefs.New(errdefs.ErrBusy, "", "clones stand on the snapshot")

// destroyByHand destroys a listed snapshot, wherever the pool holds it.
func (d *driver) destroyByHand(ctx context.Context, a Action) error {
	c := d.model.containers[a.Container]
	at, _ := c.snapshot(a.Name)
	s := d.servers[c.server]
	for {
		inventory, err := s.pool.Inventory(ctx)
		if err != nil {
			return err
		}
		name, held := lineage.Locate(inventory)[d.guids[at]]
		if !held {
			return s.agent.LookAround(ctx) // which it does from time to time
		}
		err = s.pool.DestroySnapshot(ctx, name)
		if errors.Is(err, errdefs.ErrBusy) {
			return errHeld
		}
		if err != nil && !errors.Is(err, errdefs.ErrNotFound) { // a collection has moved it
			return err
		}
	}
}

// lookAround has the agents notice which snapshots are back, where some were missing.
func (d *driver) lookAround(ctx context.Context) error {
	for i, s := range d.servers {
		for _, c := range d.model.containers {
			if c.server == i && slices.ContainsFunc(c.snapshots, func(s snapshot) bool { return s.missing }) {
				if err := s.agent.LookAround(ctx); err != nil {
					return err
				}
				break
			}
		}
	}
	return d.catchUp(ctx)
}

// checkMissing compares what is told of a listed snapshot that somebody destroyed with what the pool holds.
func (d *driver) checkMissing(wrong *findings, name string, c *container, s snapshot, found store.Snapshot, held bool) {
	if s.missing && held { // a copy has brought it back, or one that was cancelled when it had
		s.missing = false
		d.model.beside[place{c.server, s.at}] = true
		for _, other := range d.model.containers { // the copy that brought it included
			if other.server == c.server {
				other.mark(s.at, false)
			}
		}
	}
	reported := slices.ContainsFunc(d.servers[c.server].agent.Findings(), func(f agent.Finding) bool {
		return f.Code == agent.FindingSnapshotGone && f.Object == d.ids[name]+"/"+found.Name
	})
	if held == s.missing || found.Missing != s.missing || s.missing && !reported {
		wrong.add("%s lists %s: in the pool %t, said to be missing %t, reported %t, want missing %t", name, s.name, held, found.Missing, reported, s.missing)
	}
}

// checkForeign looks for what was made by hand; with deep, into it.
func (d *driver) checkForeign(ctx context.Context, wrong *findings, inventories []lineage.Inventory, deep bool) error {
	for name, made := range d.model.foreign {
		found, exists := foreignIn(inventories[made.server], name)
		if !exists {
			wrong.add("server %d: the snapshot %s, which is not the agents', is gone", made.server, name)
			continue
		}
		if !deep {
			continue
		}
		data, err := d.lookInto(ctx, d.servers[made.server].pool, inventories[made.server], d.foreign[name])
		if err != nil {
			return fmt.Errorf("look into %s: %w", found, err)
		}
		if diff := difference(data, made.files); diff != "" {
			wrong.add("snapshot %s: %s", found, diff)
		}
	}
	return nil
}

// foreignIn is the full name that a snapshot made by hand has by now.
func foreignIn(inventory lineage.Inventory, name string) (full string, exists bool) {
	for _, dataset := range inventory.Datasets {
		if _, exists := dataset.Snapshot(name); exists {
			return dataset.Name + "@" + name, true
		}
	}
	return "", false
}

// takeForeign makes sure that a collection reports what was made by hand on a server, and destroys it as the admin would.
func (d *driver) takeForeign(ctx context.Context, s *server) error {
	report, err := s.agent.Collect(ctx, false)
	if err != nil {
		return err
	}
	inventory, err := s.pool.Inventory(ctx)
	if err != nil {
		return err
	}
	for name, made := range d.model.foreign {
		if made.server != s.number {
			continue
		}
		full, _ := foreignIn(inventory, name)
		if !slices.ContainsFunc(report.Objects, func(o lineage.Object) bool { return o.Name == full && o.Verdict == lineage.VerdictForeign }) {
			return fmt.Errorf("%s is not reported as foreign (%s)", full, verdicts(report, full))
		}
		if err := s.pool.DestroySnapshot(ctx, full); err != nil {
			return err
		}
		delete(d.model.foreign, name)
	}
	return nil
}
