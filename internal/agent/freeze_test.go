package agent_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// holdFreezes makes the next freeze on a server wait for release, and with it those behind it. begun is closed once it waits.
func (s *server) holdFreezes() (begun <-chan struct{}, release func()) {
	waits, gate := make(chan struct{}), make(chan struct{})
	first := true
	s.setFault(func(op, _ string) error {
		if op == "snapshot:before" && first {
			first = false
			close(waits)
			<-gate
		}
		return nil
	})
	return waits, func() { close(gate) }
}

func (f *fleet) wait(done <-chan struct{}) {
	f.t.Helper()
	select {
	case <-done:
	case <-f.ctx.Done():
		f.t.Fatal(f.ctx.Err())
	}
}

func TestManyCopiesOfALongHistoryShareAFreeze(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	history := store.History{ContainerID: source.ID}
	for i := range 1000 {
		alias := fmt.Sprint("a snapshot with a name that says what it is for, number ", i)
		history.Snapshots = append(history.Snapshots, store.Snapshot{Name: fmt.Sprint("snapshot-", i), Alias: &alias, GUID: source.Generation.Marker.GUID, CreatedAt: time.Now().UTC()})
	}
	_, err := f.records.Update(f.ctx, func(tx *store.Tx) error { return tx.PutHistory(history) })
	f.must(err)

	f.write(source, "data/file", []byte("changed"))
	begun, release := here.holdFreezes()
	copies := []store.Container{f.copy(source, here, agent.CopyRequest{})}
	f.wait(begun)
	for range 12 {
		copies = append(copies, f.copy(source, here, agent.CopyRequest{}))
	}
	f.allIn("replicate", len(copies)) // where they ask for the freeze that the first one holds up
	f.write(source, "data/file", []byte("changed again"))
	release()
	for _, copied := range copies {
		if copied = f.settled(copied.ID, store.StatusRunning); copied.SnapshotCount != 1000 {
			t.Errorf("the copy lists %d snapshots", copied.SnapshotCount)
		}
	}
}

// allIn waits until as many jobs have journalled that they begin a phase.
func (f *fleet) allIn(phase string, count int) {
	f.t.Helper()
	for {
		in := 0
		for _, job := range f.records.Mirror().Jobs() {
			if job.Open() && job.Phase == phase {
				in++
			}
		}
		if in == count {
			return
		}
		select {
		case <-f.ctx.Done():
			f.t.Fatalf("%d jobs are in phase %s, want %d", in, phase, count)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestWhoAsksAfterADeathGetsTheStateOfThen(t *testing.T) {
	f := newFleet(t, 3)
	here, there, far := f.servers[0], f.servers[1], f.servers[2]
	source := f.create(here, "source")
	f.write(source, "data/file", []byte("early"))
	// The first copy's snapshot is made, and then nobody is left to say so: its server dies, too.
	made := make(chan struct{})
	here.setFault(func(op, _ string) error {
		if op != "snapshot:after" {
			return nil
		}
		here.setFault(nil)
		far.stop()
		close(made)
		return errdefs.New(errdefs.ErrUnavailable, "", "cut off")
	})
	first := f.copy(source, far, agent.CopyRequest{})
	f.wait(made)
	far.kill()

	f.write(source, "data/file", []byte("late"))
	begun, release := here.holdFreezes()
	second := f.copy(source, there, agent.CopyRequest{})
	f.wait(begun)
	far.start()
	f.allIn("replicate", 2)
	third := f.copy(source, there, agent.CopyRequest{})
	f.allIn("replicate", 3) // the first leads the round that the third joins
	release()
	for _, want := range []struct {
		copied  store.Container
		content string
	}{{first, "early"}, {second, "late"}, {third, "late"}} {
		copied := f.settled(want.copied.ID, store.StatusRunning)
		if got := f.read(copied, "data/file"); got != want.content {
			t.Errorf("copy %s holds %q, want %q", copied.Name, got, want.content)
		}
	}
}
