package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Operate performs a start, stop, force-stop, restart, pause or resume and returns when it is done.
func (a *Agent) Operate(ctx context.Context, caller Caller, id string, operation Operation, timeout time.Duration) (OperationResult, error) {
	result := OperationResult{Operation: operation, ContainerID: id}
	refuse := func(status store.Status, err *errdefs.Error) error {
		result.Error, result.Message, result.Status = true, err.Message, status
		return err.WithData(result)
	}
	var receipt store.Receipt
	err := a.acceptOnce(ctx, caller, &receipt, func(tx *store.Tx) error {
		container, _, err := visibleContainer(tx, caller, id, store.PermissionEdit, containerNotFound())
		if err != nil {
			return err
		}
		result.ProjectID, result.Status = container.ProjectID, container.Status
		if container.JobID != "" {
			return refuse(container.Status, operationInProgress())
		}
		if reason := forbidden(operation, container.Status); reason != "" {
			return refuse(container.Status, errdefs.New(errdefs.ErrInvalid, "OPERATION_STATE_CONFLICT", "%s", reason))
		}
		if _, err := a.serverForJob(tx, container.ServerID, ""); err != nil {
			var refused *errdefs.Error
			if err = refusedAs(err, "CONTAINER_HOST_COMMAND_FAILED"); errors.As(err, &refused) {
				return refuse(container.Status, refused)
			}
			return err
		}
		job := a.newJob(store.JobKind(operation), container, caller)
		job.TimeoutSeconds = int(timeout / time.Second)
		receipt = receiptOf(job)
		return assignJob(tx, &container, job)
	})
	if err != nil {
		return OperationResult{}, err
	}
	result.ProjectID, result.OperationID = receipt.ProjectID, receipt.JobID
	ended, err := a.awaitOperation(ctx, caller, receipt, operation, timeout)
	if container, ok := a.store.Mirror().Container(id); ok {
		result.Status = container.Status
	}
	var failed *errdefs.Error
	switch {
	case errors.As(err, &failed) && ended.ID != "":
		return OperationResult{}, refuse(result.Status, hostFailure(failed, "CONTAINER_HOST_COMMAND_FAILED"))
	case errors.As(err, &failed) && failed.Code == "CONTAINER_HOST_TIMEOUT":
		return OperationResult{}, refuse(result.Status, failed)
	}
	if err != nil {
		return OperationResult{}, err
	}
	result.Message = "Container " + pastTense[operation] + " successfully"
	return result, nil
}

// awaitOperation waits for as long as the operation may take and some more: for its turn, and for a runtime that is slow to say what came of it.
func (a *Agent) awaitOperation(ctx context.Context, caller Caller, receipt store.Receipt, operation Operation, timeout time.Duration) (store.Job, error) {
	if timeout <= 0 {
		timeout = a.options.OperationTimeout
	}
	if operation == OperationRestart {
		timeout *= 2
	}
	bounded, cancel := context.WithTimeout(ctx, timeout+a.options.AnswerGrace)
	defer cancel()
	ended, err := a.awaitReceipt(bounded, caller, receipt)
	if err != nil && ended.ID == "" && ctx.Err() == nil && (bounded.Err() != nil || errors.Is(err, errServerGone)) {
		return ended, errdefs.New(errdefs.ErrUnavailable, "CONTAINER_HOST_TIMEOUT", "The container's server does not answer; the outcome is not known").WithCause(err)
	}
	return ended, err
}

var pastTense = map[Operation]string{
	OperationStart: "started", OperationStop: "stopped", OperationForceStop: "force-stopped",
	OperationRestart: "restarted", OperationPause: "paused", OperationResume: "resumed",
}

// forbidden says why a container's state does not allow an operation; empty when it does. The documented states, and
// force-stop from paused, too: a container that cannot be resumed must be stoppable.
func forbidden(operation Operation, status store.Status) string {
	allowed := map[Operation][]store.Status{
		OperationStart:     {store.StatusStopped},
		OperationStop:      {store.StatusRunning},
		OperationForceStop: {store.StatusRunning, store.StatusPaused},
		OperationRestart:   {store.StatusRunning, store.StatusStopped},
		OperationPause:     {store.StatusRunning},
		OperationResume:    {store.StatusPaused},
	}[operation]
	if slices.Contains(allowed, status) {
		return ""
	}
	switch {
	case operation == OperationStart && status == store.StatusRunning, operation == OperationPause && status == store.StatusPaused:
		return fmt.Sprintf("Container is already %s", status)
	case (operation == OperationStop || operation == OperationForceStop) && status == store.StatusStopped:
		return "Container is already stopped"
	default:
		return fmt.Sprintf("Container cannot %s while it is %s", operation, status)
	}
}

// A restart: once it is stopped, an outage of the runtime is no reason to leave it at that.
var restartOperation = operation{
	phases: []phase{
		{name: "stop", do: (*run).stopToRestart},
		{name: "start", do: (*run).startAfterStop, outlastsRuntime: true, costly: true, urgent: true},
		{name: "finish", do: (*run).finishPower, patient: true},
	},
	undo:        (*run).undoPower,
	leavesFiles: true,
}

// Start, stop and friends: one call to the runtime, whose answer is the container's new state.
var powerOperation = operation{
	phases: []phase{
		{name: "act", do: (*run).act},
		{name: "finish", do: (*run).finishPower, patient: true},
	},
	undo:        (*run).undoPower,
	leavesFiles: true,
}

// powerTimeout is how long the operation may take, or either half of a restart.
func (r *run) powerTimeout() time.Duration {
	if r.job.TimeoutSeconds > 0 {
		return time.Duration(r.job.TimeoutSeconds) * time.Second
	}
	return r.options.OperationTimeout
}

func (r *run) stopToRestart(ctx context.Context) error {
	return r.stopInTime(ctx, InstanceName(r.job.ContainerID), r.powerTimeout())
}

func (r *run) startStopped(ctx context.Context) error {
	return r.inTime(ctx, "start", r.powerTimeout(), InstanceName(r.job.ContainerID), r.startInstance)
}

// startAfterStop is startStopped, but tells a container that takes too long from a runtime that says nothing.
func (r *run) startAfterStop(ctx context.Context) error {
	err := r.startStopped(ctx)
	if !errors.Is(err, errdefs.ErrFailedPrecondition) {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	if _, silence := r.observedStatus(bounded, r.job.ContainerID); silence != nil && (bounded.Err() != nil || errors.Is(silence, errdefs.ErrUnavailable)) {
		return errdefs.New(errdefs.ErrUnavailable, "", "the runtime does not answer").WithCause(err)
	}
	return err
}

// firstAnswer is how long a runtime that works takes to say what an instance is doing, at most.
const firstAnswer = 20 * time.Second

func (r *run) act(ctx context.Context) error {
	name, timeout := InstanceName(r.job.ContainerID), r.powerTimeout()
	switch r.job.Kind {
	case store.JobStart:
		return r.startStopped(ctx)
	case store.JobStop:
		return r.stopInTime(ctx, name, timeout)
	case store.JobForceStop:
		return r.inTime(ctx, "stop", timeout, name, r.runtime.ForceStop)
	case store.JobPause:
		return r.inTime(ctx, "pause", timeout, name, r.runtime.Pause)
	default: // resume
		return r.inTime(ctx, "resume", timeout, name, r.runtime.Resume)
	}
}

// inTime gives an operation of the runtime up after timeout. It may yet come to an end there, which is noticed then.
func (r *run) inTime(ctx context.Context, verb string, timeout time.Duration, name string, operate func(context.Context, string) error) error {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := operate(bounded, name)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return tookTooLong(verb, timeout).WithCause(err)
	}
	return err
}

// stopInTime asks once: a container that does not stop is the user's to force, not the agent's to nag.
func (r *run) stopInTime(ctx context.Context, name string, timeout time.Duration) error {
	err := r.runtime.Stop(ctx, name, timeout)
	if errors.Is(err, errdefs.ErrBusy) || errors.Is(err, ErrOccupied) {
		return tookTooLong("stop", timeout)
	}
	return err
}

func tookTooLong(verb string, timeout time.Duration) *errdefs.Error {
	return errdefs.New(errdefs.ErrFailedPrecondition, "CONTAINER_HOST_TIMEOUT", "Container did not %s within %s", verb, timeout)
}

func (r *run) finishPower(ctx context.Context) error {
	status, err := r.observedStatus(ctx, r.job.ContainerID)
	if err != nil {
		return err
	}
	if !settled(status) {
		class := errdefs.ErrUnavailable
		if r.unsettled++; r.unsettled >= maxAttempts { // it does not get better; what may help, a forced stop, waits for the end of this
			class = errdefs.ErrFailedPrecondition
		}
		return errdefs.New(class, "", "the runtime reports a state of error of instance %s", InstanceName(r.job.ContainerID))
	}
	return r.finish(ctx, store.JobDone, func(_ *store.Tx, _ *store.Job, container *store.Container) error {
		container.Status = status
		return nil
	})
}

func (r *run) undoPower(ctx context.Context) error {
	status, err := r.observedStatus(ctx, r.job.ContainerID)
	switch {
	case err == nil && settled(status):
	case err == nil && r.job.PriorStatus == store.StatusStopped:
		status = store.StatusRunning // there is something in a state of error, which can be stopped by force
	default:
		status = r.job.PriorStatus // the runtime cannot say; what was known stands until it can
	}
	return r.finish(ctx, store.JobFailed, func(_ *store.Tx, _ *store.Job, container *store.Container) error {
		container.Status = status
		return nil
	})
}

// observedStatus asks the runtime what a container is doing.
func (a *Agent) observedStatus(ctx context.Context, containerID string) (store.Status, error) {
	instance, err := a.runtime.Instance(ctx, InstanceName(containerID))
	if err != nil {
		return "", err
	}
	return statusOf(instance), nil
}

func statusOf(instance Instance) store.Status {
	switch instance.Status {
	case InstanceRunning:
		return store.StatusRunning
	case InstancePaused:
		return store.StatusPaused
	case InstanceStopped:
		return store.StatusStopped
	default:
		return store.StatusFailed
	}
}
