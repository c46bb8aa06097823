package zfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Mount mounts a dataset below the state directory, where only root gets, with nodev, nosuid and noexec. It may be
// mounted elsewhere at the same time, and twice.
//
// It calls mount(2) with the type zfs itself: mount(8) would refuse a dataset whose mountpoint is not legacy. The mount
// has the propagation of its surroundings, on a systemd host shared: a container that starts meanwhile copies it with
// its mount namespace, and only a shared mount disappears there when it is unmounted here.
func (p *Pool) Mount(ctx context.Context, dataset string) (agent.Mount, error) {
	full, err := p.dataset(dataset)
	if err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	m, err := p.mount(ctx, full, 0)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", dataset, err)
	}
	return m, nil
}

// MountSnapshot mounts a snapshot in the same way, read-only. It does so itself, beside what ZFS mounts in .zfs/snapshot when
// somebody looks there: that needs the dataset to be mounted, and goes away by itself after a while.
func (p *Pool) MountSnapshot(ctx context.Context, snapshot string) (agent.Mount, error) {
	full, _, err := p.snapshot(snapshot)
	if err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	m, err := p.mount(ctx, full, unix.MS_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", snapshot, err)
	}
	return m, nil
}

func (p *Pool) mount(ctx context.Context, full string, flags uintptr) (*privateMount, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if p.mountDir == "" {
		return nil, fmt.Errorf("no state directory to mount in: %w", errdefs.ErrFailedPrecondition)
	}
	if err := os.MkdirAll(p.mountDir, 0o700); err != nil {
		return nil, errors.Join(mountClass(err), err)
	}
	path, err := os.MkdirTemp(p.mountDir, "m")
	if err != nil {
		return nil, errors.Join(mountClass(err), err)
	}
	if err := unix.Mount(full, path, "zfs", flags|unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, ""); err != nil {
		removeMountPoint(path)
		return nil, errors.Join(mountClass(err), os.NewSyscallError("mount", err))
	}
	m := &privateMount{pool: p, dataset: full, path: path}
	if m.root, err = os.OpenRoot(path); err != nil {
		return nil, errors.Join(mountClass(err), err, m.Unmount(context.WithoutCancel(ctx)))
	}
	return m, nil
}

// mountClass classifies an error of mount(2) or umount(2), or of what is around them. ZFS answers ENOENT for a dataset that does not exist, and
// EACCES for one whose key is not loaded, which may come late after a boot. A host that is short of something passes.
func mountClass(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return errdefs.ErrNotFound
	case errors.Is(err, unix.EBUSY):
		return errdefs.ErrBusy
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return errdefs.ErrExhausted
	}
	for _, passing := range []error{unix.EACCES, unix.ENOMEM, unix.EAGAIN, unix.EINTR, unix.EMFILE, unix.ENFILE} {
		if errors.Is(err, passing) {
			return errdefs.ErrUnavailable
		}
	}
	return errdefs.ErrInternal
}

// privateMount is agent.Mount.
type privateMount struct {
	pool    *Pool
	dataset string // full name, at the time of mounting; or a snapshot's
	path    string
	root    *os.Root

	mu   sync.Mutex
	done bool
}

// Root is valid until Unmount.
func (m *privateMount) Root() *os.Root { return m.root }

// unmountPatience is how long a busy mount is tried again. A command that this process starts meanwhile has all of its open
// files, those of the mount included, until it executes: a moment, and long enough to be met.
const unmountPatience = 3 * time.Second

// Unmount closes the root and unmounts. ErrBusy when files opened below the root stay open; it can be called again
// then. After success it does nothing.
func (m *privateMount) Unmount(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done {
		return nil
	}
	if m.root != nil {
		_ = m.root.Close() // it holds the mount; closing it twice is harmless
	}
	err := unix.Unmount(m.path, unix.UMOUNT_NOFOLLOW)
	for began, pause := time.Now(), 5*time.Millisecond; errors.Is(err, unix.EBUSY) && time.Since(began) < unmountPatience && ctx.Err() == nil; pause *= 2 {
		select {
		case <-ctx.Done():
		case <-time.After(min(pause, 200*time.Millisecond)):
		}
		err = unix.Unmount(m.path, unix.UMOUNT_NOFOLLOW)
	}
	if err != nil && !isGone(err) {
		m.pool.busy.add(m.path)
		return fmt.Errorf("unmount %s: %w", m.dataset, errors.Join(mountClass(err), os.NewSyscallError("umount", err)))
	}
	m.done = true
	removeMountPoint(m.path)
	return nil
}

// isGone tells of an error of umount(2) that there is no such mount: somebody cleaned up.
func isGone(err error) bool { return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) }

// busyMounts are private mounts that could not be unmounted, since somebody on the host had a file open there. Whoever asks what is
// mounted has another try: the one who mounted may have given up.
type busyMounts struct {
	mu    sync.Mutex
	paths []string
}

func (b *busyMounts) add(path string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Contains(b.paths, path) {
		b.paths = append(b.paths, path)
	}
}

func (b *busyMounts) retry() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.paths = slices.DeleteFunc(b.paths, func(path string) bool {
		err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		if err != nil && !isGone(err) {
			return false
		}
		removeMountPoint(path)
		return true
	})
}

// removeMountPoint removes an empty directory. Only ever os.Remove: if the mount were still there, RemoveAll would
// delete a container. What cannot be removed is left to CleanMounts.
func removeMountPoint(path string) { _ = os.Remove(path) }

// CleanMounts unmounts what an earlier process left mounted below the state directory, and removes the mount points. It
// is for the start, before anything is mounted: it would take away a mount that is in use.
func (p *Pool) CleanMounts(ctx context.Context) error {
	if p.mountDir == "" {
		return nil
	}
	entries, err := p.mounts()
	if err != nil {
		return fmt.Errorf("clean mounts: %w", err)
	}
	var failed error
	for _, e := range slices.Backward(entries) { // the last mounted may lie on the others
		if !strings.HasPrefix(e.point, p.mountDir+"/") {
			continue
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("clean mounts: %w", context.Cause(ctx))
		}
		// Detached: a process that still has a file open there is not ours and must not keep us from starting.
		if err := unix.Unmount(e.point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			failed = errors.Join(failed, fmt.Errorf("unmount %s: %w", e.source, err))
			continue
		}
		p.log.Info("unmounted what an earlier process left", zap.String("dataset", e.source))
	}
	points, err := os.ReadDir(p.mountDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		failed = errors.Join(failed, err)
	}
	for _, point := range points {
		removeMountPoint(filepath.Join(p.mountDir, point.Name()))
	}
	if failed != nil {
		return fmt.Errorf("clean mounts: %w", failed)
	}
	return nil
}
