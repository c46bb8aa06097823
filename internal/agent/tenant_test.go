package agent_test

import (
	"sync"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// A taken-over source names another tenant's snapshot as an ancestor of what it sends. Were that believed, the stream would be
// received on top of the other tenant's blocks.
func TestAClaimedAncestorOfAnotherOwnerIsNoBase(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	victim := agent.Caller{UserID: stranger}
	theirs, err := there.agent.CreateProject(f.ctx, victim, agent.CreateProjectRequest{Alias: "theirs"})
	f.must(err)
	made, err := there.agent.CreateContainer(f.ctx, victim, theirs.ID, agent.CreateContainerRequest{ServerID: there.id, Image: "busybox"})
	f.must(err)
	secret := f.settled(made.View.Container.ID, store.StatusRunning)
	f.write(secret, "data/secret", []byte("the other tenant's"))
	claimed, err := there.agent.CreateSnapshot(f.ctx, victim, secret.ID, agent.CreateSnapshotRequest{})
	f.must(err)

	source := f.create(here, "source")
	f.write(source, "data/file", random(1, 100<<10))
	var mu sync.Mutex
	var bases []lineage.GUID
	f.asked = func(request agent.StreamRequest) {
		mu.Lock()
		defer mu.Unlock()
		bases = append(bases, request.From)
	}
	f.tamper = func(manifest *agent.Manifest) {
		for i, node := range manifest.Nodes {
			if node.Parent == 0 {
				manifest.Nodes[i].Parent = claimed.Snapshot.GUID
			}
		}
		lie := lineage.Node{GUID: claimed.Snapshot.GUID, Dataset: "containers/x", Name: "hoody-lie"}
		manifest.Nodes = append([]lineage.Node{lie}, manifest.Nodes...)
	}
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	if f.hash(copied) != f.hash(source) {
		t.Error("the copy's content is not the source's")
	}
	mu.Lock()
	defer mu.Unlock()
	for _, base := range bases {
		if base == claimed.Snapshot.GUID {
			t.Error("a stream was asked for on top of the other tenant's snapshot")
		}
	}
}

// The lie about a wanted snapshot: what is asked for is held already, by somebody else.
func TestAWantedSnapshotOfAnotherOwnerIsRefused(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	victim := agent.Caller{UserID: stranger}
	theirs, err := there.agent.CreateProject(f.ctx, victim, agent.CreateProjectRequest{Alias: "theirs"})
	f.must(err)
	made, err := there.agent.CreateContainer(f.ctx, victim, theirs.ID, agent.CreateContainerRequest{ServerID: there.id, Image: "busybox"})
	f.must(err)
	secret := f.settled(made.View.Container.ID, store.StatusRunning)
	claimed, err := there.agent.CreateSnapshot(f.ctx, victim, secret.ID, agent.CreateSnapshotRequest{})
	f.must(err)
	source := f.create(here, "source")
	f.snapshot(source, "another")
	f.tamper = func(manifest *agent.Manifest) {
		// As an image, of which there may be as many as what is asked for: else it would not be looked for.
		manifest.Nodes = append(manifest.Nodes, lineage.Node{GUID: claimed.Snapshot.GUID, Dataset: "images/x", Name: "hoody-lie"})
		manifest.Wanted = append(manifest.Wanted, claimed.Snapshot.GUID)
	}
	f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusFailed)
	if left := f.leftovers(there); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A source server that wants the target to take more than the job is about is refused, before anything travels.
func TestNothingUnaskedForIsBrought(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", []byte("changed")) // else its marker is what is frozen
	f.asked = func(request agent.StreamRequest) { t.Errorf("a stream of %s was asked for", request.To) }
	f.tamper = func(manifest *agent.Manifest) {
		manifest.Wanted = append(manifest.Wanted, source.Generation.Marker.GUID)
	}
	f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusFailed)
	if left := f.leftovers(there); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
