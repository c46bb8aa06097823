package lxc

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
)

func container(name string, change func(*api.Instance)) api.Instance {
	var instance api.Instance
	instance.Name, instance.Type, instance.StatusCode = name, "container", api.Stopped
	instance.Config = map[string]string{"user.hoody.container": "id-" + name}
	instance.ExpandedDevices = api.DevicesMap{"root": {"type": "disk", "path": "/", "pool": "default"}}
	if change != nil {
		change(&instance)
	}
	if instance.ExpandedConfig == nil {
		instance.ExpandedConfig = instance.Config
	}
	return instance
}

func serveStorage(fake *fakeIncus, poolConfig map[string]string, volumes ...api.StorageVolume) {
	pool := api.StoragePool{Name: "default", Driver: "zfs", Status: api.StoragePoolStatusCreated}
	pool.Config = poolConfig
	fake.handle("GET /1.0/storage-pools/default", answers(pool))
	fake.handle("GET /1.0/storage-pools/default/volumes", answers(volumes))
	fake.handle("GET /1.0/storage-pools/default/volumes/container/{name}", refuses(http.StatusNotFound, "Storage volume not found"))
}

func TestInstance(t *testing.T) {
	fake, runtime := newFake(t)
	serveStorage(fake, nil)
	monday := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	fake.handle("GET /1.0/instances/c1", answers(container("c1", func(i *api.Instance) {
		i.StatusCode = api.Frozen
		i.Config = map[string]string{
			"user.hoody.container": "id1", "environment.TZ": "UTC", "limits.processes": "100",
			"volatile.last_state.idmap": "[]", "volatile.uuid": "u", "raw.lxc": "x",
		}
		i.ExpandedConfig = maps.Clone(map[string]string(i.Config))
		i.ExpandedConfig["limits.memory"] = "1GiB" // from a profile
		i.ExpandedConfig["environment.PROFILE"] = "1"
		i.ExpandedConfig["boot.autostart"] = "true"
	})))
	fake.handle("GET /1.0/instances/c1/snapshots", answers([]api.InstanceSnapshot{
		{Name: "newer", CreatedAt: monday.Add(time.Hour)}, {Name: "older", CreatedAt: monday},
	}))
	got, err := runtime.Instance(t.Context(), "c1")
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "c1" || got.ContainerID != "id1" || got.Status != agent.InstancePaused || !got.Autostart || got.IDMap != "[]" {
		t.Errorf("got %+v", got)
	}
	if want := map[string]string{"limits.memory": "1GiB", "limits.processes": "100"}; !maps.Equal(got.Config, want) {
		t.Errorf("config %v", got.Config)
	}
	if want := map[string]string{"TZ": "UTC"}; !maps.Equal(got.Env, want) {
		t.Errorf("env %v", got.Env)
	}
	if !slices.Equal(got.Snapshots, []string{"older", "newer"}) {
		t.Errorf("snapshots %v", got.Snapshots)
	}
	if len(got.Unsupported) != 0 || got.RootLimits != nil {
		t.Errorf("unsupported %q, limits %v", got.Unsupported, got.RootLimits)
	}
}

func TestInstancesInAFixedNumberOfCalls(t *testing.T) {
	fake, runtime := newFake(t)
	serveStorage(fake, nil, api.StorageVolume{Name: "c2/s0", Type: "container"}, api.StorageVolume{Name: "c2", Type: "container"})
	foreign := container("foreign", func(i *api.Instance) { i.Config = map[string]string{} })
	fake.handle("GET /1.0/instances", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("recursion") != "1" || r.URL.Query().Has("all-projects") {
			t.Errorf("asked %s", r.URL)
		}
		answer(w, []api.Instance{container("c1", nil), foreign, container("c2", nil)})
	})
	got, err := runtime.Instances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Name != "c1" || got[1].Name != "c2" ||
		len(got[0].Snapshots) != 0 || !slices.Equal(got[1].Snapshots, []string{"s0"}) {
		t.Errorf("got %+v", got)
	}
	if len(fake.calls) != 3 {
		t.Errorf("calls %q, want three", fake.calls)
	}
}

func TestUnsupported(t *testing.T) {
	tests := []struct {
		name   string
		change func(*api.Instance)
		volume map[string]string
		want   string // part of the only reason; empty for none
	}{
		{"plain", nil, nil, ""},
		{"virtual machine", func(i *api.Instance) { i.Type = "virtual-machine" }, nil, "virtual machine"},
		{"custom volume", func(i *api.Instance) {
			i.ExpandedDevices["data"] = map[string]string{"type": "disk", "pool": "default", "source": "vol1", "path": "/data"}
		}, nil, `"vol1"`},
		{"host path", func(i *api.Instance) {
			i.ExpandedDevices["kit"] = map[string]string{"type": "disk", "source": "/opt/kit", "path": "/kit"}
		}, nil, ""},
		{"another pool", func(i *api.Instance) { i.ExpandedDevices["root"]["pool"] = "other" }, nil, `"other"`},
		{"no root disk", func(i *api.Instance) { i.ExpandedDevices = api.DevicesMap{} }, nil, "no root disk"},
		{"block mode", nil, map[string]string{"zfs.block_mode": "true"}, "block"},
		{"delegated", nil, map[string]string{"zfs.delegate": "true"}, "delegated"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			instance := container("c1", test.change)
			s := &storage{pool: &api.StoragePool{Name: "default"}, volumes: map[string]map[string]string{"c1": test.volume}}
			got := s.instance(&instance).Unsupported
			if test.want == "" && len(got) != 0 || test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestRootLimits(t *testing.T) {
	tests := []struct {
		name, size   string
		pool, volume map[string]string
		want         agent.Properties
	}{
		{"none", "", nil, nil, nil},
		{"quota", "1GiB", nil, nil, agent.Properties{"quota": "1073741824"}},
		{"decimal", "1GB", nil, nil, agent.Properties{"quota": "1000000000"}},
		{"refquota by the pool", "1GiB", map[string]string{"volume.zfs.use_refquota": "true"}, nil, agent.Properties{"refquota": "1073741824"}},
		{"refquota by the volume", "1GiB", nil, map[string]string{"zfs.use_refquota": "true"}, agent.Properties{"refquota": "1073741824"}},
		{"the volume overrides", "1GiB", map[string]string{"volume.zfs.use_refquota": "true"},
			map[string]string{"zfs.use_refquota": "false"}, agent.Properties{"quota": "1073741824"}},
		{"size by the pool", "", map[string]string{"volume.size": "2MiB"}, nil, agent.Properties{"quota": "2097152"}},
		{"reserved", "1MiB", map[string]string{"volume.zfs.reserve_space": "true", "volume.zfs.use_refquota": "true"}, nil,
			agent.Properties{"refquota": "1048576", "refreservation": "1048576"}},
		{"nonsense", "much", nil, nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			instance := container("c1", func(i *api.Instance) { i.ExpandedDevices["root"]["size"] = test.size })
			pool := &api.StoragePool{Name: "default"}
			pool.Config = test.pool
			s := &storage{pool: pool, volumes: map[string]map[string]string{"c1": test.volume}}
			if got := s.rootLimits(&instance); !maps.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestPortableConfig(t *testing.T) {
	got := PortableConfig(map[string]string{
		"limits.memory": "1GiB", "limits.cpu": "4", "limits.kernel.nofile": "9", "security.nesting": "true",
		"raw.lxc": "x", "raw.idmap": "x", "volatile.uuid": "x", "security.privileged": "true", "limits.cpu.nodes": "0",
		"security.syscalls.intercept.mount": "true", "user.x": "y", "snapshots.schedule": "@daily", "limits.processes": "",
	})
	want := map[string]string{
		"limits.memory": "1GiB", "limits.cpu": "4", "limits.kernel.nofile": "9", "security.nesting": "true",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	for _, pinned := range []string{"0-3", "1,2"} {
		if got := PortableConfig(map[string]string{"limits.cpu": pinned}); len(got) != 0 {
			t.Errorf("pinned %q: %v", pinned, got)
		}
	}
	if PortableConfig(nil) == nil {
		t.Error("nil for nil")
	}
}
