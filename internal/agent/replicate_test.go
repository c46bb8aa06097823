package agent_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

func TestWhatAFollowerBroughtLeavesNoHalfOfTheLeader(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/big", random(1, 4<<20))
	frames, begun, cut := 0, make(chan struct{}), make(chan struct{})
	there.setFault(func(op, _ string) error {
		if op != "receive:frame" {
			return nil
		}
		if frames++; frames < 3 {
			return nil
		}
		there.setFault(nil)
		close(begun)
		<-cut
		return errdefs.New(errdefs.ErrAborted, "", "cut off")
	})
	leader := f.copy(source, there, agent.CopyRequest{})
	f.wait(begun)
	follower := f.copy(source, there, agent.CopyRequest{})
	f.allIn("replicate", 2) // where the follower waits for what the leader brings
	close(cut)
	for _, copied := range []store.Container{leader, follower} {
		if copied = f.settled(copied.ID, store.StatusRunning); f.hash(copied) != f.hash(source) {
			t.Error("a copy's content is not the source's")
		}
	}
	if left := f.leftovers(there); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Who takes over what another left half received needs no room beside it: the other brings it no more.
func TestAFollowerHasTheRoomOfTheLeader(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning) // the image is there
	const size = 4 << 20
	f.write(source, "data/big", random(1, size))
	space, err := there.pool.Space(f.ctx)
	f.must(err)
	there.pool.SetSize((space.Size - space.Free + size*3/2) * 10 / 9) // beside the reserve, a tenth, room for one and a half of it
	frames, begun, cut := 0, make(chan struct{}), make(chan struct{})
	there.setFault(func(op, _ string) error {
		if op != "receive:frame" {
			return nil
		}
		if frames++; frames != 3 {
			return nil
		}
		close(begun)
		<-cut
		return errdefs.New(errdefs.ErrAborted, "", "cut off")
	})
	leader := f.copy(source, there, agent.CopyRequest{})
	f.wait(begun)
	follower := f.copy(source, there, agent.CopyRequest{})
	f.allIn("replicate", 2)
	close(cut)
	for _, copied := range []store.Container{follower, leader} {
		f.settled(copied.ID, store.StatusRunning)
	}
}

// A copy of hours is not given up, nor what has come of it thrown away, for one error that nobody knows.
func TestAnUnexplainedErrorCostsNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning) // the image is there
	const size = 4 << 20
	f.write(source, "data/big", random(1, size))
	frames, resumed := 0, 0
	there.setFault(func(op, _ string) error {
		switch {
		case op == "receive:frame" && frames < 20:
			if frames++; frames == 20 {
				return errors.New("cannot allocate memory")
			}
		case op == "receive:started" && frames == 20:
			if resumed++; resumed == 1 {
				return errors.New("cannot allocate memory")
			}
		}
		return nil
	})
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	if moved := copied.LastOperation.Progress.BytesDone; resumed != 2 || moved > size*5/4 || f.hash(copied) != f.hash(source) {
		t.Errorf("resumed %d times, %d bytes moved for %d", resumed, moved, size)
	}
}

func TestAFollowerTakesOverWhatACancelledLeaderLeft(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning) // the image is there
	f.write(source, "data/big", random(1, 4<<20))
	frames, begun, hold := 0, make(chan struct{}), make(chan struct{})
	there.setFault(func(op, _ string) error {
		if op != "receive:frame" {
			return nil
		}
		if frames++; frames < 20 {
			return nil
		}
		there.setFault(nil)
		close(begun)
		<-hold
		return nil
	})
	leader := f.copy(source, there, agent.CopyRequest{})
	f.wait(begun)
	var asked []agent.StreamRequest
	f.asked = func(request agent.StreamRequest) { asked = append(asked, request) } // of the follower: the leader has asked
	follower := f.copy(source, there, agent.CopyRequest{})
	for !there.agent.Awaited() {
		f.must(sleepFor(f.ctx, 2*time.Millisecond))
	}
	f.must(there.agent.CancelJob(f.ctx, f.jobOf(leader)))
	f.cancelled(there, f.jobOf(leader))
	close(hold)
	if f.ended(leader.ID).LastOperation.State != store.JobCancelled {
		t.Error("the leader was not cancelled")
	}
	if copied := f.settled(follower.ID, store.StatusRunning); f.hash(copied) != f.hash(source) {
		t.Error("the follower's content is not the source's")
	} else if moved := copied.LastOperation.Progress.BytesDone; len(asked) != 1 || asked[0].Token == "" || moved > 3<<20 {
		t.Errorf("the follower moved %d bytes, with %+v", moved, asked)
	}
	if left := f.leftovers(there); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPlansThatNeverHoldAreShownAndPaced(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	there.setFault(func(op, _ string) error {
		if strings.HasPrefix(op, "receive") {
			return errdefs.New(errdefs.ErrStale, "", "the modules must be upgraded")
		}
		return nil
	})
	copied := f.copy(source, there, agent.CopyRequest{})
	id := f.jobOf(copied)
	for {
		job, err := f.records.GetJob(f.ctx, id)
		f.must(err)
		if job.Error != nil && strings.Contains(job.Error.Message, "must be upgraded") {
			break
		}
		select {
		case <-f.ctx.Done():
			t.Fatal("the job never says what it fails with")
		case <-time.After(10 * time.Millisecond):
		}
	}
	there.setFault(nil)
	f.settled(copied.ID, store.StatusRunning)
}
