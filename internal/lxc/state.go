package lxc

import (
	"context"
	"fmt"
	"time"

	incus "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Start boots the instance; running already is success, paused is ErrFailedPrecondition. It returns when the
// container's init has been started, which is before what init starts is up.
func (r *Runtime) Start(ctx context.Context, instance string) error {
	return r.change(ctx, "start", instance, agent.InstanceRunning, api.InstanceStatePut{Action: "start"})
}

// Stop asks the container's init to shut down and waits until it has, whole seconds rounded up and at least one.
// If it has not by then it is ErrBusy; the request stands, so it may stop later. It never uses force: ForceStop does. Where somebody else's
// operation on the instance does not end it is agent.ErrOccupied.
// Stopped already is success. A paused instance is resumed to be shut down.
func (r *Runtime) Stop(ctx context.Context, instance string, timeout time.Duration) error {
	// To Incus zero is force and negative is ten minutes; neither was asked for.
	seconds := max(1, int((timeout+time.Second-1)/time.Second))
	err := r.change(ctx, "stop", instance, agent.InstanceStopped, api.InstanceStatePut{Action: "stop", Timeout: seconds})
	if busyRunning(err) { // it was never asked: no reason to use force
		return fmt.Errorf("%w: %v", agent.ErrOccupied, err)
	}
	return err
}

// ForceStop ends the instance at once, paused or not. Stopped already is success.
func (r *Runtime) ForceStop(ctx context.Context, instance string) error {
	return r.change(ctx, "force-stop", instance, agent.InstanceStopped,
		api.InstanceStatePut{Action: "stop", Timeout: -1, Force: true})
}

// Pause freezes all processes of a running instance. Paused already is success, stopped ErrFailedPrecondition.
func (r *Runtime) Pause(ctx context.Context, instance string) error {
	return r.change(ctx, "pause", instance, agent.InstancePaused, api.InstanceStatePut{Action: "freeze"})
}

// Resume lets a paused instance go on. Running already is success, stopped ErrFailedPrecondition.
func (r *Runtime) Resume(ctx context.Context, instance string) error {
	return r.change(ctx, "resume", instance, agent.InstanceRunning, api.InstanceStatePut{Action: "unfreeze"})
}

// change asks for a state. Whether a refusal matters is decided by the state the instance is in then, not by the text
// of the refusal: the wanted state is success, however it came about.
func (r *Runtime) change(ctx context.Context, call, instance string, want agent.InstanceStatus, put api.InstanceStatePut) error {
	return r.run(ctx, call, instance, func(ctx context.Context) error {
		err := r.whenIdle(ctx, instance, func(ctx context.Context) error {
			return r.operate(ctx, func(server incus.InstanceServer) (incus.Operation, error) {
				return server.UpdateInstanceState(instance, put, "")
			})
		})
		if err == nil || ctx.Err() != nil || is(err, errdefs.ErrNotFound) {
			return err
		}
		status, statusErr := r.status(ctx, instance)
		switch {
		case statusErr != nil:
			return err
		case status == want:
			return nil
		case want == agent.InstanceStopped && is(err, errdefs.ErrFailedPrecondition):
			return r.awaitStopped(ctx, instance, err)
		case status == agent.InstanceError:
			return fmt.Errorf("%w (the instance is in an error state)", err)
		}
		return err
	})
}

// noticeInterval is how often awaitStopped looks.
const noticeInterval = 200 * time.Millisecond

// awaitStopped waits until Incus has noticed that an instance has just ended by itself. Until then it counts as running, and a
// stop, by force too, is refused with "container is not running" (seen on 6.0.4, when a shutdown had only just run out of
// time). One that never shows as stopped is ErrBusy.
func (r *Runtime) awaitStopped(ctx context.Context, instance string, refused error) error {
	bounded, cancel := context.WithTimeout(ctx, r.options.BusyTimeout)
	defer cancel()
	ticker := time.NewTicker(noticeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-bounded.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errdefs.New(errdefs.ErrBusy, "", "it is not running, and does not show as stopped").WithCause(refused)
		}
		if status, err := r.status(bounded, instance); err == nil && status == agent.InstanceStopped {
			return nil
		}
	}
}

func (r *Runtime) status(ctx context.Context, instance string) (agent.InstanceStatus, error) {
	var found *api.Instance
	err := r.exchange(ctx, func(server incus.InstanceServer) (err error) {
		found, _, err = server.GetInstance(instance)
		return err
	})
	if err != nil {
		return "", err
	}
	return statusOf(found.StatusCode), nil
}

// statusOf maps Incus's states. An instance on its way down is running until it is down.
func statusOf(code api.StatusCode) agent.InstanceStatus {
	switch code {
	case api.Running, api.Ready, api.Started, api.Starting, api.Stopping, api.Aborting, api.Thawed:
		return agent.InstanceRunning
	case api.Stopped:
		return agent.InstanceStopped
	case api.Frozen, api.Freezing:
		return agent.InstancePaused
	}
	return agent.InstanceError
}
