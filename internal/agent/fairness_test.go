package agent_test

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// A server that sends nothing holds up the copies from there, however many wait, and none from elsewhere.
func TestTransfersFromOneServerHoldUpNoOthers(t *testing.T) {
	f := newFleet(t, 3)
	slow, quick, target := f.servers[0], f.servers[1], f.servers[2]
	var waiting []store.Container
	for i := range 5 {
		waiting = append(waiting, f.create(slow, fmt.Sprintf("slow-%d", i)))
	}
	other := f.create(quick, "quick")
	// What all have in common comes first: nobody waits for it then.
	f.settled(f.copy(waiting[4], target, agent.CopyRequest{}).ID, store.StatusRunning)
	f.settled(f.copy(other, target, agent.CopyRequest{}).ID, store.StatusRunning)
	f.write(other, "data/file", random(1, 10<<10))

	proceed := make(chan struct{})
	f.asked = func(request agent.StreamRequest) {
		if job, err := f.records.GetJob(f.ctx, request.JobID); err != nil || job.SourceServerID == slow.id {
			select {
			case <-proceed:
			case <-f.ctx.Done():
			}
		}
	}
	var copies []store.Container
	for _, source := range waiting[:4] {
		f.write(source, "data/file", random(2, 10<<10))
		copies = append(copies, f.copy(source, target, agent.CopyRequest{}))
	}
	for {
		if running, queued := target.gate.Load(); running == 2 && queued == 2 {
			break
		}
		select {
		case <-f.ctx.Done():
			t.Fatal("two transfers from one server do not run with two waiting")
		case <-time.After(time.Millisecond):
		}
	}
	f.settled(f.copy(other, target, agent.CopyRequest{}).ID, store.StatusRunning)
	close(proceed)
	for _, copied := range copies {
		f.settled(copied.ID, store.StatusRunning)
	}
}

// Who has waited for its turn and has to plan again, since what it planned on has moved, does not wait again behind those that came later.
func TestWhoPlansAgainKeepsItsTurn(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	var sources []store.Container
	for i := range 3 {
		sources = append(sources, f.create(here, fmt.Sprintf("source-%d", i)))
	}
	f.settled(f.copy(sources[0], there, agent.CopyRequest{}).ID, store.StatusRunning) // brings the image
	var mu sync.Mutex
	var asked []string // for the streams of which job, in order
	hold := []chan struct{}{make(chan struct{}), make(chan struct{}), make(chan struct{})}
	close(hold[2])
	f.asked = func(request agent.StreamRequest) {
		mu.Lock()
		asked = append(asked, request.JobID)
		mu.Unlock()
		job, err := f.records.GetJob(f.ctx, request.JobID)
		if err != nil {
			return
		}
		for i, source := range sources {
			if job.SourceID == source.ID {
				select {
				case <-hold[i]:
				case <-f.ctx.Done():
				}
			}
		}
	}
	load := func(running, queued int) {
		t.Helper()
		f.until(fmt.Sprintf("%d transfers run and %d wait", running, queued), func() bool {
			r, q := there.gate.Load()
			return r == running && q == queued
		})
	}
	var copies []store.Container
	for i, source := range sources {
		f.write(source, "data/file", random(byte(i), 10<<10))
		copies = append(copies, f.copy(source, there, agent.CopyRequest{}))
		load(min(i+1, 2), max(0, i-1))
	}
	var moved sync.Once
	there.setFault(func(op, _ string) (err error) {
		if op == "receive:started" {
			moved.Do(func() { err = errdefs.ErrStale })
		}
		return err
	})
	close(hold[1])
	f.settled(copies[1].ID, store.StatusRunning)
	f.settled(copies[2].ID, store.StatusRunning)
	close(hold[0])
	f.settled(copies[0].ID, store.StatusRunning)
	mu.Lock()
	defer mu.Unlock()
	last := copies[2].JobID
	if first := slices.Index(asked, last); slices.Contains(asked[first:], copies[1].JobID) {
		t.Errorf("streams of %v, want all of %s before those of %s", asked, copies[1].JobID, last)
	}
}

// An image is waited for until it is there, not until what else its replication brings is; and another owner brings his own.
func TestNobodyWaitsForWhatComesAfterTheImage(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	first, second := f.create(here, "first"), f.create(here, "second")
	f.write(first, "data/file", random(1, 10<<10))
	f.write(second, "data/file", random(2, 10<<10))
	his := agent.Caller{UserID: stranger}
	project, err := here.agent.CreateProject(f.ctx, his, agent.CreateProjectRequest{Alias: "his"})
	f.must(err)
	made, err := here.agent.CreateContainer(f.ctx, his, project.ID, agent.CreateContainerRequest{ServerID: here.id, Name: "third", Image: "busybox"})
	f.must(err)
	third := f.settled(made.View.Container.ID, store.StatusRunning)

	reached, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.asked = func(request agent.StreamRequest) {
		job, err := f.records.GetJob(f.ctx, request.JobID)
		if err != nil || job.SourceID != first.ID || request.From == 0 { // the image stands on nothing
			return
		}
		once.Do(func() { close(reached) })
		select {
		case <-proceed:
		case <-f.ctx.Done():
		}
	}
	slow := f.copy(first, there, agent.CopyRequest{})
	<-reached
	f.settled(f.copy(second, there, agent.CopyRequest{}).ID, store.StatusRunning)
	result, err := here.agent.Copy(f.ctx, his, third.ID, agent.CopyRequest{TargetProjectID: project.ID, TargetServerID: there.id})
	f.must(err)
	f.settled(result.View.Container.ID, store.StatusRunning)
	if still, err := f.records.GetContainer(f.ctx, slow.ID); err != nil || still.Status != store.StatusCopying {
		t.Errorf("the first copy is %s, %v", still.Status, err)
	}
	close(proceed)
	f.settled(slow.ID, store.StatusRunning)
}

// Of the phases that keep a host busy a few run at a time, however many copies come at once; all of them come to their end.
func TestHeavyPhasesTakeTurns(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	most := int32(max(4, 2*runtime.GOMAXPROCS(0)))
	var atOnce, seen atomic.Int32
	var once sync.Once
	full := make(chan struct{})
	here.setFault(func(op, _ string) error {
		switch op {
		case "create-instance:before":
			now := atOnce.Add(1)
			for before := seen.Load(); now > before && !seen.CompareAndSwap(before, now); before = seen.Load() {
			}
			if now == most {
				once.Do(func() { close(full) }) // all that may be at it are
			}
			<-full
		case "create-instance:after":
			atOnce.Add(-1)
		}
		return nil
	})
	var copies []store.Container
	for range 3 * most {
		copies = append(copies, f.copy(source, here, agent.CopyRequest{}))
	}
	for _, copied := range copies {
		f.settled(copied.ID, store.StatusRunning)
	}
	if seen.Load() != most {
		t.Errorf("%d instances were made at once, want %d", seen.Load(), most)
	}
}
