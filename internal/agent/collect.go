package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Garbage collection is the only thing that destroys data. What goes and what stays is lineage.Collect's to say; here it
// is carried out. Nothing is journalled: whatever is left undone the next collection finds again.

// Report is what a collection of garbage found and did.
type Report struct {
	StartedAt  time.Time        `json:"started_at"`
	Took       time.Duration    `json:"took"`
	DryRun     bool             `json:"dry_run"`
	ReadOnly   string           `json:"read_only,omitempty"` // why nothing may be destroyed for now, whatever was asked
	Objects    []lineage.Object `json:"objects"`             // what is in the pool, and what becomes of it; names as before the collection
	Removed    int              `json:"removed"`             // datasets, snapshots and bookmarks destroyed
	Freed      uint64           `json:"freed"`               // bytes free in the pool after, less those before; others write meanwhile
	Tombstones int              `json:"tombstones"`          // records of deletions that are done with
}

const (
	// collectAtOnce bounds how much is done between two looks at the records, and so how long nothing can be pinned meanwhile.
	collectAtOnce = 16
	// collectPatience bounds the wait for those who pin something; while it lasts nobody else can.
	collectPatience = 5 * time.Second
)

// Collect collects garbage: what nobody refers to is destroyed, and the report says of every object why it stays or that it
// goes. A dry run only reports, and so does one while the records are not trusted. One collection runs at a time; a second
// waits for the first. Without records that are certain it is an error, and nothing is done.
func (a *Agent) Collect(ctx context.Context, dryRun bool) (Report, error) {
	select {
	case a.collecting <- struct{}{}:
		defer func() { <-a.collecting }()
	case <-ctx.Done():
		return Report{}, ctx.Err()
	}
	c := &collection{Agent: a, refused: make(map[string]string), report: Report{StartedAt: a.now(), DryRun: dryRun}}
	began := time.Now()
	err := c.run(ctx)
	c.report.Took = time.Since(began)
	if !dryRun && ctx.Err() == nil && a.options.Observe.Collected != nil {
		a.options.Observe.Collected(c.report, err)
	}
	if err != nil {
		return c.report, fmt.Errorf("collect garbage: %w", err)
	}
	return c.report, nil
}

// collection is one run of the collector.
type collection struct {
	*Agent
	report  Report
	refused map[string]string // objects that could not be worked on, and why: left alone for this time
	failed  error             // what went wrong with some of them, for who reads the report
}

func (c *collection) run(ctx context.Context) error {
	before, err := c.pool.Space(ctx)
	if err != nil {
		return err
	}
	for more := true; more; {
		if more, err = c.round(ctx); err != nil {
			return err
		}
	}
	if c.report.DryRun || c.report.ReadOnly != "" {
		return nil
	}
	after, err := c.pool.Space(ctx)
	if err != nil {
		return err
	}
	c.report.Freed = max(after.Free, before.Free) - before.Free
	return errors.Join(c.conclude(ctx), c.failed)
}

// round looks at pool and records and carries out some of what follows from them; more tells that there is more to do.
func (c *collection) round(ctx context.Context) (more bool, err error) {
	// The pool before the records: what is made later is not in it, and what moves later is not found.
	written, err := c.pool.Activity(ctx, generationsParent)
	if err != nil {
		return false, err
	}
	inventory, err := c.pool.Inventory(ctx)
	if err != nil {
		return false, err
	}
	release, err := c.exclude(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	if err := c.trusted(ctx); errors.Is(err, errdefs.ErrFailedPrecondition) {
		c.report.ReadOnly = err.Error()
	} else if err != nil {
		return false, err
	}
	records, err := c.store.References(ctx)
	if err != nil {
		return false, err
	}
	now := time.Time{} // nothing is over by a clock that cannot be believed
	if c.clockSteady.Load() {
		now = c.now()
	}
	plan := lineage.Collect(inventory, references(c.serverID, now, inventory, records, c.pins.kept(), c.inFlight.leftBehind(), written))
	if c.report.Objects == nil {
		c.report.Objects = plan.Objects
	}
	if c.report.DryRun || c.report.ReadOnly != "" {
		return false, nil
	}
	done := 0
	for _, action := range plan.Actions {
		if done == collectAtOnce {
			return true, nil
		}
		if c.refused[action.Object] != "" {
			continue
		}
		err := c.carryOut(ctx, action)
		log := c.log.With(zap.String("action", string(action.Kind)), zap.String("object", action.Object), zap.Stringer("guid", action.GUID))
		switch {
		case err == nil:
			log.Info("collected")
			done++
		case leftForLater(err):
			log.Info("not collected for now", zap.Error(err))
			c.refused[action.Object] = err.Error()
		case ctx.Err() != nil || errors.Is(err, errdefs.ErrUnavailable):
			return false, fmt.Errorf("%s %s: %w", action.Kind, action.Object, err)
		default: // what is broken for one object is no reason to keep all others
			log.Error("not collected", zap.Error(err))
			c.refused[action.Object] = err.Error()
			c.failed = errors.Join(c.failed, fmt.Errorf("%s %s: %w", action.Kind, action.Object, err))
		}
	}
	return false, nil
}

// exclude keeps everybody from pinning anything, unless somebody takes too long over it.
func (c *collection) exclude(ctx context.Context) (release func(), err error) {
	bounded, cancel := context.WithTimeout(ctx, collectPatience)
	defer cancel()
	release, err = c.pins.exclude(bounded)
	if err != nil && ctx.Err() == nil {
		return nil, errdefs.New(errdefs.ErrBusy, "", "operations are looking at the pool; collect later").WithCause(err)
	}
	return release, err
}

// leftForLater tells whether a step failed because its object is in use or has moved, or there is no room for it now.
func leftForLater(err error) bool {
	return errors.Is(err, errdefs.ErrBusy) || errors.Is(err, errdefs.ErrNotFound) || errors.Is(err, errdefs.ErrAlreadyExists) ||
		errors.Is(err, errdefs.ErrExhausted) || errors.Is(err, errdefs.ErrFailedPrecondition)
}

// carryOut does one step, after a last look where a name alone does not say that it is still the same thing.
func (c *collection) carryOut(ctx context.Context, action lineage.Action) error {
	switch action.Kind {
	case lineage.DestroySnapshot:
		if err := c.checkSame(ctx, action); err != nil {
			return err
		}
		return c.pool.DestroySnapshot(ctx, action.Object)
	case lineage.DestroyBookmark:
		return c.pool.DestroySnapshot(ctx, action.Object)
	case lineage.MakeBookmark:
		return c.pool.Bookmark(ctx, action.Object, action.Name)
	case lineage.RenameSnapshot:
		return c.pool.RenameSnapshot(ctx, action.Object, action.Name)
	case lineage.Promote:
		if err := c.checkOrigin(ctx, action); err != nil {
			return err
		}
		return c.pool.Promote(ctx, action.Object)
	case lineage.Rollback:
		if err := c.checkRetired(ctx, action); err != nil {
			return err
		}
		return c.pool.Rollback(ctx, action.Object)
	case lineage.AbortReceive:
		return c.pool.AbortReceive(ctx, action.Object)
	case lineage.DestroyDataset:
		err := c.destroyEmpty(ctx, action.Object)
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil // a partly received one goes with what was received
		}
		return err
	default:
		return errdefs.New(errdefs.ErrInternal, "", "unknown action %s", action.Kind)
	}
}

// checkSame makes sure that a snapshot whose name is not unique is the one that was meant.
func (c *collection) checkSame(ctx context.Context, action lineage.Action) error {
	dataset, short, _ := lineage.SplitSnapshot(action.Object)
	if agentMade(short) {
		return nil
	}
	current, err := c.pool.Dataset(ctx, dataset)
	if err != nil {
		return err
	}
	if snapshot, ok := current.Snapshot(short); !ok || snapshot.GUID != action.GUID {
		return errdefs.New(errdefs.ErrBusy, "", "%s is another snapshot now", action.Object)
	}
	return nil
}

// checkOrigin makes sure that a dataset still stands on what it is to take over. An operation that was undone since the pool was
// looked at has put another dataset in its place, and that one would take over its image.
func (c *collection) checkOrigin(ctx context.Context, action lineage.Action) error {
	heir, err := c.pool.Dataset(ctx, action.Object)
	if err != nil {
		return err
	}
	name, short, _ := lineage.SplitSnapshot(heir.Origin)
	origin := lineage.Dataset{}
	if name != "" {
		if origin, err = c.pool.Dataset(ctx, name); err != nil {
			return err
		}
	}
	if snapshot, ok := origin.Snapshot(short); !ok || snapshot.GUID != action.GUID {
		return errdefs.New(errdefs.ErrBusy, "", "%s stands on something else now", action.Object)
	}
	return nil
}

// checkRetired makes sure that a generation is rolled back to the very snapshot that was meant, and that it is one.
func (c *collection) checkRetired(ctx context.Context, action lineage.Action) error {
	name, _, _ := lineage.SplitSnapshot(action.Object)
	dataset, err := c.pool.Dataset(ctx, name)
	if err != nil {
		return err
	}
	if newest, ok := dataset.Newest(); !ok || newest.GUID != action.GUID || dataset.Properties[propertyRole] != roleGeneration || !strings.HasPrefix(name, generationsPrefix) {
		return errdefs.New(errdefs.ErrBusy, "", "%s is not what it was", name)
	}
	return nil
}

// destroyEmpty destroys a dataset of the agent's that holds no snapshot, not even one that somebody made by hand a moment ago.
func (c *collection) destroyEmpty(ctx context.Context, name string) error {
	dataset, err := c.pool.Dataset(ctx, name)
	if err != nil {
		return err
	}
	role := dataset.Properties[propertyRole]
	if len(dataset.Snapshots) > 0 || role != roleGeneration && role != roleReplica && role != roleImage {
		return errdefs.New(errdefs.ErrBusy, "", "%s is not empty any more", name)
	}
	return c.pool.DestroyEmpty(ctx, name)
}

// conclude looks what is gone, for the report, and removes the tombstones that are done with.
func (c *collection) conclude(ctx context.Context) error {
	// Read in this order: tombstones, lists, pool. What a tombstone names and a later list has is listed by another container than the
	// one that deleted it; what the pool, read last, does not hold is gone.
	tombstones, err := c.store.Tombstones(ctx)
	if err != nil {
		return err
	}
	records, err := c.store.References(ctx)
	if err != nil {
		return err
	}
	inventory, err := c.pool.Inventory(ctx)
	if err != nil {
		return err
	}
	left := make(map[string]bool)          // datasets by name
	held := make(map[lineage.GUID]bool)    // snapshots
	versions := make(map[heldVersion]bool) // snapshots and bookmarks under the names they had
	for _, dataset := range inventory.Datasets {
		left[dataset.Name] = true
		for _, snapshot := range dataset.Snapshots {
			held[snapshot.GUID] = true
			versions[heldVersion{snapshot.GUID, "@" + snapshot.Name}] = true
		}
		for _, bookmark := range dataset.Bookmarks {
			versions[heldVersion{bookmark.GUID, "#" + bookmark.Name}] = true
		}
	}
	for i := range c.report.Objects {
		object := &c.report.Objects[i]
		if object.Verdict != lineage.VerdictRemovable {
			continue
		}
		at := strings.IndexAny(object.Name, "@#")
		if at < 0 && !left[object.Name] || at >= 0 && !versions[heldVersion{object.GUID, object.Name[at:]}] {
			object.Verdict = lineage.VerdictRemoved
			c.report.Removed++
			continue
		}
		why := c.refused[object.Name]
		if why == "" {
			why = "what stands on it could not go yet"
		}
		object.Verdict, object.Reasons = lineage.VerdictDeferred, []string{why}
	}
	records.Tombstones = tombstones
	return errors.Join(c.pruneTombstones(ctx, records, held), c.forgetRecovery(ctx, inventory))
}

// forgetRecovery notes when a recovery was, and takes that off the pool once it counts no more; both once the clock is believed after a start.
func (c *collection) forgetRecovery(ctx context.Context, inventory lineage.Inventory) error {
	if !c.clockSteady.Load() {
		return nil
	}
	now := c.now()
	if parent, _ := inventory.Dataset(poolParent); parent.Properties[propertyRecovered] == recoveredJustNow {
		return c.pool.SetProperties(ctx, poolParent, Properties{propertyRecovered: now.Format(time.RFC3339)})
	}
	if recovered, noted := recoveredAt(inventory, now); !noted || now.Sub(recovered) <= basesAfterRecovery {
		return nil
	}
	return c.pool.SetProperties(ctx, poolParent, Properties{propertyRecovered: ""})
}

type heldVersion struct {
	guid lineage.GUID
	name string // with its separator
}

// pruneTombstones removes from the tombstones of this server what is gone from the pool, and what a container lists: deleting
// that one leaves a tombstone of its own.
func (c *collection) pruneTombstones(ctx context.Context, records store.References, held map[lineage.GUID]bool) error {
	if !slices.ContainsFunc(records.Tombstones, func(t store.Tombstone) bool { return t.ServerID == c.serverID }) {
		return nil
	}
	here := make(map[string]bool)
	for _, container := range records.Containers {
		if container.ServerID == c.serverID {
			here[container.ID] = true
		}
	}
	listed := make(map[lineage.GUID]bool)
	for _, history := range records.Histories {
		if !here[history.ContainerID] { // of a fleet's there may be a million
			continue
		}
		for _, snapshot := range history.Snapshots {
			listed[snapshot.GUID] = true
		}
	}
	over := func(guid lineage.GUID) bool { return !held[guid] || listed[guid] }
	for _, tombstone := range records.Tombstones {
		if tombstone.ServerID != c.serverID || len(tombstone.Snapshots) > 0 && !slices.ContainsFunc(tombstone.Snapshots, over) {
			continue
		}
		if _, err := c.store.Update(ctx, func(tx *store.Tx) error {
			now, err := tx.Tombstone(tombstone.ContainerID)
			if errors.Is(err, errdefs.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			// What was added since is not known to be gone.
			now.Snapshots = slices.DeleteFunc(now.Snapshots, func(guid lineage.GUID) bool {
				return slices.Contains(tombstone.Snapshots, guid) && over(guid)
			})
			if len(now.Snapshots) == 0 {
				return tx.DeleteTombstone(now.ContainerID)
			}
			return tx.PutTombstone(now)
		}); err != nil {
			return err
		}
		c.report.Tombstones++
	}
	return nil
}
