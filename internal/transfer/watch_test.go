package transfer

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/transfer/delay"
)

// longWay is a round trip time that asks for the largest window.
const longWay = 20 * time.Millisecond

// ticks lets a dialer's sessions ping n times. One that replaces its session for the last ping has done so.
func ticks(pings chan time.Time, n int) {
	for range n {
		pings <- time.Time{}
	}
}

// A way that becomes longer while a session lives gets new streams a larger window; a stream under way goes on where it is.
func TestWindowsFollowTheRoundTripTime(t *testing.T) {
	var rtt, dials atomic.Int64
	dial := delay.Dial(func() time.Duration { return time.Duration(rtt.Load()) })
	proceed := make(chan struct{})
	full := make(chan struct{}, 1)
	var ahead atomic.Int64
	data := noise(1 << 20)
	pings := make(chan time.Time)
	f := newFleet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			_, _ = WriteStream(w, r, io.MultiReader(bytes.NewReader(data), &gated{Reader: bytes.NewReader(data), proceed: proceed}), StreamOptions{})
			return
		}
		_, _ = WriteStream(w, r, &repeat{data: data, left: 1 << 40}, StreamOptions{Observe: func(_, wire int) {
			if ahead.Add(int64(wire)) >= maxWindow-2*pieceSize {
				select {
				case full <- struct{}{}:
				default:
				}
			}
		}})
	}), dialThrough(func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return dial(ctx, network, address)
	}), func(_ *ListenerConfig, dc *DialerConfig) { dc.pings = pings })

	old := f.open(t, t.Context(), false, StreamOptions{})
	_, err := io.ReadFull(old, make([]byte, len(data)))
	must(t, err)
	first, err := f.dialer.session(t.Context(), bob)
	must(t, err)
	if first.window > maxWindow/2 { // nothing is twice as large then
		t.Skipf("a machine so busy that the loopback asks for a window of %d bytes", first.window)
	}
	rtt.Store(int64(longWay))
	ticks(pings, patientSamples+1)
	second, err := f.dialer.session(t.Context(), bob)
	must(t, err)
	if second == first || second.window != maxWindow {
		t.Fatalf("new streams have a window of %d bytes, those of before %d", second.window, first.window)
	}

	response, err := f.get(t.Context(), "/endless", false)
	must(t, err)
	unread, err := OpenStream(response, StreamOptions{})
	must(t, err)
	await(t, "the larger window to fill", full)
	must(t, unread.Close())

	close(proceed)
	if n, err := io.Copy(io.Discard, old); err != nil || n != int64(len(data)) {
		t.Errorf("the stream of before ended after %d bytes more: %v", n, err)
	}
	ticks(pings, 3*patientSamples)
	if got := dials.Load(); got != 2 {
		t.Errorf("%d connections, want 2", got)
	}
	// What nobody uses any more goes with the idle ones.
	must(t, old.Close())
	f.dialer.mu.Lock()
	taken := f.dialer.peers[bob].takeIdle(time.Now().Add(time.Minute), time.Hour)
	f.dialer.mu.Unlock()
	for _, s := range taken {
		must(t, s.Close())
	}
	if len(taken) != 1 || taken[0] != first {
		t.Errorf("%d sessions are closed as unused, want the first", len(taken))
	}
}

// gated is a reader that waits before it begins.
type gated struct {
	io.Reader
	proceed <-chan struct{}
}

func (g *gated) Read(p []byte) (int, error) {
	<-g.proceed
	return g.Reader.Read(p)
}

// Pings that wait for a session's own streams say nothing of the way. A new session shows that, and is tried ever more rarely.
func TestASessionIsNotReplacedForItsOwnTraffic(t *testing.T) {
	var busy atomic.Bool
	var dials atomic.Int64
	pings := make(chan time.Time)
	f := newFleet(t, whoami(), dialThrough(func(ctx context.Context, network, address string) (net.Conn, error) {
		first := dials.Add(1) == 1
		return delay.Dial(func() time.Duration {
			if first && busy.Load() {
				return longWay
			}
			return 0
		})(ctx, network, address)
	}), func(_ *ListenerConfig, dc *DialerConfig) { dc.pings = pings })
	s, err := f.dialer.session(t.Context(), bob)
	must(t, err)
	if s.window > maxWindow/2 {
		t.Skipf("a machine so busy that the loopback asks for a window of %d bytes", s.window)
	}
	busy.Store(true)
	ticks(pings, 1)
	for i, step := range []struct {
		pings int
		dials int64
	}{{patientSamples, 2}, {2*patientSamples - 1, 2}, {1, 3}, {4 * patientSamples, 4}} {
		ticks(pings, step.pings)
		if got := dials.Load(); got != step.dials {
			t.Errorf("%d connections after step %d, want %d", got, i, step.dials)
		}
	}
	if now, err := f.dialer.session(t.Context(), bob); err != nil || now != s {
		t.Errorf("the session was replaced: %v", err)
	}
}

func TestWideningNeedsSeveralSamplesInARow(t *testing.T) {
	w := widening{window: minWindow, needed: 3}
	for i, step := range []struct {
		rtt  time.Duration
		want bool
	}{{longWay, false}, {longWay, false}, {0, false}, {longWay, false}, {longWay, false}, {longWay, true}} {
		if got := w.observe(step.rtt); got != step.want {
			t.Errorf("step %d: %t", i, got)
		}
	}
	for _, window := range []uint32{maxWindow/2 + 1, maxWindow} {
		w := widening{window: window, needed: 1}
		if w.observe(time.Minute) {
			t.Errorf("a window of %d cannot be doubled", window)
		}
	}
}
