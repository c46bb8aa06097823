package lxc

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestStateChanges(t *testing.T) {
	start := func(ctx context.Context, r *Runtime) error { return r.Start(ctx, "c1") }
	stop := func(ctx context.Context, r *Runtime) error { return r.Stop(ctx, "c1", 3*time.Second) }
	force := func(ctx context.Context, r *Runtime) error { return r.ForceStop(ctx, "c1") }
	pause := func(ctx context.Context, r *Runtime) error { return r.Pause(ctx, "c1") }
	resume := func(ctx context.Context, r *Runtime) error { return r.Resume(ctx, "c1") }
	tests := []struct {
		name    string
		do      func(context.Context, *Runtime) error
		failure string         // of the operation; empty for success
		state   api.StatusCode // afterwards
		want    error
	}{
		{"start", start, "", api.Running, nil},
		{"start running", start, "The instance is already running", api.Running, nil},
		{"start paused", start, "The instance is already running", api.Frozen, errdefs.ErrFailedPrecondition},
		{"start without a bridge", start, `Failed to start device "eth0": Parent "br9" not found`, api.Stopped, errdefs.ErrInternal},
		{"start with full pool", start, "write /x: no space left on device", api.Stopped, errdefs.ErrExhausted},
		{"stop", stop, "", api.Stopped, nil},
		{"stop stopped", stop, "The instance is already stopped", api.Stopped, nil},
		{"stop not heeded", stop, `Failed shutting down instance, status is "Running": context deadline exceeded`, api.Running, errdefs.ErrBusy},
		{"stop just in time", stop, `Failed shutting down instance, status is "Running": context deadline exceeded`, api.Stopped, nil},
		{"force", force, "", api.Stopped, nil},
		{"force stopped", force, "The instance is already stopped", api.Stopped, nil},
		{"pause paused", pause, "The container is already frozen", api.Frozen, nil},
		{"pause stopped", pause, "The instance isn't running", api.Stopped, errdefs.ErrFailedPrecondition},
		{"resume running", resume, "The container is already running", api.Running, nil},
		{"resume stopped", resume, "The container isn't running", api.Stopped, errdefs.ErrFailedPrecondition},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fake, runtime := newFake(t)
			fake.handle("PUT /1.0/instances/c1/state", fake.started(test.failure))
			fake.handle("GET /1.0/instances/c1", instanceIn(test.state))
			if err := test.do(t.Context(), runtime); !errors.Is(err, test.want) || errdefs.ClassOf(err) != test.want {
				t.Fatalf("got %v, want %v", err, test.want)
			}
		})
	}
}

// A container that was never asked to stop, since somebody else's operation on it does not end, has not refused: nothing says that force is
// needed.
func TestStopBehindAnother(t *testing.T) {
	fake, runtime := newFake(t)
	runtime.options.BusyTimeout = 20 * time.Millisecond
	fake.handle("PUT /1.0/instances/c1/state", refuses(http.StatusInternalServerError, `Instance is busy running a "start" operation`))
	fake.handle("GET /1.0/instances/c1", instanceIn(api.Running))
	fake.handle("GET /1.0/operations", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string][]api.Operation{}) })
	if err := runtime.Stop(t.Context(), "c1", time.Second); !errors.Is(err, agent.ErrOccupied) || errors.Is(err, errdefs.ErrBusy) {
		t.Errorf("stop: %v, want occupied", err)
	}
	if err := runtime.ForceStop(t.Context(), "c1"); errdefs.ClassOf(err) != errdefs.ErrBusy {
		t.Errorf("force: %v, want busy", err)
	}
}

// TestStopOfWhatHasJustStopped: a shutdown runs out of time, the container ends after all, and Incus has not noticed yet when it is
// asked for force.
func TestStopOfWhatHasJustStopped(t *testing.T) {
	const refusal = `container is not running: "c1"`
	fake, runtime := newFake(t)
	fake.handle("PUT /1.0/instances/c1/state", fake.started(refusal))
	fake.handle("GET /1.0/instances/c1", instanceIn(api.Running), instanceIn(api.Running), instanceIn(api.Stopped))
	if err := runtime.ForceStop(t.Context(), "c1"); err != nil {
		t.Errorf("a stop that was noticed a moment later: %v", err)
	}
	fake, runtime = newFake(t)
	runtime.options.BusyTimeout = 20 * time.Millisecond
	fake.handle("PUT /1.0/instances/c1/state", fake.started(refusal))
	fake.handle("GET /1.0/instances/c1", instanceIn(api.Running))
	if err := runtime.ForceStop(t.Context(), "c1"); errdefs.ClassOf(err) != errdefs.ErrBusy {
		t.Errorf("a stop that is never noticed: %v, want busy", err)
	}
}

func TestStopNeverForces(t *testing.T) {
	for timeout, want := range map[time.Duration]int{-time.Second: 1, 0: 1, 1500 * time.Millisecond: 2, time.Minute: 60} {
		fake, runtime := newFake(t)
		var got api.InstanceStatePut
		fake.handle("PUT /1.0/instances/c1/state", func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewDecoder(r.Body).Decode(&got)
			fake.started("")(w, r)
		})
		if err := runtime.Stop(t.Context(), "c1", timeout); err != nil {
			t.Fatal(err)
		}
		if got.Force || got.Timeout != want {
			t.Errorf("timeout %v: asked for %+v, want %d seconds", timeout, got, want)
		}
	}
}

func TestMissingInstance(t *testing.T) {
	fake, runtime := newFake(t)
	missing := refuses(http.StatusNotFound, "Instance not found")
	fake.handle("PUT /1.0/instances/c1/state", missing)
	fake.handle("GET /1.0/instances/c1", missing)
	fake.handle("DELETE /1.0/instances/c1", missing)
	fake.handle("GET /1.0/operations", answers(map[string]any{}))
	ctx := t.Context()
	_, err := runtime.Instance(ctx, "c1")
	for call, err := range map[string]error{
		"Start":     runtime.Start(ctx, "c1"),
		"Stop":      runtime.Stop(ctx, "c1", time.Second),
		"Instance":  err,
		"Configure": runtime.Configure(ctx, "c1", map[string]string{"limits.memory": "1GiB"}),
	} {
		if errdefs.ClassOf(err) != errdefs.ErrNotFound {
			t.Errorf("%s: %v, want not found", call, err)
		}
	}
	if err := runtime.Delete(ctx, "c1"); err != nil {
		t.Errorf("Delete: %v", err)
	}
}

func TestBusyInstanceIsWaitedFor(t *testing.T) {
	fake, runtime := newFake(t)
	fake.handle("PUT /1.0/instances/c1/state",
		fake.started(`Instance is busy running a "stop" operation`),
		fake.started(`Instance is busy running a "stop" operation`),
		fake.started(""))
	running := api.Operation{ID: "other", Class: "task", Description: "Stopping instance", StatusCode: api.Running,
		Resources: map[string][]string{"instances": {"/1.0/instances/c1"}}}
	command := running
	command.ID, command.Description = "command", "Executing command"
	fake.handle("GET /1.0/operations",
		answers(map[string]any{"running": []api.Operation{running, command}}),
		answers(map[string]any{}))
	fake.operations["other"] = api.Operation{ID: "other", StatusCode: api.Success}
	if err := runtime.Start(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if n := fake.count("GET /1.0/operations/other/wait"); n != 1 {
		t.Errorf("waited %d times for the operation, want once", n)
	}
	if n := fake.count("GET /1.0/operations/command/wait"); n != 0 {
		t.Error("waited for a command that somebody runs in the container")
	}
}

func TestBusyTooLong(t *testing.T) {
	fake, runtime := newFake(t)
	runtime.options.BusyTimeout = 20 * time.Millisecond
	fake.handle("PUT /1.0/instances/c1/state", fake.started(`Instance is busy running a "restore" operation`))
	fake.handle("GET /1.0/operations", answers(map[string]any{}))
	fake.handle("GET /1.0/instances/c1", instanceIn(api.Stopped))
	if err := runtime.Start(t.Context(), "c1"); errdefs.ClassOf(err) != errdefs.ErrBusy {
		t.Fatalf("got %v, want busy", err)
	}
}

func TestOperationThatLastsLonger(t *testing.T) {
	fake, runtime := newFake(t)
	fake.handle("PUT /1.0/instances/c1/state", func(w http.ResponseWriter, r *http.Request) {
		respond(w, http.StatusAccepted, api.AsyncResponse, api.Operation{ID: "slow", StatusCode: api.Running})
	})
	// A poll that ends before the operation does, as Incus 6.0.4 and as its documentation says it: neither is an end.
	fake.operations["slow"] = api.Operation{ID: "slow", StatusCode: api.Running}
	fake.handle("GET /1.0/operations/slow/wait",
		refuses(http.StatusOK, "context deadline exceeded"),
		answers(api.Operation{ID: "slow", StatusCode: api.Running}),
		answers(api.Operation{ID: "slow", StatusCode: api.Success}))
	if err := runtime.Start(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if n := fake.count("GET /1.0/operations/slow/wait"); n != 3 {
		t.Errorf("polled %d times, want 3", n)
	}
}

// TestFailureForgotten: the failure was told once, and its operation is gone when asked for.
func TestFailureForgotten(t *testing.T) {
	fake, runtime := newFake(t)
	fake.handle("PUT /1.0/instances/c1/state", func(w http.ResponseWriter, r *http.Request) {
		respond(w, http.StatusAccepted, api.AsyncResponse, api.Operation{ID: "gone", StatusCode: api.Running})
	})
	fake.handle("GET /1.0/operations/gone/wait", refuses(http.StatusOK, "write /x: no space left on device"))
	fake.handle("GET /1.0/instances/c1", instanceIn(api.Stopped))
	if err := runtime.Start(t.Context(), "c1"); errdefs.ClassOf(err) != errdefs.ErrExhausted {
		t.Fatalf("got %v, want exhausted", err)
	}
}

func TestOperationForgottenByARestart(t *testing.T) {
	fake, runtime := newFake(t)
	fake.handle("PUT /1.0/instances/c1/state", func(w http.ResponseWriter, r *http.Request) {
		respond(w, http.StatusAccepted, api.AsyncResponse, api.Operation{ID: "gone", StatusCode: api.Running})
	})
	fake.handle("GET /1.0/instances/c1", instanceIn(api.Stopped))
	if err := runtime.Start(t.Context(), "c1"); errdefs.ClassOf(err) != errdefs.ErrAborted {
		t.Fatalf("got %v, want aborted", err)
	}
}
