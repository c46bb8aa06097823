//go:build e2e

package lxc_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lxc"
)

func TestRealStates(t *testing.T) {
	runtime, ctx := open(t)
	name := launch(t, runtime, ctx)
	must(t, runtime.Start(ctx, name))
	wantStatus(t, runtime, ctx, name, agent.InstanceRunning)
	must(t, runtime.Resume(ctx, name))

	must(t, runtime.Pause(ctx, name))
	must(t, runtime.Pause(ctx, name))
	wantStatus(t, runtime, ctx, name, agent.InstancePaused)
	wantClass(t, runtime.Start(ctx, name), errdefs.ErrFailedPrecondition)
	must(t, runtime.Resume(ctx, name))
	wantStatus(t, runtime, ctx, name, agent.InstanceRunning)
	wantClass(t, runtime.Delete(ctx, name), errdefs.ErrFailedPrecondition)

	must(t, runtime.ForceStop(ctx, name))
	must(t, runtime.ForceStop(ctx, name))
	must(t, runtime.Stop(ctx, name, time.Second))
	wantStatus(t, runtime, ctx, name, agent.InstanceStopped)
	wantClass(t, runtime.Pause(ctx, name), errdefs.ErrFailedPrecondition)
	wantClass(t, runtime.Resume(ctx, name), errdefs.ErrFailedPrecondition)

	must(t, runtime.Start(ctx, name))
	must(t, runtime.Stop(ctx, name, time.Minute))
	wantStatus(t, runtime, ctx, name, agent.InstanceStopped)

	// An operation that outlasts the first poll for its end.
	must(t, runtime.Start(ctx, name))
	deaf(t, name)
	began := time.Now()
	wantClass(t, runtime.Stop(ctx, name, 23*time.Second), errdefs.ErrBusy)
	if took := time.Since(began); took < 22*time.Second {
		t.Errorf("took %v", took)
	}
	must(t, runtime.ForceStop(ctx, name))

	// Paused, then forced.
	must(t, runtime.Start(ctx, name))
	must(t, runtime.Pause(ctx, name))
	must(t, runtime.ForceStop(ctx, name))
	wantStatus(t, runtime, ctx, name, agent.InstanceStopped)
	must(t, runtime.Delete(ctx, name))
	must(t, runtime.Delete(ctx, name))
	wantClass(t, runtime.Start(ctx, name), errdefs.ErrNotFound)
}

// TestRealStopNotHeeded stops a container whose init does not listen.
func TestRealStopNotHeeded(t *testing.T) {
	runtime, ctx := open(t)
	name := launch(t, runtime, ctx)
	deaf(t, name)
	began := time.Now()
	wantClass(t, runtime.Stop(ctx, name, 2*time.Second), errdefs.ErrBusy)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	wantStatus(t, runtime, ctx, name, agent.InstanceRunning)
	// Incus keeps the instance locked for the stop that did not come: nothing else gets at it, but another stop does.
	impatient := lxc.New(lxc.Options{BusyTimeout: 2 * time.Second})
	wantClass(t, impatient.Configure(ctx, name, map[string]string{"limits.processes": "99"}), errdefs.ErrBusy)
	wantClass(t, runtime.Stop(ctx, name, time.Second), errdefs.ErrBusy)
	must(t, runtime.ForceStop(ctx, name))
	wantStatus(t, runtime, ctx, name, agent.InstanceStopped)
	must(t, runtime.Configure(ctx, name, map[string]string{"limits.processes": "100"}))
}

// deaf makes the container's init ignore the request to shut down.
func deaf(t *testing.T, name string) {
	t.Helper()
	sh(t, "incus", "config", "set", name, "raw.lxc=lxc.signal.halt=SIGURG")
	sh(t, "incus", "restart", "--force", name)
}

// TestRealBusy configures an instance while a stop that somebody else asked for is under way.
func TestRealBusy(t *testing.T) {
	runtime, ctx := open(t)
	name := launch(t, runtime, ctx)
	deaf(t, name)
	abandoned, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	wantClass(t, runtime.Stop(abandoned, name, 8*time.Second), errdefs.ErrUnavailable) // its context ends first
	done := make(chan error, 1)
	go func() { done <- runtime.Configure(ctx, name, map[string]string{"user.x": "y"}) }()
	must(t, runtime.ForceStop(ctx, name))
	must(t, <-done)
	if got := sh(t, "incus", "config", "get", name, "user.x"); got != "y" {
		t.Errorf("user.x is %q", got)
	}
}

// TestRealAbandonedCreation cuts a creation short and goes on as an agent after a restart would.
func TestRealAbandonedCreation(t *testing.T) {
	runtime, ctx := open(t)
	for _, patience := range []time.Duration{50, 400, 1500} {
		spec := newSpec(t, runtime)
		short, cancel := context.WithTimeout(ctx, patience*time.Millisecond)
		err := runtime.CreateFromImage(short, spec, "debian/13")
		cancel()
		t.Logf("after %d ms: %v", patience, err)
		if err := runtime.Delete(ctx, spec.Name); err != nil { // it has come, and protected
			wantClass(t, err, errdefs.ErrFailedPrecondition)
			must(t, runtime.Protect(ctx, spec.Name, false))
			must(t, runtime.Delete(ctx, spec.Name))
		}
		if _, err := runtime.Instance(ctx, spec.Name); errdefs.ClassOf(err) != errdefs.ErrNotFound {
			t.Errorf("after %d ms and Delete: %v", patience, err)
		}
		short, cancel = context.WithTimeout(ctx, patience*time.Millisecond)
		_ = runtime.CreateEmpty(short, spec)
		cancel()
		if err := runtime.CreateEmpty(ctx, spec); err != nil {
			wantClass(t, err, errdefs.ErrAlreadyExists)
		}
		wantStatus(t, runtime, ctx, spec.Name, agent.InstanceStopped)
	}
}

func TestRealProtection(t *testing.T) {
	runtime, ctx := open(t)
	spec := newSpec(t, runtime)
	must(t, runtime.CreateEmpty(ctx, spec))
	wantClass(t, runtime.CreateEmpty(ctx, spec), errdefs.ErrAlreadyExists)
	wantClass(t, runtime.Delete(ctx, spec.Name), errdefs.ErrFailedPrecondition)
	must(t, runtime.Protect(ctx, spec.Name, false))
	must(t, runtime.Protect(ctx, spec.Name, true))
	wantClass(t, runtime.Delete(ctx, spec.Name), errdefs.ErrFailedPrecondition)
	must(t, runtime.Protect(ctx, spec.Name, false))
	must(t, runtime.Delete(ctx, spec.Name))
}

func TestRealMissingImage(t *testing.T) {
	runtime, ctx := open(t)
	for _, image := range []string{"no/such", "0123456789abcdef"} {
		spec := newSpec(t, runtime)
		err := runtime.CreateFromImage(ctx, spec, image)
		wantClass(t, err, errdefs.ErrNotFound)
		if err != nil && !strings.Contains(err.Error(), image) {
			t.Errorf("%v does not name it", err)
		}
	}
	spec := newSpec(t, runtime)
	spec.Config = map[string]string{"limits.memory": "plenty"}
	wantClass(t, runtime.CreateFromImage(ctx, spec, busybox), errdefs.ErrInvalid)
	wantClass(t, runtime.CreateEmpty(ctx, spec), errdefs.ErrInvalid)
}

// rename gives a stopped instance, and its dataset, another name.
func rename(t *testing.T, instance, name string) {
	t.Helper()
	sh(t, "incus", "rename", instance, name)
}

func TestRealEvents(t *testing.T) {
	runtime, ctx := open(t)
	listening, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := runtime.Events(listening)
	must(t, err)
	if first := <-events; first.Kind != agent.EventResync {
		t.Errorf("first is %v", first)
	}
	spec := newSpec(t, runtime)
	must(t, runtime.CreateFromImage(ctx, spec, busybox))
	must(t, runtime.Protect(ctx, spec.Name, false)) // here, since nothing may come between the last two events
	must(t, runtime.Start(ctx, spec.Name))
	must(t, runtime.Pause(ctx, spec.Name))
	must(t, runtime.Resume(ctx, spec.Name))
	must(t, runtime.Configure(ctx, spec.Name, map[string]string{"user.x": "y"}))
	must(t, runtime.ForceStop(ctx, spec.Name))
	rename(t, spec.Name, spec.Name+"r")
	rename(t, spec.Name+"r", spec.Name)
	must(t, runtime.Delete(ctx, spec.Name))
	var kinds []agent.EventKind
	for event := range events {
		if strings.HasPrefix(event.Instance, spec.Name) {
			kinds = append(kinds, event.Kind)
		}
		if event.Kind == agent.EventDeleted && event.Instance == spec.Name && kinds[len(kinds)-2] == agent.EventCreated {
			cancel()
		}
	}
	t.Log(kinds)
	// Incus reports some changes more than once, such as the configuration.
	want := []agent.EventKind{agent.EventCreated, agent.EventStarted, agent.EventPaused, agent.EventResumed,
		agent.EventUpdated, agent.EventStopped, agent.EventDeleted}
	at := 0
	for _, kind := range kinds {
		if at < len(want) && kind == want[at] {
			at++
		}
	}
	if at != len(want) || !slices.Contains(kinds, agent.EventCreated) {
		t.Errorf("got %v, want among them in order %v", kinds, want)
	}
}
