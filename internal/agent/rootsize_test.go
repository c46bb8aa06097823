package agent_test

import (
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// limit is how large a container's files may get, as its runtime says.
func (f *fleet) limit(container store.Container) string {
	f.t.Helper()
	instance, err := f.serverOf(container).runtime.Instance(f.ctx, agent.InstanceName(container.ID))
	f.must(err)
	return instance.RootSize
}

func TestASizeLimitTravelsWithACopyAndIsItsOwnThen(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.states(here)
	f.must(here.runtime.SetRootSize(f.ctx, agent.InstanceName(source.ID), "64M"))
	beside := f.settled(f.copy(source, here, agent.CopyRequest{Name: "beside"}).ID, store.StatusRunning)
	away := f.settled(f.copy(source, there, agent.CopyRequest{Name: "away"}).ID, store.StatusRunning)
	earlier := f.settled(f.copy(source, there, agent.CopyRequest{Name: "earlier", SourceSnapshot: "one"}).ID, store.StatusRunning)
	for _, copied := range []store.Container{beside, away, earlier} {
		if got := f.limit(copied); got != "64M" {
			t.Errorf("copy %s is limited to %q, want 64M", copied.Name, got)
		}
	}
	f.must(here.runtime.SetRootSize(f.ctx, agent.InstanceName(source.ID), "32M"))
	f.must(here.runtime.SetRootSize(f.ctx, agent.InstanceName(beside.ID), "128M"))
	f.write(source, "data/state", []byte("later"))
	for _, copied := range []store.Container{beside, away} {
		_, err := here.agent.Sync(f.ctx, caller, copied.ID)
		f.must(err)
		f.holdsState(f.settled(copied.ID, store.StatusRunning), "later")
	}
	f.restore(earlier, "one", store.StatusRunning)
	f.must(here.agent.DeleteContainer(f.ctx, caller, source.ID))
	for _, s := range f.servers {
		_, err := s.agent.Collect(f.ctx, false)
		f.must(err)
	}
	if got := f.limit(beside); got != "128M" {
		t.Errorf("after a sync and its source's end a copy is limited to %q, want its own 128M", got)
	}
	for _, copied := range []store.Container{away, earlier} {
		if got := f.limit(copied); got != "64M" {
			t.Errorf("after all that copy %s is limited to %q, want 64M", copied.Name, got)
		}
	}
}

func TestASizeLimitThatACopyExceedsFailsIt(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	here.slack = 64 << 10
	here.restart()
	source := f.create(here, "source")
	f.write(source, "data/large", random(1, 1<<20))
	f.snapshot(source, "large")
	f.write(source, "data/large", nil)
	f.snapshot(source, "small")
	f.must(here.runtime.SetRootSize(f.ctx, agent.InstanceName(source.ID), "512K"))
	small := f.settled(f.copy(source, here, agent.CopyRequest{Name: "small"}).ID, store.StatusRunning)
	f.settled(f.copy(source, here, agent.CopyRequest{Name: "large", SourceSnapshot: "large"}).ID, store.StatusFailed)
	if _, err := here.agent.RestoreSnapshot(f.ctx, caller, small.ID, "large"); err == nil {
		t.Error("restored a state that exceeds the limit")
	}
	if f.settled(small.ID, store.StatusRunning); f.read(small, "data/large") != "" {
		t.Error("a refused restore changed the files")
	}
}

// ZFS lets what writes go past a limit by what was on its way when the limit was reached, and takes no limit below what is there. Such a state can be copied,
// synced and restored all the same; its limit is then what it holds.
func TestAStateThatHasHitItsLimit(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	f.write(source, "data/large", random(1, 1<<20))
	f.snapshot(source, "full")
	f.write(source, "data/large", nil)
	f.snapshot(source, "small")
	f.must(here.runtime.SetRootSize(f.ctx, agent.InstanceName(source.ID), "1000000"))
	f.must(second(here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "full")))
	copied := f.settled(f.copy(source, here, agent.CopyRequest{Name: "copy"}).ID, store.StatusRunning)
	if want := string(random(1, 1<<20)); f.read(source, "data/large") != want || f.read(copied, "data/large") != want {
		t.Error("not what the snapshot holds")
	}
	f.write(source, "data/small", []byte("more"))
	f.must(second(here.agent.Sync(f.ctx, caller, copied.ID)))
	f.settled(copied.ID, store.StatusRunning)
	if f.read(copied, "data/small") != "more" {
		t.Error("the sync of a full container brought nothing")
	}
}
