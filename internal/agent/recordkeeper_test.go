package agent_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// keptRecord is what a test looks at in a record file.
type keptRecord struct {
	Container store.Container  `json:"container"`
	Snapshots []store.Snapshot `json:"snapshots"`
	Project   store.Project    `json:"project"`
}

// kept reads a container's record file; ok is false when there is none.
func (f *fleet) kept(s *server, id string) (record keptRecord, ok bool) {
	f.t.Helper()
	mount, err := s.pool.Mount(f.ctx, "hoody/records")
	f.must(err)
	defer func() { f.must(mount.Unmount(f.ctx)) }()
	data, err := mount.Root().ReadFile(id + ".json")
	if errors.Is(err, fs.ErrNotExist) {
		return record, false
	}
	f.must(err)
	f.must(json.Unmarshal(data, &record))
	return record, true
}

func TestPoolKeepsTheRecordsOfItsContainers(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	here.recorded, there.recorded = time.Millisecond, time.Millisecond
	here.restart()
	there.restart()
	source := f.create(here, "source")
	alias := "first"
	_, err := here.agent.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{Alias: &alias})
	f.must(err)
	copied := f.settled(f.copy(source, there, agent.CopyRequest{Name: "copy"}).ID, store.StatusRunning)
	f.until("the copy is kept where it is, with its history", func() bool {
		record, ok := f.kept(there, copied.ID)
		return ok && len(record.Snapshots) == 1 && *record.Snapshots[0].Alias == alias && record.Container.Generation == copied.Generation &&
			record.Container.SourceContainerID == source.ID && record.Project.Alias == "project"
	})
	f.until("the source is kept where it is", func() bool { _, ok := f.kept(here, source.ID); return ok })
	if _, ok := f.kept(here, copied.ID); ok {
		t.Error("the source's server keeps a record of the copy")
	}
	_, err = here.agent.AddPermission(f.ctx, caller, f.project.ID, agent.AddPermissionRequest{UserID: stranger, Level: store.PermissionRead})
	f.must(err)
	f.until("a grant is kept", func() bool {
		record, _ := f.kept(there, copied.ID)
		return len(record.Project.Permissions) == 1
	})
	f.must(here.agent.DeleteContainer(f.ctx, caller, source.ID))
	f.until("a deleted container's file goes", func() bool { _, ok := f.kept(here, source.ID); return !ok })

	// What happens while the agent is down is found at the start.
	there.kill()
	_, err = f.records.Update(f.ctx, func(tx *store.Tx) error {
		copied.Name = "renamed"
		return tx.PutContainer(copied)
	})
	f.must(err)
	there.start()
	f.until("a change is found at the start", func() bool {
		record, _ := f.kept(there, copied.ID)
		return record.Container.Name == "renamed"
	})
}

func TestRecordsInThePoolOutliveAnEmptyStore(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	here.recorded = time.Millisecond
	here.restart()
	box := f.create(here, "box")
	f.until("the record is kept", func() bool { record, _ := f.kept(here, box.ID); return record.Container.Status == store.StatusRunning })
	f.offline(f.loseStore)
	project, err := here.agent.CreateProject(f.ctx, caller, agent.CreateProjectRequest{Alias: "project"})
	f.must(err)
	f.project = project
	f.create(here, "new") // takes longer than the agent's pause between two writes
	if _, ok := f.kept(here, box.ID); !ok {
		t.Error("the record of a container that the empty store does not know is gone")
	}
}

// The file may hold the last copy of what cannot be read in the store: it is not replaced by one that says there is nothing.
func TestAnUnreadableRecordIsNotTakenForAnEmptyOne(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	here.recorded = time.Millisecond
	here.restart()
	container := f.create(here, "container")
	made, err := here.agent.CreateContainer(f.ctx, caller, f.newProject("another").ID, agent.CreateContainerRequest{ServerID: here.id, Image: "busybox"})
	f.must(err)
	other := f.settled(made.View.Container.ID, store.StatusRunning)
	f.snapshot(container, "kept")
	f.until("the snapshot is in the file", func() bool { record, _ := f.kept(here, container.ID); return len(record.Snapshots) == 1 })
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{f.etcd.Endpoint()}, Logger: zap.NewNop()})
	f.must(err)
	defer etcd.Close()
	for _, key := range []string{"histories/" + container.ID, "projects/" + f.project.ID} {
		_, err = etcd.Put(f.ctx, store.DefaultPrefix+key, "{")
		f.must(err)
	}
	f.until("the records are unreadable", func() bool { return len(here.store.Mirror().Unreadable()) == 2 })
	comment := "changed"
	_, err = f.records.Update(f.ctx, func(tx *store.Tx) error {
		for _, id := range []string{container.ID, other.ID} {
			record, err := tx.Container(id)
			if err != nil {
				return err
			}
			record.Comment = &comment
			if err := tx.PutContainer(record); err != nil {
				return err
			}
		}
		return nil
	})
	f.must(err)
	f.until("what can be read is kept", func() bool {
		record, _ := f.kept(here, other.ID)
		return record.Container.Comment != nil && *record.Container.Comment == comment
	})
	if record, _ := f.kept(here, container.ID); len(record.Snapshots) != 1 || record.Project.Alias != "project" {
		t.Errorf("the file has %d snapshots and the project %q", len(record.Snapshots), record.Project.Alias)
	}
}
