package agent

import (
	"context"
	"slices"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Sync accepts a sync of a copy with its source. The work follows on the copy's server.
func (a *Agent) Sync(ctx context.Context, caller Caller, id string) (SyncResult, error) {
	var job store.Job
	var receipt store.Receipt
	err := a.acceptOnce(ctx, caller, &receipt, func(tx *store.Tx) error {
		container, _, err := visibleContainer(tx, caller, id, store.PermissionEdit, containerNotFound())
		if err != nil {
			return err
		}
		if container.SourceContainerID == "" {
			return errdefs.New(errdefs.ErrInvalid, "CONTAINER_NOT_COPIED", "Container is not a copy and has no source to sync with")
		}
		gone := errdefs.New(errdefs.ErrInvalid, "SOURCE_CONTAINER_NOT_FOUND", "Source container no longer exists or is not accessible")
		anywhere := caller
		anywhere.RealmID = ""
		source, _, err := visibleContainer(tx, anywhere, container.SourceContainerID, store.PermissionRead, gone)
		if err != nil {
			return err
		}
		if !caller.sees(source.RealmIDs) {
			return errdefs.New(errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS", "Containers cannot be synced with another realm")
		}
		if container.JobID != "" {
			return operationInProgress()
		}
		if container.Status != store.StatusRunning && container.Status != store.StatusStopped {
			return stateConflict("Container cannot be synced while it is %s", container.Status)
		}
		if !settled(source.Status) {
			return stateConflict("Container cannot be synced while its source is %s", source.Status)
		}
		if len(container.PendingFreezes) > 0 {
			return operationInProgress() // a copy of this copy is about to freeze it
		}
		for _, server := range []string{source.ServerID, container.ServerID} {
			if _, err := a.serverForJob(tx, server, caller.UserID); err != nil {
				return err
			}
		}
		if err := a.checkOverfull(tx, container.ServerID); err != nil {
			return err
		}
		job = a.newJob(store.JobSync, container, caller)
		job.SourceID, job.SourceServerID = source.ID, source.ServerID
		source.PendingFreezes = append(slices.Clone(source.PendingFreezes), job.ID)
		if err := tx.PutContainer(source); err != nil {
			return err
		}
		container.Status, container.Follows = store.StatusCopying, true
		// The source may have got another key since the copy was made; it must not come along either.
		keys := inheritedKeys(source)
		job.KnownKeys = len(keys)
		for _, key := range keys {
			if !slices.Contains(container.InheritedKeys, key) {
				container.InheritedKeys = append(slices.Clone(container.InheritedKeys), key)
			}
		}
		receipt = receiptOf(job)
		return assignJob(tx, &container, job)
	})
	if err != nil {
		return SyncResult{}, err
	}
	if caller.repeats() {
		view, err := a.Container(ctx, caller, id)
		return SyncResult{ContainerID: id, SourceID: view.Container.SourceContainerID, Status: view.Container.Status, JobID: receipt.JobID}, err
	}
	return SyncResult{ContainerID: id, SourceID: job.SourceID, Status: store.StatusCopying, JobID: job.ID}, nil
}

// A sync: freeze the source, replicate beside the running copy, check out into it. It is down only for stop, two
// renames and start.
var syncOperation = operation{
	phases: []phase{
		{name: "replicate", do: (*run).replicate, patient: true, costly: true},
		{name: "compare", do: (*run).compare},
		{name: "clone", do: (*run).cloneOrFetchAgain, patient: true},
		{name: "prepare", do: (*run).prepare, heavy: true},
		{name: phaseSwap, do: (*run).swap, uncancellable: true, outlastsRuntime: true},
		{name: "start", do: (*run).startAsBefore, outlastsRuntime: true, costly: true, urgent: true, uncancellable: true},
		{name: "finish", do: (*run).finishSync, concluding: true, uncancellable: true},
	},
	undo: (*run).undoReplace,
}

// compare ends the job here when the copy is what the source is. A no-op is one only if the copy's current generation was
// checked out from exactly the frozen state and has not been written to since.
func (r *run) compare(ctx context.Context) error {
	container, err := r.store.GetContainer(ctx, r.job.ContainerID)
	if err != nil {
		return err
	}
	if container.Generation.Base != r.job.Freeze.GUID || container.Generation.Base == 0 {
		return nil
	}
	dataset := ContainerDataset(container.ID)
	current, err := r.pool.Dataset(ctx, dataset)
	if err != nil {
		return err
	}
	marker, ok := markerOf(current, container.Generation)
	if !ok {
		return nil // without its marker nobody can tell; a checkout is always right
	}
	unchanged, err := r.unchangedSince(ctx, dataset+"@"+marker.Name)
	if err != nil || !unchanged {
		return err
	}
	r.log.Info("source and copy are unchanged; nothing to do", zap.Stringer("base", container.Generation.Base))
	return r.finish(ctx, store.JobDone, func(_ *store.Tx, job *store.Job, container *store.Container) error {
		job.Progress.NoOp = true
		container.SyncBase = job.Freeze.GUID
		container.Status = job.PriorStatus
		container.UpdatedAt = job.Freeze.At
		container.SyncedAt = job.Freeze.At
		return nil
	})
}

func markerOf(current lineage.Dataset, generation store.Generation) (lineage.Snapshot, bool) {
	for _, snapshot := range current.Snapshots {
		if snapshot.GUID == generation.Marker.GUID {
			return snapshot, true
		}
	}
	return lineage.Snapshot{}, false
}

func (r *run) finishSync(ctx context.Context) error {
	return r.finishReplace(ctx, func(tx *store.Tx, job *store.Job, container *store.Container) error {
		container.SyncBase = job.Freeze.GUID
		container.UpdatedAt = job.Freeze.At // of a copy: the age of what it holds
		container.SyncedAt = job.Freeze.At
		return nil
	})
}
