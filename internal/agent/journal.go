package agent

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// journalPhase is journal with the phase's patience. A concluding one tries until the job or ctx ends: the container runs on what was done
// already. An urgent one goes on without a note after urgentNote.
func (r *run) journalPhase(ctx context.Context, p phase, change func(*store.Job)) error {
	work := ctx
	if p.urgent {
		var cancel context.CancelFunc
		work, cancel = context.WithTimeout(ctx, urgentNote)
		defer cancel()
	}
	delay := newBackoff(firstPause, longestPause)
	for {
		err := r.journal(work, change)
		switch {
		case err == nil:
			return nil
		case work.Err() != nil && ctx.Err() == nil:
			r.log.Warn("goes on without a note in the journal", zap.String("phase", p.name), zap.Error(err))
			return nil
		case !p.concluding || !r.job.Open() || ctx.Err() != nil || errors.Is(err, errdefs.ErrNotFound):
			return err
		}
		r.log.Warn("journal will be tried again", zap.String("phase", p.name), zap.Error(err))
		if err := sleep(ctx, delay.NextBackOff()); err != nil {
			return err
		}
	}
}

// journal changes the job's record; it waits for the store as long as ctx lives, since nothing may be done that is not
// written down, but for what is urgent (journalPhase). ErrStale means that the job is finished already.
func (r *run) journal(ctx context.Context, change func(*store.Job)) error {
	return r.record(ctx, func(tx *store.Tx, job *store.Job) error {
		change(job)
		return nil
	})
}

// record is journal together with other records, in one transaction. change may run more than once.
func (r *run) record(ctx context.Context, change func(*store.Tx, *store.Job) error) error {
	var latest store.Job
	id := r.job.ID
	err := r.persist(ctx, func(tx *store.Tx) error {
		job, err := tx.Job(r.serverID, id)
		if err != nil {
			return err
		}
		if !job.Open() {
			latest = job // only its own agent ends a job: an earlier attempt was written, its answer lost
			return errdefs.New(errdefs.ErrStale, "", "job %s is %s", id, job.State)
		}
		if now := r.job.Progress; now.BytesDone >= job.Progress.BytesDone && now.Snapshots >= job.Progress.Snapshots {
			job.Progress = now // the last report of a transfer may not have come through
		}
		if err := change(tx, &job); err != nil {
			return err
		}
		job.UpdatedAt = r.now()
		latest = job
		return tx.PutJob(job)
	})
	if err == nil || errors.Is(err, errdefs.ErrStale) && latest.ID != "" && !latest.Open() {
		r.job = latest
	}
	return err
}

// finish ends the job's record together with the container's: change gets the container, without this job's hold on it. A container that
// is gone is no error, and is not changed. What came along and what was taken over is the container's from then on, and the record rid of it.
func (r *run) finish(ctx context.Context, state store.JobState, change func(*store.Tx, *store.Job, *store.Container) error) error {
	err := r.conclude(ctx, state, change)
	if errors.Is(err, store.ErrTooLarge) {
		r.log.Error("ends without listing what it kept; the pool holds it, and collection leaves it alone", zap.Error(err))
		err = r.conclude(ctx, state, func(tx *store.Tx, job *store.Job, container *store.Container) error {
			job.Adopted, job.Undo = nil, nil
			return change(tx, job, container)
		})
	}
	return err
}

func (r *run) conclude(ctx context.Context, state store.JobState, change func(*store.Tx, *store.Job, *store.Container) error) error {
	return r.record(ctx, func(tx *store.Tx, job *store.Job) error {
		defer func() { job.History, job.Adopted = nil, nil }()
		job.State = state
		job.FinishedAt = new(r.now())
		if state == store.JobDone {
			job.Error = nil
		}
		container, err := tx.Container(job.ContainerID)
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if container.JobID == job.ID {
			container.JobID = ""
		}
		status := container.Status
		if err := change(tx, job, &container); err != nil {
			return err
		}
		if container.JobID != "" {
			container.Status = status // the container is the job's that supersedes this one
		}
		container.LastOperation = &store.OperationSummary{ID: job.ID, Kind: job.Kind, State: state, Progress: job.Progress, FinishedAt: *job.FinishedAt}
		if state != store.JobDone && job.Error != nil {
			container.LastOperation.Error = job.Error.Message
		}
		return tx.PutContainer(container)
	})
}

// storeAway tells whether an error is that of a store that is absent or full, and may be there again later.
func storeAway(err error) bool {
	return errors.Is(err, errdefs.ErrUnavailable) || errors.Is(err, store.ErrFull)
}

// persist runs a transaction, waiting out a store that is absent or full: what was done must be written down, and giving up
// for a full disk elsewhere would undo what is well.
func (a *Agent) persist(ctx context.Context, change func(*store.Tx) error) error {
	delay := newBackoff(100*time.Millisecond, 5*time.Second)
	for logged := (time.Time{}); ; {
		_, err := a.store.Update(ctx, a.withEvents("", change))
		if err == nil || !storeAway(err) || ctx.Err() != nil {
			return err
		}
		if now := time.Now(); now.Sub(logged) >= time.Minute {
			a.log.Warn("waits for the store to take records", zap.Error(err))
			logged = now
		}
		if err := sleep(ctx, delay.NextBackOff()); err != nil {
			return err
		}
	}
}
