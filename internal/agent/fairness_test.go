package agent_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
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
