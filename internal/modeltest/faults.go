package modeltest

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

var errDead = errors.New("the host's agent is dead")

// tripwire counts events and springs at one of them.
type tripwire struct {
	mu     sync.Mutex
	left   int // events until it springs; negative when it is not set
	spring func() error
}

func newTripwire() *tripwire { return &tripwire{left: -1} }

// set makes the n-th event from now spring, counted from 0.
func (w *tripwire) set(n int, spring func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left, w.spring = n, spring
}

// clear takes the wire away and tells whether it had sprung.
func (w *tripwire) clear() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	sprung := w.spring != nil && w.left < 0
	w.left, w.spring = -1, nil
	return sprung
}

// touch is one event. The one that springs the wire gets spring's error.
func (w *tripwire) touch() error {
	w.mu.Lock()
	if w.left < 0 {
		w.mu.Unlock()
		return nil
	}
	w.left--
	spring := w.spring
	sprung := w.left < 0
	w.mu.Unlock()
	if sprung {
		return spring()
	}
	return nil
}

// meter counts events and tells who waits for the n-th from now.
type meter struct {
	mu      sync.Mutex
	seen    int
	waiting map[chan struct{}]int
}

// after returns what is closed at the n-th event from now, and what ends the wait for it.
func (m *meter) after(n int) (reached <-chan struct{}, stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan struct{})
	if m.waiting == nil {
		m.waiting = make(map[chan struct{}]int)
	}
	m.waiting[c] = m.seen + n
	return c, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.waiting, c)
	}
}

func (m *meter) touch() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen++
	for c, at := range m.waiting {
		if m.seen >= at {
			close(c)
			delete(m.waiting, c)
		}
	}
}

// cutOff is what a peer sees of another's death: no answer, whatever the dying process would have said.
func cutOff(err error) error {
	if errors.Is(err, errDead) || errors.Is(err, context.Canceled) {
		return connectionLost()
	}
	return err
}

func connectionLost() error { return errdefs.New(errdefs.ErrUnavailable, "", "connection lost") }

// line is a stream over the network between two servers.
type line struct {
	io.ReadCloser
	part    context.CancelFunc
	network *tripwire
}

func (l line) Read(b []byte) (int, error) {
	if err := l.network.touch(); err != nil {
		return 0, err
	}
	n, err := l.ReadCloser.Read(b)
	return n, cutOff(err)
}

func (l line) Close() error {
	defer l.part()
	return l.ReadCloser.Close()
}

// Wire implements agent.Stream.
func (line) Wire() (uint64, string) { return 0, "none" }
