package lxc

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	incus "github.com/lxc/incus/v6/client"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Delete removes a stopped instance with its Incus snapshots and, when it still has one, its dataset; a missing
// instance is success. A running or a protected one is ErrFailedPrecondition: see ForceStop and Protect.
//
// Incus destroys the dataset with every snapshot in it, the agent's too; only one with clones it renames to
// <pool>/deleted instead. Who wants to keep it renames it away first, which Incus accepts.
func (r *Runtime) Delete(ctx context.Context, instance string) error {
	return r.run(ctx, "delete", instance, func(ctx context.Context) error {
		err := r.whenIdle(ctx, instance, func(ctx context.Context) error {
			err := r.delete(ctx, instance)
			if !is(err, errdefs.ErrNotFound) {
				return err
			}
			// Missing, or not made yet: a creation under way would bring it after we said that it is gone.
			waited, err := r.awaitCreation(ctx, instance)
			if err != nil || !waited {
				return err
			}
			if err := r.delete(ctx, instance); !is(err, errdefs.ErrNotFound) {
				return err
			}
			return nil
		})
		if err == nil {
			r.removeMountpoints(instance)
		}
		return err
	})
}

func (r *Runtime) delete(ctx context.Context, instance string) error {
	return r.operate(ctx, func(server incus.InstanceServer) (incus.Operation, error) {
		return server.DeleteInstance(instance)
	})
}

// removeMountpoints removes the empty directories that Incus leaves behind when it deletes an instance whose dataset is
// elsewhere. It only ever removes directories that are empty and no mount points; anything else stays, unreported.
func (r *Runtime) removeMountpoints(instance string) {
	if filepath.Base(instance) != instance || instance == "." || instance == ".." {
		return
	}
	pool := filepath.Join(filepath.Dir(r.options.Socket), "storage-pools", r.options.Pool)
	snapshots := filepath.Join(pool, "containers-snapshots", instance)
	entries, _ := os.ReadDir(snapshots)
	for _, entry := range entries {
		_ = syscall.Rmdir(filepath.Join(snapshots, entry.Name()))
	}
	_ = syscall.Rmdir(snapshots)
	_ = syscall.Rmdir(filepath.Join(pool, "containers", instance))
}

// DeleteSnapshot removes one of Incus's own snapshots of an instance: its record and, when still there, its ZFS
// snapshot. A missing one is success. It works, too, when the whole dataset is elsewhere. A record without its ZFS
// snapshot must not stay, since Incus would "restore" it by doing nothing.
func (r *Runtime) DeleteSnapshot(ctx context.Context, instance, snapshot string) error {
	return r.run(ctx, "delete-snapshot", instance+"/"+snapshot, func(ctx context.Context) error {
		remove := func(ctx context.Context) error {
			return r.operate(ctx, func(server incus.InstanceServer) (incus.Operation, error) {
				return server.DeleteInstanceSnapshot(instance, snapshot)
			})
		}
		err := r.whenIdle(ctx, instance, remove)
		if withoutFiles(err) {
			// The record went first, if it went: asking again tells.
			err = r.whenIdle(ctx, instance, remove)
		}
		if is(err, errdefs.ErrNotFound) {
			return nil
		}
		return err
	})
}
