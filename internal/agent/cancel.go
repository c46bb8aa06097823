package agent

import (
	"context"
	"errors"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// A cancellation is a mark in the job's record, so any agent can make it and no crash loses it. The job's own agent sees
// the mark, ends the phase at work and undoes the job. From the swap on a mark changes nothing, unless the swap waits
// for the runtime before it has stopped anything: the job is about to end.

// errCancelled is why a cancelled job is undone.
var errCancelled = errdefs.New(errdefs.ErrAborted, codeCancelled, "The operation was cancelled")

const codeCancelled = "OPERATION_CANCELLED"

// CancelJob asks a copy or sync to give up. It returns when that is recorded; the job's agent follows. ErrFailedPrecondition
// for a job of another kind or one that has ended. Cancelling twice is success.
func (a *Agent) CancelJob(ctx context.Context, id string) error {
	known, err := a.store.GetJob(ctx, id)
	if err != nil {
		return err
	}
	return a.update(ctx, func(tx *store.Tx) error {
		job, err := tx.Job(known.ServerID, id)
		if err != nil {
			return err
		}
		return a.cancel(tx, job)
	})
}

// CancelOperation is CancelJob for the copy or sync that works on a container: a sync is given up and leaves the copy as it
// was, a first copy becomes failed. Success, too, when no operation is in progress any more.
func (a *Agent) CancelOperation(ctx context.Context, caller Caller, containerID string) error {
	var receipt store.Receipt
	return a.acceptOnce(ctx, caller, &receipt, func(tx *store.Tx) error {
		container, _, err := visibleContainer(tx, caller, containerID, store.PermissionEdit, containerNotFound())
		if err != nil {
			return err
		}
		if container.JobID == "" {
			return nil
		}
		job, err := tx.Job(container.ServerID, container.JobID)
		if err != nil {
			return err
		}
		receipt = receiptOf(job)
		return a.cancel(tx, job)
	})
}

// cancel marks the job.
func (a *Agent) cancel(tx *store.Tx, job store.Job) error {
	if !job.Open() {
		return stateConflict("Operation is %s", job.State)
	}
	if job.Kind != store.JobCopy && job.Kind != store.JobSync {
		return stateConflict("A %s cannot be cancelled", job.Kind)
	}
	if err := a.refuseSuspended(job.ID); err != nil {
		return err
	}
	if job.CancelledAt != nil {
		return nil
	}
	job.CancelledAt = new(a.now())
	// The source is free at once: the job's own server may be the one that never comes back.
	if err := releaseSource(tx, job); err != nil {
		return err
	}
	return tx.PutJob(job)
}

// supersede cancels the operation on a container in favour of next, which begins when that one has ended.
func (a *Agent) supersede(tx *store.Tx, container *store.Container, next *store.Job) error {
	job, err := tx.Job(container.ServerID, container.JobID)
	if err != nil {
		return err
	}
	if err := a.cancel(tx, job); err != nil {
		return err
	}
	next.After = job.ID
	container.JobID = ""
	return nil
}

// awaitPredecessor waits until the job that this one supersedes has been undone, or has come to its end.
func (r *run) awaitPredecessor(ctx context.Context) error {
	if r.job.After == "" {
		return nil
	}
	if err := r.refuseSuspended(r.job.After); err != nil { // the agent that took the request could not know
		return err
	}
	_, err := r.store.WaitJob(ctx, r.serverID, r.job.After)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	return err
}

// untilCancelled derives the context of a phase that a cancellation ends.
func (r *run) untilCancelled(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(r.cancelled, func() { cancel(errCancelled) })
	return ctx, func() { stop(); cancel(nil) }
}

// failure is the state of a job that has been undone.
func (r *run) failure() store.JobState {
	if r.job.Error != nil && r.job.Error.Code == codeCancelled {
		return store.JobCancelled
	}
	return store.JobFailed
}
