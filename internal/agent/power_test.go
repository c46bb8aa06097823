package agent_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// slowRuntime takes for ever where it is told to.
type slowRuntime struct {
	agent.Runtime
	slow map[string]bool
}

func (r slowRuntime) wait(ctx context.Context, what string, do func() error) error {
	if r.slow[what] {
		<-ctx.Done()
		return ctx.Err()
	}
	return do()
}

func (r slowRuntime) Start(ctx context.Context, name string) error {
	return r.wait(ctx, "start", func() error { return r.Runtime.Start(ctx, name) })
}

func (r slowRuntime) Pause(ctx context.Context, name string) error {
	return r.wait(ctx, "pause", func() error { return r.Runtime.Pause(ctx, name) })
}

func (r slowRuntime) ForceStop(ctx context.Context, name string) error {
	return r.wait(ctx, "stop", func() error { return r.Runtime.ForceStop(ctx, name) })
}

func TestAnOperationThatTakesTooLongIsGivenUp(t *testing.T) {
	t.Parallel()
	slow := make(map[string]bool)
	f := newFleet(t, 1, func(f *fleet) {
		f.drive = func(runtime agent.Runtime) agent.Runtime { return slowRuntime{runtime, slow} }
	})
	here := f.servers[0]
	container := f.create(here, "source")
	for _, c := range []struct {
		operation agent.Operation
		slow      string
		left      store.Status
	}{
		{agent.OperationPause, "pause", store.StatusRunning},
		{agent.OperationForceStop, "stop", store.StatusRunning},
		{agent.OperationRestart, "start", store.StatusStopped},
		{agent.OperationStart, "start", store.StatusStopped},
	} {
		slow[c.slow] = true
		_, err := here.agent.Operate(f.ctx, caller, container.ID, c.operation, time.Second)
		delete(slow, c.slow)
		var told *errdefs.Error
		if !errors.As(err, &told) || told.Code != "CONTAINER_HOST_TIMEOUT" || !strings.Contains(err.Error(), c.slow+" within 1s") {
			t.Errorf("%s: %v", c.operation, err)
		}
		f.settled(container.ID, c.left)
	}
	f.must(second(here.agent.Operate(f.ctx, caller, container.ID, agent.OperationStart, 0)))
	f.settled(container.ID, store.StatusRunning)
}

// silentRuntime falls silent once it has stopped an instance.
type silentRuntime struct {
	agent.Runtime
	silent *atomic.Bool
}

func (r silentRuntime) Stop(ctx context.Context, name string, timeout time.Duration) error {
	err := r.Runtime.Stop(ctx, name, timeout)
	r.silent.Store(true)
	return err
}

func (r silentRuntime) Start(ctx context.Context, name string) error {
	if r.silent.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return r.Runtime.Start(ctx, name)
}

func (r silentRuntime) Instance(ctx context.Context, name string) (agent.Instance, error) {
	if r.silent.Load() {
		return agent.Instance{}, errdefs.New(errdefs.ErrUnavailable, "", "no answer")
	}
	return r.Runtime.Instance(ctx, name)
}

// A restart that has stopped its container does not leave it at that because the runtime is away.
func TestARestartOutlastsASilentRuntime(t *testing.T) {
	t.Parallel()
	var silent atomic.Bool
	f := newFleet(t, 1, func(f *fleet) {
		f.drive = func(runtime agent.Runtime) agent.Runtime { return silentRuntime{runtime, &silent} }
	})
	here := f.servers[0]
	container := f.create(here, "source")
	answer := f.accepted(container, func() error {
		return second(here.agent.Operate(f.ctx, caller, container.ID, agent.OperationRestart, time.Second))
	})
	f.until("the start is tried again", func() bool {
		job, err := f.records.GetJob(f.ctx, f.jobOf(container))
		return err == nil && job.Phase == "start" && job.Attempts > 0
	})
	silent.Store(false)
	f.must(<-answer)
	f.settled(container.ID, store.StatusRunning)
}
