package peer

import (
	"context"
	"runtime"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/transfer"
)

// A stream whose connection froze in the queue is asked for again, and joins the place that the first one waits for. That the first one is
// given up then does not send it to the end.
func TestAPlaceInTheQueueOutlivesWhoTookIt(t *testing.T) {
	gate := transfer.NewGate(1, 1)
	s := newSlots(gate)
	busy, err := gate.Acquire(t.Context(), "peer")
	if err != nil {
		t.Fatal(err)
	}
	order := make(chan string, 3)
	ended := make(chan struct{}, 3)
	ask := func(ctx context.Context, job, name string) {
		go func() {
			defer func() { ended <- struct{}{} }()
			release, err := s.acquire(ctx, "peer", job)
			if err != nil {
				order <- name + " gave up"
				return
			}
			order <- name
			release()
		}()
	}
	streams := func(job string, want int) {
		for {
			s.mu.Lock()
			held := s.byJob["peer "+job]
			n := 0
			if held != nil {
				n = held.streams
			}
			s.mu.Unlock()
			if _, waiting := gate.Load(); n == want && waiting > 0 {
				return
			}
			runtime.Gosched()
		}
	}
	frozen, cut := context.WithCancel(t.Context())
	ask(frozen, "first", "frozen")
	streams("first", 1)
	ask(t.Context(), "other", "other")
	for waiting := 0; waiting < 2; _, waiting = gate.Load() {
		runtime.Gosched()
	}
	ask(t.Context(), "first", "again")
	streams("first", 2)
	cut()
	if got := <-order; got != "frozen gave up" {
		t.Fatalf("%s, want the frozen one to give up", got)
	}
	busy()
	if got := <-order; got != "again" {
		t.Errorf("%s is first, want the one that asked again", got)
	}
	if got := <-order; got != "other" {
		t.Errorf("then %s, want the other", got)
	}
	for range 3 {
		<-ended
	}
	if running, waiting := gate.Load(); running != 0 || waiting != 0 {
		t.Errorf("%d places are taken and %d waited for", running, waiting)
	}
}
