package agent_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// costlyAttempts is how often an operation tries a start that fails for reasons nobody knows.
const costlyAttempts = 3

// initDies makes the starts of an instance fail until the operation gives up; then comes before the first.
func initDies(s *server, then func()) {
	starts := 0
	s.setFault(func(op, _ string) error {
		if op != "start:before" {
			return nil
		}
		if starts++; starts <= costlyAttempts {
			if starts == 1 {
				then()
			}
			return errdefs.New(errdefs.ErrInternal, "", "init dies")
		}
		return nil
	})
}

// Somebody on the host has the new generation mounted when it is taken back. The container must not run on it under the old one's name.
func TestAMountedGenerationIsNotTakenBack(t *testing.T) {
	t.Parallel()
	for name, cutOff := range map[string]bool{"as soon as it is moved": false, "moved by an attempt that was cut off": true} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 1)
			here := f.servers[0]
			source := f.states(here)
			dataset := agent.ContainerDataset(source.ID)
			mounted := make(chan agent.Mount, 1)
			var armed atomic.Bool
			initDies(here, func() {
				mount, err := here.pool.Mount(f.ctx, dataset)
				if err != nil {
					t.Error(err)
				}
				mounted <- mount
				armed.Store(cutOff)
			})
			starts := here.fault
			here.setFault(func(op, object string) error {
				if op == "rename:before" && strings.HasPrefix(object, "hoody/incoming/") && armed.CompareAndSwap(true, false) {
					return errdefs.New(errdefs.ErrUnavailable, "", "cut off") // it stays where it was moved to
				}
				return starts(op, object)
			})
			answer := f.accepted(source, func() error { return second(here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "two")) })
			f.until("the undoing waits for the mount", func() bool {
				job, err := f.records.GetJob(f.ctx, f.jobOf(source))
				return err == nil && job.Phase == "undo" && job.Attempts > 1
			})
			if instance, err := here.runtime.Instance(f.ctx, agent.InstanceName(source.ID)); err != nil || instance.Status != agent.InstanceStopped {
				t.Errorf("the instance is %s (%v) while the wrong files are mounted", instance.Status, err)
			}
			f.must((<-mounted).Unmount(f.ctx))
			if err := <-answer; err == nil || !strings.Contains(err.Error(), "init dies") {
				t.Errorf("the restore: %v", err)
			}
			f.holdsState(f.settled(source.ID, store.StatusRunning), "now")
		})
	}
}

// What cannot be cleared up after a failed operation is no reason to call a container broken that runs as before.
func TestAContainerInOrderDoesNotFailForWhatIsLeftBehind(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	initDies(here, func() {})
	starts := here.fault
	here.setFault(func(op, object string) error {
		if op == "destroy:before" && strings.HasPrefix(object, "hoody/incoming/") {
			return errdefs.New(errdefs.ErrInternal, "", "I/O error")
		}
		return starts(op, object)
	})
	if err := second(here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "two")); err == nil || !strings.Contains(err.Error(), "init dies") {
		t.Errorf("the restore: %v", err)
	}
	here.setFault(nil)
	f.holdsState(f.settled(source.ID, store.StatusRunning), "now")
	here.collect()
	if left := f.leftovers(here); len(left) > 0 {
		t.Errorf("not collected: %v", left)
	}
}

// An admin's copy of an instance bears the original's marks, and is another one.
func TestACopyByHandSaysNothingOfTheOriginal(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	f.must(here.runtime.CreateEmpty(f.ctx, agent.InstanceSpec{Name: "zz-by-hand", ContainerID: source.ID}))
	here.restart()
	f.until("it is found", func() bool { return finds(here, agent.FindingInstanceCopied, "zz-by-hand") })
	if container := f.settled(source.ID, store.StatusRunning); container.Status != store.StatusRunning {
		t.Errorf("the original is %s", container.Status)
	}
}

// An instance that is removed just before its create is recorded as done leaves a container that can be deleted.
func TestACreateWhoseInstanceVanishes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	died := make(chan struct{})
	here.setFault(func(op, _ string) error {
		if op == "configure:before" { // in the last phase, and only there
			here.setFault(nil)
			go func() { here.die(); close(died) }()
			<-died
			return errDead
		}
		return nil
	})
	made, err := here.agent.CreateContainer(f.ctx, caller, f.project.ID, agent.CreateContainerRequest{ServerID: here.id, Name: "box", Image: "busybox"})
	f.must(err)
	f.wait(died)
	id := made.View.Container.ID
	f.offline(func() {
		_, runtime := here.openDisks()
		defer here.closeDisks()
		name := agent.InstanceName(id)
		f.must(runtime.ForceStop(f.ctx, name))
		f.must(runtime.Protect(f.ctx, name, false))
		f.must(runtime.Delete(f.ctx, name))
	})
	f.ended(id)
	if job, err := f.records.GetJob(f.ctx, made.View.Container.JobID); err != nil || job.State != store.JobDone {
		t.Errorf("the create is %s (%v)", job.State, err)
	}
	f.must(here.agent.LookAround(f.ctx))
	f.delete(f.settled(id, store.StatusFailed))
}

// blind is a pool that cannot be looked at while it is broken.
type blind struct {
	agent.Pool
	broken atomic.Bool
}

func (b *blind) Dataset(ctx context.Context, name string) (lineage.Dataset, error) {
	if b.broken.Load() {
		return lineage.Dataset{}, errdefs.New(errdefs.ErrInternal, "", "I/O error")
	}
	return b.Pool.Dataset(ctx, name)
}

// What leaves the files alone leaves a container as it is, even when it cannot be undone.
func TestASnapshotThatCannotBeUndoneFailsNoContainer(t *testing.T) {
	t.Parallel()
	var pool *blind
	f := newFleet(t, 1, func(f *fleet) {
		f.watch = func(_ string, of agent.Pool) agent.Pool {
			pool = &blind{Pool: of}
			return pool
		}
	})
	here := f.servers[0]
	source := f.create(here, "source")
	pool.broken.Store(true)
	err := second(here.agent.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{}))
	pool.broken.Store(false)
	if err == nil {
		t.Error("the snapshot was made")
	}
	if container := f.settled(source.ID, store.StatusRunning); container.FailureReason != "" {
		t.Errorf("the container fails: %s", container.FailureReason)
	}
}

// Undoing takes place on the host on which the operation has just failed: what it does not get at the first attempt, it gets at the next.
func TestUndoingOutlastsAHostThatIsShortOfEverything(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	var starts, configured atomic.Int32 // the follower of settings may come after the operation
	dark := errdefs.New(errdefs.ErrInternal, "", "exit status 1")
	here.setFault(func(op, _ string) error {
		switch op {
		case "start:before":
			if starts.Add(1) < 2*costlyAttempts { // all of the new generation, and all but the last of the old one
				return dark
			}
		case "configure:before":
			if starts.Load() > 0 {
				configured.Add(1)
				return dark
			}
		}
		return nil
	})
	if err := second(here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "two")); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("the restore: %v", err)
	}
	here.setFault(nil)
	f.holdsState(f.settled(source.ID, store.StatusRunning), "now")
	if configured.Load() == 0 {
		t.Error("nothing was configured: this test looks at the wrong moment")
	}
}

// A snapshot that was moved out of its owner's datasets by hand is gone for a restore, which ends.
func TestARestoreOfWhatWasMovedAwayEnds(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	f.must(here.pool.SetProperties(f.ctx, agent.ContainerDataset(source.ID), agent.Properties{"hoody:owner": "64c1aa00b2d34e5f60718009"}))
	if err := second(here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "one")); err == nil {
		t.Error("restored")
	}
	f.settled(source.ID, store.StatusRunning)
}

// The runtime's own snapshots of a container whose deletion failed are the container's, and go with the next attempt.
func TestADeletionThatIsRepeatedForgetsNoSnapshots(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	f.must(here.runtime.AddSnapshot(f.ctx, agent.InstanceName(source.ID), "by-hand"))
	here.setFault(func(op, _ string) error {
		if op == "delete-instance:before" {
			return errdefs.New(errdefs.ErrInternal, "", "exit status 1")
		}
		return nil
	})
	if err := here.agent.DeleteContainer(f.ctx, caller, source.ID); err == nil {
		f.settled(source.ID, store.StatusFailed)
	}
	here.setFault(nil)
	f.must(here.agent.DeleteContainer(f.ctx, caller, source.ID))
	f.over(source.ID)
	here.collect()
	inventory, err := here.pool.Inventory(f.ctx)
	f.must(err)
	for _, dataset := range inventory.Datasets {
		if strings.HasPrefix(dataset.Name, "hoody/generations/") {
			t.Errorf("not collected: %s, %v", dataset.Name, dataset.Snapshots)
		}
	}
}
