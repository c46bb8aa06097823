package agent_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// watchful has a server look around all the time.
func watchful(s *server) {
	s.reconciled = 5 * time.Millisecond
	s.restart()
}

func finds(s *server, code, object string) bool {
	return slices.ContainsFunc(s.agent.Findings(), func(f agent.Finding) bool {
		return f.Code == code && strings.Contains(f.Object, object) && !f.Since.IsZero()
	})
}

func (f *fleet) failedFor(id, reason string) func() bool {
	return func() bool {
		container, err := f.records.GetContainer(f.ctx, id)
		f.must(err)
		return container.Status == store.StatusFailed && container.FailureReason == reason
	}
}

// An admin deletes an instance by force that copies stand on: the runtime puts its files where it would destroy them in time.
func TestInstanceDeletedBehindTheAgentsBack(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	f.write(source, "data/file", []byte("kept"))
	copied := f.settled(f.copy(source, here, agent.CopyRequest{Name: "copy"}).ID, store.StatusRunning)
	alias := "mine"
	made, err := here.agent.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{Alias: &alias})
	f.must(err)
	watchful(here)
	name := agent.InstanceName(source.ID)
	f.must(here.runtime.ForceStop(f.ctx, name))
	f.must(here.runtime.Protect(f.ctx, name, false))
	f.must(here.runtime.Delete(f.ctx, name))
	f.until("the container fails", func() bool {
		container, err := f.records.GetContainer(f.ctx, source.ID)
		f.must(err)
		return container.Status == store.StatusFailed && strings.Contains(container.FailureReason, "gone")
	})
	f.until("the files are taken back", func() bool {
		inventory, err := here.pool.Inventory(f.ctx)
		f.must(err)
		return strings.HasPrefix(lineage.Locate(inventory)[made.Snapshot.GUID], "hoody/generations/")
	})
	if !finds(here, agent.FindingInstanceGone, source.ID) {
		t.Errorf("findings: %+v", here.agent.Findings())
	}
	if got := f.read(copied, "data/file"); got != "kept" {
		t.Errorf("the copy holds %q", got)
	}
	f.catchUp()
	f.must(here.agent.DeleteContainer(f.ctx, caller, source.ID))
	f.until("nothing is found any more", func() bool { return len(here.agent.Findings()) == 0 })
	if got := f.read(copied, "data/file"); got != "kept" {
		t.Errorf("the copy holds %q", got)
	}
}

func TestFilesRenamedBehindTheAgentsBack(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	box := f.create(here, "box")
	f.must(second(here.agent.Operate(f.ctx, caller, box.ID, agent.OperationStop, 0)))
	watchful(here)
	files := agent.ContainerDataset(box.ID)
	f.must(here.pool.Rename(f.ctx, files, "containers/elsewhere"))
	f.until("the container fails", f.failedFor(box.ID, "Its files are gone"))
	f.until("it is found", func() bool { return finds(here, agent.FindingFilesGone, box.ID) })
	f.must(here.pool.Rename(f.ctx, "containers/elsewhere", files))
	f.until("the container is back", func() bool {
		container, err := f.records.GetContainer(f.ctx, box.ID)
		f.must(err)
		return container.Status == store.StatusStopped && container.FailureReason == ""
	})
	f.until("nothing is found any more", func() bool { return len(here.agent.Findings()) == 0 })
}

func TestSnapshotDestroyedBehindTheAgentsBack(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	box := f.create(here, "box")
	alias := "mine"
	made, err := here.agent.CreateSnapshot(f.ctx, caller, box.ID, agent.CreateSnapshotRequest{Alias: &alias})
	f.must(err)
	watchful(here)
	inventory, err := here.pool.Inventory(f.ctx)
	f.must(err)
	f.must(here.pool.DestroySnapshot(f.ctx, lineage.Locate(inventory)[made.Snapshot.GUID]))
	f.until("it is found", func() bool { return finds(here, agent.FindingSnapshotGone, made.Snapshot.Name) })
	listed := func() []store.Snapshot {
		list, err := here.agent.Snapshots(f.ctx, caller, box.ID)
		f.must(err)
		return list.Snapshots
	}
	f.until("the list says so", func() bool { return listed()[0].Missing })
	before := f.records.Mirror().Containers()
	if _, err := here.agent.RestoreSnapshot(f.ctx, caller, box.ID, alias); errdefs.ClassOf(err) != errdefs.ErrNotFound {
		t.Errorf("restored: %v", err)
	}
	if _, err := here.agent.Copy(f.ctx, caller, box.ID, agent.CopyRequest{TargetProjectID: f.project.ID, SourceSnapshot: alias}); errdefs.ClassOf(err) != errdefs.ErrNotFound {
		t.Errorf("copied: %v", err)
	}
	if after := f.records.Mirror().Containers(); !reflect.DeepEqual(before, after) {
		t.Errorf("refused, and yet something changed: %+v, was %+v", after, before)
	}
	f.must(second(here.agent.DeleteSnapshot(f.ctx, caller, box.ID, alias)))
	f.until("nothing is found any more", func() bool { return len(here.agent.Findings()) == 0 && len(listed()) == 0 })
}

// Records that are not the pool's make everything look out of order. Nothing is done about it.
func TestRecordsThatAreNotTrustedAreOnlyLookedAt(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	f.settled(f.copy(source, here, agent.CopyRequest{Name: "copy"}).ID, store.StatusRunning)
	here.reconciled = 5 * time.Millisecond
	name := agent.InstanceName(source.ID)
	f.must(here.runtime.ForceStop(f.ctx, name))
	f.must(here.runtime.Protect(f.ctx, name, false))
	f.offline(func() {
		here.openDisks()
		f.must(here.runtime.Delete(f.ctx, name))
		here.closeDisks()
		f.loseStore()
	})
	before := f.holdings(here)
	f.until("what the runtime put aside is found", func() bool { return finds(here, agent.FindingFilesDeleted, "deleted/") })
	f.until("the instance that no record knows is found", func() bool { return finds(here, agent.FindingInstanceUnknown, "hoody-") })
	if here.agent.Findings()[0].Code != agent.FindingOtherStore {
		t.Errorf("findings: %+v", here.agent.Findings())
	}
	here.restart()
	f.nothingLost(here, before)
	if after := f.holdings(here); !slices.Equal(before, after) {
		t.Errorf("holdings went from\n%q to\n%q", before, after)
	}
}

// Of some changes the runtime sends no event. They are found when the agent looks around.
func TestAStateThatNoEventTold(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	box := f.create(here, "box")
	f.must(second(here.agent.Operate(f.ctx, caller, box.ID, agent.OperationStop, 0)))
	_, err := f.records.Update(f.ctx, func(tx *store.Tx) error {
		box, err := tx.Container(box.ID)
		box.Status = store.StatusRunning
		return errors.Join(err, tx.PutContainer(box))
	})
	f.must(err)
	f.must(here.agent.LookAround(f.ctx))
	f.settled(box.ID, store.StatusStopped)
}

// An operation that could be neither done nor undone leaves a failed container. Once its files are back in place it works again.
func TestAContainerWhoseUndoFailedComesBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	var aside string
	here.setFault(func(op, object string) error {
		switch {
		case op == "start:before":
			return errdefs.New(errdefs.ErrFailedPrecondition, "", "it does not start")
		case op == "rename:before" && strings.HasPrefix(object, "hoody/generations/"):
			aside = object
			return fmt.Errorf("rename %s: I/O error: %w", object, errdefs.ErrInternal)
		}
		return nil
	})
	if err := second(here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "two")); err == nil {
		t.Fatal("restored")
	}
	if failed := f.settled(source.ID, store.StatusFailed); failed.FailureReason == "" {
		t.Error("nobody says why it failed")
	}
	here.setFault(nil)
	f.must(here.agent.LookAround(f.ctx)) // which finds what it lacks, and leaves the reason
	f.must(here.pool.Rename(f.ctx, aside, agent.ContainerDataset(source.ID)))
	f.must(here.agent.LookAround(f.ctx))
	back := f.applied(source.ID)
	if instance := f.instance(back); instance.Autostart != back.Autostart || instance.IDMap != back.IDMap || back.FailureReason != "" {
		t.Errorf("the record says autostart %t, id map %s, failed for %q; the instance is %+v", back.Autostart, back.IDMap, back.FailureReason, instance)
	}
	f.must(second(here.agent.Operate(f.ctx, caller, source.ID, agent.OperationStart, 0)))
	f.holdsState(f.settled(source.ID, store.StatusRunning), "now")
}
