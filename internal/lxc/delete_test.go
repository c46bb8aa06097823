package lxc

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/lxc/incus/v6/shared/api"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestDelete(t *testing.T) {
	tests := []struct {
		name   string
		answer func(*fakeIncus) http.HandlerFunc
		want   error
	}{
		{"good", func(f *fakeIncus) http.HandlerFunc { return f.started("") }, nil},
		{"protected", func(f *fakeIncus) http.HandlerFunc { return f.started("Instance is protected") }, errdefs.ErrFailedPrecondition},
		{"running", func(*fakeIncus) http.HandlerFunc { return refuses(http.StatusBadRequest, "Instance is running") }, errdefs.ErrFailedPrecondition},
		{"in use", func(f *fakeIncus) http.HandlerFunc {
			return f.started("Error deleting storage volume: cannot destroy 'tank/incus/containers/c1': dataset is busy")
		}, errdefs.ErrBusy},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fake, runtime := newFake(t)
			fake.handle("DELETE /1.0/instances/c1", test.answer(fake))
			if err := runtime.Delete(t.Context(), "c1"); errdefs.ClassOf(err) != test.want {
				t.Fatalf("got %v, want %v", err, test.want)
			}
		})
	}
}

// TestDeleteWhileItIsBeingMade deletes an instance whose creation an earlier life of the agent asked for.
func TestDeleteWhileItIsBeingMade(t *testing.T) {
	fake, runtime := newFake(t)
	fake.handle("DELETE /1.0/instances/c1", refuses(http.StatusNotFound, "Instance not found"), fake.started(""))
	fake.handle("GET /1.0/operations", answers(map[string]any{"running": []api.Operation{{
		ID: "creation", Class: "task", StatusCode: api.Running, Description: "Creating instance",
		Resources: map[string][]string{"instances": {"/1.0/instances/c1?project=default"}},
	}}}), answers(map[string]any{}))
	fake.operations["creation"] = api.Operation{ID: "creation", StatusCode: api.Failure, Err: "it failed, half way"}
	if err := runtime.Delete(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if n := fake.count("DELETE /1.0/instances/c1"); n != 2 {
		t.Errorf("asked %d times, want twice", n)
	}
}

func TestDeleteRemovesEmptyMountpoints(t *testing.T) {
	fake, runtime := newFake(t)
	fake.handle("DELETE /1.0/instances/{name}", fake.started(""))
	pool := filepath.Join(filepath.Dir(fake.socket), "storage-pools", "default")
	for _, dir := range []string{"containers/c1", "containers-snapshots/c1/s0", "containers/c2/rootfs", "containers/c3"} {
		if err := os.MkdirAll(filepath.Join(pool, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, instance := range []string{"c1", "c2"} {
		if err := runtime.Delete(t.Context(), instance); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]bool{
		"containers/c1": false, "containers-snapshots/c1": false, "containers/c2/rootfs": true, "containers/c3": true,
		"containers": true,
	} {
		if _, err := os.Stat(filepath.Join(pool, path)); (err == nil) != want {
			t.Errorf("%s: %v, want there %v", path, err, want)
		}
	}
}

const datasetAway = "Failed to run: zfs set mountpoint=legacy canmount=noauto tank/incus/containers/c1: exit status 1 " +
	"(cannot open 'tank/incus/containers/c1': dataset does not exist)"

func TestDeleteSnapshotWhileTheDatasetIsAway(t *testing.T) {
	fake, runtime := newFake(t)
	fake.handle("DELETE /1.0/instances/c1/snapshots/s0", fake.started(datasetAway),
		refuses(http.StatusNotFound, `Failed to fetch snapshot "s0" of instance "c1": Instance_snapshot not found`))
	if err := runtime.DeleteSnapshot(t.Context(), "c1", "s0"); err != nil {
		t.Fatal(err)
	}
}
