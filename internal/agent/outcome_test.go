package agent_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Whatever a host's runtime or pool says of itself, a caller hears that the host could not do it, not that he may not or that something is not there.
func TestWhatAHostCannotDo(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	stopped := f.create(here, "stopped")
	f.must(second(here.agent.Operate(f.ctx, caller, stopped.ID, agent.OperationStop, 0)))
	for name, class := range map[string]error{
		"unexplained": errdefs.ErrInternal, "no space": errdefs.ErrExhausted, "not found": errdefs.ErrNotFound, "refused": errdefs.ErrPermissionDenied,
		"unauthenticated": errdefs.ErrUnauthenticated, "invalid": errdefs.ErrInvalid, "state": errdefs.ErrFailedPrecondition,
	} {
		t.Run(name, func(t *testing.T) {
			fail := func(effect string) {
				here.setFault(func(op, _ string) error {
					if op == effect {
						return fmt.Errorf("exit status 1: %w", class)
					}
					return nil
				})
			}
			defer here.setFault(nil)
			fail("start:before")
			_, err := here.agent.Operate(f.ctx, caller, stopped.ID, agent.OperationStart, 0)
			var failed *errdefs.Error
			if !errors.As(err, &failed) || failed.Code != "CONTAINER_HOST_COMMAND_FAILED" {
				t.Fatalf("start: %v", err)
			}
			if data, ok := failed.Data.(agent.OperationResult); !ok || !data.Error || data.ContainerID != stopped.ID || data.Status != "stopped" || data.Message == "" {
				t.Errorf("start: data %+v", failed.Data)
			}
			fail("snapshot:before")
			_, err = here.agent.CreateSnapshot(f.ctx, caller, stopped.ID, agent.CreateSnapshotRequest{})
			if want := "CONTAINER_HOST_COMMAND_FAILED"; code(err) != want && class != errdefs.ErrExhausted {
				t.Errorf("snapshot: %v (%s)", err, code(err))
			}
			if class == errdefs.ErrExhausted && !errors.Is(err, errdefs.ErrExhausted) {
				t.Errorf("snapshot without space: %v", err)
			}
		})
	}
}

// A request does not wait for ever for a server that goes away after it was accepted. The work goes on when the server is back.
func TestAServerGoesAwayAfterItAccepted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		effect, code string
		request      func(a *agent.Agent, id string) error
	}{
		"stop": {"stop:before", "CONTAINER_HOST_TIMEOUT", func(a *agent.Agent, id string) error {
			return second(a.Operate(t.Context(), caller, id, agent.OperationStop, time.Minute))
		}},
		"snapshot": {"snapshot:before", "", func(a *agent.Agent, id string) error {
			return second(a.CreateSnapshot(t.Context(), caller, id, agent.CreateSnapshotRequest{}))
		}},
		"delete": {"stop:before", "EXTERNAL_SERVICE_ERROR", func(a *agent.Agent, id string) error { return a.DeleteContainer(t.Context(), caller, id) }},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 2)
			here, there := f.servers[0], f.servers[1]
			here.grace = 100 * time.Millisecond
			here.restart()
			container := f.create(there, "container")
			dead := make(chan struct{})
			there.setFault(func(op, _ string) error {
				if op == c.effect {
					there.die()
					close(dead)
				}
				return nil
			})
			answer := make(chan error, 1)
			go func() { answer <- c.request(here.agent, container.ID) }()
			f.wait(dead)
			there.kill()
			select {
			case err := <-answer:
				var refused *errdefs.Error
				if !errors.As(err, &refused) || refused.Code != c.code || c.code == "" && refused.Class != errdefs.ErrUnavailable {
					t.Errorf("%v (%s)", err, code(err))
				}
			case <-f.ctx.Done():
				t.Fatal("never answered")
			}
			there.setFault(nil)
			there.start()
			f.until("the operation went on", func() bool {
				current, ok := here.store.Mirror().Container(container.ID)
				return !ok || current.JobID == ""
			})
		})
	}
}
