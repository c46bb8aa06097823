package agent_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// eventTypes lists the types of the events that an agent shows, oldest first.
func (f *fleet) eventTypes(s *server, as agent.Caller, query agent.EventQuery) []string {
	f.t.Helper()
	f.catchUp()
	query.Ascending, query.Limit = true, 500
	page, err := s.agent.Events(f.ctx, as, query)
	f.must(err)
	types := []string{}
	for _, event := range page.Events {
		types = append(types, event.Type)
	}
	return types
}

// The events of a life, in order, as every agent tells them.
func TestEventsTellWhatHappened(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	snapshot, err := here.agent.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{})
	f.must(err)
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(source, "data/new", []byte("new"))
	f.sync(copied, store.StatusRunning)
	f.must(second(here.agent.Operate(f.ctx, caller, copied.ID, agent.OperationStop, 0)))
	f.must(here.agent.DeleteContainer(f.ctx, caller, copied.ID))

	ofSource := []string{
		"container.operation.accepted", "container.creating", "container.running", "container.operation.completed",
		"container.operation.accepted", "container.snapshot.created", "container.operation.completed",
	}
	ofCopy := []string{
		"container.operation.accepted", "container.copying", "container.running", "container.operation.completed",
		"container.operation.accepted", "container.copying", "container.running", "container.operation.completed",
		"container.operation.accepted", "container.stopped", "container.operation.completed",
		"container.operation.accepted", "container.deleting", "container.deleted", "container.operation.completed",
	}
	for _, s := range f.servers {
		got := f.eventTypes(s, caller, agent.EventQuery{EventFilter: agent.EventFilter{ContainerID: source.ID}})
		if !slices.Equal(got, ofSource) {
			t.Errorf("of the source: %v", got)
		}
		if got := f.eventTypes(s, caller, agent.EventQuery{EventFilter: agent.EventFilter{ContainerID: copied.ID}}); !slices.Equal(got, ofCopy) {
			t.Errorf("of the copy: %v", got)
		}
	}
	page, err := here.agent.Events(f.ctx, caller, agent.EventQuery{EventFilter: agent.EventFilter{Type: "container.snapshot.created"}})
	f.must(err)
	event := page.Events[0]
	if told := event.Payload["snapshot"].(map[string]any); page.Total != 1 || told["name"] != snapshot.Snapshot.Name || event.UserID != owner || event.ResourceID != source.ID {
		t.Errorf("the snapshot's event is %+v", event)
	}
}

func TestEventsOfProjectsAndFailures(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	grant := f.grant(f.project, guest(1), store.PermissionRead)
	f.must(second(here.agent.UpdatePermission(f.ctx, caller, f.project.ID, grant.ID, store.PermissionEdit)))
	f.must(here.agent.RemovePermission(f.ctx, caller, f.project.ID, grant.ID))
	f.must(second(here.agent.UpdateProject(f.ctx, caller, f.project.ID, agent.UpdateProjectRequest{Alias: "new"})))
	f.must(second(here.agent.UpdateProject(f.ctx, caller, f.project.ID, agent.UpdateProjectRequest{Alias: "new"}))) // changes nothing
	made, err := here.agent.CreateContainer(f.ctx, caller, f.project.ID, agent.CreateContainerRequest{ServerID: here.id, Image: "no such image"})
	f.must(err)
	f.settled(made.View.Container.ID, store.StatusFailed)
	f.must(here.agent.DeleteContainer(f.ctx, caller, made.View.Container.ID))
	f.must(second(here.agent.DeleteProject(f.ctx, caller, f.project.ID)))

	want := []string{
		"project.created", "project.permission.added", "project.permission.updated", "project.permission.removed", "project.updated",
		"container.operation.accepted", "container.creating", "container.failed", "container.operation.failed",
		"container.operation.accepted", "container.deleting", "container.deleted", "container.operation.completed", "project.deleted",
	}
	// The owner sees what happened to what is gone; his guest, whose access ended before, and a stranger see nothing.
	if got := f.eventTypes(here, caller, agent.EventQuery{}); !slices.Equal(got, want) {
		t.Errorf("told %v", got)
	}
	for _, nobody := range []agent.Caller{guest(1), {UserID: stranger}} {
		if got := f.eventTypes(here, nobody, agent.EventQuery{}); len(got) > 0 {
			t.Errorf("%s is told %v", nobody.UserID, got)
		}
	}
	if got := f.eventTypes(here, agent.Caller{UserID: stranger, Operator: true}, agent.EventQuery{}); !slices.Equal(got, want) {
		t.Errorf("an operator is told %v", got)
	}
}

func TestEventsAreFilteredAndPaged(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	container := f.create(here, "container")
	all := f.eventTypes(here, caller, agent.EventQuery{})
	last, err := here.agent.Events(f.ctx, caller, agent.EventQuery{Limit: 1})
	f.must(err)
	at := last.Events[0].CreatedAt
	for name, test := range map[string]struct {
		query agent.EventQuery
		want  int
	}{
		"all":             {agent.EventQuery{}, len(all)},
		"type":            {agent.EventQuery{EventFilter: agent.EventFilter{Type: "container.running"}}, 1},
		"resource type":   {agent.EventQuery{EventFilter: agent.EventFilter{ResourceType: "project"}}, 1},
		"resource":        {agent.EventQuery{EventFilter: agent.EventFilter{ResourceID: container.ID}}, len(all) - 1},
		"project":         {agent.EventQuery{EventFilter: agent.EventFilter{ProjectID: f.project.ID}}, len(all)},
		"another project": {agent.EventQuery{EventFilter: agent.EventFilter{ProjectID: container.ID}}, 0},
		"realm":           {agent.EventQuery{EventFilter: agent.EventFilter{RealmID: stranger}}, 0},
		"until now":       {agent.EventQuery{Until: &at}, len(all)},
		"later":           {agent.EventQuery{From: new(at.Add(time.Millisecond))}, 0},
		"offset too far":  {agent.EventQuery{Offset: 1000}, len(all)},
	} {
		page, err := here.agent.Events(f.ctx, caller, test.query)
		f.must(err)
		if page.Total != test.want {
			t.Errorf("%s: %d, want %d", name, page.Total, test.want)
		}
	}
	var paged []string
	for offset := range len(all) {
		page, err := here.agent.Events(f.ctx, caller, agent.EventQuery{Limit: 1, Offset: offset, Ascending: true})
		f.must(err)
		paged = append(paged, page.Events[0].Type)
	}
	if !slices.Equal(paged, all) {
		t.Errorf("page by page %v, at once %v", paged, all)
	}
}

// stream pulls the items of a stream, without those that only say that it lives.
func (f *fleet) stream(s *server, as agent.Caller, filter agent.EventFilter, after string) (next func() (agent.StreamItem, error), stop func()) {
	if last := s.store.Mirror().Events(); after == "" {
		after = last[len(last)-1].Position // from here on, and not from when the test first pulls
	}
	pull, stop := iter.Pull2(s.agent.StreamEvents(f.ctx, as, filter, after))
	return func() (agent.StreamItem, error) {
		for {
			item, err, ok := pull()
			if !ok || err != nil || item != (agent.StreamItem{}) {
				return item, err
			}
		}
	}, stop
}

// A stream goes on at another agent where the client was cut off, without a gap and without a repetition.
func TestAStreamResumesAnywhere(t *testing.T) {
	f := newFleet(t, 2)
	f.create(f.servers[0], "container")
	f.catchUp()
	all, err := f.servers[0].agent.Events(f.ctx, caller, agent.EventQuery{Ascending: true})
	f.must(err)
	for cut := range all.Events {
		next, stop := f.stream(f.servers[cut%2], caller, agent.EventFilter{}, all.Events[cut].Position)
		for _, want := range all.Events[cut+1:] {
			item, err := next()
			f.must(err)
			if item.Event == nil || item.Event.ID != want.ID {
				t.Errorf("after event %d: %+v, want %s", cut, item, want.Type)
			}
		}
		stop()
	}
	// What it has seen last is not there any more.
	next, stop := f.stream(f.servers[0], caller, agent.EventFilter{}, "0000000000000001-0")
	defer stop()
	for i := range len(all.Events) + 1 {
		item, err := next()
		f.must(err)
		if item.Missed != (i == 0) {
			t.Errorf("item %d of a stream with a gap: %+v", i, item)
		}
	}
}

// After the store was made anew, positions start low again: who comes with one of before is told so, once, and hears what happens from then on.
func TestAStreamGoesOnAfterAPositionOfAnotherStore(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	f.catchUp()
	next, stop := f.stream(here, caller, agent.EventFilter{}, "00000fffffffffff-0")
	defer stop()
	item, err := next()
	f.must(err)
	all, err := here.agent.Events(f.ctx, caller, agent.EventQuery{Ascending: true})
	f.must(err)
	if last := all.Events[len(all.Events)-1].Position; !item.Missed || item.Position != last {
		t.Fatalf("%+v, want a gap that ends at %s", item, last)
	}
	f.newProject("later")
	if item, err = next(); err != nil || item.Event == nil {
		t.Errorf("after the gap: %+v, %v", item, err)
	}
}

func TestAStreamTellsEventsAndProgressAsTheyHappen(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", random(1, 100<<10))
	f.catchUp()
	next, stop := f.stream(here, caller, agent.EventFilter{}, "")
	defer stop()
	began := make(chan store.Container, 1)
	go func() { began <- f.copy(source, there, agent.CopyRequest{}) }()
	var phases []string
	for {
		item, err := next()
		f.must(err)
		if item.Progress != nil && !slices.Contains(phases, item.Progress.Phase) {
			phases = append(phases, item.Progress.Phase)
		}
		if item.Event != nil && item.Event.Type == "container.operation.completed" {
			break
		}
	}
	if copied := f.settled((<-began).ID, store.StatusRunning); copied.LastOperation.State != store.JobDone {
		t.Errorf("told of a completed operation: %+v", copied.LastOperation)
	}
	if !slices.Contains(phases, "replicate") || !slices.Contains(phases, "swap") {
		t.Errorf("progress of the phases %v", phases)
	}
}

func TestAStreamEndsWithItsRight(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	user := guest(1)
	grant := f.grant(f.project, user, store.PermissionRead)
	f.catchUp()

	// A revoked grant: the stream stays, and tells no more of the project. Asked of another agent, so that only its mirror can tell.
	next, stop := f.stream(there, user, agent.EventFilter{}, "")
	f.must(second(here.agent.UpdateProject(f.ctx, caller, f.project.ID, agent.UpdateProjectRequest{Alias: "seen"})))
	item, err := next()
	f.must(err)
	if item.Event == nil || item.Event.Type != "project.updated" {
		t.Errorf("told %+v", item)
	}
	f.must(here.agent.RemovePermission(f.ctx, caller, f.project.ID, grant.ID))
	f.must(second(here.agent.UpdateProject(f.ctx, caller, f.project.ID, agent.UpdateProjectRequest{Alias: "unseen"})))
	own, err := here.agent.CreateProject(f.ctx, user, agent.CreateProjectRequest{Alias: "own"})
	f.must(err)
	item, err = next()
	f.must(err)
	if item.Event == nil || item.Event.ProjectID != own.ID {
		t.Errorf("told %+v after the grant was revoked, want only the user's own project", item)
	}

	// A ban ends it, an expired token, too, and so does the client.
	f.must(second(here.agent.BanUser(f.ctx, agent.Caller{UserID: stranger, Operator: true}, user.UserID, "")))
	if _, err := next(); code(err) != "ACCOUNT_BANNED" {
		t.Errorf("a banned user's stream: %v", err)
	}
	stop()
	next, stop = f.stream(here, agent.Caller{UserID: owner, Expires: time.Now().Add(time.Millisecond)}, agent.EventFilter{Type: "none"}, "")
	if _, err := next(); code(err) != "TOKEN_EXPIRED" || !errors.Is(err, errdefs.ErrUnauthenticated) {
		t.Errorf("a stream with an expired token: %v", err)
	}
	stop()
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	ends := 0
	for _, err := range here.agent.StreamEvents(ctx, caller, agent.EventFilter{}, "") {
		if ends++; !errors.Is(err, context.Canceled) {
			t.Errorf("a stream that nobody wants any more: %v", err)
		}
	}
	if ends != 1 {
		t.Errorf("a stream that nobody wants any more says %d times that it ends", ends)
	}
}

// A client that does not read costs nobody anything: its stream holds a bounded queue and picks up what it missed there from
// the mirror.
func TestASlowStreamHoldsNobodyUp(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0].agent
	next, stop := f.stream(f.servers[0], caller, agent.EventFilter{Type: "project.updated"}, "")
	defer stop()
	f.must(second(here.UpdateProject(f.ctx, caller, f.project.ID, agent.UpdateProjectRequest{Alias: "first"})))
	f.must(second(next()))
	const burst = 1200 // more than a subscription queues
	for from := 0; from < burst; from += 50 {
		_, err := f.records.Update(f.ctx, func(tx *store.Tx) error {
			for i := range 50 {
				id := fmt.Sprintf("%08x%016x", uint32(time.Now().Unix()), from+i)
				if err := tx.PutEvent(store.Event{ID: id, Type: "project.updated", ProjectID: f.project.ID, OwnerID: owner}); err != nil {
					return err
				}
			}
			return nil
		})
		f.must(err)
	}
	f.catchUp()
	seen := make(map[string]bool)
	for range burst {
		item, err := next()
		f.must(err)
		if item.Event == nil || seen[item.Event.ID] {
			t.Fatalf("item %d is %+v", len(seen), item)
		}
		seen[item.Event.ID] = true
	}
}
