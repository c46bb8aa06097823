package agent_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// stuck makes a server's receives fail retryably from their n-th frame on, and tells when the first did.
func stuck(s *server, n int) (reached <-chan struct{}) {
	var mu sync.Mutex
	frames, first := 0, make(chan struct{})
	s.setFault(func(op, _ string) error {
		if op != "receive:frame" {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if frames++; frames < n {
			return nil
		}
		if frames == n {
			close(first)
		}
		return errdefs.New(errdefs.ErrAborted, "", "the connection is cut")
	})
	return first
}

// gone requires that a container and all that was made for it have gone.
func (f *fleet) gone(s *server, id string) {
	f.t.Helper()
	if _, err := f.records.GetContainer(f.ctx, id); !errors.Is(err, errdefs.ErrNotFound) {
		f.t.Errorf("container is still there: %v", err)
	}
	if left := f.leftovers(s); len(left) > 0 {
		f.t.Errorf("left behind: %v", left)
	}
	if _, err := s.runtime.Instance(f.ctx, agent.InstanceName(id)); !errors.Is(err, errdefs.ErrNotFound) {
		f.t.Errorf("instance is still there: %v", err)
	}
	_, err := f.records.Barrier(f.ctx)
	f.must(err)
	for _, open := range f.records.Mirror().OpenJobs(s.id) {
		f.t.Errorf("open job: %+v", open)
	}
}

func TestDeletingACopyInProgressCancelsIt(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", random(1, 1<<20))
	reached := stuck(there, 3)
	copied := f.copy(source, there, agent.CopyRequest{})
	<-reached
	f.must(here.agent.DeleteContainer(f.ctx, caller, copied.ID))
	there.setFault(nil)
	f.gone(there, copied.ID)
	job, err := f.records.GetJob(f.ctx, copied.JobID)
	f.must(err)
	if job.State != store.JobCancelled {
		t.Errorf("job is %s: %+v", job.State, job.Error)
	}
	again := f.settled(f.copy(source, there, agent.CopyRequest{Name: copied.Name}).ID, store.StatusRunning)
	if f.hash(again) != f.hash(source) {
		t.Error("a copy after a cancelled one is not the source")
	}
}

func TestACopyWhoseSourceServerIsDeadCanBeDeleted(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", random(1, 1<<20))
	reached := stuck(there, 3)
	copied := f.copy(source, there, agent.CopyRequest{})
	<-reached
	here.kill()
	there.setFault(nil)
	f.must(there.agent.DeleteContainer(f.ctx, caller, copied.ID))
	f.gone(there, copied.ID)
	if reread, err := f.records.GetContainer(f.ctx, source.ID); err != nil || len(reread.PendingFreezes) > 0 {
		t.Errorf("the source is still claimed by %v, %v", reread.PendingFreezes, err)
	}
}

func TestACancelledSyncLeavesTheCopyAsItWas(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(source, "data/file", random(1, 1<<20))
	f.write(copied, "data/local", []byte("local"))
	before := f.hash(copied)
	reached := stuck(there, 3)
	result, err := there.agent.Sync(f.ctx, caller, copied.ID)
	f.must(err)
	<-reached
	here.kill()
	f.must(there.agent.CancelOperation(f.ctx, caller, copied.ID))
	copied = f.settled(copied.ID, store.StatusRunning)
	there.setFault(nil)
	if copied.LastOperation.State != store.JobCancelled || copied.LastOperation.ID != result.JobID {
		t.Errorf("last operation: %+v", copied.LastOperation)
	}
	if f.hash(copied) != before {
		t.Error("the copy changed")
	}
	if left := f.leftovers(there); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := there.agent.CancelOperation(f.ctx, caller, copied.ID); err != nil {
		t.Errorf("cancel without an operation: %v", err)
	}
	if err := there.agent.CancelJob(f.ctx, result.JobID); err == nil {
		t.Error("cancelled a job that has ended")
	}
}

func TestDeletingACopyDuringItsSync(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(source, "data/file", random(1, 1<<20))
	reached := stuck(there, 2)
	_, err := there.agent.Sync(f.ctx, caller, copied.ID)
	f.must(err)
	<-reached
	f.must(here.agent.DeleteContainer(f.ctx, caller, copied.ID))
	there.setFault(nil)
	f.gone(there, copied.ID)
}

// A copy is cancelled at one of its effects, and the target's agent dies at every effect that follows. A copy that is past
// its swap comes to its end first; deleted it is either way.
func TestACancellationSurvivesTheDeathOfTheTargetAnywhere(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	const stride = 3 // each death is a restart
	round := 0
	for _, moment := range []string{"receive:frame", "clone:after", "create-instance:after", "stop:before"} {
		for at := 0; ; at += stride {
			round++
			f.write(source, "data/file", random(byte(round), 200<<10))
			watched := &effects{dieAt: at, died: make(chan struct{}), server: there}
			reached, asked := make(chan struct{}), make(chan struct{})
			var once sync.Once
			there.setFault(func(op, object string) error {
				if op == moment {
					once.Do(func() { close(reached); <-asked })
				}
				select {
				case <-asked:
					return watched.fault(op, object)
				default:
					return nil
				}
			})
			copied := f.copy(source, there, agent.CopyRequest{Name: fmt.Sprintf("copy-%d", round)})
			<-reached
			deleted := make(chan error, 1)
			go func() { deleted <- here.agent.DeleteContainer(f.ctx, caller, copied.ID) }()
			f.cancelled(there, copied.JobID)
			close(asked)
			died := false
			select {
			case <-watched.died:
				died = true
				there.setFault(nil)
				there.restart()
				f.must(<-deleted)
			case err := <-deleted:
				f.must(err)
				there.setFault(nil)
			}
			f.gone(there, copied.ID)
			if !died {
				t.Logf("%s: %d effects", moment, at)
				break
			}
		}
	}
}

// cancelled waits until a server's agent knows that a job is to be given up.
func (f *fleet) cancelled(s *server, jobID string) {
	f.t.Helper()
	changes, stop := s.store.JobChanges(s.id)
	defer stop()
	for {
		if job, ok := s.store.Mirror().Job(jobID); ok && job.CancelledAt != nil {
			return
		}
		select {
		case <-changes:
		case <-f.ctx.Done():
			f.t.Fatal("not cancelled")
		}
	}
}

// What a cancellation makes fail, such as the source's refusal, may be heard before the cancellation itself.
func TestWhatFailsOnceItIsCancelledWasCancelled(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	for range 10 {
		here.setFault(func(op, _ string) error {
			if op != "clone:before" {
				return nil
			}
			_, err := f.records.Update(f.ctx, func(tx *store.Tx) error {
				open := f.records.Mirror().OpenJobs(here.id)
				job, err := tx.Job(here.id, open[0].ID)
				if err != nil {
					return err
				}
				now := time.Now()
				job.CancelledAt = &now
				return tx.PutJob(job)
			})
			return errors.Join(err, errdefs.New(errdefs.ErrPermissionDenied, "", "no such job"))
		})
		copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusFailed)
		if copied.LastOperation.State != store.JobCancelled {
			t.Errorf("the copy is %s: %s", copied.LastOperation.State, copied.FailureReason)
		}
		f.must(here.agent.DeleteContainer(f.ctx, caller, copied.ID))
	}
}

// absentRuntime does not answer for a while.
type absentRuntime struct {
	agent.Runtime
	away *atomic.Bool
}

func (r absentRuntime) Instance(ctx context.Context, name string) (agent.Instance, error) {
	if r.away.Load() {
		return agent.Instance{}, errdefs.New(errdefs.ErrUnavailable, "", "incus does not answer")
	}
	return r.Runtime.Instance(ctx, name)
}

// A sync whose runtime is away when all that is left is the swap waits for it, and can be cancelled: nothing was stopped.
func TestASwapThatHasStoppedNothingIsCancelled(t *testing.T) {
	var away atomic.Bool
	f := newFleet(t, 1, func(f *fleet) {
		f.drive = func(runtime agent.Runtime) agent.Runtime { return absentRuntime{runtime, &away} }
	})
	here := f.servers[0]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(copied, "data/own", []byte("its own"))
	f.write(source, "data/new", []byte("new"))
	here.setFault(func(op, object string) error {
		if op == "snapshot:after" && strings.HasSuffix(object, "-marker") {
			away.Store(true)
		}
		return nil
	})
	f.must(second(here.agent.Sync(f.ctx, caller, copied.ID)))
	id := f.jobOf(copied)
	in := func(phase string, attempts int) func() bool {
		return func() bool {
			job, err := f.records.GetJob(f.ctx, id)
			return err == nil && job.Phase == phase && job.Attempts >= attempts
		}
	}
	f.until("the swap is tried again", in("swap", 2))
	f.must(here.agent.CancelJob(f.ctx, id))
	f.until("it is undone", in("undo", 0))
	away.Store(false)
	f.cancelled(here, id)
	if got := f.read(f.settled(copied.ID, store.StatusRunning), "data/own"); got != "its own" {
		t.Errorf("the copy's own file holds %q", got)
	}
}

// occupiedRuntime lets nobody stop an instance for a while.
type occupiedRuntime struct {
	agent.Runtime
	refusals, forced *atomic.Int32
}

func (r occupiedRuntime) Stop(ctx context.Context, name string, timeout time.Duration) error {
	if r.refusals.Add(-1) >= 0 {
		return fmt.Errorf("stop: %w", agent.ErrOccupied)
	}
	return r.Runtime.Stop(ctx, name, timeout)
}

func (r occupiedRuntime) ForceStop(ctx context.Context, name string) error {
	r.forced.Add(1)
	return r.Runtime.ForceStop(ctx, name)
}

// A container that was not asked to stop, since somebody else works on its instance, is not stopped by force.
func TestNobodyIsForcedUnasked(t *testing.T) {
	var refusals, forced atomic.Int32
	f := newFleet(t, 1, func(f *fleet) {
		f.drive = func(runtime agent.Runtime) agent.Runtime { return occupiedRuntime{runtime, &refusals, &forced} }
	})
	here := f.servers[0]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(source, "data/new", []byte("new"))
	refusals.Store(2)
	if synced := f.sync(copied, store.StatusRunning); f.hash(synced) != f.hash(source) || forced.Load() != 0 || refusals.Load() >= 0 {
		t.Errorf("forced %d times, %d refusals left", forced.Load(), refusals.Load())
	}
}
