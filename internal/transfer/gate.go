package transfer

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Gate limits how many transfers run at once, in total and with each peer.
//
// Who came first goes first, with one exception: those whose peer is at its own limit are passed over until it is
// not. So nobody waits for a slot that is free, and one peer's queue never holds up the others'.
// Safe for concurrent use.
type Gate struct {
	total, perPeer int

	mu      sync.Mutex
	running map[string]int // by peer; no zero entries
	held    int
	waiting []*ticket // in order of arrival
}

type ticket struct {
	peer    string
	granted chan struct{} // closed with the mutex held
}

// NewGate returns a gate for total transfers, perPeer of them with one peer. Limits below 1 count as 1.
func NewGate(total, perPeer int) *Gate {
	return &Gate{total: max(total, 1), perPeer: max(perPeer, 1), running: map[string]int{}}
}

// Acquire waits for a slot and returns the function that gives it back, which may be called more than once.
// If ctx ends first the error is ErrUnavailable and wraps the context's.
func (g *Gate) Acquire(ctx context.Context, peer string) (release func(), err error) {
	g.mu.Lock()
	entry := &ticket{peer: peer, granted: make(chan struct{})}
	g.waiting = append(g.waiting, entry)
	g.grant()
	g.mu.Unlock()

	select {
	case <-entry.granted:
		return sync.OnceFunc(func() { g.release(peer) }), nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	i := slices.Index(g.waiting, entry)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	g.mu.Unlock()
	if i < 0 { // granted at the same moment
		g.release(peer)
	}
	return nil, fmt.Errorf("wait for a transfer slot with %s: %w", peer,
		errdefs.New(errdefs.ErrUnavailable, "", "gave up waiting for a transfer slot").WithCause(context.Cause(ctx)))
}

// Load tells how many transfers run and how many wait.
func (g *Gate) Load() (running, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held, len(g.waiting)
}

func (g *Gate) release(peer string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held--
	if g.running[peer]--; g.running[peer] == 0 {
		delete(g.running, peer)
	}
	g.grant()
}

// grant admits whoever may run now. The mutex is held.
func (g *Gate) grant() {
	for i := 0; i < len(g.waiting) && g.held < g.total; {
		entry := g.waiting[i]
		if g.running[entry.peer] >= g.perPeer {
			i++
			continue
		}
		g.waiting = slices.Delete(g.waiting, i, i+1)
		g.running[entry.peer]++
		g.held++
		close(entry.granted)
	}
}
