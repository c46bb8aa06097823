package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// enqueue starts an Acquire and returns when it is in the queue or has its slot.
func enqueue(t *testing.T, ctx context.Context, g *Gate, peer string, granted chan<- func()) {
	t.Helper()
	running, waiting := g.Load()
	go func() {
		if release, err := g.Acquire(ctx, peer); err == nil {
			granted <- release
		}
	}()
	for {
		if r, w := g.Load(); r+w > running+waiting {
			return
		}
	}
}

func TestGateIsFirstComeFirstServed(t *testing.T) {
	g := NewGate(1, 1)
	release, err := g.Acquire(t.Context(), "x")
	must(t, err)
	var slots []chan func()
	for i := range 24 {
		slots = append(slots, make(chan func(), 1))
		enqueue(t, t.Context(), g, string(rune('a'+i%5)), slots[i])
	}
	for i, slot := range slots {
		release()
		release() // without effect
		release = await(t, "the next in line", slot)
		if running, waiting := g.Load(); running != 1 || waiting != 23-i {
			t.Fatalf("%d run, %d wait after %d", running, waiting, i)
		}
	}
	release()
}

func TestGatePassesOverPeersAtTheirLimit(t *testing.T) {
	g := NewGate(3, 1)
	release, err := g.Acquire(t.Context(), "a")
	must(t, err)
	second, third, other := make(chan func(), 1), make(chan func(), 1), make(chan func(), 1)
	enqueue(t, t.Context(), g, "a", second)
	enqueue(t, t.Context(), g, "a", third)
	enqueue(t, t.Context(), g, "b", other)
	await(t, "another peer", other)()
	if len(second)+len(third) != 0 {
		t.Fatal("the limit of a peer does not hold")
	}
	release()
	await(t, "the second", second)()
	await(t, "the third", third)()
}

func TestGateForgetsWhoGaveUp(t *testing.T) {
	g := NewGate(1, 1)
	release, err := g.Acquire(t.Context(), "a")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := g.Acquire(ctx, "b")
		gaveUp <- err
	}()
	cancel()
	if err := await(t, "the one who gave up", gaveUp); !errors.Is(err, errdefs.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	release()
	if running, waiting := g.Load(); running != 0 || waiting != 0 {
		t.Errorf("%d run and %d wait", running, waiting)
	}
}

func TestGateUnderLoad(t *testing.T) {
	const total, perPeer = 6, 2
	g := NewGate(total, perPeer)
	var all atomic.Int32
	var each [4]atomic.Int32
	var transfers sync.WaitGroup
	for i := range 240 {
		transfers.Go(func() {
			peer := i % len(each)
			release, err := g.Acquire(t.Context(), string(rune('a'+peer)))
			if err != nil {
				t.Error(err)
				return
			}
			if n := all.Add(1); n > total {
				t.Errorf("%d at once", n)
			}
			if n := each[peer].Add(1); n > perPeer {
				t.Errorf("%d at once with one peer", n)
			}
			all.Add(-1)
			each[peer].Add(-1)
			release()
		})
	}
	transfers.Wait()
}

func TestTransfersThroughAGate(t *testing.T) {
	const perPeer = 3
	g := NewGate(8, perPeer)
	var running, most atomic.Int32
	data := noise(1 << 20)
	f := newFleet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, _ := PeerFromContext(r.Context())
		release, err := g.Acquire(r.Context(), peer)
		if err != nil {
			WriteError(w, r, nopLog, err)
			return
		}
		defer release()
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		_, _ = WriteStream(w, r, bytes.NewReader(data), StreamOptions{})
	}))
	var transfers sync.WaitGroup
	for range 24 {
		transfers.Go(func() {
			response, err := f.get(t.Context(), "/stream", false)
			if err != nil {
				t.Error(err)
				return
			}
			stream, err := OpenStream(response, StreamOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = stream.Close() }()
			if n, err := io.Copy(io.Discard, stream); err != nil || n != int64(len(data)) {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
	transfers.Wait()
	if got := most.Load(); got > perPeer {
		t.Errorf("%d at once, at most %d", got, perPeer)
	}
}

// TestGateAgainstModel drives a gate through any order of arrivals and departures and compares with the rule as it is
// documented: the first in the queue whose peer has room runs, as long as there is room at all.
func TestGateAgainstModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		total := rapid.IntRange(1, 4).Draw(r, "total")
		perPeer := rapid.IntRange(1, 4).Draw(r, "per peer")
		g := NewGate(total, perPeer)
		var queue, running []*ticket
		settle := func() {
			for i := 0; i < len(queue) && len(running) < total; {
				same := 0
				for _, other := range running {
					if other.peer == queue[i].peer {
						same++
					}
				}
				if same >= perPeer {
					i++
					continue
				}
				running = append(running, queue[i])
				queue = slices.Delete(queue, i, i+1)
			}
		}
		for range rapid.IntRange(0, 60).Draw(r, "steps") {
			if len(running) == 0 || rapid.Bool().Draw(r, "arrives") {
				entry := &ticket{peer: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "peer"), granted: make(chan struct{})}
				queue = append(queue, entry)
				g.mu.Lock()
				g.waiting = append(g.waiting, entry)
				g.grant()
				g.mu.Unlock()
			} else {
				i := rapid.IntRange(0, len(running)-1).Draw(r, "leaves")
				peer := running[i].peer
				running = slices.Delete(running, i, i+1)
				g.release(peer)
			}
			settle()
			for _, entry := range running {
				select {
				case <-entry.granted:
				default:
					r.Fatalf("a ticket of %s should run", entry.peer)
				}
			}
			if n, waiting := g.Load(); n != len(running) || waiting != len(queue) {
				r.Fatalf("%d run and %d wait, want %d and %d", n, waiting, len(running), len(queue))
			}
		}
	})
}
