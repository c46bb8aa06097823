package agent_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// effects counts what reaches a server's disks during an operation, and can end its agent at one of them.
type effects struct {
	mu     sync.Mutex
	seen   []string
	dieAt  int // index into seen; -1 for never
	died   chan struct{}
	server *server
}

var errDead = errors.New("the host's agent is dead")

func (e *effects) fault(op, object string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dieAt >= 0 && len(e.seen) > e.dieAt {
		return errDead // whatever still runs in the killed process reaches nothing
	}
	e.seen = append(e.seen, op+" "+object)
	if e.dieAt >= 0 && len(e.seen) > e.dieAt {
		e.server.die()
		close(e.died)
		return errDead
	}
	return nil
}

// watch counts a server's effects and kills its agent at the given one; negative for never.
func watch(s *server, dieAt int) *effects {
	e := &effects{dieAt: dieAt, died: make(chan struct{}), server: s}
	s.setFault(e.fault)
	return e
}

// counted ends the watching and returns how many effects there were.
func (e *effects) counted() int {
	e.server.setFault(nil)
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.seen)
}

// at names the effect that the agent died at, without what differs from run to run.
func (e *effects) at() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen[len(e.seen)-1]
}

// interrupted runs an operation again and again, and kills one server's agent at another of its effects each time, until
// none is left; after each it restarts the agent and hands over to check. begin starts the operation and returns the
// container to wait for.
func interrupted(f *fleet, victim *server, begin func(round int) store.Container, check func(round int, container store.Container)) (rounds int) {
	f.t.Helper()
	stride := 1
	if testing.Short() {
		stride = 5
	}
	for at := 0; ; at += stride {
		watched := watch(victim, at)
		container := begin(rounds)
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.ended(container.ID)
		}()
		died := false
		select {
		case <-watched.died:
			died = true
			victim.setFault(nil)
			victim.restart()
			<-done
		case <-done:
			watched.counted()
		}
		if died {
			f.t.Logf("killed at effect %d: %s", at, watched.at())
		}
		check(rounds, f.settled(container.ID, store.StatusRunning))
		rounds++
		if !died {
			return rounds
		}
	}
}

func TestCopySurvivesTheDeathOfTheTargetAnywhere(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	rounds := interrupted(f, there, func(round int) store.Container {
		f.write(source, "data/file", random(byte(round), 600<<10))
		return f.copy(source, there, agent.CopyRequest{Name: fmt.Sprintf("copy-%d", round)})
	}, func(_ int, copied store.Container) {
		if f.hash(copied) != f.hash(source) {
			t.Error("the copy's content is not the source's")
		}
		if left := f.leftovers(there); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		f.onlyOwnKeys(copied, source)
		f.must(here.agent.DeleteContainer(f.ctx, caller, copied.ID))
	})
	t.Logf("%d rounds", rounds)
}

func TestSyncSurvivesTheDeathOfTheTargetAnywhere(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", random(200, 300<<10))
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	rounds := interrupted(f, there, func(round int) store.Container {
		f.write(source, "data/file", random(byte(round), 300<<10))
		f.write(copied, "data/local", []byte("local"))
		_, err := here.agent.Sync(f.ctx, caller, copied.ID)
		f.must(err)
		return copied
	}, func(round int, synced store.Container) {
		if synced.LastOperation.State != store.JobDone || f.hash(synced) != f.hash(source) {
			t.Errorf("after sync (%+v) the copy's content is not the source's", synced.LastOperation)
		}
		if left := f.leftovers(there); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		f.onlyOwnKeys(synced, source)
		if undos := f.undos(copied); len(undos) != min(round+1, 3) {
			t.Errorf("kept to undo: %+v", undos)
		}
	})
	undos := f.undos(copied)
	if restored := f.restore(copied, undos[len(undos)-1].Name, store.StatusRunning); f.read(restored, "data/local") != "local" {
		t.Error("what undoes the sync does not hold the copy's changes")
	}
	t.Logf("%d rounds", rounds)
}

func TestCopySurvivesTheDeathOfTheSourceAnywhere(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	rounds := interrupted(f, here, func(round int) store.Container {
		f.write(source, "data/file", random(byte(round), 600<<10))
		request := agent.CopyRequest{Name: fmt.Sprintf("copy-%d", round), TargetProjectID: f.project.ID, TargetServerID: there.id}
		made, err := there.agent.Copy(f.ctx, caller, source.ID, request)
		f.must(err)
		return made.View.Container
	}, func(_ int, copied store.Container) {
		if f.hash(copied) != f.hash(source) {
			t.Error("the copy's content is not the source's")
		}
		if reread := f.settled(source.ID, store.StatusRunning); len(reread.PendingFreezes) > 0 {
			t.Errorf("the source is still claimed by %v", reread.PendingFreezes)
		}
		f.must(there.agent.DeleteContainer(f.ctx, caller, copied.ID))
	})
	t.Logf("%d rounds", rounds)
}

func TestSyncOnOneServerSurvivesItsDeathAnywhere(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	rounds := interrupted(f, here, func(round int) store.Container {
		f.write(source, "data/file", random(byte(round), 100<<10))
		_, err := here.agent.Sync(f.ctx, caller, copied.ID)
		f.must(err)
		return copied
	}, func(_ int, synced store.Container) {
		if synced.LastOperation.State != store.JobDone || f.hash(synced) != f.hash(source) {
			t.Errorf("after sync (%+v) the copy's content is not the source's", synced.LastOperation)
		}
	})
	t.Logf("%d rounds", rounds)
}

func TestRestoreSurvivesTheDeathOfItsServerAnywhere(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.states(there)
	local := func(round int) string { return fmt.Sprint("local ", round) }
	var answer chan error
	rounds := interrupted(f, there, func(round int) store.Container {
		f.write(source, "data/state", []byte(local(round)))
		answer = f.accepted(source, func() error { return second(here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "two")) })
		return source
	}, func(round int, restored store.Container) {
		f.must(<-answer)
		f.holdsState(restored, "two")
		if restored.LastUsedSnapshot != "two" || f.listed(source)[1].LastUsedAt == nil {
			t.Errorf("last used: %q, %+v", restored.LastUsedSnapshot, f.listed(source)[1])
		}
		if undos := f.undos(source); len(undos) != min(round+1, 3) || !f.holds(there, undos[len(undos)-1].GUID) {
			t.Errorf("kept to undo: %+v", undos)
		}
		if left := f.leftovers(there); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	undos := f.undos(source)
	f.holdsState(f.restore(source, undos[len(undos)-1].Name, store.StatusRunning), local(rounds-1))
	t.Logf("%d rounds", rounds)
}

// A restore whose instance does not start is undone, wherever its server dies meanwhile.
func TestAFailedRestoreIsUndoneWhereverItsServerDies(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.states(there)
	var answer chan error
	interrupted(f, there, func(int) store.Container {
		watched := there.fault
		starts := 0
		there.setFault(func(op, object string) error {
			if op == "start:before" {
				if starts++; starts == 1 {
					return errdefs.New(errdefs.ErrInternal, "", "init dies")
				}
			}
			return watched(op, object)
		})
		answer = f.accepted(source, func() error { return second(here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "two")) })
		return source
	}, func(_ int, restored store.Container) {
		// Killed before it came to the start that fails, it starts well the next time, and is done.
		want := "two"
		if err := <-answer; err != nil {
			want = "now"
		}
		f.holdsState(restored, want)
		if left := f.leftovers(there); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		f.write(source, "data/state", []byte("now"))
	})
}

// accepted sends a request that is answered when its operation is over, and returns once that has begun.
func (f *fleet) accepted(container store.Container, request func() error) (answer chan error) {
	f.t.Helper()
	before, err := f.records.GetContainer(f.ctx, container.ID)
	f.must(err)
	answer = make(chan error, 1)
	go func() { answer <- request() }()
	for {
		now, err := f.records.GetContainer(f.ctx, container.ID)
		f.must(err)
		if now.JobID != "" || now.LastOperation.ID != before.LastOperation.ID {
			return answer
		}
		select {
		case err := <-answer:
			answer <- err
			return answer
		case <-time.After(time.Millisecond):
		}
	}
}

// onlyOwnKeys requires that a copy lets in its own key and not its source's.
func (f *fleet) onlyOwnKeys(copied, source store.Container) {
	f.t.Helper()
	keys := f.read(copied, "root/.ssh/authorized_keys")
	if !strings.Contains(keys, copied.SSHPublicKey) || strings.Contains(keys, source.SSHPublicKey) {
		f.t.Errorf("authorized_keys of the copy: %q", keys)
	}
}
