package agent_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// recovery runs `recover` on a server whose agent is not running, and applies what it finds if it is told to.
func (s *server) recovery(apply bool) agent.Recovery {
	f := s.fleet
	f.t.Helper()
	s.openDisks()
	defer s.closeDisks()
	records, err := store.Open(f.ctx, store.Options{Endpoints: []string{f.etcd.Endpoint()}, ServerID: s.id, Instance: s.id})
	f.must(err)
	defer func() { _ = records.Close() }()
	r := agent.Recoverer{Server: store.Server{ID: s.id, Name: s.id}, Store: records, Pool: s.pool, Runtime: s.runtime}
	plan, err := r.Plan(f.ctx)
	f.must(err)
	if apply {
		f.must(r.Apply(f.ctx, plan))
	}
	return plan
}

// holdings is everything that a server's disks hold: nothing of it may go.
func (f *fleet) holdings(s *server) []string {
	f.t.Helper()
	inventory, err := s.pool.Inventory(f.ctx)
	f.must(err)
	var all []string
	for _, dataset := range inventory.Datasets {
		all = append(all, dataset.Name)
		for _, snapshot := range dataset.Snapshots {
			all = append(all, fmt.Sprint(snapshot.GUID))
		}
	}
	instances, err := s.runtime.Instances(f.ctx)
	f.must(err)
	for _, instance := range instances {
		all = append(all, "instance "+instance.Name)
	}
	slices.Sort(all)
	return all
}

func (f *fleet) nothingLost(s *server, before []string) {
	f.t.Helper()
	after := f.holdings(s)
	for _, object := range before {
		if !slices.Contains(after, object) {
			f.t.Errorf("%s is gone", object)
		}
	}
}

func verdicts(plan agent.Recovery) map[string]agent.RecoveryVerdict {
	all := make(map[string]agent.RecoveryVerdict)
	for _, container := range plan.Containers {
		all[container.Name] = container.Verdict
	}
	return all
}

// quick has the servers write their records into the pools at once.
func quick(f *fleet) {
	for _, s := range f.servers {
		s.recorded = time.Millisecond
		s.restart()
	}
}

// recorded waits until the pools hold what the store says.
func (f *fleet) recorded() {
	f.t.Helper()
	for _, s := range f.servers {
		f.until("records are kept", func() bool {
			for _, container := range f.records.Mirror().ContainersOnServer(s.id) {
				kept, ok := f.kept(s, container.ID)
				history, _ := f.records.Mirror().History(container.ID)
				if !ok || kept.Container.Status != container.Status || kept.Container.Generation != container.Generation ||
					history != nil && len(kept.Snapshots) != len(history.Snapshots) {
					return false
				}
			}
			return true
		})
	}
}

func TestEverythingWorksAgainAfterTheStoreWasLost(t *testing.T) {
	f := newFleet(t, 2)
	quick(f)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", []byte("one"))
	alias := "first"
	_, err := here.agent.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{Alias: &alias})
	f.must(err)
	near := f.settled(f.copy(source, here, agent.CopyRequest{Name: "near"}).ID, store.StatusRunning)
	far := f.settled(f.copy(source, there, agent.CopyRequest{Name: "far"}).ID, store.StatusRunning)
	_, err = here.agent.AddPermission(f.ctx, caller, f.project.ID, agent.AddPermissionRequest{UserID: stranger, Level: store.PermissionEdit})
	f.must(err)
	f.must(second(here.agent.Operate(f.ctx, caller, near.ID, agent.OperationStop, 0)))
	f.recorded()
	f.until("the grant is kept", func() bool { record, _ := f.kept(here, source.ID); return len(record.Project.Permissions) == 1 })
	before := map[*server][]string{here: f.holdings(here), there: f.holdings(there)}

	var found agent.Recovery
	f.offline(func() {
		f.loseStore()
		f.openStore()
		if found = here.recovery(false); len(f.records.Mirror().Containers()) != 0 {
			t.Error("looking changed the store")
		}
		here.recovery(true)
		there.recovery(true)
		f.closeStore()
	})
	if found.Distrust == nil || found.Distrust.Code != agent.FindingOtherStore {
		t.Errorf("distrust: %v", found.Distrust)
	}
	if got := verdicts(found); got["source"] != agent.VerdictRestored || got["near"] != agent.VerdictRestored || len(got) != 2 {
		t.Errorf("found %v", got)
	}
	for _, s := range f.servers {
		if code := degraded(s); code != "" {
			t.Errorf("%s is degraded: %s", s.id, code)
		}
		f.nothingLost(s, before[s])
	}
	project, err := here.agent.Project(f.ctx, agent.Caller{UserID: stranger}, f.project.ID)
	f.must(err)
	if project.Alias != "project" || project.Containers != 3 {
		t.Errorf("project %q with %d containers", project.Alias, project.Containers)
	}
	for _, was := range []store.Container{source, near, far} {
		now := f.ended(was.ID)
		want := store.StatusRunning
		if was.ID == near.ID {
			want = store.StatusStopped
		}
		if now.Status != want || now.Generation != was.Generation || now.SSHPublicKey != was.SSHPublicKey || now.SourceContainerID != was.SourceContainerID {
			t.Errorf("%s came back as %+v", was.Name, now)
		}
	}

	// All of the lineage works: syncs from it, copies of it, its snapshots, its names.
	f.write(source, "data/file", []byte("two"))
	for _, copied := range []store.Container{near, far} {
		f.must(second(here.agent.Sync(f.ctx, caller, copied.ID)))
		if got := f.read(f.settledSomehow(copied.ID), "data/file"); got != "two" {
			t.Errorf("%s holds %q after a sync", copied.Name, got)
		}
	}
	old := f.settled(f.copy(source, there, agent.CopyRequest{Name: "old", SourceSnapshot: alias}).ID, store.StatusRunning)
	if got := f.read(old, "data/file"); got != "one" {
		t.Errorf("the copy of the snapshot holds %q", got)
	}
	if err := second(here.agent.CreateContainer(f.ctx, caller, f.project.ID, agent.CreateContainerRequest{ServerID: here.id, Name: "source", Image: "busybox"})); code(err) != "CONTAINER_NAME_IN_USE" {
		t.Errorf("a recovered name was given away: %v", err)
	}
	for _, container := range []store.Container{source, near, far, old} {
		f.must(here.agent.DeleteContainer(f.ctx, caller, container.ID))
	}
}

// settledSomehow waits for the end of an operation and takes the state as it is.
func (f *fleet) settledSomehow(id string) store.Container {
	f.t.Helper()
	container := f.ended(id)
	if container.Status == store.StatusFailed || container.LastOperation == nil || container.LastOperation.Error != "" {
		f.t.Fatalf("container %s: %s %s %+v", container.Name, container.Status, container.FailureReason, container.LastOperation)
	}
	return container
}

func TestRecordsOfAnOldStoreAreBroughtUpToDate(t *testing.T) {
	f := newFleet(t, 1)
	quick(f)
	here := f.servers[0]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{Name: "copy"}).ID, store.StatusRunning)
	gone := f.create(here, "gone")
	f.recorded()
	var backup string
	f.offline(func() { backup = f.backUp() })

	alias := "after the backup"
	_, err := here.agent.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{Alias: &alias})
	f.must(err)
	f.write(source, "data/file", []byte("later"))
	f.must(second(here.agent.Sync(f.ctx, caller, copied.ID)))
	copied = f.settled(copied.ID, store.StatusRunning)
	later := f.create(here, "later")
	f.must(here.agent.DeleteContainer(f.ctx, caller, gone.ID))
	f.recorded()
	before := f.holdings(here)

	f.offline(func() { f.etcdDir = backup })
	f.until("the agent notices", func() bool { return degraded(here) == agent.FindingRecordsOlder })
	// Life goes on before anybody recovers: the old record of the source is the newer one from here on.
	f.must(second(here.agent.Operate(f.ctx, caller, source.ID, agent.OperationRestart, 0)))
	project := f.project
	taken, err := here.agent.CreateContainer(f.ctx, caller, project.ID, agent.CreateContainerRequest{ServerID: here.id, Name: "later", Image: "busybox"})
	f.must(err)
	f.settled(taken.View.Container.ID, store.StatusRunning)
	here.kill()
	plan := here.recovery(true)
	here.start()
	f.until("the agent trusts the records", func() bool { return degraded(here) == "" })
	f.nothingLost(here, before)

	if got := verdicts(plan); got["source"] != agent.VerdictCorrected || got["copy"] != agent.VerdictCorrected || got["later-recovered"] != agent.VerdictRestored {
		t.Errorf("verdicts: %v", got)
	}
	if now := f.ended(copied.ID); now.Generation != copied.Generation {
		t.Errorf("the copy's record says %+v, its generation is %+v", now.Generation, copied.Generation)
	}
	list, err := here.agent.Snapshots(f.ctx, caller, source.ID)
	f.must(err)
	if len(list.Snapshots) != 1 || *list.Snapshots[0].Alias != alias {
		t.Errorf("snapshots after the backup: %+v", list.Snapshots)
	}
	if now := f.ended(later.ID); now.Name != "later-recovered" || now.Status != store.StatusRunning {
		t.Errorf("a container made after the backup came back as %s, %s", now.Name, now.Status)
	}
	if now := f.ended(gone.ID); now.Status != store.StatusFailed || !strings.Contains(now.FailureReason, "gone") {
		t.Errorf("a container deleted after the backup is %s: %s", now.Status, now.FailureReason)
	}
	f.must(here.agent.DeleteContainer(f.ctx, caller, gone.ID))
	f.must(second(here.agent.Sync(f.ctx, caller, copied.ID)))
	f.settled(copied.ID, store.StatusRunning)
}

func TestContainersWithoutRecordFilesAreRebuilt(t *testing.T) {
	f := newFleet(t, 1)
	quick(f)
	here := f.servers[0]
	box := f.create(here, "box")
	f.write(box, "data/file", []byte("kept"))
	alias := "mine"
	taken, err := here.agent.CreateSnapshot(f.ctx, caller, box.ID, agent.CreateSnapshotRequest{Alias: &alias})
	f.must(err)
	f.write(box, "data/file", []byte("changed"))
	f.recorded()
	var plan agent.Recovery
	f.offline(func() {
		f.loseStore()
		f.openStore()
		here.openDisks()
		mount, err := here.pool.Mount(f.ctx, "hoody/records")
		f.must(err)
		f.must(mount.Root().WriteFile(box.ID+".json", []byte(`{"version":1,`), 0o600)) // what a broken disk leaves
		f.must(mount.Unmount(f.ctx))
		here.closeDisks()
		plan = here.recovery(true)
		f.closeStore()
	})
	if len(plan.Containers) != 1 || plan.Containers[0].Verdict != agent.VerdictRebuilt || len(plan.Containers[0].Unknown) == 0 || len(plan.Notes) == 0 {
		t.Fatalf("plan: %+v", plan)
	}
	now := f.settled(box.ID, store.StatusRunning)
	if now.Name != "box" || now.OwnerID != owner || now.Generation != box.Generation || !now.CreatedAt.Equal(box.CreatedAt.Truncate(time.Second)) {
		t.Errorf("rebuilt as %+v", now)
	}
	f.project, err = here.agent.Project(f.ctx, caller, now.ProjectID)
	f.must(err)
	list, err := here.agent.Snapshots(f.ctx, caller, box.ID)
	f.must(err)
	if len(list.Snapshots) != 1 || list.Snapshots[0].GUID != taken.Snapshot.GUID {
		t.Fatalf("snapshots: %+v", list.Snapshots)
	}
	old := f.settled(f.copy(now, here, agent.CopyRequest{SourceSnapshot: list.Snapshots[0].Name}).ID, store.StatusRunning)
	if got := f.read(old, "data/file"); got != "kept" {
		t.Errorf("the snapshot holds %q", got)
	}
}

// What was changed after a backup without anything else being changed counts, too: grants of a project, and the key of a copy, whose
// updated_at stays that of what it holds.
func TestGrantsAndKeysAfterABackupCount(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	quick(f)
	here := f.servers[0]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{Name: "copy"}).ID, store.StatusRunning)
	revoked := f.grant(f.project, agent.Caller{UserID: stranger}, store.PermissionDelete)
	f.write(source, "data/file", []byte("the source is newer than the copy"))
	f.must(second(here.agent.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{})))
	f.recorded()
	var backup string
	f.offline(func() { backup = f.backUp() })

	f.must(here.agent.RemovePermission(f.ctx, caller, f.project.ID, revoked.ID))
	given := f.grant(f.project, agent.Caller{UserID: "64c1aa00b2d34e5f60718999"}, store.PermissionRead)
	key := newKey(t)
	f.must(second(here.agent.UpdateContainer(f.ctx, caller, copied.ID, agent.UpdateContainerRequest{SetSSHPublicKey: true, SSHPublicKey: key})))
	f.applied(copied.ID)
	f.until("the change is kept", func() bool {
		record, _ := f.kept(here, copied.ID)
		return record.Container.SSHPublicKey == key && len(record.Project.Permissions) == 1 && record.Project.Permissions[0].ID == given.ID
	})

	f.offline(func() { f.etcdDir = backup })
	here.kill()
	here.recovery(true)
	here.start()
	f.until("the agent trusts the records", func() bool { return degraded(here) == "" })
	project, err := here.agent.Project(f.ctx, caller, f.project.ID)
	f.must(err)
	if len(project.Permissions) != 1 || project.Permissions[0].ID != given.ID {
		t.Errorf("grants after the recovery: %+v", project.Permissions)
	}
	if now := f.ended(copied.ID); now.SSHPublicKey != key {
		t.Error("the key that was replaced is back")
	}
}

// A server that has recovered keeps what copies on servers that have not were made from.
func TestBasesOutliveARecovery(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	quick(f)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", random(1, 1<<20))
	far := f.settled(f.copy(source, there, agent.CopyRequest{Name: "far"}).ID, store.StatusRunning)
	f.recorded()
	f.offline(func() {
		f.loseStore()
		f.openStore()
		here.recovery(true)
		f.closeStore()
	})
	f.until("the agent trusts the records", func() bool { return degraded(here) == "" })
	here.collect()
	there.kill()
	there.recovery(true)
	there.start()
	f.until("the other agent trusts the records", func() bool { return degraded(there) == "" })
	f.write(source, "data/more", []byte("more"))
	synced := f.sync(far, store.StatusRunning)
	job, err := f.records.GetJob(f.ctx, synced.LastOperation.ID)
	f.must(err)
	if moved := job.Progress.BytesDone; moved > 100<<10 {
		t.Errorf("the sync moved %d bytes, want the difference only", moved)
	}
}
