package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

const stranger = "64c1aa00b2d34e5f60718002"

// code is the contract code of an error, and its class.
func code(err error) string {
	var refused *errdefs.Error
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

func TestRefusedRequestsChangeNothing(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	other, err := here.agent.CreateProject(f.ctx, agent.Caller{UserID: stranger}, agent.CreateProjectRequest{Alias: "theirs"})
	f.must(err)
	limit := 1
	full, err := here.agent.CreateProject(f.ctx, caller, agent.CreateProjectRequest{Alias: "full", MaxContainers: &limit})
	f.must(err)
	filling, err := here.agent.CreateContainer(f.ctx, caller, full.ID, agent.CreateContainerRequest{ServerID: here.id, Image: "busybox"})
	f.must(err)
	f.settled(filling.View.Container.ID, store.StatusRunning)
	before := f.everything(here)
	unknown := "64c1aa00b2d34e5f6071ffff"
	copyTo := func(who agent.Caller, id string, request agent.CopyRequest) func() error {
		return func() error { return second(here.agent.Copy(f.ctx, who, id, request)) }
	}
	for name, test := range map[string]struct {
		do    func() error
		class error
		code  string
	}{
		"copy of an unknown container": {copyTo(caller, unknown, agent.CopyRequest{TargetProjectID: f.project.ID}), errdefs.ErrNotFound, "SOURCE_CONTAINER_NOT_FOUND"},
		"copy of a stranger's":         {copyTo(agent.Caller{UserID: stranger}, source.ID, agent.CopyRequest{TargetProjectID: other.ID}), errdefs.ErrNotFound, "SOURCE_CONTAINER_NOT_FOUND"},
		"copy to an unknown project":   {copyTo(caller, source.ID, agent.CopyRequest{TargetProjectID: unknown}), errdefs.ErrNotFound, "RESOURCE_NOT_FOUND"},
		"copy to a stranger's project": {copyTo(caller, source.ID, agent.CopyRequest{TargetProjectID: other.ID}), errdefs.ErrNotFound, "RESOURCE_NOT_FOUND"},
		"copy between owners":          {copyTo(agent.Caller{Operator: true}, source.ID, agent.CopyRequest{TargetProjectID: other.ID}), errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS"},
		"copy to an unknown server":    {copyTo(caller, source.ID, agent.CopyRequest{TargetProjectID: f.project.ID, TargetServerID: unknown}), errdefs.ErrNotFound, "RESOURCE_NOT_FOUND"},
		"copy of an unknown snapshot":  {copyTo(caller, source.ID, agent.CopyRequest{TargetProjectID: f.project.ID, SourceSnapshot: "none"}), errdefs.ErrNotFound, "RESOURCE_NOT_FOUND"},
		"copy with a taken name":       {copyTo(caller, source.ID, agent.CopyRequest{TargetProjectID: f.project.ID, Name: "source"}), errdefs.ErrAlreadyExists, "CONTAINER_NAME_IN_USE"},
		"copy with the source's key":   {copyTo(caller, source.ID, agent.CopyRequest{TargetProjectID: f.project.ID, SSHPublicKey: source.SSHPublicKey}), errdefs.ErrAlreadyExists, "SSH_PUBLIC_KEY_IN_USE"},
		"copy into a full project":     {copyTo(caller, source.ID, agent.CopyRequest{TargetProjectID: full.ID}), errdefs.ErrInvalid, "PROJECT_CONTAINER_LIMIT"},
		"sync of what is no copy":      {func() error { return second(here.agent.Sync(f.ctx, caller, source.ID)) }, errdefs.ErrInvalid, "CONTAINER_NOT_COPIED"},
		"sync by a stranger":           {func() error { return second(here.agent.Sync(f.ctx, agent.Caller{UserID: stranger}, source.ID)) }, errdefs.ErrNotFound, "CONTAINER_NOT_FOUND"},
		"delete by a stranger":         {func() error { return here.agent.DeleteContainer(f.ctx, agent.Caller{UserID: stranger}, source.ID) }, errdefs.ErrNotFound, "CONTAINER_NOT_FOUND"},
		"a project alias that is taken": {func() error {
			return second(here.agent.CreateProject(f.ctx, caller, agent.CreateProjectRequest{Alias: "full"}))
		}, errdefs.ErrAlreadyExists, "DUPLICATE_ALIAS"},
		"start of what runs":  {func() error { return second(here.agent.Operate(f.ctx, caller, source.ID, agent.OperationStart, 0)) }, errdefs.ErrInvalid, "OPERATION_STATE_CONFLICT"},
		"resume of what runs": {func() error { return second(here.agent.Operate(f.ctx, caller, source.ID, agent.OperationResume, 0)) }, errdefs.ErrInvalid, "OPERATION_STATE_CONFLICT"},
	} {
		err := test.do()
		if errdefs.ClassOf(err) != test.class || code(err) != test.code {
			t.Errorf("%s: %v (%v, %s), want %v, %s", name, err, errdefs.ClassOf(err), code(err), test.class, test.code)
		}
	}
	if after := f.everything(here); after != before {
		t.Errorf("refusals changed something:\n%s\nwas\n%s", after, before)
	}
}

func second[T any](_ T, err error) error { return err }

// everything is what a refusal must not change: pool, instances and records.
func (f *fleet) everything(s *server) string {
	f.t.Helper()
	all := f.heldBy(s)
	_, err := f.records.Barrier(f.ctx)
	f.must(err)
	for _, container := range f.records.Mirror().Containers() {
		all = append(all, asJSON(container))
		if history, ok := f.records.Mirror().History(container.ID); ok {
			all = append(all, asJSON(history))
		}
	}
	for _, project := range f.records.Mirror().Projects() {
		all = append(all, asJSON(project))
	}
	for _, user := range f.records.Mirror().Users() {
		all = append(all, asJSON(user))
	}
	for _, job := range f.records.Mirror().Jobs() {
		all = append(all, "job "+job.ID)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// heldBy is what a server has: datasets, snapshots and instances.
func (f *fleet) heldBy(s *server) []string {
	f.t.Helper()
	var all []string
	inventory, err := s.pool.Inventory(f.ctx)
	f.must(err)
	for _, dataset := range inventory.Datasets {
		all = append(all, dataset.Name)
		for _, snapshot := range dataset.Snapshots {
			all = append(all, dataset.Name+"@"+snapshot.Name)
		}
	}
	instances, err := s.runtime.Instances(f.ctx)
	f.must(err)
	for _, instance := range instances {
		all = append(all, fmt.Sprint("instance ", instance.Name, instance.Status))
	}
	slices.Sort(all)
	return all
}

func asJSON(record any) string {
	encoded, err := json.Marshal(record)
	if err != nil {
		return err.Error()
	}
	return string(encoded)
}

func TestAPeerGetsOnlyWhatItsOpenJobNames(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source, secret := f.create(here, "source"), f.create(here, "secret")
	secretSnapshot, err := here.agent.CreateSnapshot(f.ctx, caller, secret.ID, agent.CreateSnapshotRequest{})
	f.must(err)

	// A job that hangs in its freeze is open as long as the test needs it.
	gate := make(chan struct{})
	var once sync.Once
	here.setFault(func(op, _ string) error {
		if op == "snapshot:before" {
			<-gate
		}
		return nil
	})
	t.Cleanup(func() { once.Do(func() { close(gate) }) })
	copied := f.copy(source, there, agent.CopyRequest{})
	jobID := f.jobOf(copied)
	denied := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, errdefs.ErrPermissionDenied) {
			t.Errorf("%s: %v, want it denied", what, err)
		}
	}
	denied("freeze by a server that the job is not of", second(here.agent.Freeze(f.ctx, "64c1aa00b2d34e5f6071ffff", jobID)))
	denied("freeze for no job", second(here.agent.Freeze(f.ctx, there.id, strings.Repeat("0", 32))))
	denied("freeze on a server that is not the source's", second(there.agent.Freeze(f.ctx, there.id, jobID)))
	once.Do(func() { close(gate) })
	here.setFault(nil)
	f.settled(copied.ID, store.StatusRunning)
	denied("freeze for a finished job", second(here.agent.Freeze(f.ctx, there.id, jobID)))
	denied("a stream of a finished job", second(here.agent.OpenStream(f.ctx, there.id, agent.StreamRequest{JobID: jobID, To: secretSnapshot.Snapshot.GUID})))
}

func (f *fleet) jobOf(container store.Container) string {
	f.t.Helper()
	read, err := f.records.GetContainer(f.ctx, container.ID)
	f.must(err)
	if read.JobID == "" {
		f.t.Fatalf("container %s has no operation", container.ID)
	}
	return read.JobID
}

func TestAnOpenJobReadsOnlyItsOwnLineage(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source, secret := f.create(here, "source"), f.create(here, "secret")
	f.write(source, "data/file", random(1, 100<<10))
	secretSnapshot, err := here.agent.CreateSnapshot(f.ctx, caller, secret.ID, agent.CreateSnapshotRequest{})
	f.must(err)
	// The target cannot receive: the job stays open, frozen.
	stuck := make(chan struct{}, 1)
	there.setFault(func(op, _ string) error {
		if strings.HasPrefix(op, "receive") {
			select {
			case stuck <- struct{}{}:
			default:
			}
			return errdefs.New(errdefs.ErrUnavailable, "", "not now")
		}
		return nil
	})
	copied := f.copy(source, there, agent.CopyRequest{})
	select {
	case <-stuck:
	case <-f.ctx.Done():
		t.Fatal(f.ctx.Err())
	}
	stream, err := here.agent.OpenStream(f.ctx, there.id, agent.StreamRequest{JobID: f.jobOf(copied), To: secretSnapshot.Snapshot.GUID})
	if !errors.Is(err, errdefs.ErrNotFound) || stream != nil { // as of one that there is not
		t.Errorf("a stream of somebody else's snapshot: %v, %v; want none", stream, err)
	}
	there.setFault(nil)
	f.settled(copied.ID, store.StatusRunning)
}

func TestOneOperationPerContainer(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(source, "data/file", []byte("changed"))
	gate := make(chan struct{})
	here.setFault(func(op, _ string) error {
		if op == "clone:before" {
			<-gate
		}
		return nil
	})
	f.must(second(here.agent.Sync(f.ctx, caller, copied.ID)))
	for name, do := range map[string]func() error{
		"sync": func() error { return second(here.agent.Sync(f.ctx, caller, copied.ID)) },
		"stop": func() error { return second(here.agent.Operate(f.ctx, caller, copied.ID, agent.OperationStop, 0)) },
		"snapshot": func() error {
			return second(here.agent.CreateSnapshot(f.ctx, caller, copied.ID, agent.CreateSnapshotRequest{}))
		},
		"copy": func() error {
			return second(here.agent.Copy(f.ctx, caller, copied.ID, agent.CopyRequest{TargetProjectID: f.project.ID}))
		},
	} {
		if class := errdefs.ClassOf(do()); class != errdefs.ErrBusy && class != errdefs.ErrFailedPrecondition {
			t.Errorf("%s during a sync: %v, want a conflict", name, class)
		}
	}
	close(gate)
	here.setFault(nil)
	f.settled(copied.ID, store.StatusRunning)
	// The source is free while its copy syncs, once frozen; and afterwards so is the copy.
	f.must(second(here.agent.Operate(f.ctx, caller, copied.ID, agent.OperationStop, 0)))
	f.must(here.agent.DeleteContainer(f.ctx, caller, copied.ID))
}

func TestAFailedStartSwapsTheOldGenerationBack(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(copied, "data/local", []byte("precious"))
	f.write(source, "data/new", []byte("new"))
	instance, ownMap := agent.InstanceName(copied.ID), map[string]string{"volatile.last_state.idmap": "its own"}
	f.must(here.runtime.Configure(f.ctx, instance, ownMap))
	starts := 0
	here.setFault(func(op, _ string) error {
		if op == "start:before" {
			if starts++; starts <= costlyAttempts {
				return errdefs.New(errdefs.ErrInternal, "", "init dies")
			}
		}
		return nil
	})
	f.must(second(here.agent.Sync(f.ctx, caller, copied.ID)))
	synced := f.settled(copied.ID, store.StatusRunning)
	here.setFault(nil)
	if synced.LastOperation.State != store.JobFailed || !strings.Contains(synced.LastOperation.Error, "init dies") {
		t.Errorf("last operation: %+v, want the failed start", synced.LastOperation)
	}
	if got := f.read(synced, "data/local"); got != "precious" {
		t.Errorf("the copy's own file holds %q after the failed sync", got)
	}
	if seen, err := here.runtime.Instance(f.ctx, instance); err != nil || seen.IDMap != "its own" {
		t.Errorf("the old generation is back under the id map %q (%v)", seen.IDMap, err)
	}
	if left := f.leftovers(here); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	again := f.sync(synced, store.StatusRunning)
	if f.hash(again) != f.hash(source) {
		t.Error("the next sync did not bring the source's content")
	}
}

func TestAFailedSyncStartsOnlyWhatItStopped(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(source, "data/new", []byte("new"))
	here.setFault(func(op, _ string) error {
		if op != "snapshot:before" {
			return nil
		}
		here.setFault(nil)
		// Somebody stops the copy while its sync is under way, and then the sync fails.
		return errors.Join(errdefs.ErrFailedPrecondition, here.runtime.ForceStop(f.ctx, agent.InstanceName(copied.ID)))
	})
	f.must(second(here.agent.Sync(f.ctx, caller, copied.ID)))
	if failed := f.ended(copied.ID); failed.LastOperation.State != store.JobFailed {
		t.Errorf("last operation: %+v, want a failed sync", failed.LastOperation)
	}
	if seen, err := here.runtime.Instance(f.ctx, agent.InstanceName(copied.ID)); err != nil || seen.Status != agent.InstanceStopped {
		t.Errorf("the copy is %s (%v), want it stopped as it was left", seen.Status, err)
	}
}

func TestAGenerationInUseIsNotDisplaced(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(copied, "data/local", []byte("in use"))
	f.write(source, "data/new", []byte("new"))
	current := agent.ContainerDataset(copied.ID)
	// The attempt that moves it ends before it has looked whether it is in use.
	here.setFault(func(op, object string) error {
		if op == "rename:after" && strings.HasPrefix(object, current) {
			here.setFault(nil)
			return errdefs.New(errdefs.ErrUnavailable, "", "cut off")
		}
		return nil
	})
	mount, err := here.pool.Mount(f.ctx, current)
	f.must(err)
	f.must(second(here.agent.Sync(f.ctx, caller, copied.ID)))
	failed := f.settled(copied.ID, store.StatusRunning)
	f.must(mount.Unmount(f.ctx))
	if failed.LastOperation.State != store.JobFailed || f.read(failed, "data/local") != "in use" {
		t.Errorf("last operation %+v, file %q; want the sync failed and the file kept", failed.LastOperation, f.read(failed, "data/local"))
	}
	if left := f.leftovers(here); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAnUnsupportedSourceFailsTheCopyWithTheReason(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	nested := agent.ContainerDataset(source.ID) + "/inner"
	f.must(here.pool.Create(f.ctx, nested, nil))
	failed := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusFailed)
	if !strings.Contains(failed.FailureReason, "nested dataset inner") {
		t.Errorf("reason: %q", failed.FailureReason)
	}
	if reread := f.settled(source.ID, store.StatusRunning); len(reread.PendingFreezes) > 0 {
		t.Errorf("the source is still claimed by %v", reread.PendingFreezes)
	}
	f.must(here.agent.DeleteContainer(f.ctx, caller, failed.ID))
	f.must(here.pool.Destroy(f.ctx, nested))
	f.must(here.runtime.SetUnsupported(agent.InstanceName(source.ID), "the custom volume data is attached"))
	failed = f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusFailed)
	if !strings.Contains(failed.FailureReason, "the custom volume data is attached") {
		t.Errorf("reason: %q", failed.FailureReason)
	}
	f.must(here.agent.DeleteContainer(f.ctx, caller, failed.ID))
	f.must(here.agent.DeleteContainer(f.ctx, caller, source.ID))
}

func TestOwnersOfContainersFromOneImageShareNothingAndHinderNobody(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	mine := f.create(here, "mine")
	f.settled(f.copy(mine, there, agent.CopyRequest{}).ID, store.StatusRunning)

	them := agent.Caller{UserID: stranger}
	project, err := here.agent.CreateProject(f.ctx, them, agent.CreateProjectRequest{Alias: "theirs"})
	f.must(err)
	made, err := here.agent.CreateContainer(f.ctx, them, project.ID, agent.CreateContainerRequest{ServerID: here.id, Image: "busybox"})
	f.must(err)
	theirs := f.settled(made.View.Container.ID, store.StatusRunning)
	copied, err := here.agent.Copy(f.ctx, them, theirs.ID, agent.CopyRequest{TargetProjectID: project.ID, TargetServerID: there.id})
	f.must(err)
	copyOfTheirs := f.settled(copied.View.Container.ID, store.StatusRunning)
	if f.hash(copyOfTheirs) != f.hash(theirs) {
		t.Error("the copy's content is not the source's")
	}
	// Nothing of it stands on the other owner's blocks.
	inventory, err := there.pool.Inventory(f.ctx)
	f.must(err)
	for _, dataset := range inventory.Datasets {
		origin, _, cloned := lineage.SplitSnapshot(dataset.Origin)
		parent, _ := inventory.Dataset(origin)
		if cloned && dataset.Properties["hoody:owner"] != parent.Properties["hoody:owner"] {
			t.Errorf("%s of %s stands on %s of %s", dataset.Name, dataset.Properties["hoody:owner"], origin, parent.Properties["hoody:owner"])
		}
	}
}

func TestAFailureThatCannotBeUndoneSaysWhyAndLetsGoOfTheSource(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	nested := agent.ContainerDataset(source.ID) + "/inner"
	f.must(here.pool.Create(f.ctx, nested, nil))
	tries := 0
	here.setFault(func(op, _ string) error {
		if op != "rename:before" {
			return nil
		}
		if tries++; tries == 1 {
			return errdefs.New(errdefs.ErrUnavailable, "", "the pool is busy with itself")
		}
		return errdefs.New(errdefs.ErrInternal, "", "the pool is broken")
	})
	failed := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusFailed)
	here.setFault(nil)
	if !strings.Contains(failed.FailureReason, "nested dataset inner") || tries < 2 {
		t.Errorf("reason after %d attempts to undo: %q", tries, failed.FailureReason)
	}
	f.must(here.pool.Destroy(f.ctx, nested))
	f.must(here.agent.DeleteContainer(f.ctx, caller, source.ID))
}

func TestForceIsForWhatIsToGoWhereContainersMustStopByThemselves(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	here.noForce = true
	here.restart()
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(source, "data/new", []byte("new"))
	f.must(here.runtime.SetDeaf(agent.InstanceName(copied.ID), true))
	f.must(second(here.agent.Sync(f.ctx, caller, copied.ID)))
	if synced := f.settled(copied.ID, store.StatusRunning); synced.LastOperation.State != store.JobFailed {
		t.Errorf("last operation: %+v, want the sync failed, since the copy does not stop", synced.LastOperation)
	}
	f.must(here.agent.DeleteContainer(f.ctx, caller, copied.ID))
}
