package agent_test

import (
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// view is what a server's agent answers about a container.
func (f *fleet) view(s *server, container store.Container) store.Container {
	f.t.Helper()
	f.catchUp()
	view, err := s.agent.Container(f.ctx, caller, container.ID)
	f.must(err)
	return view.Container
}

// look has every server look at its containers' files, a moment later.
func (f *fleet) look() {
	f.t.Helper()
	f.clock.advance(time.Minute)
	for _, s := range f.servers {
		f.must(s.agent.SampleActivity(f.ctx))
	}
	f.clock.advance(time.Minute)
}

// due is the decision of the documentation's script: is the source newer than its copy?
func (f *fleet) due(source, copied store.Container) bool {
	f.t.Helper()
	asked := f.servers[0]
	return f.view(asked, source).UpdatedAt.After(f.view(asked, copied).UpdatedAt)
}

// The documentation's conditional sync does what it says: it syncs when the source has changed and not otherwise.
func TestConditionalSync(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.look() // its boot has written
	copied := f.settled(f.copy(source, there, agent.CopyRequest{Name: "copied"}).ID, store.StatusRunning)
	beside := f.settled(f.copy(source, here, agent.CopyRequest{Name: "beside"}).ID, store.StatusRunning)
	current := func(when string) {
		t.Helper()
		if f.due(source, copied) || f.due(source, beside) {
			t.Errorf("%s, the source (%v) is newer than its copies (%v, %v)", when, f.view(here, source).UpdatedAt, f.view(here, copied).UpdatedAt, f.view(here, beside).UpdatedAt)
		}
	}
	stale := func(when string) {
		t.Helper()
		if !f.due(source, copied) || !f.due(source, beside) {
			t.Errorf("%s, the source (%v) is not newer than its copies (%v, %v)", when, f.view(here, source).UpdatedAt, f.view(here, copied).UpdatedAt, f.view(here, beside).UpdatedAt)
		}
	}
	sync := func(container store.Container) {
		t.Helper()
		f.clock.advance(time.Minute)
		f.must(second(here.agent.Sync(f.ctx, caller, container.ID)))
		f.settled(container.ID, store.StatusRunning)
	}
	current("after the copies")
	f.look()
	current("after a look at what nobody has changed")
	f.look()
	current("after another")

	before := f.clock.now()
	f.write(source, "etc/motd", []byte("changed"))
	current("before anybody has looked")
	f.look()
	stale("after a change")
	if at := f.view(there, source).UpdatedAt; at.Before(before) {
		t.Errorf("changed at %v, before the change at %v", at, before)
	}
	f.write(source, "etc/motd", []byte("CHANGED")) // as long as before: written stays as it is
	f.look()
	sync(copied)
	if f.due(source, copied) || !f.due(source, beside) {
		t.Error("after the sync of one copy, it is not that one that is current and the other that is not")
	}
	f.look()
	if f.due(source, copied) || !f.due(source, beside) {
		t.Error("a look at the frozen source changed that")
	}
	f.write(source, "etc/motd", []byte("changes"))
	f.look()
	stale("after a change that the first copy does not have either")
	sync(copied)
	sync(beside)
	f.look()
	current("after both were synced")

	// What a copy writes, and what is done to it, is not the source's.
	f.write(copied, "var/log/own", random(1, 1<<16))
	f.look()
	current("after a copy has written")
	f.must(second(here.agent.UpdateContainer(f.ctx, caller, copied.ID, agent.UpdateContainerRequest{Name: new("renamed")})))
	f.write(source, "etc/motd", []byte("once more"))
	f.look()
	stale("after a change behind a copy's new name")
	f.must(second(here.agent.UpdateContainer(f.ctx, caller, copied.ID, agent.UpdateContainerRequest{Color: new("123456")})))
	stale("after a stale copy got another colour")

	// Neither does a restarted agent forget what it saw, nor take it for new.
	at := f.view(there, source).UpdatedAt
	here.restart()
	f.look()
	if now := f.view(there, source).UpdatedAt; !now.Equal(at) {
		t.Errorf("changed at %v, after a restart at %v", at, now)
	}
	sync(copied)
	sync(beside)

	// Somebody else's snapshot, in which a change is hidden.
	f.write(source, "etc/motd", []byte("hidden"))
	f.must(here.runtime.AddSnapshot(f.ctx, agent.InstanceName(source.ID), "nightly"))
	f.look()
	stale("after a change that another snapshot holds")
	// The user's own.
	sync(copied)
	sync(beside)
	f.look()
	current("after that was synced")
	f.write(source, "etc/motd", []byte("kept"))
	f.clock.advance(time.Minute)
	f.must(second(here.agent.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{})))
	f.look()
	stale("after a change that a snapshot holds")
}

// syncHeld asks for a sync and returns when its source is frozen and its stream has arrived; it goes no further before proceed is called.
func (f *fleet) syncHeld(copied store.Container) (proceed func()) {
	f.t.Helper()
	server := f.serverOf(copied)
	reached, goOn := make(chan struct{}), make(chan struct{})
	server.setFault(func(op, object string) error {
		if op == "clone:before" && strings.HasPrefix(object, "hoody/incoming/") {
			server.setFault(nil)
			close(reached)
			<-goOn
		}
		return nil
	})
	f.must(second(server.agent.Sync(f.ctx, caller, copied.ID)))
	<-reached
	return func() { close(goOn) }
}

// The source changes while a sync is under way: the copy holds the state before, and says so.
func TestConditionalSyncOfASourceThatChangesMeanwhile(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, there, agent.CopyRequest{Name: "copied"}).ID, store.StatusRunning)
	f.write(source, "etc/motd", []byte("first"))
	f.look()
	proceed := f.syncHeld(copied)
	f.clock.advance(time.Minute)
	f.write(source, "etc/motd", []byte("second"))
	f.clock.advance(time.Minute)
	proceed()
	f.settled(copied.ID, store.StatusRunning)
	f.look()
	if f.read(copied, "etc/motd") != "first" || !f.due(source, copied) {
		t.Errorf("the copy holds %q and is at %v, the source at %v", f.read(copied, "etc/motd"), f.view(here, copied).UpdatedAt, f.view(here, source).UpdatedAt)
	}
	f.must(second(here.agent.Sync(f.ctx, caller, copied.ID)))
	f.settled(copied.ID, store.StatusRunning)
	f.look()
	if f.read(copied, "etc/motd") != "second" || f.due(source, copied) {
		t.Errorf("then the copy holds %q and is at %v, the source at %v", f.read(copied, "etc/motd"), f.view(here, copied).UpdatedAt, f.view(here, source).UpdatedAt)
	}
}

// activityWrites returns how often a server's record of looks was written so far.
func (f *fleet) activityWrites(s *server) func() int64 {
	f.t.Helper()
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{f.etcd.Endpoint()}})
	f.must(err)
	f.t.Cleanup(func() { _ = etcd.Close() })
	return func() int64 {
		f.t.Helper()
		read, err := etcd.Get(f.ctx, store.DefaultPrefix+string(store.KindActivity)+"/"+s.id)
		f.must(err)
		if len(read.Kvs) == 0 {
			return 0
		}
		return read.Kvs[0].Version
	}
}

// A look writes one record for all containers of a server, not more often than every ten minutes for those that nobody compares,
// and none when nothing has moved.
func TestLooksAreBatched(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	var sources []store.Container
	for _, name := range []string{"one", "two", "three"} {
		sources = append(sources, f.create(here, name))
	}
	writes := f.activityWrites(here)
	f.look()
	for _, source := range sources {
		f.write(source, "etc/motd", []byte("changed"))
	}
	before := writes()
	f.look()
	if after := writes(); after != before {
		t.Errorf("%d writes at once for changes that nobody waits for, want none", after-before)
	}
	f.clock.advance(10 * time.Minute)
	f.look()
	if after := writes(); after != before+1 {
		t.Errorf("%d writes for three changed containers, want 1", after-before)
	}
	before = writes()
	f.clock.advance(10 * time.Minute)
	f.look()
	if after := writes(); after != before {
		t.Errorf("%d writes for nothing, want none", after-before)
	}
	for _, source := range sources {
		if !f.view(here, source).UpdatedAt.After(source.UpdatedAt) {
			t.Errorf("%s did not move", source.Name)
		}
	}
	// Sorted by it, the last one changed comes first.
	f.write(sources[1], "etc/motd", []byte("changed again"))
	f.clock.advance(10 * time.Minute)
	f.look()
	page, err := here.agent.Containers(f.ctx, caller, agent.ContainerQuery{ListQuery: agent.ListQuery{SortBy: "updated_at"}})
	f.must(err)
	if page.Containers[0].Container.ID != sources[1].ID {
		t.Errorf("first is %s", page.Containers[0].Container.Name)
	}
}

// The first change after a copy's state is recorded by the next look, the further ones say nothing new to whoever compares.
func TestASourceOvertakesItsCopiesAtOnce(t *testing.T) {
	f := newFleet(t, 1, func(f *fleet) { f.activityPace = time.Hour })
	here := f.servers[0]
	source := f.create(here, "source")
	f.look()
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	writes := f.activityWrites(here)
	for round := range 2 {
		f.look()
		if f.due(source, copied) {
			t.Fatalf("round %d: the source is newer than its copy before it has changed", round)
		}
		before := writes()
		for i := range 4 {
			f.write(source, "data/file", random(byte(i), 1000*(i+1)))
			f.look()
			if !f.due(source, copied) {
				t.Errorf("round %d: the source is not newer than its copy after change %d", round, i)
			}
		}
		if after := writes(); after != before+1 {
			t.Errorf("round %d: %d writes for four changes, want 1", round, after-before)
		}
		f.must(second(here.agent.Sync(f.ctx, caller, copied.ID)))
		f.settled(copied.ID, store.StatusRunning)
	}
	// What a restarted agent does not remember it finds out again.
	f.look()
	f.write(source, "data/file", random(9, 500))
	f.look()
	here.restart()
	f.look()
	if !f.due(source, copied) {
		t.Error("after a restart the source is not newer than its copy")
	}
}

// A change that was seen while a copy's state was on its way is not forgotten because the copy was edited before anybody was told.
func TestAnEditOfACopyHidesNoChange(t *testing.T) {
	f := newFleet(t, 2, func(f *fleet) { f.activityPace = time.Hour })
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(source, "etc/motd", []byte("first"))
	f.look()
	proceed := f.syncHeld(copied)
	f.write(source, "etc/motd", []byte("second"))
	f.look() // sees it, and tells nobody: the copy is behind anyway
	proceed()
	f.settled(copied.ID, store.StatusRunning)
	f.clock.advance(time.Minute)
	name := "renamed"
	f.must(second(there.agent.UpdateContainer(f.ctx, caller, copied.ID, agent.UpdateContainerRequest{Name: &name})))
	f.look()
	if !f.due(source, copied) {
		t.Errorf("the source is at %v, its copy, which lacks its last change, at %v", f.view(here, source).UpdatedAt, f.view(here, copied).UpdatedAt)
	}
	f.sync(copied, store.StatusRunning)
	f.look()
	if f.due(source, copied) || f.read(copied, "etc/motd") != "second" {
		t.Errorf("after a sync the source is at %v, its copy at %v", f.view(here, source).UpdatedAt, f.view(here, copied).UpdatedAt)
	}
}
