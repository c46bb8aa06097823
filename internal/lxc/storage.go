package lxc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	incus "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"
	"github.com/lxc/incus/v6/shared/units"
	"github.com/lxc/incus/v6/shared/util"
	"golang.org/x/sync/errgroup"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// storage is what the pool says about instances.
type storage struct {
	pool      *api.StoragePool
	volumes   map[string]map[string]string // configuration of the root volumes, by instance
	snapshots map[string][]snapshot        // Incus's own, by instance
}

type snapshot struct {
	name    string
	created time.Time
}

// storageOf asks about one instance. One in another pool is not an error, it has no volume here.
func (r *Runtime) storageOf(ctx context.Context, instance string) (*storage, error) {
	s := newStorage()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		s.pool, err = r.storagePool(ctx)
		return err
	})
	group.Go(func() error {
		err := r.exchange(ctx, func(server incus.InstanceServer) error {
			volume, _, err := server.GetStoragePoolVolume(r.options.Pool, "container", instance)
			if err == nil {
				s.volumes[instance] = volume.Config
			}
			return err
		})
		if is(err, errdefs.ErrNotFound) {
			return nil
		}
		return err
	})
	group.Go(func() error {
		return r.exchange(ctx, func(server incus.InstanceServer) error {
			snapshots, err := server.GetInstanceSnapshots(instance)
			for _, found := range snapshots {
				s.snapshots[instance] = append(s.snapshots[instance], snapshot{found.Name, found.CreatedAt})
			}
			return err
		})
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return s, nil
}

// storageOfAll asks about all instances at once.
func (r *Runtime) storageOfAll(ctx context.Context) (*storage, error) {
	s := newStorage()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		s.pool, err = r.storagePool(ctx)
		return err
	})
	group.Go(func() error {
		return r.exchange(ctx, func(server incus.InstanceServer) error {
			volumes, err := server.GetStoragePoolVolumesWithFilter(r.options.Pool, []string{"type=container"})
			for _, volume := range volumes {
				instance, name, isSnapshot := api.GetParentAndSnapshotName(volume.Name)
				if isSnapshot {
					s.snapshots[instance] = append(s.snapshots[instance], snapshot{name, volume.CreatedAt})
				} else {
					s.volumes[instance] = volume.Config
				}
			}
			return err
		})
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return s, nil
}

func newStorage() *storage {
	return &storage{volumes: map[string]map[string]string{}, snapshots: map[string][]snapshot{}}
}

func (r *Runtime) storagePool(ctx context.Context) (*api.StoragePool, error) {
	var pool *api.StoragePool
	err := r.exchange(ctx, func(server incus.InstanceServer) (err error) {
		pool, _, err = server.GetStoragePool(r.options.Pool)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("storage pool %q: %w", r.options.Pool, err)
	}
	return pool, nil
}

// snapshotsOf returns the names of an instance's Incus snapshots, oldest first.
func (s *storage) snapshotsOf(instance string) []string {
	snapshots := s.snapshots[instance]
	slices.SortFunc(snapshots, func(a, b snapshot) int {
		return cmp.Or(a.created.Compare(b.created), strings.Compare(a.name, b.name))
	})
	var names []string
	for _, snapshot := range snapshots {
		names = append(names, snapshot.name)
	}
	return names
}

// setting reads a volume setting as the ZFS driver does: the volume's own, else the pool's default for volumes.
func (s *storage) setting(instance, key string) string {
	if value := s.volumes[instance][key]; value != "" {
		return value
	}
	return s.pool.Config["volume."+key]
}

// rootLimits returns the properties that Incus sets on an instance's dataset when it makes it, in bytes (SetVolumeQuota
// of its ZFS driver). A dataset that is swapped in does not have them by itself. Nil when there is no limit.
func (s *storage) rootLimits(found *api.Instance) agent.Properties {
	_, root := rootDisk(found.ExpandedDevices)
	size := root["size"]
	if size == "" {
		size = s.pool.Config["volume.size"]
	}
	bytes, err := units.ParseByteSizeString(size) // Incus's own reading: "10GB" is decimal, "10GiB" binary
	if err != nil || bytes <= 0 {
		return nil
	}
	quota, reservation := "quota", "reservation"
	if util.IsTrue(s.setting(found.Name, "zfs.use_refquota")) {
		quota, reservation = "refquota", "refreservation"
	}
	limits := agent.Properties{quota: strconv.FormatInt(bytes, 10)}
	if util.IsTrue(s.setting(found.Name, "zfs.reserve_space")) {
		limits[reservation] = strconv.FormatInt(bytes, 10)
	}
	return limits
}
