package agent_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// A start that succeeded and was heard of only as an outage is tried again, while the container runs. Whatever is refused then, its limits for one
// that has filled its disk, what runs is not taken back.
func TestAStartThatHasSucceededIsNotUndone(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	f.must(here.runtime.SetRootSize(f.ctx, agent.InstanceName(source.ID), "64M"))
	var started atomic.Bool
	here.setFault(func(op, _ string) error {
		switch {
		case op == "start:after" && started.CompareAndSwap(false, true):
			return errdefs.New(errdefs.ErrUnavailable, "", "the answer was lost")
		case op == "set:before" && started.Load():
			return fmt.Errorf("size is less than current used or reserved space: %w", errdefs.ErrExhausted)
		}
		return nil
	})
	f.must(second(here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "two")))
	f.holdsState(f.settled(source.ID, store.StatusRunning), "two")
}

// startUnnoticed takes the store away when the next generation is in place; started is closed once the container has been started on it all the same.
func (s *server) startUnnoticed() (started <-chan struct{}) {
	seen := make(chan struct{})
	s.setFault(func(op, object string) error {
		switch {
		case op == "rename:after" && strings.HasPrefix(object, "hoody/incoming/"):
			s.fleet.proxy.set(true)
		case op == "start:after":
			close(seen)
		}
		return nil
	})
	return seen
}

// While etcd is away nothing new is begun; but a container that an operation has stopped is started.
func TestAContainerIsNotDownForAsLongAsEtcdIsAway(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, withProxy)
	here := f.servers[0]
	source := f.states(here)
	started := here.startUnnoticed()
	answer := f.accepted(source, func() error { return second(here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "two")) })
	f.wait(started)
	here.setFault(nil)
	f.proxy.set(false)
	f.must(<-answer)
	f.holdsState(f.settled(source.ID, store.StatusRunning), "two")
}

// A container may have run for hours on the generation that is taken back, while the store was away and nobody could note that it was started.
// What it wrote is listed.
func TestWhatRanUnnoticedIsNotLost(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, withProxy)
	here := f.servers[0]
	source := f.states(here)
	started := here.startUnnoticed()
	f.accepted(source, func() error { return second(here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "two")) })
	f.wait(started)
	here.setFault(func(op, _ string) error {
		if op == "start:before" {
			return errdefs.New(errdefs.ErrFailedPrecondition, "", "it does not start")
		}
		return nil
	})
	f.write(source, "data/written", []byte("while nobody looked"))
	here.kill()
	_, runtime := here.openDisks() // the host goes down
	f.must(runtime.ForceStop(f.ctx, agent.InstanceName(source.ID)))
	here.closeDisks()
	f.proxy.set(false)
	here.start()
	back := f.ended(source.ID)
	if back.LastOperation.State != store.JobFailed {
		t.Fatalf("the restore is %s", back.LastOperation.State)
	}
	here.setFault(nil)
	f.collect()
	for _, kept := range f.listed(back) {
		if !strings.HasPrefix(kept.Name, "during-restore-") {
			continue
		}
		f.restore(back, kept.Name, store.StatusStopped)
		if got := f.read(back, "data/written"); got != "while nobody looked" {
			t.Errorf("restored: %q", got)
		}
		return
	}
	t.Errorf("nothing listed holds what was written: %s", f.names(back))
}

// What somebody else holds is left behind, and later collected: neither a copy that is complete is given up for it, nor does one that is given up
// wait for it for ever.
func TestNobodyWaitsForWhatIsHeld(t *testing.T) {
	t.Parallel()
	held := func(op, object string) error {
		if op == "destroy:before" && strings.HasPrefix(object, "hoody/") {
			return fmt.Errorf("%s: dataset is busy: %w", object, errdefs.ErrBusy)
		}
		return nil
	}
	t.Run("by a copy", func(t *testing.T) {
		f := newFleet(t, 1)
		here := f.servers[0]
		source := f.states(here)
		here.setFault(held)
		copied := f.settled(f.copy(source, here, agent.CopyRequest{Name: "copy"}).ID, store.StatusRunning)
		f.holdsState(copied, "now")
		here.setFault(nil)
		f.collected(here)
	})
	t.Run("by a copy that is given up", func(t *testing.T) {
		f := newFleet(t, 1)
		here := f.servers[0]
		source := f.states(here)
		here.setFault(func(op, object string) error {
			if op == "start:before" {
				return errdefs.New(errdefs.ErrFailedPrecondition, "", "it does not start")
			}
			return held(op, object)
		})
		failed := f.settled(f.copy(source, here, agent.CopyRequest{Name: "copy"}).ID, store.StatusFailed)
		f.must(here.agent.DeleteContainer(f.ctx, caller, failed.ID))
		here.setFault(nil)
		f.collected(here)
	})
	t.Run("by a create that is given up", func(t *testing.T) {
		f := newFleet(t, 1)
		here := f.servers[0]
		here.setFault(func(op, object string) error {
			switch {
			case op == "start:before":
				return errdefs.New(errdefs.ErrFailedPrecondition, "", "it does not start")
			case op == "destroy:before" && strings.HasPrefix(object, "containers/"):
				return fmt.Errorf("%s: dataset is busy: %w", object, errdefs.ErrBusy)
			}
			return nil
		})
		created, err := here.agent.CreateContainer(f.ctx, caller, f.project.ID, agent.CreateContainerRequest{ServerID: here.id, Name: "held", Image: "busybox"})
		f.must(err)
		f.must(here.agent.DeleteContainer(f.ctx, caller, f.settled(created.View.Container.ID, store.StatusFailed).ID))
		here.setFault(nil)
		f.collected(here)
	})
}

// collected collects, and sees that nothing is left aside.
func (f *fleet) collected(s *server) {
	f.t.Helper()
	f.must(second(s.agent.Collect(f.ctx, false)))
	inventory, err := s.pool.Inventory(f.ctx)
	f.must(err)
	for _, dataset := range inventory.Datasets {
		if strings.HasPrefix(dataset.Name, "hoody/incoming/") || strings.HasPrefix(dataset.Name, "hoody/generations/") {
			f.t.Errorf("left behind: %s", dataset.Name)
		}
	}
}

// An instance whose making was cut off has a record and no files. A copy makes it anew instead of giving up what it has received.
func TestACopyMakesAHalfMadeInstanceAnew(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	var once atomic.Bool
	here.setFault(func(op, object string) error {
		if op == "create-instance:after" && once.CompareAndSwap(false, true) {
			return errors.Join(here.pool.Destroy(f.ctx, "containers/"+object), errdefs.New(errdefs.ErrUnavailable, "", "cut off"))
		}
		return nil
	})
	f.holdsState(f.settled(f.copy(source, here, agent.CopyRequest{Name: "copy"}).ID, store.StatusRunning), "now")
	if !once.Load() {
		t.Fatal("nothing was cut off")
	}
}

// Somebody starts an instance that a deletion has stopped, while the agent is away.
func TestADeletionStopsWhatIsStartedAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	container := f.create(here, "container")
	dead := make(chan struct{})
	here.setFault(func(op, _ string) error {
		if op == "rename:before" {
			here.die()
			close(dead)
		}
		return nil
	})
	go func() { _ = here.agent.DeleteContainer(f.ctx, caller, container.ID) }()
	f.wait(dead)
	here.kill()
	here.setFault(nil)
	_, runtime := here.openDisks()
	f.must(runtime.Start(f.ctx, agent.InstanceName(container.ID)))
	here.closeDisks()
	here.start()
	f.until("it is deleted", func() bool {
		_, err := f.records.GetContainer(f.ctx, container.ID)
		return errors.Is(err, errdefs.ErrNotFound)
	})
}
