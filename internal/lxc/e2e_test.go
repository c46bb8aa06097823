//go:build e2e

package lxc_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lxc"
)

// These tests run as root on a host with Incus and a ZFS pool, see test/e2e/hosts:
//
//	go run ./test/e2e/cmd/hosts test ./internal/lxc -- -test.v

const busybox = "busybox"

func open(t *testing.T) (*lxc.Runtime, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	runtime := lxc.New(lxc.Options{Observe: func(call string, took time.Duration, err error) {
		if err != nil {
			t.Logf("%s, %v: %v", call, took.Round(time.Millisecond), err)
		} else {
			t.Logf("%s, %v", call, took.Round(time.Millisecond))
		}
	}})
	if err := runtime.Check(ctx); err != nil {
		t.Fatal(err)
	}
	return runtime, ctx
}

// newSpec names an instance that does not exist and is gone after the test.
func newSpec(t *testing.T, runtime *lxc.Runtime) agent.InstanceSpec {
	t.Helper()
	random := make([]byte, 10)
	_, _ = rand.Read(random)
	id := "17c0" + hex.EncodeToString(random)
	name := agent.InstanceName(id)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := runtime.Protect(ctx, name, false); errors.Is(err, errdefs.ErrNotFound) {
			return
		}
		if err := errors.Join(runtime.ForceStop(ctx, name), runtime.Delete(ctx, name)); err != nil {
			t.Error("clean up:", err)
		}
	})
	return agent.InstanceSpec{Name: name, ContainerID: id, Description: "a test's"}
}

// launch makes and starts a busybox container, which is not protected against deletion.
func launch(t *testing.T, runtime *lxc.Runtime, ctx context.Context) string {
	t.Helper()
	spec := newSpec(t, runtime)
	must(t, runtime.CreateFromImage(ctx, spec, busybox))
	must(t, runtime.Protect(ctx, spec.Name, false))
	must(t, runtime.Start(ctx, spec.Name))
	return spec.Name
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantClass(t *testing.T, err, class error) {
	t.Helper()
	if errdefs.ClassOf(err) != class {
		t.Errorf("got %v, want %v", err, class)
	}
}

// sh runs a command on the host and returns what it printed.
func sh(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func wantStatus(t *testing.T, runtime *lxc.Runtime, ctx context.Context, instance string, want agent.InstanceStatus) {
	t.Helper()
	got, err := runtime.Instance(ctx, instance)
	must(t, err)
	if got.Status != want {
		t.Errorf("%s is %s, want %s", instance, got.Status, want)
	}
}

// dataset returns where the instance's files are.
func dataset(t *testing.T, runtime *lxc.Runtime, ctx context.Context, instance string) string {
	t.Helper()
	pool, err := runtime.PoolDataset(ctx)
	must(t, err)
	return pool + "/" + agent.InstanceDataset(instance)
}
