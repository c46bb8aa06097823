package lxc

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/lxc/incus/v6/shared/api"
	"go.uber.org/goleak"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNoDaemon(t *testing.T) {
	runtime := New(Options{Socket: filepath.Join(t.TempDir(), "none")})
	if err := runtime.Check(t.Context()); errdefs.ClassOf(err) != errdefs.ErrUnavailable {
		t.Fatalf("got %v, want unavailable", err)
	}
}

// TestSilentDaemon is a daemon that accepts and never answers.
func TestSilentDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	runtime := New(Options{Socket: socket, AnswerTimeout: 30 * time.Millisecond})
	if err := runtime.Start(t.Context(), "c1"); !errors.Is(err, errSilent) {
		t.Errorf("got %v, want %v", err, errSilent)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	runtime = New(Options{Socket: socket})
	if err := runtime.Start(ctx, "c1"); !errors.Is(err, context.Canceled) || errdefs.ClassOf(err) != errdefs.ErrUnavailable {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCancelledWhileTheOperationRuns(t *testing.T) {
	fake, runtime := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	fake.handle("PUT /1.0/instances/c1/state", func(w http.ResponseWriter, r *http.Request) {
		respond(w, http.StatusAccepted, api.AsyncResponse, api.Operation{ID: "slow", StatusCode: api.Running})
	})
	fake.handle("GET /1.0/operations/slow/wait", func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if err := runtime.Start(ctx, "c1"); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want cancelled", err)
	}
}

func TestStuckOperation(t *testing.T) {
	fake, runtime := newFake(t)
	runtime.options.OperationTimeout = 30 * time.Millisecond
	fake.handle("PUT /1.0/instances/c1/state", func(w http.ResponseWriter, r *http.Request) {
		respond(w, http.StatusAccepted, api.AsyncResponse, api.Operation{ID: "slow", StatusCode: api.Running})
	})
	fake.handle("GET /1.0/operations/slow/wait", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	fake.handle("GET /1.0/instances/c1", instanceIn(api.Stopped))
	if err := runtime.Start(t.Context(), "c1"); !errors.Is(err, errStuck) {
		t.Fatalf("got %v, want %v", err, errStuck)
	}
}

func TestStatusClasses(t *testing.T) {
	tests := []struct {
		status int
		text   string
		want   error
	}{
		{http.StatusBadRequest, "Unknown configuration key", errdefs.ErrInvalid},
		{http.StatusBadRequest, "Instance is running", errdefs.ErrFailedPrecondition},
		{http.StatusForbidden, "not authorized", errdefs.ErrPermissionDenied},
		{http.StatusNotFound, "Instance not found", errdefs.ErrNotFound},
		{http.StatusConflict, `This "instances" entry already exists`, errdefs.ErrAlreadyExists},
		{http.StatusPreconditionFailed, "ETag doesn't match", errdefs.ErrStale},
		{http.StatusInternalServerError, "something else", errdefs.ErrInternal},
		{http.StatusServiceUnavailable, "Incus daemon is shutting down", errdefs.ErrUnavailable},
		{http.StatusInternalServerError, "Incus is shutting down", errdefs.ErrUnavailable},
		{http.StatusInternalServerError, "Failed to begin transaction: sql: database is closed", errdefs.ErrUnavailable},
		{http.StatusInternalServerError, `Failed to obtain lock "InstanceOperation_default_c1": context canceled`, errdefs.ErrUnavailable},
		{http.StatusInternalServerError, `Storage pool "default" unavailable on this server`, errdefs.ErrAborted},
		{http.StatusInternalServerError, "The instance cannot be cleanly shutdown as in Error status", errdefs.ErrAborted},
	}
	for _, test := range tests {
		fake, runtime := newFake(t)
		fake.handle("DELETE /1.0/instances/c1/snapshots/s0", refuses(test.status, test.text))
		err := runtime.DeleteSnapshot(t.Context(), "c1", "s0")
		want := test.want
		if want == errdefs.ErrNotFound {
			want = nil // a missing snapshot is as wanted
		}
		if errdefs.ClassOf(err) != want {
			t.Errorf("%d %s: got %v, want %v", test.status, test.text, err, want)
		}
	}
}

func TestObserve(t *testing.T) {
	fake, runtime := newFake(t)
	fake.handle("PUT /1.0/instances/c1/state", fake.started(""))
	var calls []string
	runtime.options.Observe = func(call string, took time.Duration, err error) {
		if err != nil || took <= 0 {
			t.Errorf("%s: %v, %v", call, took, err)
		}
		calls = append(calls, call)
	}
	if err := errors.Join(runtime.Start(t.Context(), "c1"), runtime.ForceStop(t.Context(), "c1")); err != nil {
		t.Fatal(err)
	}
	if len(calls) != 2 || calls[0] != "start" || calls[1] != "force-stop" {
		t.Errorf("observed %v", calls)
	}
}

func TestCheck(t *testing.T) {
	server := api.Server{}
	server.Auth, server.APIExtensions = "trusted", requiredExtensions
	untrusted := server
	untrusted.Auth = "untrusted"
	old := server
	old.APIExtensions = requiredExtensions[1:]
	pool := func(driver string) http.HandlerFunc {
		pool := api.StoragePool{Name: "default", Driver: driver, Status: api.StoragePoolStatusCreated}
		pool.Config = map[string]string{"zfs.pool_name": "tank/incus"}
		return answers(pool)
	}
	tests := []struct {
		name   string
		server api.Server
		pool   http.HandlerFunc
		want   error
	}{
		{"good", server, pool("zfs"), nil},
		{"untrusted", untrusted, pool("zfs"), errdefs.ErrPermissionDenied},
		{"too old", old, pool("zfs"), errdefs.ErrUnsupported},
		{"another driver", server, pool("btrfs"), errdefs.ErrUnsupported},
		{"no pool", server, refuses(http.StatusNotFound, "Storage pool not found"), errdefs.ErrNotFound},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fake, runtime := newFake(t)
			fake.handle("GET /1.0", answers(test.server))
			fake.handle("GET /1.0/storage-pools/default", test.pool)
			if err := runtime.Check(t.Context()); errdefs.ClassOf(err) != test.want {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			dataset, err := runtime.PoolDataset(t.Context())
			if test.name == "good" && (dataset != "tank/incus" || err != nil) {
				t.Errorf("dataset %q, %v", dataset, err)
			}
		})
	}
}
