package agent_test

import (
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// A link that breaks time and again, with progress in between, does not end in long pauses.
func TestABreakingLinkEndsInNoLongPauses(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.WarnLevel)
	f := newFleet(t, 2, withNetwork, func(f *fleet) { f.log = zap.New(core) })
	source := f.create(f.servers[0], "source")
	f.write(source, "data/file", random(1, 24<<20))
	f.network.cutEvery.Store(2 << 20)
	copied := f.settled(f.copy(source, f.servers[1], agent.CopyRequest{}).ID, store.StatusRunning)
	if f.hash(copied) != f.hash(source) {
		t.Error("the copy's content is not the source's")
	}
	var pauses []time.Duration
	for _, entry := range logs.FilterMessage("phase will be tried again").All() {
		pauses = append(pauses, entry.ContextMap()["pause"].(time.Duration))
	}
	// Without progress the tenth would be 200 ms x 1.5^9 = 7.7 s, and within its jitter 3.8 s at least. With it an attempt or two may come
	// to nothing before the connection is there again.
	for i, pause := range pauses {
		if pause > 1500*time.Millisecond {
			t.Errorf("pause %d is %v: %v", i+1, pause, pauses)
		}
	}
	if len(pauses) < 10 {
		t.Errorf("only %d pauses, want at least 10: %v", len(pauses), pauses)
	}
}
