package agent

import (
	"context"
	"errors"
	"time"

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
	// costly phases are tried again for reasons that nobody knows: hours of work would be thrown away, or a container stay down.
	costly bool
	// uncancellable phases are past the point where a cancellation could take effect. Only a swap that still waits to begin is given up.
	uncancellable bool
	// urgent phases end the time that a container is down. They go on even while the store takes no notes: the phase before, where the journal is then,
	// may be repeated after them.
	urgent bool
	// Of heavy phases, which keep the host busy and wait for nobody, a few run at a time: fifty copies that arrive at once would
	// otherwise starve everything else on it, the server's lease included.
	heavy bool
	// firstStart phases boot a container for the first time. They have a limit of their own, apart from heavy, because a boot may hang.
	firstStart bool
}

// givesUp tells whether an attempt, counted from one, was the last; unexplained is how many of them ended for reasons that nobody knows, or that
// waiting does not change. What an operation has left half undone is worth more attempts than what it was to do.
func (p phase) givesUp(err error, attempt, unexplained int) bool {
	if p.concluding {
		return false
	}
	if p.name == phaseUndo {
		return !errdefs.Retryable(err) && unexplained >= maxAttempts
	}
	if p.costly && errdefs.ClassOf(err) == errdefs.ErrInternal {
		return unexplained >= costlyAttempts
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
	phaseSwap = "swap"
	// costlyAttempts is how often a start or a transfer is tried that fails for reasons nobody knows: a host that is short of everything
	// says no more than "exit status 1", and to undo is expensive then. What cannot work fails again, UnexplainedPause later.
	costlyAttempts = 3
	// urgentNote is how long an urgent phase waits for a note of it to be written down.
	urgentNote = 5 * time.Second
	// startTurn is how long a start waits for its turn while none of those before it comes to an end.
	startTurn   = 10 * time.Minute
	maxAttempts = 10 // some 20 seconds: a restart of Incus, or its hold on a mount
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

// slotFor waits until a phase may run. It fails when ctx ends first.
func (r *run) slotFor(ctx context.Context, p phase) (release func(), err error) {
	if p.firstStart {
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
		switch last := time.Unix(0, r.lastFirstStart.Load()); {
		case err == nil:
			return func() {
				r.lastFirstStart.Store(time.Now().UnixNano())
				r.starts.Release(1)
			}, nil
		case ctx.Err() != nil:
			return nil, err
		case last.Before(began) || time.Since(last) >= startTurn:
			return func() {}, nil
		}
	}
}
