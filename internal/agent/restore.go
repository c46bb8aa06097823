package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// RestoreSnapshot puts a container back to one of its snapshots, found by name or alias, and returns when that is done.
// Newer snapshots stay. A container that ran is stopped, swapped and started again; a stopped one stays stopped.
func (a *Agent) RestoreSnapshot(ctx context.Context, caller Caller, id, name string) (SnapshotResult, error) {
	var job store.Job
	err := a.accept(ctx, caller, func(tx *store.Tx) error {
		container, _, err := visibleContainer(tx, caller, id, store.PermissionEdit, containerNotFound())
		if err != nil {
			return err
		}
		if container.JobID != "" || len(container.PendingFreezes) > 0 { // the latter: a copy or sync is about to freeze it
			return snapshotOperationInProgress()
		}
		if container.Status != store.StatusRunning && container.Status != store.StatusStopped {
			return stateConflict("Container cannot be restored while it is %s", container.Status)
		}
		snapshot, err := namedSnapshot(tx, id, name)
		if err != nil {
			return err
		}
		if err := refuseMissing(snapshot); err != nil {
			return err
		}
		if _, err := a.serverForJob(tx, container.ServerID, caller.UserID); err != nil {
			return err
		}
		job = a.newJob(store.JobRestore, container, caller)
		job.Snapshot = &snapshot
		job.Freeze = store.Freeze{GUID: snapshot.GUID, At: snapshot.CreatedAt, Reused: true}
		job.IDMap = snapshot.IDMap
		if job.IDMap == "" {
			job.IDMap = container.IDMap
		}
		container.Status = store.StatusCopying // as for a sync: its files are being exchanged, and it is no source meanwhile
		return assignJob(tx, &container, job)
	})
	if err != nil {
		return SnapshotResult{}, err
	}
	return a.awaitSnapshot(ctx, caller, receiptOf(job))
}

// A restore: a checkout of one of the container's own snapshots. Nothing has to be brought, so it is clone and swap.
var restoreOperation = operation{
	phases: []phase{
		{name: "clone", do: (*run).cloneHeld, patient: true},
		{name: "prepare", do: (*run).prepare, heavy: true},
		{name: phaseSwap, do: (*run).swap, uncancellable: true},
		{name: "start", do: (*run).startAsBefore, outlastsRuntime: true, costly: true, urgent: true, uncancellable: true},
		{name: "finish", do: (*run).finishRestore, concluding: true, uncancellable: true},
	},
	undo: (*run).undoReplace,
}

// cloneHeld clones a snapshot of the container's own. One that is gone from its owner's datasets was destroyed or moved behind the
// agent's back, and does not come again.
func (r *run) cloneHeld(ctx context.Context) error {
	err := r.clone(ctx)
	if !errors.Is(err, errdefs.ErrStale) {
		return err
	}
	container, read := r.store.GetContainer(ctx, r.job.ContainerID)
	if read != nil {
		return read
	}
	inventory, listed := r.pool.Inventory(ctx)
	if listed != nil {
		return listed
	}
	if _, held := lineage.Locate(ownedBy(inventory, container.OwnerID))[r.job.Freeze.GUID]; !held {
		return snapshotGone(*r.job.Snapshot).WithCause(err)
	}
	return err
}

func (r *run) finishRestore(ctx context.Context) error {
	return r.finishReplace(ctx, func(tx *store.Tx, job *store.Job, container *store.Container) error {
		used := *job.Snapshot
		used.LastUsedAt = new(r.now().Truncate(time.Millisecond))
		job.Snapshot = &used
		container.LastUsedSnapshot = used.Name
		container.UpdatedAt = *used.LastUsedAt
		if container.SourceContainerID != "" {
			container.UpdatedAt = used.CreatedAt // of a copy: the age of what it holds
		}
		history, err := tx.History(container.ID)
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		history.Snapshots = slices.Clone(history.Snapshots)
		for i, snapshot := range history.Snapshots {
			if snapshot.Name == used.Name {
				history.Snapshots[i].LastUsedAt = used.LastUsedAt
			}
		}
		return tx.PutHistory(history)
	})
}
