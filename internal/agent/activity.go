package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// A container's updated_at is what clients compare to decide about a sync: is the source newer than its copy?
//
//	of a source: when its record was last changed, or its files were seen changed, whichever is later. The change
//	itself was earlier than that, by at most the interval of the looks and the time that ZFS takes to write.
//	of a copy:   when the state that it holds was frozen. What the copy writes itself is of no interest here.
//
// A freeze sets both to the moment it began: right after a sync nobody is newer. A change after the freeze is seen by a
// later look, and the look's time is later than the freeze's.

// updatedAt is a container's updated_at, from the mirror.
func (a *Agent) updatedAt(container *store.Container) time.Time {
	return a.updatedAtOfMany()(container)
}

// updatedAtOfMany is updatedAt for one goroutine that asks often: it looks each server up once.
func (a *Agent) updatedAtOfMany() func(*store.Container) time.Time {
	servers := make(map[string]*store.Activity)
	return func(container *store.Container) time.Time {
		if container.SourceContainerID != "" {
			return container.UpdatedAt
		}
		activity, known := servers[container.ServerID]
		if !known {
			activity, _ = a.store.Mirror().Activity(container.ServerID)
			servers[container.ServerID] = activity
		}
		if activity == nil {
			return container.UpdatedAt
		}
		if changed := activity.Containers[container.ID].ChangedAt; changed.After(container.UpdatedAt) {
			return changed
		}
		return container.UpdatedAt
	}
}

// touch notes that a container's record was changed. A copy keeps its time while its source is newer: a comparison of the
// two must go on saying so.
func (a *Agent) touch(tx *store.Tx, container *store.Container, now time.Time) error {
	if container.SourceContainerID != "" {
		source, err := tx.Container(container.SourceContainerID)
		if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
		if err == nil && a.updatedAt(&source).After(container.UpdatedAt) {
			return nil
		}
	}
	container.UpdatedAt = now
	return nil
}

// noteFrozen notes that a container may have changed until its state was frozen: from then on `written` counts anew, and
// who looks next sees nothing of what was before. A freeze that was not needed makes no snapshot.
func noteFrozen(container *store.Container, freeze store.Freeze) {
	if container.SourceContainerID == "" && freeze.GUID != 0 && !freeze.Reused && freeze.At.After(container.UpdatedAt) {
		container.UpdatedAt = freeze.At
	}
}

// followActivity looks at the files of this server's containers until ctx ends.
func (a *Agent) followActivity(ctx context.Context) error {
	ticker := time.NewTicker(a.options.ActivityInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if err := a.SampleActivity(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("changes of files not looked for", zap.Error(err))
		}
	}
}

// SampleActivity looks once which containers' files have changed since the last look, with one command for all of them,
// and records what it saw in one record, if anybody's comparison changes by it or some minutes have passed: every agent of the fleet
// reads that record. Copies are not looked at.
func (a *Agent) SampleActivity(ctx context.Context) error {
	a.sampling.Lock()
	defer a.sampling.Unlock()
	measured, err := a.pool.Activity(ctx, containersParent)
	if err != nil {
		return fmt.Errorf("sample activity: %w", err)
	}
	at := a.now() // every change that was seen was before
	var recorded store.Activity
	if known, ok := a.store.Mirror().Activity(a.serverID); ok {
		recorded = *known
	}
	before := a.looked.files
	if before == nil {
		before = recorded.Containers
	}
	looks := make(map[string]look)
	for _, container := range a.store.Mirror().ContainersOnServer(a.serverID) {
		dataset, there := measured[ContainerDataset(container.ID)]
		if container.SourceContainerID != "" {
			continue
		}
		past, known := before[container.ID]
		if !known { // the mirror may have lacked it for a moment
			past, known = recorded.Containers[container.ID]
		}
		l := look{past: past, known: known, now: past, marker: container.Generation.Marker.GUID}
		// In the middle of a freeze the snapshot is there and what it means not yet recorded: the next look will see.
		if there && settled(container.Status) && !a.freezes.underWay(container.ID) {
			l.seen = true
			l.now = store.FileState{Newest: past.Newest, Snapshots: dataset.Snapshots, Written: dataset.Written, Referenced: dataset.Referenced, ChangedAt: past.ChangedAt}
		}
		looks[container.ID] = l
	}
	if err := a.findNewest(ctx, looks); err != nil {
		return fmt.Errorf("sample activity: %w", err)
	}
	after := store.Activity{ServerID: a.serverID, Containers: make(map[string]store.FileState, len(looks))}
	for id, l := range looks {
		if l.seen && l.changed() {
			l.now.ChangedAt = at
		}
		if l.seen || l.known {
			after.Containers[id] = l.now
		}
	}
	a.looked.files = after.Containers
	if maps.EqualFunc(recorded.Containers, after.Containers, sameFileState) {
		return nil
	}
	overtaken := a.overtakesACopy(recorded, after, at)
	if age := at.Sub(a.looked.recorded); 0 <= age && age < a.options.ActivityPace && !overtaken {
		return nil
	}
	if err := a.update(ctx, func(tx *store.Tx) error { return tx.PutActivity(after) }); err != nil {
		return fmt.Errorf("sample activity: %w", err)
	}
	a.looked.recorded = at
	return nil
}

// sighting is what this process has seen of its containers' files; the record may be some minutes behind.
type sighting struct {
	files    map[string]store.FileState // by container; nil before the first look
	recorded time.Time                  // when the record was written last
}

// overtakesACopy tells whether by what was seen a source becomes newer than one of its copies that it is not newer than as recorded. A copy
// that was edited since the change was seen is overtaken all the same, by a change that is dated now: what counts is the state that it holds.
func (a *Agent) overtakesACopy(recorded, seen store.Activity, now time.Time) (overtaken bool) {
	for id, file := range seen.Containers {
		if file.ChangedAt.Equal(recorded.Containers[id].ChangedAt) {
			continue
		}
		source, known := a.store.Mirror().Container(id)
		if !known {
			continue
		}
		published := a.updatedAt(source)
		for _, derived := range a.store.Mirror().CopiesOf(id) {
			if !settled(derived.Status) || derived.UpdatedAt.Before(published) || !derived.SyncedAt.Before(file.ChangedAt) {
				continue // its state is on its way, it is behind as it is, or it holds the change
			}
			overtaken = true
			if !file.ChangedAt.After(derived.UpdatedAt) {
				file.ChangedAt = now
			}
		}
		seen.Containers[id] = file
	}
	return overtaken
}

func sameFileState(x, y store.FileState) bool {
	same := x.ChangedAt.Equal(y.ChangedAt)
	x.ChangedAt, y.ChangedAt = time.Time{}, time.Time{}
	return same && x == y
}

// manyLooks is from how many datasets on an inventory of the whole pool costs less than reading them one by one.
const manyLooks = 8

// findNewest fills in the newest snapshot where the snapshots have changed.
func (a *Agent) findNewest(ctx context.Context, looks map[string]look) error {
	var wanted []string
	for id, l := range looks {
		if l.seen && (!l.known || l.now.Snapshots != l.past.Snapshots) {
			wanted = append(wanted, id)
		}
	}
	find := a.pool.Dataset
	if len(wanted) > manyLooks {
		inventory, err := a.pool.Inventory(ctx)
		if err != nil {
			return err
		}
		byName := make(map[string]lineage.Dataset, len(inventory.Datasets))
		for _, dataset := range inventory.Datasets {
			byName[dataset.Name] = dataset
		}
		find = func(_ context.Context, name string) (lineage.Dataset, error) { return byName[name], nil }
	}
	for _, id := range wanted {
		l := looks[id]
		dataset, err := find(ctx, ContainerDataset(id))
		if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
		newest, ok := dataset.Newest()
		if !ok {
			l.now, l.seen = l.past, false // it has gone since it was measured
		}
		l.now.Newest, l.byAgent = newest.GUID, agentMade(newest.Name)
		looks[id] = l
	}
	return nil
}

// look is what two looks at a container's files saw, and what is known of the time between.
type look struct {
	past, now store.FileState
	known     bool // there was an earlier look
	seen      bool // there was something to look at now
	byAgent   bool // the newest snapshot is an agent's
	marker    lineage.GUID
}

// changed tells whether the files have changed between the looks. When in doubt they have: a sync that finds nothing to do
// costs little.
//
// `written` counts from the newest snapshot on, and what counts is that it differs: files that are overwritten in place may
// leave it as it was, but not zero, and after each freeze it begins at zero.
func (l look) changed() bool {
	switch {
	case !l.known:
		return l.now.Written > 0
	case l.now.Newest == l.past.Newest:
		return l.now.Written != l.past.Written || l.now.Referenced != l.past.Referenced
	case l.now.Written > 0:
		return true
	default:
		// A snapshot was taken meanwhile and nothing was written since. What was written before it, the agent has noted if
		// it took the snapshot (noteFrozen). A marker is of another generation: the files are others altogether.
		return !l.byAgent || l.now.Newest == l.marker
	}
}
