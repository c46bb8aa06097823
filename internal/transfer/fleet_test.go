package transfer

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice = "aaaaaaaaaaaaaaaaaaaaaaaa" // dials
	bob   = "bbbbbbbbbbbbbbbbbbbbbbbb" // listens
	carol = "cccccccccccccccccccccccc"
)

// fleet is two agents on the loopback with real TCP, TLS and yamux between them.
type fleet struct {
	ca       *pki.CA
	listener *Listener
	dialer   *Dialer
	address  string
	served   chan error
}

var nopLog = zap.NewNop()

type fleetOption func(*ListenerConfig, *DialerConfig)

func newFleet(t testing.TB, handler http.Handler, options ...fleetOption) *fleet {
	t.Helper()
	f, socket := idleFleet(t, handler, options...)
	f.serve(t, socket)
	return f
}

// idleFleet is one whose listener does not serve yet.
func idleFleet(t testing.TB, handler http.Handler, options ...fleetOption) (*fleet, net.Listener) {
	t.Helper()
	ca, err := pki.NewCA("test fleet", 0)
	must(t, err)
	f := &fleet{ca: ca, served: make(chan error, 1)}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f.address = socket.Addr().String()
	lc := ListenerConfig{TLS: f.credentials(t, bob).ServerConfig(), Handler: handler}
	dc := DialerConfig{
		TLS:     f.credentials(t, alice).ClientConfig,
		Resolve: func(context.Context, string) (string, error) { return f.address, nil },
	}
	for _, option := range options {
		option(&lc, &dc)
	}
	f.listener, f.dialer = NewListener(lc), NewDialer(dc)
	return f, socket
}

// serve lets the listener serve until the test ends.
func (f *fleet) serve(t testing.TB, socket net.Listener) {
	go func() { f.served <- f.listener.Serve(socket) }()
	t.Cleanup(func() {
		must(t, f.dialer.Close())
		must(t, f.listener.Close())
		must(t, <-f.served)
	})
}

func (f *fleet) credentials(t testing.TB, serverID string) *pki.Credentials {
	t.Helper()
	credentials, err := f.ca.Credentials(pki.Request{ServerID: serverID})
	must(t, err)
	return credentials
}

// get requests a path from bob.
func (f *fleet) get(ctx context.Context, path string, compression bool) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, URL(path), nil)
	if err != nil {
		return nil, err
	}
	if compression {
		AcceptCompression(request)
	}
	return f.dialer.Client(bob).Do(request)
}

// open requests a stream from bob; it is closed with the test.
func (f *fleet) open(t testing.TB, ctx context.Context, compression bool, opts StreamOptions) *Stream {
	t.Helper()
	response, err := f.get(ctx, "/stream", compression)
	must(t, err)
	stream, err := OpenStream(response, opts)
	must(t, err)
	t.Cleanup(func() { must(t, stream.Close()) })
	return stream
}

func dialThrough(dial func(ctx context.Context, network, address string) (net.Conn, error)) fleetOption {
	return func(_ *ListenerConfig, dc *DialerConfig) { dc.DialContext = dial }
}

// proxy forwards connections to a server until it has passed budget bytes from there. Then it either cuts the
// connection or freezes: both ends stay open and nothing moves any more.
type proxy struct {
	socket net.Listener
	freeze bool
	budget int64
	done   chan struct{}
	tasks  sync.WaitGroup
}

// faultyDial returns a dial function through a proxy.
func faultyDial(t testing.TB, budget int64, freeze bool) func(ctx context.Context, network, address string) (net.Conn, error) {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{socket: socket, freeze: freeze, budget: budget, done: make(chan struct{})}
	t.Cleanup(func() {
		close(p.done)
		must(t, socket.Close())
		p.tasks.Wait()
	})
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		p.tasks.Go(func() {
			client, err := socket.Accept()
			if err == nil {
				p.forward(client, address)
			}
		})
		return new(net.Dialer).DialContext(ctx, network, socket.Addr().String())
	}
}

func (p *proxy) forward(client net.Conn, address string) {
	server, err := net.Dial("tcp", address)
	if err != nil {
		_ = client.Close()
		return
	}
	var upstream sync.WaitGroup
	upstream.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close() // the dialler hung up
	})
	_, err = io.CopyN(client, server, p.budget)
	if err == nil && p.freeze {
		<-p.done
	}
	_, _ = client.Close(), server.Close()
	upstream.Wait()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within is how long anything in a test may take before it counts as hanging.
const within = 30 * time.Second

func await[T any](t testing.TB, what string, c <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-c:
	case <-time.After(within):
		t.Fatalf("waited in vain for %s", what)
	}
	return value
}
