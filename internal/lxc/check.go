package lxc

import (
	"context"
	"fmt"
	"slices"

	incus "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"
	"github.com/lxc/incus/v6/shared/util"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// requiredExtensions are the API extensions that the calls here need; Incus 6.0.4 has them all.
var requiredExtensions = []string{
	"api_filtering", "event_lifecycle", "instances", "snapshot_schedule_aliases", "storage", "storage_volumes_created_at",
	"storage_zfs_use_refquota",
}

// Check answers whether Incus can be reached, trusts us, knows what we ask of it, and has the pool with the zfs driver:
// ErrUnavailable, ErrPermissionDenied, ErrUnsupported, or ErrNotFound for the pool.
func (r *Runtime) Check(ctx context.Context) error {
	return r.run(ctx, "check", "", func(ctx context.Context) error {
		var server *api.Server
		err := r.exchange(ctx, func(client incus.InstanceServer) (err error) {
			server, _, err = client.GetServer()
			return err
		})
		if err != nil {
			return err
		}
		if server.Auth != "trusted" {
			return fmt.Errorf("incus does not trust us (it says %q): %w", server.Auth, errdefs.ErrPermissionDenied)
		}
		for _, extension := range requiredExtensions {
			if !slices.Contains(server.APIExtensions, extension) {
				return fmt.Errorf("incus %s lacks the API extension %q: %w",
					server.Environment.ServerVersion, extension, errdefs.ErrUnsupported)
			}
		}
		_, err = r.poolDataset(ctx)
		return err
	})
}

// PoolDataset returns the ZFS dataset that the storage pool lives in, such as "tank/incus": below it, Incus keeps a
// container's files at agent.InstanceDataset. It fails as Check does.
func (r *Runtime) PoolDataset(ctx context.Context) (string, error) {
	var dataset string
	err := r.run(ctx, "pool-dataset", r.options.Pool, func(ctx context.Context) (err error) {
		dataset, err = r.poolDataset(ctx)
		return err
	})
	return dataset, err
}

// CountsHistory tells whether the size limits of containers made from now on count their snapshots, too, and with them all
// that a copy shares with its source (volume.zfs.use_refquota of the storage pool; it is Incus's default).
func (r *Runtime) CountsHistory(ctx context.Context) (counts bool, err error) {
	err = r.run(ctx, "pool-settings", r.options.Pool, func(ctx context.Context) error {
		pool, err := r.storagePool(ctx)
		if err == nil {
			counts = !util.IsTrue(pool.Config["volume.zfs.use_refquota"])
		}
		return err
	})
	return counts, err
}

func (r *Runtime) poolDataset(ctx context.Context) (string, error) {
	pool, err := r.storagePool(ctx)
	switch {
	case err != nil:
		return "", err
	case pool.Driver != "zfs":
		return "", fmt.Errorf("storage pool %q has the driver %q, not zfs: %w", pool.Name, pool.Driver, errdefs.ErrUnsupported)
	case pool.Status != api.StoragePoolStatusCreated:
		return "", fmt.Errorf("storage pool %q is %s: %w", pool.Name, pool.Status, errdefs.ErrUnavailable)
	case pool.Config["zfs.pool_name"] == "":
		// Only full access shows it.
		return "", fmt.Errorf("storage pool %q does not show its zfs.pool_name: %w", pool.Name, errdefs.ErrPermissionDenied)
	}
	return pool.Config["zfs.pool_name"], nil
}
