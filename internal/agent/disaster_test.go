package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// offline ends all agents and the store, lets change do what disasters do to their disks, and starts everything again.
func (f *fleet) offline(change func()) {
	f.t.Helper()
	for _, s := range f.servers {
		s.kill()
	}
	f.closeStore()
	change()
	f.openStore()
	for _, s := range f.servers {
		s.start()
	}
}

// loseStore leaves the fleet with an empty store.
func (f *fleet) loseStore() { f.etcdDir = f.t.TempDir() }

// backUp copies the store's directory, which nothing may be using.
func (f *fleet) backUp() string {
	f.t.Helper()
	backup := f.t.TempDir()
	f.must(os.CopyFS(backup, os.DirFS(f.etcdDir)))
	return backup
}

// until waits for something that a background activity of an agent brings about.
func (f *fleet) until(what string, done func() bool) {
	f.t.Helper()
	for !done() {
		select {
		case <-f.ctx.Done():
			f.t.Fatalf("still waiting: %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func degraded(s *server) string {
	if found := s.agent.Degraded(); found != nil {
		return found.Code
	}
	return ""
}

// stampOf is what the pool says whose it is.
func (f *fleet) stampOf(s *server) string {
	f.t.Helper()
	parent, err := s.pool.Dataset(f.ctx, "hoody")
	f.must(err)
	return parent.Properties["hoody:stamp"]
}

func TestNewPoolIsStampedAndTrusted(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	f.create(here, "box")
	if f.stampOf(here) == "" {
		t.Error("the pool has no stamp")
	}
	here.restart()
	if code := degraded(here); code != "" {
		t.Errorf("after a restart: %s", code)
	}
}

func TestEmptyStoreIsNotTrusted(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	f.create(here, "box")
	before := f.stampOf(here)
	f.offline(f.loseStore)
	if code := degraded(here); code != agent.FindingOtherStore {
		t.Errorf("degraded: %q", code)
	}
	if after := f.stampOf(here); after != before {
		t.Errorf("the stamp went from %s to %s", before, after)
	}
	// What was not there before is nobody's loss.
	project, err := here.agent.CreateProject(f.ctx, caller, agent.CreateProjectRequest{Alias: "project"})
	f.must(err)
	f.project = project
	f.create(here, "new")
}

func TestStorePutBackIsNotTrustedHoweverFarItComes(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	here.recorded = time.Millisecond
	var backup string
	f.offline(func() { backup = f.backUp() })
	stamped := f.stampOf(here)
	f.create(here, "box")
	f.until("the stamp moves on", func() bool { return f.stampOf(here) != stamped })
	f.offline(func() { f.etcdDir = backup })
	f.until("the agent notices", func() bool { return degraded(here) == agent.FindingRecordsOlder })
	// Whatever the store is used for from here on, it does not become the one that was lost.
	for _, name := range []string{"a", "b", "c"} {
		f.create(here, name)
	}
	here.restart()
	f.until("the agent notices again", func() bool { return degraded(here) == agent.FindingRecordsOlder })
}

func TestPoolOfAnotherServerIsNotTrusted(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	f.create(here, "box")
	f.offline(func() { here.id = "64c1aa00b2d34e5f6071ffff" })
	if code := degraded(here); code != agent.FindingOtherServer {
		t.Errorf("degraded: %q", code)
	}
}

func TestPoolWithoutStampIsNotTrusted(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	f.create(here, "box")
	f.must(here.pool.SetProperties(f.ctx, "hoody", agent.Properties{"hoody:stamp": ""}))
	here.restart()
	f.until("the agent notices", func() bool { return degraded(here) == agent.FindingPoolNotStamped })
}

// A job that was open when the records were saved may have been done since: doing it again would displace what came after.
func TestJobsOfRecordsThatAreNotTrustedAreLeftAlone(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	box := f.create(here, "box")
	f.must(here.pool.SetProperties(f.ctx, "hoody", agent.Properties{"hoody:stamp": ""}))
	here.kill()
	job := store.Job{ID: strings.Repeat("0", 32), Kind: store.JobStop, ServerID: here.id, ContainerID: box.ID, State: store.JobQueued}
	_, err := f.records.Update(f.ctx, func(tx *store.Tx) error {
		box.JobID = job.ID
		return errors.Join(tx.PutContainer(box), tx.PutJob(job))
	})
	f.must(err)
	here.start()
	f.until("the agent notices", func() bool { return degraded(here) == agent.FindingPoolNotStamped })
	f.create(here, "new")
	after, err := f.records.GetJob(f.ctx, job.ID)
	f.must(err)
	if after.State != store.JobQueued {
		t.Errorf("the job is %s", after.State)
	}
}

// Nothing may wait for such a job: who wants its container deleted or its operation cancelled is told what is in the way.
func TestAJobThatIsLeftAloneIsNotWaitedFor(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	box := f.create(here, "box")
	f.must(here.pool.SetProperties(f.ctx, "hoody", agent.Properties{"hoody:stamp": ""}))
	here.kill()
	job := store.Job{ID: strings.Repeat("0", 32), Kind: store.JobSync, ServerID: here.id, ContainerID: box.ID, State: store.JobRunning}
	_, err := f.records.Update(f.ctx, func(tx *store.Tx) error {
		box.JobID, box.Status = job.ID, store.StatusCopying
		return errors.Join(tx.PutContainer(box), tx.PutJob(job))
	})
	f.must(err)
	here.start()
	before := f.everything(here)
	for name, err := range map[string]error{
		"cancel": here.agent.CancelOperation(f.ctx, caller, box.ID), "delete": here.agent.DeleteContainer(f.ctx, caller, box.ID),
	} {
		if code(err) != "OPERATION_STATE_CONFLICT" || !strings.Contains(err.Error(), "recovered") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := f.everything(here); after != before {
		t.Errorf("refusals changed something:\n%s\nwas\n%s", after, before)
	}
	// Another server's agent cannot know; it is told when its request reaches the server.
	if err := there.agent.DeleteContainer(f.ctx, caller, box.ID); code(err) != "OPERATION_STATE_CONFLICT" {
		t.Errorf("delete through another server: %v", err)
	}
}

// An agent that is pointed at another pool, or one that was made anew, does not take it for its own: what the records know would be called lost, and what
// was deleted on purpose forgotten.
func TestAnEmptyPoolIsNotTrustedWhereThereAreRecords(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	f.create(here, "box")
	here.kill()
	f.must(os.Rename(filepath.Join(here.dir, "pool"), filepath.Join(here.dir, "old-pool")))
	here.start()
	f.until("the agent notices", func() bool { return degraded(here) == agent.FindingPoolNotStamped })
	here.kill()
	f.must(os.RemoveAll(filepath.Join(here.dir, "pool")))
	f.must(os.Rename(filepath.Join(here.dir, "old-pool"), filepath.Join(here.dir, "pool")))
	here.start()
	f.until("the agent trusts it again", func() bool { return degraded(here) == "" })
	// Whoever means it says so.
	here.kill()
	f.must(os.RemoveAll(filepath.Join(here.dir, "pool")))
	if plan := here.recovery(true); plan.Distrust == nil || plan.Distrust.Code != agent.FindingPoolNotStamped {
		t.Errorf("recover does not say what is wrong: %+v", plan.Distrust)
	}
	here.start()
	f.until("the agent trusts the new one", func() bool { return degraded(here) == "" && f.stampOf(here) != "" })
}
