package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// run is one job being performed.
type run struct {
	*Agent
	job       store.Job // as last journalled
	log       *zap.Logger
	cancelled context.Context // done when the job is to be given up
	wanted    func()          // takes back what the job said that it lacks; nil before it has
	unsettled int             // how often the runtime reported a state of error in place of an operation's outcome
	startedAt time.Time       // when the container was started on what the job made; zero before
	// unexplainedResumes is how often an interrupted stream could not be completed for a reason that nobody knows.
	unexplainedResumes int
}

// performJobs works on every open job of this server until ctx ends. Each job has a goroutine: a freeze must not
// queue behind somebody's transfer. What is heavy takes a slot where it gets heavy. comparedLoad is the load of the records that
// were compared with the pool's stamp; with each later one that is done again before a job is taken up.
func (a *Agent) performJobs(ctx context.Context, comparedLoad uint64) error {
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
		if loads := a.store.Mirror().Loads(); loads != comparedLoad {
			if err := a.suspendReturned(ctx, atWork); err != nil {
				a.log.Warn("jobs are not taken up until records and pool are compared", zap.Error(err))
				if err := sleep(ctx, trustPause); err != nil {
					return err
				}
				continue
			}
			comparedLoad = loads
		}
		for _, job := range jobs {
			if a.refuseSuspended(job.ID) != nil {
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
		case <-a.degraded.over: // jobs that were suspended go on
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
	defer a.promises.end(job.ID)
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
	if r.job.Phase != phaseUndo {
		uncancellable, failed := r.performPhases(ctx, op)
		switch {
		case !r.job.Open():
			r.afterEnd(ctx)
			return
		case failed == nil || ctx.Err() != nil:
			return
		}
		if err := r.journal(ctx, func(job *store.Job) {
			job.Phase, job.Error = phaseUndo, jobError(failed)
			if job.CancelledAt != nil && !uncancellable { // the source refuses it then, and that may be heard before
				job.Error = jobError(errCancelled)
			}
		}); err != nil {
			r.afterEnd(ctx) // ended already, perhaps: the answer to that was lost
			return
		}
	}
	r.undoOrAbandon(ctx, op)
	r.afterEnd(ctx)
}

// performPhases does the phases from the one that the journal names on, until the job has ended. It returns why one failed for good, and
// whether that one could not be cancelled.
func (r *run) performPhases(ctx context.Context, op operation) (uncancellable bool, failed error) {
	first := max(0, slices.IndexFunc(op.phases, func(p phase) bool { return p.name == r.job.Phase }))
	for _, p := range op.phases[first:] {
		if err := r.step(ctx, p); err != nil {
			return p.uncancellable, err
		}
		if !r.job.Open() {
			break
		}
	}
	return false, nil
}

// undoOrAbandon takes back what a failed operation did. Something may be left that it cannot take back; garbage collection knows it by hoody:job.
func (r *run) undoOrAbandon(ctx context.Context, op operation) {
	r.promises.end(r.job.ID) // however long this takes, nothing more comes
	undo := phase{name: phaseUndo, do: op.undo, patient: true, outlastsRuntime: true, uncancellable: true}
	err := r.step(ctx, undo)
	if err == nil || ctx.Err() != nil {
		return
	}
	r.log.Error("undo failed", zap.Error(err))
	if err := r.finish(ctx, r.failure(), r.abandon); err != nil {
		r.log.Error("failed job not ended; it comes up again", zap.Error(err))
		_ = sleep(ctx, time.Second)
	}
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
	if job.PriorIDMap != "" {
		container.IDMap = job.PriorIDMap // of the generation that the record is about
	}
	return failContainer(tx, job, container)
}

// step runs the phase until it succeeds, fails for good, the job is cancelled, or ctx ends.
func (r *run) step(ctx context.Context, p phase) error {
	if p.uncancellable {
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
		if err := r.journalPhase(ctx, p, func(job *store.Job) { job.Phase, job.Attempts = p.name, 0 }); err != nil {
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
		if errdefs.ClassOf(err) == errdefs.ErrInternal || p.name == phaseUndo && !errdefs.Retryable(err) {
			unexplained++
		}
		if p.givesUp(err, attempt, unexplained) {
			log.Error("phase failed", zap.Error(err))
			return err
		}
		pause := pauses.next(r.job.Progress)
		if errdefs.ClassOf(err) == errdefs.ErrInternal && p.costly {
			pause = max(pause, r.options.UnexplainedPause) // what it is may need some time to pass
		}
		log.Warn("phase will be tried again", zap.Duration("pause", pause), zap.Error(err))
		if err := r.journalPhase(ctx, p, func(job *store.Job) {
			job.Attempts = attempt
			if p.name != phaseUndo { // then it is why the operation failed that counts, not what is in the way of undoing it
				job.Error = jobError(err)
			}
		}); err != nil {
			return err
		}
		if p.name == phaseSwap && r.job.CancelledAt != nil && r.job.StoppedAt == nil {
			return errCancelled
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// afterEnd tells the observer of an ended job, and looks at the container once more: what the runtime did while the job held it was the
// job's business, and from now on it is news.
func (r *run) afterEnd(ctx context.Context) {
	if r.job.Open() {
		return
	}
	r.pins.keep(r.job.ID, nil)
	if !leavesNothing(r.job) {
		r.collectSoon()
	}
	if r.options.Observe.Finished != nil {
		r.options.Observe.Finished(r.job, r.generationSize(ctx))
	}
	if err := r.observeOne(ctx, r.job.ContainerID); err != nil && ctx.Err() == nil {
		r.log.Warn("state of the container not compared", zap.Error(err))
	}
}

// leavesNothing tells whether an operation that has ended cannot have left anything to collect.
func leavesNothing(job store.Job) bool {
	switch job.Kind {
	case store.JobStart, store.JobStop, store.JobForceStop, store.JobRestart, store.JobPause, store.JobResume:
		return true
	case store.JobSnapshot:
		return job.State == store.JobDone
	case store.JobSync:
		return job.State == store.JobDone && job.Progress.NoOp && job.Freeze.Reused
	default:
		return false
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
	if class == errdefs.ErrExhausted {
		described.Message = "The server has no space or quota left for this"
	}
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
