package lxc

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	incus "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"
	"github.com/lxc/incus/v6/shared/util"
	"golang.org/x/sync/errgroup"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
)

// Instance reads one instance of the default project, ours or not. A missing one is ErrNotFound.
func (r *Runtime) Instance(ctx context.Context, instance string) (agent.Instance, error) {
	var result agent.Instance
	err := r.run(ctx, "instance", instance, func(ctx context.Context) error {
		var found *api.Instance
		err := r.exchange(ctx, func(server incus.InstanceServer) (err error) {
			found, _, err = server.GetInstance(instance)
			return err
		})
		if err != nil {
			return err
		}
		storage, err := r.storageOf(ctx, instance)
		if err != nil {
			return err
		}
		result = storage.instance(found)
		return nil
	})
	return result, err
}

// Instances reads all instances of the default project that carry a container id. It costs three questions to Incus,
// however many there are: the instances, the pool's volumes (which list the snapshots, too) and the pool.
//
// It does not ask for instances "in full": Incus then measures each running container, for which it starts processes;
// that took half a second per container where all else took a few milliseconds.
func (r *Runtime) Instances(ctx context.Context) ([]agent.Instance, error) {
	var result []agent.Instance
	err := r.run(ctx, "instances", "", func(ctx context.Context) error {
		var all []api.Instance
		var storage *storage
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error {
			return r.exchange(ctx, func(server incus.InstanceServer) (err error) {
				all, err = server.GetInstances(api.InstanceTypeAny)
				return err
			})
		})
		group.Go(func() (err error) {
			storage, err = r.storageOfAll(ctx)
			return err
		})
		if err := group.Wait(); err != nil {
			return err
		}
		for i := range all {
			if all[i].Config[keyContainer] != "" {
				result = append(result, storage.instance(&all[i]))
			}
		}
		return nil
	})
	return result, err
}

// instance translates what Incus knows.
//
// Limits and autostart are taken as they apply, from profiles, too, since a copy gets its host's profiles and not the
// source's. The environment is the instance's own: it is what Configure can change.
func (s *storage) instance(found *api.Instance) agent.Instance {
	_, root := rootDisk(found.ExpandedDevices)
	return agent.Instance{
		Name:        found.Name,
		ContainerID: found.Config[keyContainer],
		Description: found.Description,
		Status:      statusOf(found.StatusCode),
		Config:      PortableConfig(found.ExpandedConfig),
		Env:         environmentOf(found.Config),
		IDMap:       found.Config[agent.ConfigIDMap],
		Autostart:   util.IsTrue(found.ExpandedConfig[agent.ConfigAutostart]),
		Snapshots:   s.snapshotsOf(found.Name),
		Unsupported: s.unsupported(found),
		RootSize:    root["size"],
		RootLimits:  s.rootLimits(found),
	}
}

func environmentOf(config map[string]string) map[string]string {
	env := map[string]string{}
	for key, value := range config {
		if name, ok := strings.CutPrefix(key, agent.ConfigEnvironment); ok {
			env[name] = value
		}
	}
	return env
}

// unsupported lists what keeps an instance from being a source: files that are not in its own dataset.
func (s *storage) unsupported(found *api.Instance) []string {
	var reasons []string
	if found.Type != string(api.InstanceTypeContainer) {
		reasons = append(reasons, "it is a "+strings.ReplaceAll(found.Type, "-", " "))
	}
	devices := found.ExpandedDevices
	if _, root := rootDisk(devices); root == nil {
		reasons = append(reasons, "it has no root disk")
	} else if root["pool"] != s.pool.Name {
		reasons = append(reasons, fmt.Sprintf("its root disk is in storage pool %q", root["pool"]))
	}
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		device := devices[name]
		if device["type"] == "disk" && device["path"] != "/" && device["pool"] != "" {
			reasons = append(reasons, fmt.Sprintf("custom volume %q of storage pool %q is attached as %q",
				device["source"], device["pool"], name))
		}
	}
	if util.IsTrue(s.volumes[found.Name]["zfs.block_mode"]) {
		reasons = append(reasons, "its root volume is a block device (zfs.block_mode)")
	}
	if util.IsTrue(s.setting(found.Name, "zfs.delegate")) {
		reasons = append(reasons, "its dataset is delegated to the container, which may make datasets below (zfs.delegate)")
	}
	return reasons
}

// rootDisk finds the disk that Incus takes for the root filesystem: the one at "/" from a pool, not from a host path.
func rootDisk(devices api.DevicesMap) (string, map[string]string) {
	for name, device := range devices {
		if device["type"] == "disk" && device["path"] == "/" && device["source"] == "" {
			return name, device
		}
	}
	return "", nil
}
