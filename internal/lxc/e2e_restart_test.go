//go:build e2e

package lxc_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lxc"
)

// disturb skips tests that would disturb others who use the same host.
func disturb(t *testing.T) {
	t.Helper()
	if os.Getenv("E2E_DISTURB") == "" {
		t.Skip("set E2E_DISTURB to kill and to halt Incus on this host")
	}
}

func TestRealCrash(t *testing.T) {
	disturb(t)
	runtime, ctx := open(t)
	name := launch(t, runtime, ctx)
	deaf(t, name)
	listening, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := runtime.Events(listening)
	must(t, err)
	<-events // the first resync

	cut := make(chan error, 1)
	go func() { cut <- runtime.Stop(ctx, name, time.Minute) }()
	for sh(t, "sh", "-c", "incus operation list -f csv | grep -c Stopping || true") == "0" {
	}
	sh(t, "systemctl", "kill", "-s", "KILL", "--kill-whom=main", "incus.service") // a mere restart waits for operations
	err = <-cut
	t.Logf("a stop that the end of Incus cut: %v", err)
	if !errdefs.Retryable(err) {
		t.Errorf("%v is not worth another try", err)
	}
	began := time.Now()
	for err = runtime.Check(ctx); errdefs.Retryable(err) && time.Since(began) < time.Minute; err = runtime.Check(ctx) {
	}
	must(t, err)
	wantStatus(t, runtime, ctx, name, agent.InstanceRunning)
	must(t, runtime.ForceStop(ctx, name))
	resynced := false
	for event := range events {
		t.Log(event)
		resynced = resynced || event.Kind == agent.EventResync
		if resynced && event.Kind == agent.EventStopped && event.Instance == name {
			break
		}
	}
}

// TestRealHang holds the daemon still.
func TestRealHang(t *testing.T) {
	disturb(t)
	_, ctx := open(t)
	pid := sh(t, "systemctl", "show", "-P", "MainPID", "incus.service")
	sh(t, "kill", "-STOP", pid)
	defer sh(t, "kill", "-CONT", pid)
	hasty := lxc.New(lxc.Options{AnswerTimeout: 2 * time.Second})
	began := time.Now()
	_, err := hasty.Instances(ctx)
	wantClass(t, err, errdefs.ErrUnavailable)
	wantClass(t, hasty.Start(ctx, "hoody-17c0none"), errdefs.ErrUnavailable)
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("took %v", took)
	}
	t.Log(err)
}
