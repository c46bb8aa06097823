package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// phase is one step of an operation. It may run any number of times: the journal says that it was begun, never that it
// was finished, so do looks at what is there and does the rest.
type phase struct {
	name string
	do   func(*run, context.Context) error
	// patient phases are tried for as long as it takes while their errors are retryable; the others give up after maxAttempts attempts.
	patient bool
	// An outage of the runtime is no reason to give up a phase that outlasts it: undoing needs the runtime just as well, and the
	// container may run on what was done already, and write.
	outlastsRuntime bool
	// concluding phases come when the work is done and the container runs on it: they are repeated whatever the error, since undoing
	// would throw away what the container has written since.
	concluding bool
	// binding phases are not ended by a cancellation: it comes too late.
	binding bool
	// Of heavy phases, which keep the host busy and wait for nobody, a few run at a time: fifty copies that arrive at once would
	// otherwise starve everything else on it, the server's lease included.
	heavy bool
	// Of starts of what is new a few run at a time, too, as long as the others come to an end. They have turns of their own: a start may hang.
	startsNew bool
}

// givesUp tells whether an attempt, counted from one, was the last; unexplained is how many of them ended for reasons that nobody knows.
func (p phase) givesUp(err error, attempt, unexplained int) bool {
	if p.concluding {
		return false
	}
	if p.outlastsRuntime && errdefs.ClassOf(err) == errdefs.ErrInternal {
		return unexplained >= startAttempts
	}
	patient := p.patient || p.outlastsRuntime && errors.Is(err, errdefs.ErrUnavailable)
	return !errdefs.Retryable(err) || !patient && attempt >= maxAttempts
}

// operation is what a kind of job does. The last phase finishes the job's record; undo, after a final failure, brings
// everything back to before and finishes the record as failed. It is as repeatable as a phase.
type operation struct {
	phases []phase
	undo   func(*run, context.Context) error
	// leavesFiles operations change neither the container's files nor its instance's existence: even one that cannot be undone leaves the
	// container as it is.
	leavesFiles bool
}

const (
	phaseUndo = "undo"
	// startAttempts is how often a start, or an undoing, is tried that fails for reasons nobody knows: a runtime that is short of everything
	// says no more than "exit status 1", and to undo is expensive then. A container that cannot start fails again at once.
	startAttempts = 3
	// startTurn is how long a start waits for its turn while none of those before it comes to an end.
	startTurn   = 10 * time.Minute
	maxAttempts = 10 // some 20 seconds: a restart of Incus, or its hold on a mount after a file was pushed
)

func operationOf(kind store.JobKind) operation {
	switch kind {
	case store.JobCreate:
		return createOperation
	case store.JobDelete:
		return deleteOperation
	case store.JobSnapshot:
		return snapshotOperation
	case store.JobCopy:
		return copyOperation
	case store.JobSync:
		return syncOperation
	case store.JobRestore:
		return restoreOperation
	case store.JobRestart:
		return restartOperation
	case store.JobStart, store.JobStop, store.JobForceStop, store.JobPause, store.JobResume:
		return powerOperation
	default: // a later version's job: not for this one to guess at
		return unknownOperation
	}
}

var unknownOperation = operation{
	phases: []phase{{name: "refuse", do: func(r *run, _ context.Context) error {
		return errdefs.New(errdefs.ErrUnsupported, "", "this agent does not know operations of kind %s", r.job.Kind)
	}}},
	undo: (*run).undoPower,
}

// run is one job being performed.
type run struct {
	*Agent
	job       store.Job // as last journalled
	log       *zap.Logger
	cancelled context.Context // done when the job is to be given up
	wanted    func()          // takes back what the job said that it lacks; nil before it has
	unsettled int             // how often the runtime reported a state of error in place of an operation's outcome
}

// performJobs works on every open job of this server until ctx ends. Each job has a goroutine: a freeze must not
// queue behind somebody's transfer. What is heavy takes a slot where it gets heavy. trusted is the load of the records that
// were compared with the pool's stamp; with each later one that is done again before a job is taken up.
func (a *Agent) performJobs(ctx context.Context, trusted uint64) error {
	changes, stop := a.store.JobChanges(a.serverID)
	defer stop()
	var (
		workers  sync.WaitGroup
		mu       sync.Mutex
		active   = make(map[string]context.CancelFunc) // by job: gives it up
		finished = make(chan struct{}, 1)
	)
	defer workers.Wait()
	atWork := func(jobID string) bool {
		mu.Lock()
		defer mu.Unlock()
		return active[jobID] != nil
	}
	for {
		jobs := a.store.Mirror().OpenJobs(a.serverID)
		if loads := a.store.Mirror().Loads(); loads != trusted {
			if err := a.holdReturned(ctx, atWork); err != nil {
				a.log.Warn("jobs are not taken up until records and pool are compared", zap.Error(err))
				if err := sleep(ctx, trustPause); err != nil {
					return err
				}
				continue
			}
			trusted = loads
		}
		for _, job := range jobs {
			if a.refuseHeld(job.ID) != nil {
				continue
			}
			mu.Lock()
			giveUp, known := active[job.ID]
			var cancelled context.Context
			if !known {
				cancelled, giveUp = context.WithCancel(ctx)
				active[job.ID] = giveUp
			}
			mu.Unlock()
			if job.CancelledAt != nil {
				giveUp()
			}
			if known {
				continue
			}
			workers.Go(func() {
				defer giveUp()
				a.perform(ctx, *job, cancelled)
				a.unseen.add(job.ContainerID)
				mu.Lock()
				delete(active, job.ID)
				mu.Unlock()
				select {
				case finished <- struct{}{}:
				default:
				}
			})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changes:
		case <-finished:
		}
	}
}

// perform takes one job from where its journal stands to its end, or to the end of ctx. It gives the job up when cancelled is done.
func (a *Agent) perform(ctx context.Context, job store.Job, cancelled context.Context) {
	log := a.log.With(zap.String("job", job.ID), zap.String("kind", string(job.Kind)),
		zap.String("container", job.ContainerID), zap.String("request_id", job.RequestID))
	r := &run{Agent: a, job: job, cancelled: cancelled, log: log}
	ctx = withRequestID(ctx, job.RequestID)
	defer r.want(nil)
	// The mirror may lag behind what this very agent wrote a moment ago; the journal is read where it is true.
	if err := r.journal(ctx, func(job *store.Job) {
		job.State = store.JobRunning
		if job.StartedAt == nil {
			job.StartedAt = new(a.now())
		}
	}); err != nil {
		r.log.Info("job not taken up", zap.Error(err))
		if !errors.Is(err, errdefs.ErrStale) { // else it is finished already
			_ = sleep(ctx, time.Second) // it comes up again with the next look at the open jobs
		}
		return
	}
	// Settings that are just being applied come first. Since the job was accepted no others are begun.
	release, err := a.settingsTurns.take(ctx, job.ContainerID)
	if err != nil {
		return
	}
	release()
	op := operationOf(r.job.Kind)
	first := 0
	for i, p := range op.phases {
		if p.name == r.job.Phase {
			first = i
		}
	}
	if r.job.Phase != phaseUndo {
		for _, p := range op.phases[first:] {
			if err := r.step(ctx, p); err != nil {
				if ctx.Err() != nil {
					return
				}
				if journalled := r.journal(ctx, func(job *store.Job) {
					job.Phase, job.Error = phaseUndo, jobError(err)
					if job.CancelledAt != nil && !p.binding { // the source refuses it then, and that may be heard before
						job.Error = jobError(errCancelled)
					}
				}); journalled != nil {
					r.finished(ctx) // ended already, perhaps: the answer to that was lost
					return
				}
				break
			}
			if !r.job.Open() {
				r.finished(ctx)
				return
			}
		}
	}
	undo := phase{name: phaseUndo, do: op.undo, patient: true, outlastsRuntime: true, binding: true}
	if err := r.step(ctx, undo); err != nil && ctx.Err() == nil {
		// Something is left that the job could not take back; garbage collection knows it by hoody:job.
		r.log.Error("undo failed", zap.Error(err))
		if err := r.finish(ctx, r.failure(), r.abandon); err != nil {
			r.log.Error("failed job not ended; it comes up again", zap.Error(err))
			_ = sleep(ctx, time.Second)
		}
	}
	r.finished(ctx)
}

// abandon ends a job that could not be undone. What it held of others and what it took over is not lost with it.
func (r *run) abandon(tx *store.Tx, job *store.Job, container *store.Container) error {
	if err := releaseSource(tx, *job); err != nil {
		return err
	}
	if err := r.tombstoneHistory(tx, *job, *container); err != nil {
		return err
	}
	if err := listAdopted(tx, *job, container); err != nil {
		return err
	}
	if err := listUndo(tx, *job, container); err != nil {
		return err
	}
	if operationOf(job.Kind).leavesFiles {
		return nil
	}
	return failContainer(tx, job, container)
}

// step runs the phase until it succeeds, fails for good, the job is cancelled, or ctx ends.
func (r *run) step(ctx context.Context, p phase) error {
	if p.binding {
		return r.attempt(ctx, p)
	}
	if r.job.CancelledAt != nil {
		return errCancelled
	}
	work, release := r.untilCancelled(ctx)
	defer release()
	err := r.attempt(work, p)
	if err != nil && ctx.Err() == nil && work.Err() != nil {
		return errCancelled
	}
	return err
}

// attempt journals the intent and does the phase, again and again while its errors allow.
func (r *run) attempt(ctx context.Context, p phase) error {
	if r.job.Phase != p.name {
		if err := r.journalIn(ctx, p, func(job *store.Job) { job.Phase, job.Attempts = p.name, 0 }); err != nil {
			return err
		}
	}
	pauses := newPauses(r.job.Progress)
	unexplained := 0
	for attempt := 1; ; attempt++ {
		release, err := r.slotFor(ctx, p)
		if err != nil {
			return err
		}
		began := time.Now()
		err = p.do(r, ctx)
		release()
		if r.options.Observe.Phase != nil {
			r.options.Observe.Phase(r.job.Kind, p.name, time.Since(began), err)
		}
		log := r.log.With(zap.String("phase", p.name), zap.Duration("took", time.Since(began)), zap.Int("attempt", attempt))
		if err == nil || !r.job.Open() {
			log.Info("phase done")
			return nil
		}
		if ctx.Err() != nil {
			log.Info("phase interrupted", zap.NamedError("by", context.Cause(ctx)), zap.Error(err))
			return err
		}
		if errdefs.ClassOf(err) == errdefs.ErrInternal {
			unexplained++
		}
		if p.givesUp(err, attempt, unexplained) {
			log.Error("phase failed", zap.Error(err))
			return err
		}
		pause := pauses.next(r.job.Progress)
		log.Warn("phase will be tried again", zap.Duration("pause", pause), zap.Error(err))
		if err := r.journalIn(ctx, p, func(job *store.Job) {
			job.Attempts = attempt
			if p.name != phaseUndo { // then it is why the operation failed that counts, not what is in the way of undoing it
				job.Error = jobError(err)
			}
		}); err != nil {
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// slotFor waits until a phase may run. It fails when ctx ends first.
func (r *run) slotFor(ctx context.Context, p phase) (release func(), err error) {
	if p.startsNew {
		return r.turnToStart(ctx)
	}
	if !p.heavy {
		return func() {}, nil
	}
	if err := r.heavy.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { r.heavy.Release(1) }, nil
}

// turnToStart waits for one of the turns of starts. When none has come to an end for startTurn, those before it hang, and that is no
// reason not to try.
func (r *run) turnToStart(ctx context.Context) (release func(), err error) {
	for began := time.Now(); ; {
		wait, cancel := context.WithTimeout(ctx, startTurn)
		err := r.starts.Acquire(wait, 1)
		cancel()
		switch last := time.Unix(0, r.lastStart.Load()); {
		case err == nil:
			return func() {
				r.lastStart.Store(time.Now().UnixNano())
				r.starts.Release(1)
			}, nil
		case ctx.Err() != nil:
			return nil, err
		case last.Before(began) || time.Since(last) >= startTurn:
			return func() {}, nil
		}
	}
}

// journalIn is journal for a phase. In a concluding one nothing but the end of the job or of ctx is a reason to give up: the
// container runs on what was done already.
func (r *run) journalIn(ctx context.Context, p phase, change func(*store.Job)) error {
	delay := backoff.NewExponentialBackOff()
	delay.InitialInterval, delay.MaxInterval = 200*time.Millisecond, 30*time.Second
	for {
		err := r.journal(ctx, change)
		if err == nil || !p.concluding || !r.job.Open() || ctx.Err() != nil || errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
		r.log.Warn("journal will be tried again", zap.String("phase", p.name), zap.Error(err))
		if err := sleep(ctx, delay.NextBackOff()); err != nil {
			return err
		}
	}
}

// journal changes the job's record; it waits for the store as long as ctx lives, since nothing may be done that is not
// written down. ErrStale means that the job is finished already.
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

// finish ends the job's record together with the container's: change gets the container, without this job's hold on it.
// change nil leaves the container otherwise as it is; a container that is gone is no error.
func (r *run) finish(ctx context.Context, state store.JobState, change func(*store.Tx, *store.Job, *store.Container) error) error {
	return r.record(ctx, func(tx *store.Tx, job *store.Job) error {
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
		if change != nil {
			if err := change(tx, job, &container); err != nil {
				return err
			}
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

// persist runs a transaction, waiting out a store that is absent or full: what was done must be written down, and giving up
// for a full disk elsewhere would undo what is well.
func (a *Agent) persist(ctx context.Context, change func(*store.Tx) error) error {
	delay := backoff.NewExponentialBackOff()
	delay.InitialInterval, delay.MaxInterval = 100*time.Millisecond, 5*time.Second
	for {
		_, err := a.store.Update(ctx, a.told("", change))
		if err == nil || !errors.Is(err, errdefs.ErrUnavailable) && !errors.Is(err, store.ErrFull) || ctx.Err() != nil {
			return err
		}
		if err := sleep(ctx, delay.NextBackOff()); err != nil {
			return err
		}
	}
}

// finished tells the observer, and looks at the container once more: what the runtime did while the job held it was the
// job's business, and from now on it is news.
func (r *run) finished(ctx context.Context) {
	if r.job.Open() {
		return
	}
	r.pins.keep(r.job.ID, nil)
	r.collectSoon()
	if r.options.Observe.Finished != nil {
		r.options.Observe.Finished(r.job, r.generationSize(ctx))
	}
	if err := r.observeOne(ctx, r.job.ContainerID); err != nil && ctx.Err() == nil {
		r.log.Warn("state of the container not compared", zap.Error(err))
	}
}

// generationSize is what the generation that a copy or sync has just made amounts to; 0 for none made, or not known.
func (r *run) generationSize(ctx context.Context) uint64 {
	moved := r.job.Kind == store.JobCopy || r.job.Kind == store.JobSync
	if !moved || r.job.State != store.JobDone || r.job.Progress.NoOp {
		return 0
	}
	dataset, err := r.pool.Dataset(ctx, ContainerDataset(r.job.ContainerID))
	if err != nil {
		return 0 // a figure for people, nothing rests on it
	}
	return dataset.Referenced
}

// jobError describes a failure. Of an error without a message for callers they learn the class; the rest is the operator's.
func jobError(err error) *store.JobError {
	class := errdefs.ClassOf(err)
	described := &store.JobError{Class: class.Error(), Message: "The operation failed: " + class.Error(), Detail: err.Error()}
	var told *errdefs.Error
	if errors.As(err, &told) {
		described.Code, described.Message = told.Code, told.Message
	}
	return described
}

// asError gives a failed job's error back its class, for the handler that waited.
func asError(failed store.JobError) *errdefs.Error {
	return errdefs.New(errdefs.ClassNamed(failed.Class), failed.Code, "%s", failed.Message)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
