package transfer

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// The settings of a Dialer where its configuration says 0.
const (
	DefaultConnectTimeout = 15 * time.Second       // resolving, TCP, TLS and the first pings together
	DefaultIdleTimeout    = 5 * time.Minute        // after which an unused session is closed
	DefaultBackoffMin     = 250 * time.Millisecond // after the first failure; doubled with each further one
	DefaultBackoffMax     = 15 * time.Second
	// DefaultHeaderTimeout is how long a peer may take to begin its answer, or to say that it is still coming. Callers usually bring a
	// deadline; this is for those that do not.
	DefaultHeaderTimeout = 10 * time.Minute
)

// MaxConnections is how many connections a session may have.
const MaxConnections = 8

// maxAnswerHead bounds the head of an answer in bytes.
const maxAnswerHead = 16 << 10

// answerBuffer is the read buffer of a request in bytes. Bulk data bypasses it, except for what comes in with the head
// of a chunk, so a larger one would only add copying. Trailers must fit into it.
const answerBuffer = 4 << 10

// DialerConfig says how a Dialer reaches its peers. Zero values mean the defaults above.
type DialerConfig struct {
	// TLS returns the configuration for a connection to a server; required. It must end the handshake unless the
	// server's verified certificate carries that id, as pki.Credentials.ClientConfig does. The Dialer looks again itself.
	TLS func(serverID string) *tls.Config
	// Resolve returns the address ("host:port") where a server's agent listens; required.
	// An error that has a class keeps it, any other is ErrUnavailable.
	Resolve func(ctx context.Context, serverID string) (address string, err error)
	// DialContext opens a connection; nil for TCP.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	Log         *zap.Logger // nil for none

	// Connections is how many connections a session to a peer has, at most MaxConnections; 0 for one.
	Connections    int
	MaxStreams     int // requests at a time per peer; others wait their turn. DefaultMaxStreams, which must not exceed the Listener's
	ConnectTimeout time.Duration
	IdleTimeout    time.Duration
	HeaderTimeout  time.Duration
	BackoffMin     time.Duration
	BackoffMax     time.Duration

	// For tests.
	frameTimeout time.Duration
	pings        <-chan time.Time // when to ping, in place of every keepAliveInterval
}

// Dialer sends HTTP requests to other agents, all requests to one peer over one session.
//
// A session is opened when it is first needed, and again when it broke. However many requests wait for it, one
// attempt is made; after a failed one, requests fail at once with its error until a growing, jittered time has passed,
// so that neither a dead peer's callers wait for nothing nor a peer that comes back is overrun. Safe for concurrent use.
type Dialer struct {
	config    DialerConfig
	transport *http.Transport

	ctx   context.Context // of everything in the background; ends with Close
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu     sync.Mutex
	closed bool
	peers  map[string]*peer

	now    func() time.Time
	jitter func() float64 // in [0, 1)
}

// NewDialer returns a Dialer. Close must be called in the end.
func NewDialer(config DialerConfig) *Dialer {
	if config.Log == nil {
		config.Log = zap.NewNop()
	}
	if config.DialContext == nil {
		config.DialContext = new(net.Dialer).DialContext
	}
	orDefault(&config.MaxStreams, DefaultMaxStreams)
	orDefault(&config.ConnectTimeout, DefaultConnectTimeout)
	orDefault(&config.IdleTimeout, DefaultIdleTimeout)
	orDefault(&config.HeaderTimeout, DefaultHeaderTimeout)
	orDefault(&config.BackoffMin, DefaultBackoffMin)
	orDefault(&config.BackoffMax, DefaultBackoffMax)
	d := &Dialer{config: config, peers: map[string]*peer{}, now: time.Now, jitter: rand.Float64}
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.transport = &http.Transport{
		DialContext: d.dialStream,
		// One stream, one request: a kept stream might be closed by the peer just when it is used again, and only
		// some requests may be repeated then. A new stream takes no round trip, the request goes out with its opening.
		DisableKeepAlives:      true,
		DisableCompression:     true, // gzip behind our backs
		MaxConnsPerHost:        config.MaxStreams,
		MaxResponseHeaderBytes: maxAnswerHead,
		ReadBufferSize:         answerBuffer,
	}
	d.tasks.Go(d.reapIdle)
	return d
}

// Client returns a client whose requests go to the agent of serverID, whatever host their URLs name (URL, Call).
// It has no timeout of its own and follows no redirects. Errors of requests:
// ErrUnavailable when the agent cannot be reached, ErrPermissionDenied when who answers is not that server or
// does not accept us.
func (d *Dialer) Client(serverID string) *http.Client {
	return &http.Client{
		Transport: roundTripper{dialer: d, serverID: serverID},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
}

// roundTripper directs requests to one peer.
type roundTripper struct {
	dialer   *Dialer
	serverID string
}

// RoundTrip implements http.RoundTripper.
func (t roundTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.URL.Scheme, request.URL.Host = "http", t.serverID
	request.Host = t.serverID
	if id := RequestIDFromContext(request.Context()); id != "" {
		request.Header.Set(RequestIDHeader, id)
	}
	response, err := roundTrip(t.dialer.transport, request, t.dialer.config.HeaderTimeout)
	if err != nil {
		return nil, unreachable(err)
	}
	return response, nil
}

// dialStream is the transport's way to a connection: a new stream of the peer's session.
func (d *Dialer) dialStream(ctx context.Context, _, address string) (net.Conn, error) {
	serverID, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errdefs.New(errdefs.ErrInternal, "", "peer address").WithCause(err)
	}
	// A session that broke since it was last used, or that the peer is about to leave, shows only now. Then one more
	// is opened; should that break at once too, it is not for us to insist.
	for attempt := 0; ; attempt++ {
		s, err := d.session(ctx, serverID)
		if err != nil {
			return nil, err
		}
		stream, err := s.OpenStream()
		if err == nil {
			return s.wrap(stream, 0), nil
		}
		d.retire(serverID, s)
		if attempt > 0 {
			return nil, errdefs.New(errdefs.ErrUnavailable, "", "open stream to server %s", serverID).WithCause(err)
		}
	}
}

// Close cuts off all sessions and with them all requests, and waits until nothing runs any more.
// Requests after that are ErrUnavailable.
func (d *Dialer) Close() error {
	d.mu.Lock()
	d.closed = true
	d.stop()
	var sessions []*session
	for _, p := range d.peers {
		sessions = append(sessions, p.all()...)
	}
	d.mu.Unlock()
	for _, s := range sessions {
		_ = s.Close()
	}
	d.tasks.Wait()
	return nil
}

// reapIdle closes what has not been used for long.
func (d *Dialer) reapIdle() {
	tick := time.NewTicker(max(d.config.IdleTimeout/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-tick.C:
			d.mu.Lock()
			var idle []*session
			for _, p := range d.peers {
				idle = append(idle, p.takeIdle(d.now(), d.config.IdleTimeout)...)
			}
			d.mu.Unlock()
			for _, s := range idle {
				_ = s.Close()
			}
		}
	}
}
