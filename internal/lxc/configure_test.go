package lxc

import (
	"encoding/json"
	"maps"
	"net/http"
	"testing"

	"github.com/lxc/incus/v6/shared/api"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// described answers with an instance and an ETag.
func described(etag, memory string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", etag)
		instance := api.Instance{Name: "c1", Type: "container", StatusCode: api.Stopped}
		instance.Description = "somebody's own words"
		instance.Profiles = []string{"default", "web"}
		instance.Config = map[string]string{"limits.memory": memory, "user.theirs": "stays", "environment.OLD": "1"}
		answer(w, instance)
	}
}

func TestConfigureKeepsTheRestAndRetries(t *testing.T) {
	fake, runtime := newFake(t)
	fake.handle("GET /1.0/instances/c1", described("e1", "1GiB"), described("e2", "2GiB"))
	var put api.InstancePut
	var conditions []string
	fake.handle("PUT /1.0/instances/c1", func(w http.ResponseWriter, r *http.Request) {
		conditions = append(conditions, r.Header.Get("If-Match"))
		if r.Header.Get("If-Match") == "e1" {
			refuse(w, http.StatusPreconditionFailed, "ETag doesn't match: e1 vs e2")
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&put); err != nil {
			t.Error(err)
		}
		fake.started("")(w, r)
	})
	err := runtime.Configure(t.Context(), "c1", map[string]string{"environment.NEW": "2", "environment.OLD": ""})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"limits.memory": "2GiB", "user.theirs": "stays", "environment.NEW": "2"}
	if !maps.Equal(put.Config, want) {
		t.Errorf("wrote %v, want %v", put.Config, want)
	}
	if put.Description != "somebody's own words" || len(put.Profiles) != 2 || put.Restore != "" {
		t.Errorf("wrote %+v", put)
	}
	if len(conditions) != 2 {
		t.Errorf("conditions %q, want two", conditions)
	}
}

func TestConfigureGivesUpOnEndlessRaces(t *testing.T) {
	fake, runtime := newFake(t)
	fake.handle("GET /1.0/instances/c1", described("e1", "1GiB"))
	fake.handle("PUT /1.0/instances/c1", refuses(http.StatusPreconditionFailed, "ETag doesn't match"))
	err := runtime.Protect(t.Context(), "c1", true)
	if errdefs.ClassOf(err) != errdefs.ErrStale || fake.count("PUT /1.0/instances/c1") != configureAttempts {
		t.Fatalf("got %v after %d attempts", err, fake.count("PUT /1.0/instances/c1"))
	}
}

func TestConfigureWithoutAChangeWritesNothing(t *testing.T) {
	fake, runtime := newFake(t)
	fake.handle("GET /1.0/instances/c1", described("e1", "1GiB"))
	if err := runtime.Configure(t.Context(), "c1", map[string]string{"limits.memory": "1GiB", "limits.cpu": ""}); err != nil {
		t.Fatal(err)
	}
}

// TestConfigureWithoutABackupFile: Incus has stored the change and only misses the place for its backup file.
func TestConfigureWithoutABackupFile(t *testing.T) {
	for name, reason := range map[string]string{
		"the dataset is away":  datasetAway,
		"its quota is used up": "write /var/lib/incus/containers/c1/backup.yaml: disk quota exceeded",
	} {
		fake, runtime := newFake(t)
		fake.handle("GET /1.0/instances/c1", described("e1", "1GiB"), described("e2", "2GiB"))
		fake.handle("PUT /1.0/instances/c1", fake.started("Failed to write backup file: "+reason))
		if err := runtime.Configure(t.Context(), "c1", map[string]string{"limits.memory": "2GiB"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := fake.count("PUT /1.0/instances/c1"); n != 1 {
			t.Errorf("%s: wrote %d times", name, n)
		}
	}
}
