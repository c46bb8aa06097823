package agent_test

import (
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

func TestBytesWrittenOnASource(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data", random(1, 1<<20))
	derived := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	f.catchUp()
	if derived.SyncedAt.IsZero() {
		t.Error("the copy does not say when its source's state was frozen")
	}
	before, err := here.agent.SourceWritten(f.ctx, 10)
	f.must(err)
	f.write(source, "more", random(2, 3<<20))
	after, err := here.agent.SourceWritten(f.ctx, 10)
	f.must(err)
	if grown := after[derived.ID] - before[derived.ID]; grown < 3<<20 || grown > 4<<20 {
		t.Errorf("written %d before and %d after 3 MiB", before[derived.ID], after[derived.ID])
	}
	if elsewhere, err := there.agent.SourceWritten(f.ctx, 10); err != nil || len(elsewhere) != 0 {
		t.Errorf("on the copy's server: %v, %v", elsewhere, err)
	}
	if bounded, err := here.agent.SourceWritten(f.ctx, 0); err != nil || len(bounded) != 0 {
		t.Errorf("beyond the limit: %v, %v", bounded, err)
	}
}
