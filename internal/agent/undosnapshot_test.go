package agent_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// A swap fails after it has kept what it is about to displace. Until it is tried again somebody writes.
func TestWhatIsWrittenBetweenTwoAttemptsAtASwapIsKept(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	dataset := agent.ContainerDataset(source.ID)
	reached, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	here.setFault(func(op, object string) (err error) {
		if op == "rename:before" && strings.HasPrefix(object, dataset) {
			once.Do(func() {
				close(reached)
				<-proceed
				err = errdefs.New(errdefs.ErrBusy, "", "the pool is busy with itself")
			})
		}
		return err
	})
	restored := make(chan error, 1)
	go func() {
		_, err := here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "one")
		restored <- err
	}()
	<-reached
	current, err := here.pool.Dataset(f.ctx, dataset)
	f.must(err)
	first := current.Snapshots[len(current.Snapshots)-1]
	f.write(source, "data/state", []byte("between"))
	close(proceed)
	f.must(<-restored)
	f.holdsState(f.settled(source.ID, store.StatusRunning), "one")
	undos := f.undos(source)
	if len(undos) != 1 || undos[0].GUID == first.GUID {
		t.Fatalf("kept to undo: %+v, want one state, and not that of the first attempt, %s", undos, first.GUID)
	}
	f.holdsState(f.restore(source, undos[0].Name, store.StatusRunning), "between")
	_, err = here.agent.Collect(f.ctx, false)
	f.must(err)
	if f.holds(here, first.GUID) {
		t.Error("what the first attempt kept is there for ever")
	}
}
