package agent_test

import (
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// A history of small snapshots does not wait for an answer between one stream and the next.
func TestTheNextStreamIsAskedForWhileOneIsReceived(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	const history = 10
	for i := range history {
		f.write(source, "data/file", random(byte(i), 10<<10))
		f.must(second(here.agent.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{})))
	}
	asked := make(chan agent.StreamRequest, 100)
	f.asked = func(request agent.StreamRequest) { asked <- request }
	total := 0
	f.tamper = func(manifest *agent.Manifest) { total = len(manifest.Wanted) }
	overlapped, streams := 0, 0
	there.setFault(func(op, _ string) error {
		if op != "receive:started" { // until it is over, nothing is asked for that was not asked for ahead
			return nil
		}
		if streams++; streams == 1 {
			<-asked // itself
		}
		if streams == total {
			return nil
		}
		select {
		case <-asked:
			overlapped++
		case <-time.After(10 * time.Second): // it does not come
		}
		return nil
	})
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	there.setFault(nil)
	if f.hash(copied) != f.hash(source) {
		t.Error("the copy's content is not the source's")
	}
	if streams < history || overlapped != streams-1 {
		t.Errorf("of %d streams %d were asked for ahead", streams, overlapped)
	}
}
