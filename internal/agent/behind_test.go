package agent_test

import (
	"context"
	"errors"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// TestWhatTheRuntimeSaysAtTheSwapCounts: an admin uses the runtime while an operation works; the container ends as he left it.
func TestWhatTheRuntimeSaysAtTheSwapCounts(t *testing.T) {
	for _, c := range []struct {
		name   string
		before store.Status
		behind func(ctx context.Context, s *server, instance string) error
		want   store.Status
		code   string
	}{
		{"stopped", store.StatusRunning, func(ctx context.Context, s *server, instance string) error { return s.runtime.ForceStop(ctx, instance) }, store.StatusStopped, ""},
		{"started", store.StatusStopped, func(ctx context.Context, s *server, instance string) error { return s.runtime.Start(ctx, instance) }, store.StatusRunning, ""},
		{"paused", store.StatusRunning, func(ctx context.Context, s *server, instance string) error { return s.runtime.Pause(ctx, instance) }, store.StatusPaused, "OPERATION_STATE_CONFLICT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFleet(t, 1)
			here := f.servers[0]
			source := f.states(here)
			instance := agent.InstanceName(source.ID)
			if c.before == store.StatusStopped {
				f.must(second(here.agent.Operate(f.ctx, caller, source.ID, agent.OperationStop, 0)))
			}
			reached, gate := make(chan struct{}), make(chan struct{})
			here.setFault(func(op, _ string) error {
				if op == "clone:before" {
					close(reached)
					<-gate
				}
				return nil
			})
			answer := make(chan error, 1)
			go func() { answer <- second(here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "one")) }()
			f.wait(reached)
			f.must(c.behind(f.ctx, here, instance))
			close(gate)
			err := <-answer
			var refused *errdefs.Error
			if c.code == "" && err != nil || c.code != "" && (!errors.As(err, &refused) || refused.Code != c.code) {
				t.Errorf("restore: %v, want code %q", err, c.code)
			}
			f.until("container "+string(c.want), func() bool {
				container, err := f.records.GetContainer(f.ctx, source.ID)
				f.must(err)
				return container.JobID == "" && container.Status == c.want
			})
			seen, err := here.runtime.Instance(f.ctx, instance)
			if want := map[store.Status]agent.InstanceStatus{
				store.StatusRunning: agent.InstanceRunning, store.StatusStopped: agent.InstanceStopped, store.StatusPaused: agent.InstancePaused,
			}[c.want]; err != nil || seen.Status != want {
				t.Errorf("the instance is %s (%v), want %s", seen.Status, err, want)
			}
		})
	}
}

// TestStateIsSeenAfterAnOperation: what happened to an instance while an operation had it is not missed, even if the operation itself
// found nothing to do.
func TestStateIsSeenAfterAnOperation(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	_, err := f.records.Update(f.ctx, func(tx *store.Tx) error { // as if the event had come while a job held it
		container, err := tx.Container(copied.ID)
		if err != nil {
			return err
		}
		container.Status = store.StatusStopped
		return tx.PutContainer(container)
	})
	f.must(err)
	f.catchUp()
	_, err = here.agent.Sync(f.ctx, caller, copied.ID)
	f.must(err)
	f.until("running container that is recorded as such", func() bool {
		container, err := f.records.GetContainer(f.ctx, copied.ID)
		f.must(err)
		return container.JobID == "" && container.Status == store.StatusRunning
	})
}
