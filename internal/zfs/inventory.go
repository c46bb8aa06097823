package zfs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

const (
	// inventoryAttempts bounds how often a listing is repeated because datasets were renamed while it was made.
	inventoryAttempts = 5
	// maxAppeared bounds how many new datasets are looked at before a listing counts as torn anyway.
	maxAppeared = 100
)

// Inventory lists everything below the root with two commands, however much that is: one for objects, one for local
// properties. The root itself is not listed.
//
// ZFS walks the tree name by name, so a dataset that is renamed meanwhile may be met twice or never. Met twice shows by
// its guid. Never shows when the second command meets it, which it does since every dataset that the agent or Incus
// made has local properties; a third command then tells a renamed dataset from one that is new, and new ones are left
// out. Where a rename got in between, the listing is repeated, and after a few attempts the error is ErrBusy. A snapshot
// made or destroyed meanwhile may or may not be listed; callers that destroy hold a lock against changes of their own.
//
// Calls that come together share the commands. Each gets a copy of its own.
func (p *Pool) Inventory(ctx context.Context) (lineage.Inventory, error) {
	inventory, err := p.inventories.get(ctx)
	if err != nil {
		return lineage.Inventory{}, fmt.Errorf("inventory of %s: %w", p.root, err)
	}
	return inventory.Clone(), nil
}

// inventory is one reading for Inventory.
func (p *Pool) inventory(ctx context.Context) (lineage.Inventory, error) {
	began := time.Now()
	for attempt := 1; ; attempt++ {
		l, err := p.list(ctx)
		if err == nil && l.torn == "" && len(l.appeared) > 0 {
			err = p.checkAppeared(ctx, l)
		}
		if err != nil {
			return lineage.Inventory{}, rootAway(err)
		}
		if l.torn == "" {
			inventory := l.inventory()
			p.log.Debug("inventory", zap.Int("datasets", len(inventory.Datasets)), zap.Duration("took", time.Since(began)))
			return inventory, nil
		}
		p.log.Debug("inventory is torn", zap.Int("attempt", attempt), zap.String("reason", l.torn))
		if attempt == inventoryAttempts {
			return lineage.Inventory{}, fmt.Errorf("%s: %w", l.torn, errdefs.ErrBusy)
		}
	}
}

// checkAppeared tells whether the datasets that only the second command met are all younger than what the first one
// listed. One that is not was there all the time, under another name.
func (p *Pool) checkAppeared(ctx context.Context, l *listing) error {
	if len(l.appeared) > maxAppeared {
		l.torn = "many datasets appeared meanwhile"
		return nil
	}
	args := append([]string{"zfs", "list", "-Hp", "-o", "createtxg"}, slices.Sorted(maps.Keys(l.appeared))...)
	err := p.runner.lines(ctx, func(line string) error {
		created, err := strconv.ParseUint(line, 10, 64)
		if err != nil {
			return fmt.Errorf("zfs list printed %q: %w", line, errdefs.ErrInternal)
		}
		if created <= l.newest {
			l.torn = "a dataset was renamed meanwhile"
		}
		return nil
	}, args...)
	if errors.Is(err, errdefs.ErrNotFound) { // renamed or destroyed again
		l.torn = "datasets come and go"
		return nil
	}
	return err
}

// Dataset reads one dataset, with one command.
func (p *Pool) Dataset(ctx context.Context, name string) (lineage.Dataset, error) {
	full, err := p.dataset(name)
	if err != nil {
		return lineage.Dataset{}, fmt.Errorf("dataset %s: %w", name, err)
	}
	values := newValues(full)
	// -d1: snapshots and bookmarks count as depth 1, as children do. What is not of a source is of the object itself.
	err = p.runner.lines(ctx, values.add, "zfs", "get", "-Hp", "-d1", "-t", listTypes, "-s", "local,none", "-o", valueColumns, "all", full)
	if err != nil {
		return lineage.Dataset{}, fmt.Errorf("dataset %s: %w", name, err)
	}
	l := newListing(p.root)
	if err := values.fill(l); err != nil {
		return lineage.Dataset{}, fmt.Errorf("dataset %s: %w", name, err)
	}
	dataset, ok := l.inventory().Dataset(name)
	if !ok {
		return lineage.Dataset{}, fmt.Errorf("dataset %s: renamed meanwhile: %w", name, errdefs.ErrNotFound)
	}
	return dataset, nil
}

// list reads objects and properties of everything below the root.
func (p *Pool) list(ctx context.Context) (*listing, error) {
	l := newListing(p.root)
	if err := p.runner.lines(ctx, l.addEntry, "zfs", "list", "-Hp", "-r", "-t", listTypes, "-o", listColumns, p.root); err != nil {
		return nil, err
	}
	// -s local: children inherit user properties, and "received" ones would be a stranger's.
	property := func(line string) error { l.addProperty(line); return nil }
	err := p.runner.lines(ctx, property,
		"zfs", "get", "-Hp", "-r", "-t", "filesystem,volume", "-s", "local", "-o", "name,property,value", "all", p.root)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// entry reads one object, of any kind, by its full name.
func (p *Pool) entry(ctx context.Context, full string) (entry, error) {
	line, err := p.runner.value(ctx, "zfs", "list", "-Hp", "-t", listTypes, "-o", listColumns, full)
	if err != nil {
		return entry{}, err
	}
	return parseEntry(line)
}
