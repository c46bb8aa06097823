package agent_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// TestACollectionSurvivesDeathAnywhere kills the agent at every effect of a collection. Whatever the moment, nothing that is
// listed is lost, and the next collection ends where an undisturbed one does.
func TestACollectionSurvivesDeathAnywhere(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", []byte("first"))
	first := f.taken(source)
	near := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	far := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	f.collect()
	resting := len(here.inventory().Datasets)
	stride := 2
	if testing.Short() {
		stride = 5
	}
	for at := 0; ; at += stride {
		// Work that leaves something of every sort: to promote, to bookmark, to destroy.
		f.write(source, "data/file", random(byte(at), 10<<10))
		near = f.sync(near, store.StatusRunning)
		extra := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
		f.write(source, "data/file", random(byte(at+1), 10<<10))
		far = f.sync(far, store.StatusRunning)
		near = f.sync(near, store.StatusRunning)
		_, err := here.agent.RestoreSnapshot(f.ctx, caller, source.ID, first.Name)
		f.must(err)
		hash := f.hash(near)

		watched := watch(here, at)
		_, _ = here.agent.Collect(f.ctx, false)
		died := false
		select {
		case <-watched.died:
			died = true
			t.Logf("killed at effect %d: %s", at, watched.at())
			here.setFault(nil)
			here.restart()
		default:
			watched.counted()
		}
		here.collect()
		if f.hash(near) != hash {
			t.Errorf("killed at %d: the content of a copy changed", at)
		}
		_, err = here.agent.RestoreSnapshot(f.ctx, caller, near.ID, first.Name)
		f.must(err)
		if got := f.read(near, "data/file"); got != "first" {
			t.Errorf("killed at %d: restored %q", at, got)
		}
		far = f.sync(far, store.StatusRunning)
		near = f.sync(near, store.StatusRunning)
		f.delete(extra)
		dropUndo(f, source, near, far)
		f.collect()
		if got := len(here.inventory().Datasets); got != resting {
			t.Errorf("killed at %d: %d datasets in the end, want %d", at, got, resting)
		}
		if !died {
			return
		}
	}
}

// dropUndo deletes what was kept automatically.
func dropUndo(f *fleet, containers ...store.Container) {
	f.t.Helper()
	for _, container := range containers {
		list, err := f.servers[0].agent.Snapshots(f.ctx, caller, container.ID)
		f.must(err)
		for _, snapshot := range list.Snapshots {
			if snapshot.Undo {
				_, err := f.servers[0].agent.DeleteSnapshot(f.ctx, caller, container.ID, snapshot.Name)
				f.must(err)
			}
		}
	}
}

// TestAFailedLeaderTakesNothingFromItsFollower: what the leader received whole, the follower counts on, though not for its base.
func TestAFailedLeaderTakesNothingFromItsFollower(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", []byte("one"))
	first := f.taken(source)
	restore := func(container store.Container, snapshot store.Snapshot) {
		t.Helper()
		_, err := here.agent.RestoreSnapshot(f.ctx, caller, container.ID, snapshot.Name)
		f.must(err)
	}
	restore(source, first)
	f.write(source, "data/file", []byte("two"))
	second := f.taken(source)
	restore(source, first) // second is on a side branch now, which nothing stands on
	f.write(source, "data/file", []byte("three"))
	settling, fail := make(chan struct{}), make(chan struct{})
	cloned, goOn := make(chan struct{}), make(chan struct{})
	var leads, follows sync.Once
	there.setFault(func(op, object string) error {
		switch {
		case op == "rename:before" && strings.HasPrefix(object, "hoody/incoming/") && strings.Contains(object, "-000"):
			leads.Do(func() { // the leader has received everything and is about to settle it
				close(settling)
				<-fail
			})
			return errdefs.New(errdefs.ErrInternal, "", "the leader fails")
		case op == "snapshot:before" && strings.HasPrefix(object, "hoody/incoming/"):
			follows.Do(func() { // the follower found everything there, and has its clone
				close(cloned)
				<-goOn
			})
		}
		return nil
	})
	reached := func(point <-chan struct{}) {
		t.Helper()
		select {
		case <-point:
		case <-f.ctx.Done():
			t.Fatal(f.ctx.Err())
		}
	}
	leader := f.copy(source, there, agent.CopyRequest{})
	reached(settling)
	follower := f.copy(source, there, agent.CopyRequest{})
	reached(cloned)
	close(fail)
	f.settled(leader.ID, store.StatusFailed)
	close(goOn)
	follower = f.settled(follower.ID, store.StatusRunning)
	there.setFault(nil)
	f.delete(leader)
	f.collect()
	restore(follower, second)
	if got := f.read(follower, "data/file"); got != "two" {
		t.Errorf("the follower restores %q", got)
	}
	f.delete(follower)
	f.collect()
	if left := there.agents(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestWithoutCertainRecordsNothingIsCollected(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	f.write(source, "data/file", []byte("new"))
	f.delete(f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning))
	before := here.agents()
	stamp := here.parentProperty(t, "hoody:stamp")
	f.must(here.pool.SetProperties(f.ctx, "hoody", agent.Properties{"hoody:stamp": "another/" + here.id + "/1"}))
	report := here.collectOnce()
	if report.ReadOnly == "" || report.Removed > 0 || len(report.Objects) == 0 {
		t.Errorf("with the records of another store: %+v", report)
	}
	f.must(here.pool.SetProperties(f.ctx, "hoody", agent.Properties{"hoody:stamp": stamp}))
	f.closeStore()
	ctx, cancel := context.WithTimeout(f.ctx, 30*time.Second)
	defer cancel()
	if _, err := here.agent.Collect(ctx, false); err == nil {
		t.Error("collected without a store")
	}
	f.openStore()
	if after := here.agents(); !slices.Equal(before, after) {
		t.Errorf("before %v, after %v", before, after)
	}
}

func (s *server) parentProperty(t *testing.T, name string) string {
	t.Helper()
	parent, err := s.pool.Dataset(s.fleet.ctx, "hoody")
	s.fleet.must(err)
	return parent.Properties[name]
}
