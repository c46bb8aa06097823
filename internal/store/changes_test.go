package store

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func next(t testing.TB, s *Subscription) Change {
	t.Helper()
	select {
	case change := <-s.Changes():
		return change
	case <-testContext(t).Done():
		t.Fatal("no change arrived")
		return Change{}
	}
}

func TestSubscription(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	projects, everything := s.Mirror().Subscribe(KindProject), s.Mirror().Subscribe()
	defer projects.Close()
	defer everything.Close()

	update(t, s, func(tx *Tx) error { return tx.PutContainer(Container{ID: "c1"}) })
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1", Alias: "a"}) })
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1", Alias: "a"}) }) // nothing changes
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1", Alias: "b"}) })
	update(t, s, func(tx *Tx) error { return tx.DeleteProject("p1") })

	alias := func(p *Project) string {
		if p == nil {
			return "-"
		}
		return p.Alias
	}
	for _, want := range []string{"- a", "a b", "b -"} {
		change := next(t, projects)
		old, new := Records[Project](change)
		if got := alias(old) + " " + alias(new); got != want || change.ID != "p1" || change.Kind != KindProject {
			t.Errorf("change %+v is %s, want %s", change, got, want)
		}
	}
	first := next(t, everything)
	if _, new := Records[Container](first); first.Kind != KindContainer || new == nil || new.ID != "c1" {
		t.Errorf("first of all changes: %+v", first)
	}
	if old, new := Records[Project](first); old != nil || new != nil {
		t.Error("a container's change has projects")
	}
}

func TestSlowSubscriberIsToldToResync(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	slow := s.Mirror().Subscribe()
	defer slow.Close()
	const perUpdate = 50
	for i := 0; i <= subscriptionQueue; i += perUpdate {
		update(t, s, func(tx *Tx) error {
			for j := range perUpdate {
				if err := tx.PutProject(Project{ID: fmt.Sprintf("p%d-%d", i, j)}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if change := next(t, slow); !change.Resync {
		t.Errorf("first change after the overflow: %+v", change)
	}
	if got := len(s.Mirror().Projects()); got <= subscriptionQueue {
		t.Errorf("the mirror has %d projects", got)
	}
	for len(slow.Changes()) > 0 { // what came after the overflow
		next(t, slow)
	}
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "last"}) })
	if change := next(t, slow); change.ID != "last" {
		t.Errorf("after the resync: %+v", change)
	}
}

func TestJobs(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	changed, cancel := s.JobChanges("s1")
	defer cancel()
	job := Job{ID: "j1", ServerID: "s1", State: JobQueued}
	update(t, s, func(tx *Tx) error { return tx.PutJob(job) })
	update(t, s, func(tx *Tx) error { return tx.PutJob(Job{ID: "j2", ServerID: "s2", State: JobQueued}) })
	<-changed
	if open := s.Mirror().OpenJobs("s1"); len(open) != 1 || open[0].ID != "j1" {
		t.Errorf("open jobs: %+v", open)
	}
	select {
	case <-changed:
		t.Error("signalled for another server's job")
	default:
	}

	waited := make(chan Job)
	go func() {
		job, err := s.WaitJob(testContext(t), "s1", "j1")
		if err != nil {
			t.Error(err)
		}
		waited <- job
	}()
	job.State, job.Phase = JobRunning, "half"
	update(t, s, func(tx *Tx) error { return tx.PutJob(job) })
	job.State, job.Phase = JobDone, "all"
	update(t, s, func(tx *Tx) error { return tx.PutJob(job) })
	if got := <-waited; got.State != JobDone || got.Phase != "all" {
		t.Errorf("waited for %+v", got)
	}
	if open := s.Mirror().OpenJobs("s1"); len(open) != 0 {
		t.Errorf("open jobs after the last finished: %+v", open)
	}
	if got, err := s.GetJob(testContext(t), "j1"); err != nil || got.State != JobDone {
		t.Errorf("%+v, %v", got, err)
	}
	for _, server := range []string{"s2", "s1"} {
		if _, err := s.WaitJob(testContext(t), server, "j3"); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("waiting for a job that does not exist: %v", err)
		}
	}
	if _, err := s.WaitJob(testContext(t), "s2", "j1"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("waiting for another server's job: %v", err)
	}
}

// A job accepted by one agent is waited for at once by another, whose mirror may not have it yet.
func TestWaitJobOfAnotherAgent(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	other := beside(t, s)
	for i := range 20 {
		id := fmt.Sprintf("j%d", i)
		update(t, s, func(tx *Tx) error { return tx.PutJob(Job{ID: id, ServerID: "s1", State: JobFailed}) })
		if job, err := other.WaitJob(testContext(t), "s1", id); err != nil || job.State != JobFailed {
			t.Errorf("%+v, %v", job, err)
		}
	}
}
