package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// worthKeeping tells whether the operation is about to displace a state that nothing leads back to: files that were changed
// since they were checked out, and any that the container does not list. What the last sync brought is the source's to keep, and a
// sync displaces it without more ado.
func (r *run) worthKeeping(ctx context.Context, current string) (bool, error) {
	if r.job.Kind == store.JobCopy || r.options.UndoSnapshots < 0 {
		return false, nil
	}
	dataset, err := r.pool.Dataset(ctx, current)
	if errors.Is(err, errdefs.ErrNotFound) {
		return false, nil // an earlier attempt has displaced it, and kept what there was to keep
	}
	if err != nil {
		return false, err
	}
	container, err := r.store.GetContainer(ctx, r.job.ContainerID)
	if err != nil {
		return false, err
	}
	marker, ok := markerOf(dataset, container.Generation)
	if !ok {
		return true, nil // nobody can tell
	}
	unchanged, err := r.unchangedSince(ctx, current+"@"+marker.Name)
	if err != nil || !unchanged {
		return !unchanged, err
	}
	if r.job.Kind == store.JobSync && container.Generation.Base == syncBase(&container) {
		return false, nil
	}
	history, err := r.store.GetHistory(ctx, container.ID)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return false, err
	}
	return !slices.ContainsFunc(history.Snapshots, func(s store.Snapshot) bool { return s.GUID == container.Generation.Base && !s.Missing }), nil
}

// keepUndo snapshots the state that a sync or restore is about to displace, so that restoring it takes the operation back.
// The instance is stopped: what its programs wrote last is in it. worth says that it was worth keeping while it ran already.
func (r *run) keepUndo(ctx context.Context, current string, worth bool) (err error) {
	if !worth {
		if worth, err = r.worthKeeping(ctx, current); err != nil || !worth {
			return err
		}
	}
	dataset, err := r.pool.Dataset(ctx, current)
	if err != nil {
		return err
	}
	earlier := []lineage.GUID(nil)
	if made, exists := dataset.Snapshot(r.job.UndoName); r.job.UndoName != "" && exists {
		unchanged, err := r.unchangedSince(ctx, current+"@"+made.Name)
		if err != nil {
			return err
		}
		if unchanged {
			return r.journalUndo(ctx, made)
		}
		// An earlier attempt did not get further, and somebody has written since.
		earlier = append(earlier, made.GUID)
	}
	name := newSnapshotName(r.now())
	if err := r.record(ctx, func(tx *store.Tx, job *store.Job) error {
		job.UndoName, job.Undo = name, nil
		container, err := tx.Container(job.ContainerID)
		if err != nil {
			return err
		}
		return r.addTombstone(tx, container, earlier)
	}); err != nil {
		return err
	}
	made, err := r.pool.Snapshot(ctx, current, name)
	if err != nil {
		return err
	}
	return r.journalUndo(ctx, made)
}

func (r *run) journalUndo(ctx context.Context, made lineage.Snapshot) error {
	return r.journal(ctx, func(job *store.Job) {
		if job.Undo != nil {
			return
		}
		now := r.now().Truncate(time.Millisecond)
		job.Undo = &store.Snapshot{
			Name: now.Format("before-" + string(job.Kind) + "-20060102-150405"), GUID: made.GUID, Undo: true, IDMap: job.PriorIDMap,
			Size: made.Referenced, CreatedAt: now, ExpiresAt: new(now.Add(r.options.UndoExpiry)),
		}
	})
}

// listUndo adds the displaced state to what the container lists.
func listUndo(tx *store.Tx, job store.Job, container *store.Container) error {
	if job.Undo == nil {
		return nil
	}
	history, err := historyOf(tx, container.ID)
	if err != nil {
		return err
	}
	undo := *job.Undo
	undo.Name = snapshotName(history, &undo.Name, undo.CreatedAt)
	history.Snapshots = append(slices.Clone(history.Snapshots), undo)
	return tx.PutHistory(history)
}

// limitUndo drops what is past the limit of a container's undo snapshots: those that were made or restored longest ago, and never
// before all others what the job has just displaced, whatever the clock says.
func (a *Agent) limitUndo(tx *store.Tx, job store.Job, container *store.Container) error {
	history, err := tx.History(container.ID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var kept []store.Snapshot
	for _, snapshot := range history.Snapshots {
		if snapshot.Undo {
			kept = append(kept, snapshot)
		}
	}
	displaced := func(s store.Snapshot) int {
		if job.Undo != nil && s.GUID == job.Undo.GUID {
			return 1
		}
		return 0
	}
	slices.SortFunc(kept, func(x, y store.Snapshot) int {
		return cmp.Or(cmp.Compare(displaced(x), displaced(y)), lastWanted(x).Compare(lastWanted(y)), cmp.Compare(x.Name, y.Name))
	})
	surplus := kept[:max(0, len(kept)-max(0, a.options.UndoSnapshots))]
	_, err = a.dropSnapshots(tx, container, history, func(s store.Snapshot) bool {
		return slices.ContainsFunc(surplus, func(old store.Snapshot) bool { return old.Name == s.Name })
	})
	return err
}

// lastWanted is when a snapshot was made or last restored.
func lastWanted(snapshot store.Snapshot) time.Time {
	if snapshot.LastUsedAt != nil {
		return *snapshot.LastUsedAt
	}
	return snapshot.CreatedAt
}
