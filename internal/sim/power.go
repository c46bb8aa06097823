package sim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Start implements agent.Runtime.
func (r *Runtime) Start(ctx context.Context, name string) error {
	return r.act(ctx, "start", name, func() error { return r.start(ctx, name) })
}

func (r *Runtime) start(ctx context.Context, name string) error {
	i, err := r.look(name)
	switch {
	case err != nil:
		return err
	case i.Status == agent.InstanceRunning:
		return nil
	case i.Status == agent.InstancePaused:
		return fmt.Errorf("is paused: %w", errdefs.ErrFailedPrecondition)
	}
	mount, err := r.pool.Mount(ctx, agent.InstanceDataset(name))
	if errors.Is(err, errdefs.ErrNotFound) {
		// Not the class of err: the instance itself is there.
		return fmt.Errorf("its files are missing: %w: %v", errdefs.ErrFailedPrecondition, err)
	}
	if err != nil {
		return err
	}
	if err := r.boot(mount.Root(), name, i); err != nil {
		return errors.Join(err, mount.Unmount(ctx))
	}
	err = r.update(name, func(i *instance) error {
		i.Status = agent.InstanceRunning
		i.Starts++
		r.mounts[name] = mount
		return nil
	})
	if err != nil {
		return errors.Join(err, mount.Unmount(ctx))
	}
	return r.tell(nil, agent.EventStarted, name)
}

// boot does to the files what a start does: Incus writes its backup file, and what the image calls init may write too.
func (r *Runtime) boot(root *os.Root, name string, i instance) error {
	info, err := root.Lstat("rootfs")
	if err != nil || !info.IsDir() {
		return fmt.Errorf("no root file system to boot from: %w", errdefs.ErrFailedPrecondition)
	}
	if err := writeBackup(root, name, i.Config, i.Starts+1); err != nil {
		return err
	}
	_, err = root.Stat("rootfs/" + noisyMarker)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := root.MkdirAll("rootfs/var/log", 0o755); err != nil {
		return err
	}
	log, err := root.OpenFile("rootfs/var/log/boot.log", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	_, err = fmt.Fprintf(log, "%s boot %d of %s\n", r.beside.now().Format(time.RFC3339), i.Starts+1, name)
	return err
}

// Stop implements agent.Runtime. It does not wait: an instance that does not heed the request never will (see SetDeaf).
func (r *Runtime) Stop(ctx context.Context, name string, timeout time.Duration) error {
	return r.act(ctx, "stop", name, func() error {
		i, err := r.look(name)
		if err == nil && i.Deaf && i.Status != agent.InstanceStopped {
			return fmt.Errorf("still runs after %v: %w", timeout, errdefs.ErrBusy)
		}
		return r.stop(name)
	})
}

// ForceStop implements agent.Runtime.
func (r *Runtime) ForceStop(ctx context.Context, name string) error {
	return r.act(ctx, "force-stop", name, func() error { return r.stop(name) })
}

func (r *Runtime) stop(name string) error {
	i, err := r.look(name)
	if err != nil || i.Status == agent.InstanceStopped {
		return err
	}
	err = r.update(name, func(i *instance) error { i.Status = agent.InstanceStopped; return nil })
	if err != nil {
		return err
	}
	r.unmount(name)
	return r.tell(nil, agent.EventStopped, name)
}

// unmount drops what a running instance held.
func (r *Runtime) unmount(name string) {
	r.mu.Lock()
	mount := r.mounts[name]
	delete(r.mounts, name)
	r.mu.Unlock()
	if mount != nil {
		_ = mount.Unmount(context.Background()) // closes a directory
	}
}

// Pause implements agent.Runtime.
func (r *Runtime) Pause(ctx context.Context, name string) error {
	return r.shift(ctx, "pause", name, agent.InstanceRunning, agent.InstancePaused, agent.EventPaused)
}

// Resume implements agent.Runtime.
func (r *Runtime) Resume(ctx context.Context, name string) error {
	return r.shift(ctx, "resume", name, agent.InstancePaused, agent.InstanceRunning, agent.EventResumed)
}

// shift takes an instance from one state to another; being there already is success.
func (r *Runtime) shift(ctx context.Context, op, name string, from, to agent.InstanceStatus, event agent.EventKind) error {
	return r.act(ctx, op, name, func() error {
		i, err := r.look(name)
		switch {
		case err != nil || i.Status == to:
			return err
		case i.Status != from:
			return fmt.Errorf("is %s: %w", i.Status, errdefs.ErrFailedPrecondition)
		}
		err = r.update(name, func(i *instance) error { i.Status = to; return nil })
		return r.tell(err, event, name)
	})
}

// SetDeaf makes an instance ignore requests to shut down, or heed them again.
func (r *Runtime) SetDeaf(name string, deaf bool) error {
	return r.update(name, func(i *instance) error { i.Deaf = deaf; return nil })
}

// PowerCut stops everything at once, without a word: what the host finds after its power came back.
func (r *Runtime) PowerCut() error {
	var cut []string
	err := r.commit(func(s *runtimeState) error {
		for name, i := range s.Instances {
			next := *i
			next.Status = agent.InstanceStopped
			s.Instances[name] = &next
			cut = append(cut, name)
		}
		return nil
	})
	for _, name := range cut {
		r.unmount(name)
	}
	return err
}

// Boot starts the instances that start by themselves, as Incus does when the host comes up.
func (r *Runtime) Boot(ctx context.Context) error {
	all, err := r.Instances(ctx)
	for _, i := range slices.DeleteFunc(all, func(i agent.Instance) bool { return !i.Autostart }) {
		if startErr := r.Start(ctx, i.Name); startErr != nil {
			err = errors.Join(err, startErr) // the others start nevertheless
		}
	}
	return err
}
