package lxc

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/lxc/incus/v6/shared/api"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

var spec = agent.InstanceSpec{
	Name: "c1", ContainerID: "id1", Description: "words",
	Env:    map[string]string{"TZ": "UTC"},
	Config: map[string]string{"limits.memory": "1GiB", "raw.lxc": "lxc.aa=unconfined", "volatile.uuid": "theirs"},
	IDMap:  `[{"Isuid":true}]`,
}

// profile answers with the default profile.
func profile(devices api.DevicesMap) http.HandlerFunc {
	profile := api.Profile{Name: "default"}
	profile.Devices = devices
	return answers(profile)
}

func TestCreateEmpty(t *testing.T) {
	fake, runtime := newFake(t)
	fake.handle("GET /1.0/profiles/default", profile(api.DevicesMap{
		"disk0": {"type": "disk", "path": "/", "pool": "other", "size": "5GiB"},
		"eth0":  {"type": "nic", "network": "incusbr0"},
	}))
	var post api.InstancesPost
	fake.handle("POST /1.0/instances", func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&post); err != nil {
			t.Error(err)
		}
		fake.started("")(w, r)
	})
	if err := runtime.CreateEmpty(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"user.hoody.container":       "id1",
		"boot.autostart":             "false",
		"security.protection.delete": "true",
		"snapshots.schedule":         "@never",
		"volatile.last_state.idmap":  spec.IDMap,
		"volatile.apply_template":    "copy",
		"environment.TZ":             "UTC",
		"limits.memory":              "1GiB",
	}
	if !maps.Equal(post.Config, want) {
		t.Errorf("config\n%v, want\n%v", post.Config, want)
	}
	if post.Type != api.InstanceTypeContainer || post.Source.Type != "none" || post.Description != "words" || post.Start {
		t.Errorf("posted %+v", post)
	}
	// One root disk, under the profile's name and with its size, but in our pool; the network stays the profile's.
	root := map[string]string{"type": "disk", "path": "/", "pool": "default", "size": "5GiB"}
	if len(post.Devices) != 1 || !maps.Equal(post.Devices["disk0"], root) {
		t.Errorf("devices %v", post.Devices)
	}
	// A size that comes with the container goes before the profile's.
	sized := spec
	sized.RootSize = "20GiB"
	if err := runtime.CreateEmpty(t.Context(), sized); err != nil {
		t.Fatal(err)
	}
	if root["size"] = "20GiB"; !maps.Equal(post.Devices["disk0"], root) {
		t.Errorf("devices %v", post.Devices)
	}
}

func TestCreateFromImage(t *testing.T) {
	image := func(kind string) http.HandlerFunc { return answers(api.Image{Fingerprint: "abc123", Type: kind}) }
	alias := answers(api.ImageAliasesEntry{Name: "debian/13", ImageAliasesEntryPut: api.ImageAliasesEntryPut{Target: "abc123"}})
	missing := refuses(http.StatusNotFound, "Image alias not found")
	tests := []struct {
		name, image string
		alias       http.HandlerFunc
		found       http.HandlerFunc
		want        error
	}{
		{"by alias", "debian/13", alias, image("container"), nil},
		{"by fingerprint", strings.Repeat("ab", 32), missing, image("container"), nil},
		{"by a pattern for one", "a" + strings.Repeat("_", 63), missing, image("container"), errdefs.ErrNotFound},
		{"by the beginning of one", "abc", missing, image("container"), errdefs.ErrNotFound},
		{"none", "debian/12", missing, refuses(http.StatusNotFound, "Image not found"), errdefs.ErrNotFound},
		{"for a VM", "debian/13", alias, image("virtual-machine"), errdefs.ErrUnsupported},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fake, runtime := newFake(t)
			fake.handle("GET /1.0/images/aliases/{name}", test.alias)
			fake.handle("GET /1.0/images/{fingerprint}", test.found)
			fake.handle("GET /1.0/profiles/default", profile(nil))
			var post api.InstancesPost
			fake.handle("POST /1.0/instances", func(w http.ResponseWriter, r *http.Request) {
				_ = json.NewDecoder(r.Body).Decode(&post)
				fake.started("")(w, r)
			})
			err := runtime.CreateFromImage(t.Context(), spec, test.image)
			if errdefs.ClassOf(err) != test.want {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if err != nil {
				if !strings.Contains(err.Error(), test.image) {
					t.Errorf("%v does not name the image", err)
				}
				return
			}
			if post.Source.Type != "image" || post.Source.Fingerprint != "abc123" || post.Config[keyApplyTemplate] != "" {
				t.Errorf("posted %+v", post)
			}
			if post.Devices["root"]["pool"] != "default" {
				t.Errorf("devices %v", post.Devices)
			}
		})
	}
}

func TestCreateTakenName(t *testing.T) {
	fake, runtime := newFake(t)
	fake.handle("GET /1.0/profiles/default", profile(nil))
	fake.handle("POST /1.0/instances", fake.started(`Failed creating instance record: Add instance info to the database: `+
		`Failed to create "instances" entry: UNIQUE constraint failed: instances.project_id, instances.name`))
	fake.handle("GET /1.0/operations", answers(map[string]any{}))
	if err := runtime.CreateEmpty(t.Context(), spec); errdefs.ClassOf(err) != errdefs.ErrAlreadyExists {
		t.Fatalf("got %v, want already exists", err)
	}
}
