package transfer

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
)

// rttSamples is how many pings measure the round trip time. The smallest counts: the others waited for something.
const rttSamples = 3

// maxBackoffDoublings keeps the shift in range; any sane maximum is reached long before.
const maxBackoffDoublings = 16

// peer is what a Dialer knows about one server. The Dialer's mutex guards it.
type peer struct {
	session  *session   // the one for new requests; nil for none
	retired  []*session // broken, or being left by the peer; requests may still run on them
	attempt  *attempt   // being made; nil for none
	failures int        // in a row
	failed   error      // the last failure
	retryAt  time.Time  // before which no attempt is made
}

// attempt is one try to open a session, which any number of requests wait for.
type attempt struct {
	done    chan struct{} // closed when the fields below are set
	session *session
	err     error
}

func (p *peer) all() []*session {
	if p.session == nil {
		return p.retired
	}
	return append([]*session{p.session}, p.retired...)
}

// takeIdle removes and returns the sessions that may be closed: unused for idle, or retired and out of use.
func (p *peer) takeIdle(now time.Time, idle time.Duration) (taken []*session) {
	if p.session != nil && p.session.idleFor(now) > idle {
		taken = append(taken, p.session)
		p.session = nil
	}
	p.retired = slices.DeleteFunc(p.retired, func(s *session) bool {
		if s.IsClosed() || s.idleFor(now) > 0 {
			taken = append(taken, s)
			return true
		}
		return false
	})
	return taken
}

// session returns the peer's session and opens it when there is none.
func (d *Dialer) session(ctx context.Context, serverID string) (*session, error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, errdefs.New(errdefs.ErrUnavailable, "", "connect to server %s: shutting down", serverID)
	}
	p := d.peers[serverID]
	if p == nil {
		p = &peer{}
		d.peers[serverID] = p
	}
	if s := p.session; s != nil && !s.IsClosed() {
		d.mu.Unlock()
		return s, nil
	}
	if p.attempt == nil {
		if d.now().Before(p.retryAt) {
			err := p.failed
			d.mu.Unlock()
			return nil, err
		}
		p.attempt = &attempt{done: make(chan struct{})}
		// Not under the first waiter's context: the others would fail with it.
		d.tasks.Go(func() { d.connect(serverID, p) })
	}
	pending := p.attempt
	d.mu.Unlock()

	select {
	case <-pending.done:
		return pending.session, pending.err
	case <-ctx.Done():
		return nil, errdefs.New(errdefs.ErrUnavailable, "", "connect to server %s", serverID).WithCause(context.Cause(ctx))
	}
}

// connect makes the peer's pending attempt.
func (d *Dialer) connect(serverID string, p *peer) {
	ctx, cancel := context.WithTimeout(d.ctx, d.config.ConnectTimeout)
	defer cancel()
	s, err := d.open(ctx, serverID)

	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil && d.closed {
		_ = s.Close()
		s, err = nil, errdefs.New(errdefs.ErrUnavailable, "", "connect to server %s: shutting down", serverID)
	}
	if err == nil {
		if p.session != nil {
			p.retired = append(p.retired, p.session)
		}
		p.session, p.failures, p.failed = s, 0, nil
		d.tasks.Go(func() { d.watch(serverID, p, s) })
	} else {
		delay := d.config.BackoffMin << min(p.failures, maxBackoffDoublings)
		if delay <= 0 || delay > d.config.BackoffMax {
			delay = d.config.BackoffMax
		}
		// Half fixed, half random: agents that lost the same peer at the same moment come back one by one.
		delay = delay/2 + time.Duration(d.jitter()*float64(delay/2))
		p.failures++
		p.failed = err
		p.retryAt = d.now().Add(delay)
		d.config.Log.Debug("peer not reached", zap.String("peer", serverID),
			zap.Int("failures", p.failures), zap.Duration("next_attempt", delay), zap.Error(err))
	}
	p.attempt.session, p.attempt.err = s, err
	close(p.attempt.done)
	p.attempt = nil
}

// retire takes a session out of use for new requests. Those that run on it go on if they can.
func (d *Dialer) retire(serverID string, s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.peers[serverID]; p != nil && p.session == s {
		p.session = nil
		p.retired = append(p.retired, s)
	}
}

// open makes a session: address, TCP, TLS, identity, round trip time.
func (d *Dialer) open(ctx context.Context, serverID string) (_ *session, err error) {
	refuse := func(class error, step string, cause error) error {
		return errdefs.New(class, "", "connect to server %s: %s", serverID, step).WithCause(cause)
	}
	address, err := d.config.Resolve(ctx, serverID)
	if err != nil {
		return nil, refuse(classOr(err, errdefs.ErrUnavailable), "find its address", err)
	}
	conn, err := d.dial(ctx, address, refuse)
	if err != nil {
		return nil, err
	}
	count := min(max(1, d.config.Connections), MaxConnections)
	first, err := d.secure(ctx, serverID, conn, count > 1, refuse)
	if err != nil {
		return nil, err
	}
	state := first.Conn.(*tls.Conn).ConnectionState()
	expires := state.PeerCertificates[0].NotAfter
	if state.NegotiatedProtocol != bundleProtocol {
		return d.openMux(ctx, serverID, first.Conn, first.below, expires, refuse)
	}
	strands := append([]strand{first}, d.more(ctx, serverID, address, count-1, refuse)...)
	whole, err := bind(strands)
	if err != nil {
		for _, s := range strands {
			_ = s.Close()
		}
		return nil, refuse(classOfHandshake(err), "bundle", err)
	}
	return d.openMux(ctx, serverID, whole, whole, expires, refuse)
}

// more opens further connections for a session. What cannot be had soon is done without: the first one waits for the others, and
// the peer gives it HandshakeTimeout for that.
func (d *Dialer) more(ctx context.Context, serverID, address string, count int, refuse refusal) (strands []strand) {
	ctx, cancel := context.WithTimeout(ctx, d.config.ConnectTimeout/3)
	defer cancel()
	opened := make(chan strand, count)
	var tasks sync.WaitGroup
	for range count {
		tasks.Go(func() {
			var s strand
			conn, err := d.dial(ctx, address, refuse)
			if err == nil {
				s, err = d.secure(ctx, serverID, conn, true, refuse)
			}
			if err == nil {
				opened <- s
				return
			}
			d.config.Log.Debug("one connection less", zap.String("peer", serverID), zap.Error(err))
		})
	}
	tasks.Wait()
	close(opened)
	for s := range opened {
		strands = append(strands, s)
	}
	return strands
}

// refusal is the error of a step of opening a session.
type refusal func(class error, step string, cause error) error

func (d *Dialer) dial(ctx context.Context, address string, refuse refusal) (net.Conn, error) {
	conn, err := d.config.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, refuse(errdefs.ErrUnavailable, "dial "+address, err)
	}
	return conn, nil
}

// secure makes a connection one to a server that has proven who it is, and closes it if that fails.
func (d *Dialer) secure(ctx context.Context, serverID string, conn net.Conn, several bool, refuse refusal) (_ strand, err error) {
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	config := d.config.TLS(serverID)
	if several {
		config = config.Clone()
		config.NextProtos = []string{bundleProtocol}
	}
	raw := &batchConn{Conn: conn}
	secure := tls.Client(raw, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return strand{}, refuse(classOfHandshake(err), "TLS handshake", err)
	}
	// The configuration has checked this. It is the one thing everything else rests on, so it is not left to it alone.
	actual, err := pki.Identity(secure.ConnectionState().PeerCertificates[0])
	if err == nil && actual != serverID {
		err = errdefs.New(errdefs.ErrPermissionDenied, "", "server %s answered", actual)
	}
	if err != nil {
		return strand{}, refuse(errdefs.ErrPermissionDenied, "identity", err)
	}
	return strand{Conn: secure, below: raw}, nil
}

// openMux starts yamux and measures the round trip time, which also shows whether the peer accepted our certificate:
// in TLS 1.3 the client's handshake is over before the server has looked at it.
func (d *Dialer) openMux(ctx context.Context, serverID string, secure net.Conn, below holder, expires time.Time, refuse refusal) (*session, error) {
	log := d.config.Log.With(zap.String("peer", serverID))
	watched := &lastError{Conn: secure}
	config := muxConfig(minWindow, streamCloseTimeout, log)
	config.EnableKeepAlive = false // watch pings, and looks how long it takes
	mux, err := yamux.Client(newFrameConn(watched, below, d.config.frameTimeout), config)
	if err != nil {
		return nil, refuse(errdefs.ErrInternal, "start session", err)
	}
	// A ping has no context; closing the session ends it.
	stop := context.AfterFunc(ctx, func() { _ = mux.Close() })
	rtt := time.Duration(-1)
	for range rttSamples {
		sample, pingErr := mux.Ping()
		if pingErr != nil {
			err = pingErr
			break
		}
		if rtt < 0 || sample < rtt {
			rtt = sample
		}
	}
	if err == nil {
		// Streams flow towards us only; the peer may not open any.
		err = mux.GoAway()
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = mux.Close()
		if cause := watched.get(); cause != nil {
			err = cause
		}
		return nil, refuse(classOfHandshake(err), "first answer", err)
	}
	// yamux keeps the pointer and reads this one field when a stream needs it; there are no streams yet.
	config.MaxStreamWindowSize = windowFor(rtt)
	log.Debug("session opened", zap.Duration("rtt", rtt), zap.Uint32("window", config.MaxStreamWindowSize))
	return newSession(mux, serverID, config.MaxStreamWindowSize, expires), nil
}

// refuses tells whether an alert says that the other side does not accept our certificate (RFC 8446, 6.2): bad, of an unsupported kind,
// revoked, unknown, of an unknown authority, access denied, required. Expired, 45, is not among them: that lasts until it is renewed or
// a clock set. All others may come of a byte that was damaged on its way; what they say stands in the job's error while it is tried again.
func refuses(alert error) bool {
	for _, refusal := range []tls.AlertError{42, 43, 44, 46, 48, 49, 116} {
		if alert.Error() == refusal.Error() { // crypto/tls's own type is not exported
			return true
		}
	}
	return false
}

// classOfHandshake tells a peer that refuses or cannot prove itself from one that is not there.
func classOfHandshake(err error) error {
	if class := classOr(err, nil); class != nil {
		return class
	}
	var invalid *tls.CertificateVerificationError
	var alert *net.OpError
	switch {
	case errors.As(err, &invalid):
		return errdefs.ErrPermissionDenied
	case errors.As(err, &alert) && alert.Op == "remote error" && refuses(alert.Err): // crypto/tls names alerts from the other side so
		return errdefs.ErrPermissionDenied
	default:
		return errdefs.ErrUnavailable
	}
}

// classOr returns the class that err was given, or otherwise when it was given none.
func classOr(err, otherwise error) error {
	if class := errdefs.ClassOf(err); class != errdefs.ErrInternal || errors.Is(err, errdefs.ErrInternal) {
		return class
	}
	return otherwise
}
