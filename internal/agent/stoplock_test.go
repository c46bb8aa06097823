package agent_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// stopLock has a server's runtime do what Incus does after a stop that an instance has not heeded: until the instance is stopped after all
// it takes no configuration. Set, it holds.
func stopLock(s *server) *atomic.Bool {
	held := new(atomic.Bool)
	s.setFault(func(op, _ string) error {
		switch {
		case op == "configure:before" && held.Load():
			return errdefs.New(errdefs.ErrBusy, "", "instance is busy running a stop operation")
		case strings.HasSuffix(op, "stop:after"):
			held.Store(false)
		}
		return nil
	})
	return held
}

func TestAfterAStopThatWasNotHeeded(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.must(here.runtime.SetDeaf(agent.InstanceName(copied.ID), true))
	held := stopLock(here)
	held.Store(true)
	f.write(source, "data/new", []byte("new"))
	f.sync(copied, store.StatusRunning)
	if f.hash(copied) != f.hash(source) {
		t.Error("the copy is not the source")
	}
	held.Store(true)
	f.must(here.agent.DeleteContainer(f.ctx, caller, copied.ID))
}

// Where a container must stop by itself and does not, a sync fails and is undone. Autostart, which the undoing cannot give back while the stop's lock
// holds, comes later.
func TestUndoWhileAStopIsNotHeeded(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	here.noForce = true
	here.restart()
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	instance := agent.InstanceName(copied.ID)
	f.must(here.runtime.SetDeaf(instance, true))
	var held atomic.Bool
	here.setFault(func(op, _ string) error {
		switch {
		case op == "configure:before" && held.Load():
			return errdefs.New(errdefs.ErrBusy, "", "instance is busy running a stop operation")
		case op == "stop:before":
			held.Store(true)
		}
		return nil
	})
	f.write(source, "data/new", []byte("new"))
	f.must(second(here.agent.Sync(f.ctx, caller, copied.ID)))
	copied = f.settled(copied.ID, store.StatusRunning)
	if copied.LastOperation == nil || copied.LastOperation.State != store.JobFailed {
		t.Errorf("the sync: %+v", copied.LastOperation)
	}
	held.Store(false)
	here.setFault(nil)
	f.applied(copied.ID)
	seen, err := here.runtime.Instance(f.ctx, instance)
	f.must(err)
	if !seen.Autostart {
		t.Error("autostart stays off")
	}
}
