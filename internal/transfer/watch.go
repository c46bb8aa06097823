package transfer

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"
)

// patientSamples is how many pings in a row have to say that a session's window is too small before something is done about it.
const patientSamples = 3

// widening decides from the round trip times of a session whether its window is worth a new session: when it would have to be twice
// as large at least. So there are two steps at most from the smallest window to the largest. A window that is too large only
// costs memory, and stays.
type widening struct {
	window uint32
	needed int // samples in a row
	seen   int
}

func (w *widening) observe(rtt time.Duration) (due bool) {
	if uint64(windowFor(rtt)) < 2*uint64(w.window) {
		w.seen = 0
		return false
	}
	w.seen++
	return w.seen >= w.needed
}

// vain notes that a new session measured no longer round trip: the pings had waited for the old one's own streams. From now on this is
// tried half as often.
func (w *widening) vain() {
	w.seen = 0
	w.needed *= 2
}

// watch keeps a session alive until it is closed: it pings in place of yamux, which would not tell how long that took, ends the
// session when no answer comes or the peer's certificate has ended, and replaces it when the round trip has become too long for its window.
func (d *Dialer) watch(serverID string, p *peer, s *session) {
	pings := d.config.pings
	if pings == nil {
		ticker := time.NewTicker(keepAliveInterval)
		defer ticker.Stop()
		pings = ticker.C
	}
	expired := time.NewTimer(time.Until(s.expires))
	defer expired.Stop()
	w := widening{window: s.window, needed: patientSamples}
	for {
		select {
		case <-s.CloseChan():
			return
		case <-expired.C:
			_ = s.Close()
			return
		case <-pings:
		}
		rtt, err := s.Ping()
		if err != nil {
			_ = s.Close()
			return
		}
		if w.observe(rtt) && !d.widen(serverID, p, s) {
			w.vain()
		}
	}
}

// widen opens a session with a larger window for new streams; those of the old one stay there to their end, since yamux has one
// window for all streams of a session and takes it for granted that it does not change. It returns false if the round trip time of
// the new session, which nothing else uses yet, asks for no such window: then all stays as it is.
func (d *Dialer) widen(serverID string, p *peer, old *session) bool {
	replaceable := func() bool { // with the mutex held
		// One more at a time: a listener takes few sessions of a peer.
		return !d.closed && p.session == old && !slices.ContainsFunc(p.retired, func(s *session) bool { return !s.IsClosed() })
	}
	d.mu.Lock()
	ok := replaceable()
	d.mu.Unlock()
	if !ok {
		return true // another time
	}
	ctx, cancel := context.WithTimeout(d.ctx, d.config.ConnectTimeout)
	defer cancel()
	fresh, err := d.open(ctx, serverID)
	if err == nil && fresh.window < 2*old.window {
		_ = fresh.Close()
		err = errors.New("it needs no larger window")
	}
	if err != nil {
		d.config.Log.Debug("session not replaced by one with a larger window", zap.String("peer", serverID), zap.Error(err))
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !replaceable() {
		_ = fresh.Close()
		return true
	}
	p.retired = append(p.retired, old)
	p.session = fresh
	d.tasks.Go(func() { d.watch(serverID, p, fresh) })
	d.config.Log.Info("the round trip to a peer has become longer: new streams have a larger window", zap.String("peer", serverID),
		zap.Uint32("window", fresh.window), zap.Uint32("before", old.window))
	return true
}
