package transfer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/pki"
)

// The limits of a Listener where its configuration says 0.
const (
	DefaultMaxSessions        = 512              // a fleet's size with room for reconnects
	DefaultMaxSessionsPerPeer = 4                // one in use, and dead ones that keep-alive has not noticed yet
	DefaultMaxHandshakes      = 64               // unauthenticated connections at a time
	DefaultMaxStreams         = 64               // requests at a time in one session
	DefaultMaxRequests        = 512              // requests at a time in total
	DefaultHandshakeTimeout   = 10 * time.Second // TCP accept to the end of the TLS handshake
	DefaultRequestTimeout     = 20 * time.Second // head of a request, and again its body
	DefaultSessionIdleTimeout = 15 * time.Minute // longer than a Dialer keeps an idle one, which is then the one to close
)

// maxRequestHead bounds the head of a request in bytes. net/http adds 4 KiB of slack.
const maxRequestHead = 12 << 10

// ListenerConfig says what a Listener serves. Zero limits mean the defaults above.
type ListenerConfig struct {
	TLS     *tls.Config  // required; pki.Credentials.ServerConfig
	Handler http.Handler // required; PeerFromContext names the caller
	Log     *zap.Logger  // nil for none

	// RequestLimit is how many bytes the body of a request may have, by its path; nil for MaxRequest.
	RequestLimit func(path string) int64

	MaxSessions        int
	MaxSessionsPerPeer int
	MaxHandshakes      int
	MaxStreams         int
	MaxRequests        int
	HandshakeTimeout   time.Duration
	RequestTimeout     time.Duration
	SessionIdleTimeout time.Duration

	frameTimeout time.Duration // for tests
	// answerCloseTimeout is for tests; there is none. yamux would reset the stream then, and throw away what the other side has received
	// and not read yet, which may take it hours of a list of digests. remnantFactor bounds how many remains there are, and the dialling
	// side's timeout, the session's idleness or its end remove them.
	answerCloseTimeout time.Duration
}

// Listener accepts sessions from other agents and serves HTTP requests on their streams.
//
// One stream carries one request. A request's body is read whole, at most RequestLimit bytes, before the handler runs, so
// that a slow sender never holds a handler. The handler's context carries the peer and the request id, and ends when
// the peer goes away or closes the stream.
type Listener struct {
	config ListenerConfig
	server *http.Server

	handshakes handshakes
	requests   chan struct{} // a slot each

	mu       sync.Mutex
	closing  bool
	sockets  map[net.Listener]struct{}
	pending  map[net.Conn]struct{} // in their handshake
	sessions map[*session]struct{}
	joints   map[jointKey]*joint

	done  chan struct{} // closed when closing begins
	tasks sync.WaitGroup
}

type peerKey struct{}

// PeerFromContext returns the server id of the agent that sent a request, as its verified certificate says.
func PeerFromContext(ctx context.Context) (serverID string, ok bool) {
	serverID, ok = ctx.Value(peerKey{}).(string)
	return serverID, ok
}

// withPeer returns a context in which serverID is the caller.
func withPeer(ctx context.Context, serverID string) context.Context {
	return context.WithValue(ctx, peerKey{}, serverID)
}

// NewListener returns a Listener. It does nothing until Serve is called; Close must be called after that.
func NewListener(config ListenerConfig) *Listener {
	if config.Log == nil {
		config.Log = zap.NewNop()
	}
	orDefault(&config.MaxSessions, DefaultMaxSessions)
	orDefault(&config.MaxSessionsPerPeer, DefaultMaxSessionsPerPeer)
	orDefault(&config.MaxHandshakes, DefaultMaxHandshakes)
	orDefault(&config.MaxStreams, DefaultMaxStreams)
	orDefault(&config.MaxRequests, DefaultMaxRequests)
	orDefault(&config.HandshakeTimeout, DefaultHandshakeTimeout)
	orDefault(&config.RequestTimeout, DefaultRequestTimeout)
	orDefault(&config.SessionIdleTimeout, DefaultSessionIdleTimeout)
	config.TLS = offering(config.TLS)
	l := &Listener{
		config:     config,
		handshakes: handshakes{most: config.MaxHandshakes},
		requests:   make(chan struct{}, config.MaxRequests),
		sockets:    map[net.Listener]struct{}{},
		pending:    map[net.Conn]struct{}{},
		sessions:   map[*session]struct{}{},
		joints:     map[jointKey]*joint{},
		done:       make(chan struct{}),
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	l.server = &http.Server{
		Handler:           l.admit(config.Handler),
		ReadHeaderTimeout: config.RequestTimeout,
		MaxHeaderBytes:    maxRequestHead,
		Protocols:         protocols,
		ErrorLog:          errorLog(config.Log),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return withPeer(ctx, conn.(*muxStream).session.peer)
		},
		DisableGeneralOptionsHandler: true,
	}
	// A stream costs nothing to open, and one that waits for a second request would hold a goroutine for nothing.
	l.server.SetKeepAlivesEnabled(false)
	l.tasks.Go(l.reapIdle)
	return l
}

func orDefault[T int | time.Duration](value *T, standard T) {
	if *value <= 0 {
		*value = standard
	}
}

// Serve accepts connections from socket until Close, and then returns nil. It closes socket.
// It may be called for several sockets at once.
func (l *Listener) Serve(socket net.Listener) error {
	if !l.register(func() { l.sockets[socket] = struct{}{} }) {
		return socket.Close()
	}
	defer func() { _ = socket.Close() }()
	for {
		conn, err := socket.Accept()
		switch {
		case err == nil:
		case l.isClosing():
			return nil
		case isTemporary(err):
			// Out of file descriptors, most likely. Someone will give some back.
			l.config.Log.Error("accept failed, trying again", zap.Error(err))
			select {
			case <-time.After(time.Second):
			case <-l.done:
			}
			continue
		default:
			return fmt.Errorf("accept sessions on %s: %w", socket.Addr(), err)
		}
		if !l.handshakes.begin(conn) { // too many strangers already
			_ = conn.Close()
			continue
		}
		if !l.register(func() { l.pending[conn] = struct{}{}; l.tasks.Go(func() { l.serveConn(conn) }) }) {
			l.handshakes.end(conn)
			_ = conn.Close()
		}
	}
}

// serveConn owns one connection from its handshake to its end.
func (l *Listener) serveConn(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	log := l.config.Log.With(zap.Stringer("remote", conn.RemoteAddr()))
	raw := &batchConn{Conn: conn}
	secure, peer, err := l.handshake(raw)
	l.handshakes.end(conn)
	var transport net.Conn = secure
	var below holder = raw
	if err == nil && secure.ConnectionState().NegotiatedProtocol == bundleProtocol {
		var whole *bundle
		var first bool
		if whole, first, err = l.join(peer, strand{secure, raw}); err == nil && !first {
			<-whole.closed // whoever was first serves it
			l.forget(conn)
			return
		}
		transport, below = whole, whole
	}
	if err != nil {
		log.Debug("handshake failed", zap.Error(err))
		l.forget(conn)
		return
	}
	log = log.With(zap.String("peer", peer))
	s, err := l.open(transport, below, peer, secure.ConnectionState().PeerCertificates[0].NotAfter, log)
	l.forget(conn)
	if err != nil {
		_ = transport.Close()
		log.Warn("session refused", zap.Error(err))
		return
	}
	defer l.drop(s)
	expired := time.AfterFunc(time.Until(s.expires), func() { _ = s.Close() })
	defer expired.Stop()
	log.Debug("session opened")
	err = l.server.Serve(newSessionListener(s, l.config.MaxStreams))
	if l.isClosing() {
		// The server stopped accepting, but requests may still run on this session. Close ends it.
		<-s.CloseChan()
	}
	log.Debug("session closed", zap.Error(err))
}

func (l *Listener) handshake(conn net.Conn) (*tls.Conn, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.config.HandshakeTimeout)
	defer cancel()
	secure := tls.Server(conn, l.config.TLS)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, "", fmt.Errorf("TLS handshake: %w", err)
	}
	state := secure.ConnectionState()
	if state.Version < tls.VersionTLS13 || len(state.VerifiedChains) == 0 {
		return nil, "", errors.New("TLS configuration lets unverified peers in") // ours is wrong: refuse everybody
	}
	peer, err := pki.Identity(state.PeerCertificates[0])
	return secure, peer, err
}

// open makes a session of an authenticated connection, if the limits allow it.
func (l *Listener) open(conn net.Conn, below holder, peer string, expires time.Time, log *zap.Logger) (*session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return nil, errors.New("shutting down")
	}
	ofPeer := 0
	for s := range l.sessions {
		if s.peer == peer {
			ofPeer++
		}
	}
	if ofPeer >= l.config.MaxSessionsPerPeer || len(l.sessions) >= l.config.MaxSessions {
		return nil, fmt.Errorf("limit reached: %d sessions of this peer, %d in total", ofPeer, len(l.sessions))
	}
	mux, err := yamux.Server(newFrameConn(conn, below, l.config.frameTimeout), muxConfig(requestWindow, l.config.answerCloseTimeout, log))
	if err != nil {
		return nil, err
	}
	s := newSession(mux, peer, requestWindow, expires)
	l.sessions[s] = struct{}{}
	return s, nil
}

func (l *Listener) drop(s *session) {
	_ = s.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sessions, s)
}

func (l *Listener) forget(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, conn)
}

// register runs do under the mutex unless the listener is closing.
func (l *Listener) register(do func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return false
	}
	do()
	return true
}

func (l *Listener) isClosing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing
}

func isTemporary(err error) bool {
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}

// errorLog is where http.Server reports what no request can: panics of handlers, above all.
func errorLog(log *zap.Logger) *stdlog.Logger {
	std, err := zap.NewStdLogAt(log, zap.ErrorLevel)
	if err != nil { // only for a level that does not exist
		panic(err)
	}
	return std
}
