package agent_test

import (
	"context"
	"errors"
	"strings"
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
