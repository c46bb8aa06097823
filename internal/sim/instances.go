package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// instanceProperties are what Incus sets on a container's dataset.
var instanceProperties = agent.Properties{"mountpoint": "legacy", "canmount": "noauto"}

// CreateEmpty implements agent.Runtime.
func (r *Runtime) CreateEmpty(ctx context.Context, spec agent.InstanceSpec) error {
	return r.act(ctx, "create-instance", spec.Name, func() error {
		return r.create(ctx, spec, func(dataset string) error {
			return r.pool.Create(ctx, dataset, instanceProperties)
		})
	})
}

// CreateFromImage implements agent.Runtime.
func (r *Runtime) CreateFromImage(ctx context.Context, spec agent.InstanceSpec, image string) error {
	return r.act(ctx, "create-instance", spec.Name, func() error {
		snapshot, err := r.image(ctx, image)
		if err != nil {
			return err
		}
		return r.create(ctx, spec, func(dataset string) error {
			return r.pool.Clone(ctx, snapshot, dataset, instanceProperties)
		})
	})
}

// create records an instance and makes its files. The record comes first, as in Incus: what a crash leaves can be deleted.
func (r *Runtime) create(ctx context.Context, spec agent.InstanceSpec, dataset func(name string) error) error {
	i := &instance{
		Description: spec.Description, Status: agent.InstanceStopped, Config: newConfig(spec), RootSize: cmp.Or(spec.RootSize, r.options.RootSize),
	}
	if err := agent.CheckVariables(i.Config); err != nil {
		return err
	}
	err := r.commit(func(s *runtimeState) error {
		if !validComponent(spec.Name) || strings.Contains(spec.Name, " ") {
			return fmt.Errorf("instance name: %w", errdefs.ErrInvalid)
		}
		if s.Instances[spec.Name] != nil {
			return fmt.Errorf("instance: %w", errdefs.ErrAlreadyExists)
		}
		s.Instances[spec.Name] = i
		return nil
	})
	if err != nil {
		return err
	}
	root := agent.InstanceDataset(spec.Name)
	if err = dataset(root); err == nil {
		if i.RootSize != "" {
			err = r.pool.SetProperties(ctx, root, rootLimits(i.RootSize))
		}
		if err == nil {
			err = r.furnish(ctx, spec.Name, i.Config)
		}
		if err != nil { // whoever asked may be gone, the runtime is not: it leaves nothing half made
			err = errors.Join(err, r.discard(context.WithoutCancel(ctx), root))
		}
	}
	if err != nil {
		undo := r.commit(func(s *runtimeState) error { delete(s.Instances, spec.Name); return nil })
		return errors.Join(err, undo)
	}
	return r.tell(nil, agent.EventCreated, spec.Name)
}

func newConfig(spec agent.InstanceSpec) map[string]string {
	config := make(map[string]string)
	maps.Copy(config, spec.Config)
	maps.Copy(config, map[string]string{
		keyContainer: spec.ContainerID, agent.ConfigIDMap: spec.IDMap, agent.ConfigAutostart: "false", keyProtected: "true",
	})
	if spec.IDMap == "" {
		config[agent.ConfigIDMap] = "[]"
	}
	for variable, value := range spec.Env {
		config[agent.ConfigEnvironment+variable] = value
	}
	maps.DeleteFunc(config, func(_, value string) bool { return value == "" })
	return config
}

// furnish makes Incus's side of an instance's files.
func (r *Runtime) furnish(ctx context.Context, name string, config map[string]string) error {
	return r.within(ctx, agent.InstanceDataset(name), func(root *os.Root) error {
		return errors.Join(
			root.MkdirAll("rootfs", 0o755), root.MkdirAll("templates", 0o755),
			writeMissing(root, "metadata.yaml", "architecture: x86_64\ncreation_date: 0\n"),
			writeBackup(root, name, config, 0),
		)
	})
}

// within runs use on a dataset's files.
func (r *Runtime) within(ctx context.Context, dataset string, use func(root *os.Root) error) error {
	mount, err := r.pool.Mount(ctx, dataset)
	if err != nil {
		return err
	}
	return errors.Join(use(mount.Root()), mount.Unmount(ctx))
}

func writeMissing(root *os.Root, file, content string) error {
	if _, err := root.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return root.WriteFile(file, []byte(content), 0o644)
}

// writeBackup writes the file from which Incus could make its record again. It differs from start to start.
func writeBackup(root *os.Root, name string, config map[string]string, starts int) error {
	var text strings.Builder
	fmt.Fprintf(&text, "container:\n  name: %s\n  starts: %d\n  config:\n", name, starts)
	for _, key := range slices.Sorted(maps.Keys(config)) {
		fmt.Fprintf(&text, "    %s: %q\n", key, config[key])
	}
	// In place, as Incus does, so that its directory does not change; but what arrived in a stream may be anything.
	if info, err := root.Lstat("backup.yaml"); err == nil && !info.Mode().IsRegular() {
		if err := root.RemoveAll("backup.yaml"); err != nil {
			return err
		}
	}
	return root.WriteFile("backup.yaml", []byte(text.String()), 0o600)
}

// Delete implements agent.Runtime.
func (r *Runtime) Delete(ctx context.Context, name string) error {
	return r.act(ctx, "delete-instance", name, func() error {
		i, err := r.look(name)
		switch protected, _ := strconv.ParseBool(i.Config[keyProtected]); {
		case errors.Is(err, errdefs.ErrNotFound):
			return nil
		case err != nil:
			return err
		case i.Status == agent.InstanceRunning || i.Status == agent.InstancePaused:
			return fmt.Errorf("is %s: %w", i.Status, errdefs.ErrFailedPrecondition)
		case protected:
			return fmt.Errorf("is protected: %w", errdefs.ErrFailedPrecondition)
		}
		if err := r.discard(ctx, agent.InstanceDataset(name)); err != nil {
			return err
		}
		err = r.commit(func(s *runtimeState) error { delete(s.Instances, name); return nil })
		return r.tell(err, agent.EventDeleted, name)
	})
}

// deletedPrefix is where Incus puts datasets that it may not destroy yet.
const deletedPrefix = "deleted/containers/"

// discard does what Incus does to the dataset of a deleted instance: one with clones moves aside; else it goes, and with it
// an origin that had moved aside and has no other clone.
func (r *Runtime) discard(ctx context.Context, name string) error {
	d, err := r.pool.Dataset(ctx, name)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	mounted, err := r.pool.Mounted(ctx, name)
	if err == nil && mounted {
		err = fmt.Errorf("its files are mounted: %w", errdefs.ErrBusy)
	}
	if err != nil {
		return err
	}
	err = r.pool.Destroy(ctx, name)
	if errors.Is(err, errdefs.ErrBusy) && !strings.HasPrefix(name, deletedPrefix) {
		return r.pool.Rename(ctx, name, deletedPrefix+strings.ToLower(ulid.Make().String()))
	}
	origin, _, cloned := strings.Cut(d.Origin, "@")
	if err != nil || !cloned || !strings.HasPrefix(origin, deletedPrefix) {
		return err
	}
	if err := r.discard(ctx, origin); !errors.Is(err, errdefs.ErrBusy) {
		return err
	}
	return nil // others still stand on it
}

// AddSnapshot makes a snapshot of the runtime's own, as `incus snapshot create` does.
func (r *Runtime) AddSnapshot(ctx context.Context, name, snapshot string) error {
	return r.act(ctx, "add-snapshot", name, func() error {
		if _, err := r.look(name); err != nil {
			return err
		}
		if _, err := r.pool.Snapshot(ctx, agent.InstanceDataset(name), agent.RuntimeSnapshotPrefix+snapshot); err != nil {
			return err
		}
		err := r.update(name, func(i *instance) error { i.Snapshots = append(i.Snapshots, snapshot); return nil })
		return r.tell(err, agent.EventUpdated, name)
	})
}

// DeleteSnapshot implements agent.Runtime. What something was cloned from only changes its name, as in Incus.
func (r *Runtime) DeleteSnapshot(ctx context.Context, name, snapshot string) error {
	return r.act(ctx, "delete-snapshot", name, func() error {
		full := agent.InstanceDataset(name) + "@" + agent.RuntimeSnapshotPrefix + snapshot
		err := r.pool.DestroySnapshot(ctx, full)
		if errors.Is(err, errdefs.ErrBusy) {
			err = r.pool.RenameSnapshot(ctx, full, "deleted-"+strings.ToLower(ulid.Make().String()))
		}
		if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
		err = r.update(name, func(i *instance) error {
			i.Snapshots = slices.DeleteFunc(i.Snapshots, func(s string) bool { return s == snapshot })
			return nil
		})
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		return r.tell(err, agent.EventUpdated, name)
	})
}

// rootLimits are the properties that limit a root disk; nil for no limit.
func rootLimits(size string) agent.Properties {
	if size == "" {
		return nil
	}
	bytes, ok := parseSize(size)
	switch {
	case !ok:
		return agent.Properties{"refquota": size} // which the pool refuses
	case bytes == 1<<64-1:
		return nil
	}
	return agent.Properties{"refquota": strconv.FormatUint(bytes, 10)}
}

// SetRootSize limits an instance's root disk, as `incus config device set root size=` does. Empty takes the limit away.
func (r *Runtime) SetRootSize(ctx context.Context, name, size string) error {
	return r.act(ctx, "set-root-size", name, func() error {
		if err := r.pool.SetProperties(ctx, agent.InstanceDataset(name), agent.Properties{"refquota": size}); err != nil {
			return err
		}
		err := r.update(name, func(i *instance) error { i.RootSize = size; return nil })
		return r.tell(err, agent.EventUpdated, name)
	})
}

// SetUnsupported gives an instance what keeps it from being a source, for people to read.
func (r *Runtime) SetUnsupported(name string, reasons ...string) error {
	return r.update(name, func(i *instance) error { i.Unsupported = reasons; return nil })
}
