package agent

import (
	"context"
	"errors"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// DeleteContainer deletes a container and returns when it is gone. What others have copied from it stays. A copy or sync
// that works on the container is cancelled.
func (a *Agent) DeleteContainer(ctx context.Context, caller Caller, id string) error {
	var job store.Job
	err := a.accept(ctx, caller, func(tx *store.Tx) error {
		container, _, err := visibleContainer(tx, caller, id, store.PermissionDelete, containerNotFound())
		if err != nil {
			return err
		}
		if container.JobID != "" && container.Status != store.StatusCopying {
			return stateConflict("Container cannot be deleted while it is %s", container.Status)
		}
		if len(container.PendingFreezes) > 0 {
			return errdefs.New(errdefs.ErrBusy, "RESOURCE_IN_USE", "Resource is currently in use: a copy is about to be taken from this container")
		}
		if _, err := a.serverForJob(tx, container.ServerID, ""); err != nil {
			return refusedAs(err, "EXTERNAL_SERVICE_ERROR")
		}
		job = a.newJob(store.JobDelete, container, caller)
		if container.JobID != "" {
			if err := a.supersede(tx, &container, &job); err != nil {
				return err
			}
		}
		container.Status = store.StatusDeleting
		return assignJob(tx, &container, job)
	})
	if err != nil {
		return err
	}
	ended, err := a.await(ctx, job)
	var failed *errdefs.Error
	if errors.As(err, &failed) && (ended.ID != "" || errors.Is(err, errServerGone)) {
		return hostFailure(failed, "EXTERNAL_SERVICE_ERROR")
	}
	return err
}

// A delete: stop, move the generation aside, delete the instance. No data is destroyed here: copies may stand on it, and
// only garbage collection, which sees all of them, destroys.
var deleteOperation = operation{
	phases: []phase{
		{name: "await", do: (*run).awaitPredecessor, patient: true},
		{name: "stop", do: (*run).stopForDelete, patient: true},
		{name: "aside", do: (*run).moveAside, patient: true},
		{name: "instance", do: (*run).deleteInstance, patient: true},
		{name: "finish", do: (*run).finishDelete, patient: true},
	},
	undo: (*run).undoDelete,
}

func (r *run) stopForDelete(ctx context.Context) error {
	name := InstanceName(r.job.ContainerID)
	err := r.ownInstance(ctx)
	if errors.Is(err, errdefs.ErrNotFound) || errors.Is(err, errdefs.ErrAlreadyExists) {
		return nil // a container that failed before it had an instance
	}
	if err != nil {
		return err
	}
	if err := r.configureBeforeStop(ctx, name, map[string]string{ConfigAutostart: "false"}, r.end); err != nil {
		return err
	}
	return r.end(ctx, name)
}

// moveAside moves the generation out of the runtime's reach. Whoever has started the instance since it was stopped is in the way, and stopped again.
func (r *run) moveAside(ctx context.Context) error {
	if err := r.stopForDelete(ctx); err != nil {
		return err
	}
	current := ContainerDataset(r.job.ContainerID)
	dataset, err := r.pool.Dataset(ctx, current)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	if err == nil && dataset.Properties[propertyContainer] != r.job.ContainerID {
		return nil // a stub of the runtime, or not the agent's: the runtime removes what it made
	}
	if err := r.displace(ctx, current, generationDataset(r.job.ID)); err != nil {
		return err
	}
	instance, err := r.runtime.Instance(ctx, InstanceName(r.job.ContainerID))
	if err == nil {
		err = r.giveUpReservation(ctx, generationDataset(r.job.ID), instance)
	}
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	return r.leftToCollection(err)
}

// deleteInstance deletes the instance; the runtime's snapshots of it are noted first, since they are deleted with it.
func (r *run) deleteInstance(ctx context.Context) error {
	err := r.ownInstance(ctx)
	if err == nil {
		err = r.adopt(ctx, InstanceName(r.job.ContainerID))
	}
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) && !errors.Is(err, errdefs.ErrAlreadyExists) {
		return err
	}
	return r.removeInstance(ctx)
}

func (r *run) finishDelete(ctx context.Context) error {
	return r.record(ctx, func(tx *store.Tx, job *store.Job) error {
		job.State, job.Error = store.JobDone, nil
		job.FinishedAt = new(r.now())
		container, err := tx.Container(job.ContainerID)
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.addTombstone(tx, container, guidsIn(job.Adopted)); err != nil {
			return err
		}
		if err := r.deleteRecords(tx, container); err != nil {
			return err
		}
		return r.releaseNames(tx, container)
	})
}

// deleteRecords removes the container's records and leaves a tombstone: its snapshots were deleted on purpose.
func (a *Agent) deleteRecords(tx *store.Tx, container store.Container) error {
	history, err := historyOf(tx, container.ID)
	if err != nil {
		return err
	}
	if err := a.addTombstone(tx, container, guidsIn(history.Snapshots)); err != nil {
		return err
	}
	tombstone, err := tx.Tombstone(container.ID)
	if errors.Is(err, errdefs.ErrNotFound) && a.Degraded() != nil { // its files stay: a recovery must not take it for one that was lost
		tombstone = store.Tombstone{ContainerID: container.ID, ServerID: container.ServerID, DeletedAt: a.now()}
		err = nil
	}
	if err == nil {
		tombstone.Container = true
		err = tx.PutTombstone(tombstone)
	}
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) { // one without snapshots needs none
		return err
	}
	if err := tx.DeleteHistory(container.ID); err != nil {
		return err
	}
	return tx.DeleteContainer(container.ID)
}

// releaseNames gives back what a container held in its project and in the fleet.
func (a *Agent) releaseNames(tx *store.Tx, container store.Container) error {
	if err := releaseName(tx, container); err != nil {
		return err
	}
	if err := releaseKey(tx, container); err != nil {
		return err
	}
	project, err := tx.Project(container.ProjectID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	project.Containers--
	return tx.PutProject(project)
}

// backFromAside gives an instance that is still there its files back: the next deletion finds them, and what the runtime knows of them, where this one did.
func (r *run) backFromAside(ctx context.Context) error {
	err := r.ownInstance(ctx)
	if err == nil { // by hand it would be deleted with the files, and all their snapshots
		err = r.runtime.Protect(ctx, InstanceName(r.job.ContainerID), true)
	}
	if errors.Is(err, errdefs.ErrNotFound) || errors.Is(err, errdefs.ErrAlreadyExists) {
		return nil
	}
	if err != nil {
		return err
	}
	err = r.pool.Rename(ctx, generationDataset(r.job.ID), ContainerDataset(r.job.ContainerID))
	if errors.Is(err, errdefs.ErrNotFound) || errors.Is(err, errdefs.ErrAlreadyExists) {
		return nil
	}
	return r.leftToCollection(err)
}

// undoDelete leaves a container that could not be deleted failed, with its data where it is; deleting it again goes on.
func (r *run) undoDelete(ctx context.Context) error {
	if err := r.backFromAside(ctx); err != nil {
		return err
	}
	return r.finish(ctx, store.JobFailed, func(tx *store.Tx, job *store.Job, container *store.Container) error {
		if err := listAdopted(tx, *job, container); err != nil { // deleting it again buries them
			return err
		}
		return failContainer(tx, job, container)
	})
}
