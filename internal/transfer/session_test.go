package transfer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
)

// whoami answers with the caller's server id and the request id.
func whoami() http.Handler {
	return Handle(nopLog, func(ctx context.Context, _ struct{}) ([2]string, error) {
		peer, _ := PeerFromContext(ctx)
		return [2]string{peer, RequestIDFromContext(ctx)}, nil
	})
}

func TestHandlerKnowsPeerAndRequest(t *testing.T) {
	f := newFleet(t, whoami())
	var got [2]string
	must(t, Call(WithRequestID(t.Context(), "req-7"), f.dialer.Client(bob), http.MethodGet, "/", nil, &got))
	if want := [2]string{alice, "req-7"}; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	must(t, Call(t.Context(), f.dialer.Client(bob), http.MethodGet, "/", nil, &got))
	if got[1] == "" {
		t.Error("a request without an id got none")
	}
}

func TestPeersThatAreRefused(t *testing.T) {
	foreign, err := pki.NewCA("another fleet", 0)
	must(t, err)
	expired := pki.Request{ServerID: alice, NotBefore: time.Now().Add(-2 * time.Hour), Lifetime: time.Hour}
	bobsExpired := pki.Request{ServerID: bob, NotBefore: time.Now().Add(-2 * time.Hour), Lifetime: time.Hour}
	credentials := func(ca *pki.CA, request pki.Request) *pki.Credentials {
		c, err := ca.Credentials(request)
		must(t, err)
		return c
	}
	cases := map[string]func(ca *pki.CA, lc *ListenerConfig, dc *DialerConfig){
		"another server answers": func(ca *pki.CA, lc *ListenerConfig, _ *DialerConfig) {
			lc.TLS = credentials(ca, pki.Request{ServerID: carol}).ServerConfig()
		},
		"another server answers, and the configuration does not look": func(ca *pki.CA, lc *ListenerConfig, dc *DialerConfig) {
			lc.TLS = credentials(ca, pki.Request{ServerID: carol}).ServerConfig()
			secure := dc.TLS
			dc.TLS = func(string) *tls.Config { return secure(carol) }
		},
		"listener of another fleet": func(_ *pki.CA, lc *ListenerConfig, _ *DialerConfig) {
			lc.TLS = credentials(foreign, pki.Request{ServerID: bob}).ServerConfig()
		},
		"listener expired": func(ca *pki.CA, lc *ListenerConfig, _ *DialerConfig) {
			lc.TLS = credentials(ca, bobsExpired).ServerConfig()
		},
		"dialler of another fleet": func(_ *pki.CA, _ *ListenerConfig, dc *DialerConfig) {
			wrong, right := credentials(foreign, pki.Request{ServerID: alice}), dc.TLS
			dc.TLS = func(serverID string) *tls.Config {
				config := right(serverID)
				config.GetClientCertificate = wrong.ClientConfig(serverID).GetClientCertificate
				return config
			}
		},
		"dialler expired": func(ca *pki.CA, _ *ListenerConfig, dc *DialerConfig) {
			dc.TLS = credentials(ca, expired).ClientConfig
		},
		"dialler without certificate": func(_ *pki.CA, _ *ListenerConfig, dc *DialerConfig) {
			right := dc.TLS
			dc.TLS = func(serverID string) *tls.Config {
				config := right(serverID)
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					return new(tls.Certificate), nil
				}
				return config
			}
		},
		"TLS 1.2": func(_ *pki.CA, _ *ListenerConfig, dc *DialerConfig) {
			right := dc.TLS
			dc.TLS = func(serverID string) *tls.Config {
				config := right(serverID)
				config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
				return config
			}
		},
	}
	for name, arrange := range cases {
		t.Run(name, func(t *testing.T) {
			ca, err := pki.NewCA("fleet", 0)
			must(t, err)
			var reached atomic.Bool
			f := newFleet(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }),
				func(lc *ListenerConfig, dc *DialerConfig) {
					lc.TLS = credentials(ca, pki.Request{ServerID: bob}).ServerConfig()
					dc.TLS = credentials(ca, pki.Request{ServerID: alice}).ClientConfig
					arrange(ca, lc, dc)
				})
			err = Call(t.Context(), f.dialer.Client(bob), http.MethodGet, "/", nil, nil)
			want := errdefs.ErrPermissionDenied
			if strings.HasSuffix(name, " expired") || name == "TLS 1.2" {
				want = errdefs.ErrUnavailable // what needs that server waits until the certificate is renewed, or all are of one version
			}
			if !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
			if reached.Load() {
				t.Error("the handler was reached")
			}
		})
	}
}

// A byte that was damaged on its way makes the other side refuse; that is no refusal of ours, and passes.
func TestADamagedByteIsNoRefusal(t *testing.T) {
	failed := 0
	for nth := range 5 { // hello, end of the handshake, first pings, request
		var writes atomic.Int32
		f := newFleet(t, whoami(), func(_ *ListenerConfig, dc *DialerConfig) {
			dial := dc.DialContext
			if dial == nil {
				dial = new(net.Dialer).DialContext
			}
			dc.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dial(ctx, network, address)
				return &damaging{conn, &writes, int32(nth + 1)}, err
			}
		})
		for range 2 {
			err := Call(t.Context(), f.dialer.Client(bob), http.MethodGet, "/", nil, nil)
			if err != nil {
				failed++
			}
			if errors.Is(err, errdefs.ErrPermissionDenied) {
				t.Errorf("with damage in write %d: %v", nth+1, err)
			}
		}
	}
	if failed == 0 {
		t.Error("no damage did anything")
	}
}

// damaging is a connection that changes the last byte of the nth of some connections' writes.
type damaging struct {
	net.Conn
	writes *atomic.Int32
	nth    int32
}

func (d *damaging) Write(p []byte) (int, error) {
	if d.writes.Add(1) == d.nth {
		p = bytes.Clone(p)
		p[len(p)-1] ^= 1
	}
	return d.Conn.Write(p)
}

// A certificate's lifetime bounds how long a stolen key is of use, however busy its holder keeps a session.
func TestASessionEndsWithTheCertificate(t *testing.T) {
	for _, id := range []string{alice, bob} {
		t.Run(id[:1], func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, whoami(), func(lc *ListenerConfig, dc *DialerConfig) {
				ca, err := pki.NewCA("fleet", 0)
				must(t, err)
				for _, of := range []string{alice, bob} {
					request := pki.Request{ServerID: of}
					if of == id {
						request.NotBefore, request.Lifetime = time.Now().Add(-time.Hour), time.Hour+8*time.Second
					}
					c, err := ca.Credentials(request)
					must(t, err)
					if of == bob {
						lc.TLS = c.ServerConfig()
					} else {
						dc.TLS = c.ClientConfig
					}
				}
			})
			client := f.dialer.Client(bob)
			must(t, Call(t.Context(), client, http.MethodGet, "/", nil, nil))
			s, err := f.dialer.session(t.Context(), bob)
			must(t, err)
			await(t, "the session to end", s.CloseChan())
			if err := Call(t.Context(), client, http.MethodGet, "/", nil, nil); !errors.Is(err, errdefs.ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
		})
	}
}

func TestOneSessionForAll(t *testing.T) {
	var dials atomic.Int32
	f := newFleet(t, whoami(), dialThrough(func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, address)
	}))
	var calls sync.WaitGroup
	for range 40 {
		calls.Go(func() {
			if err := Call(t.Context(), f.dialer.Client(bob), http.MethodGet, "/", nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if got := dials.Load(); got != 1 {
		t.Errorf("%d connections for 40 requests, want 1", got)
	}
}

func TestBrokenSessionIsReopened(t *testing.T) {
	var conns []net.Conn
	f := newFleet(t, whoami(), dialThrough(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		conns = append(conns, conn)
		return conn, err
	}))
	client := f.dialer.Client(bob)
	must(t, Call(t.Context(), client, http.MethodGet, "/", nil, nil))
	s, err := f.dialer.session(t.Context(), bob)
	must(t, err)
	must(t, conns[0].Close())
	await(t, "the session to notice", s.CloseChan())
	must(t, Call(t.Context(), client, http.MethodGet, "/", nil, nil))
	if len(conns) != 2 {
		t.Errorf("%d connections, want 2", len(conns))
	}
}

func TestBackoff(t *testing.T) {
	dials := 0
	now := time.Unix(1_000_000, 0)
	f := newFleet(t, whoami(), dialThrough(func(context.Context, string, string) (net.Conn, error) {
		dials++
		return nil, errors.New("no route")
	}), func(_ *ListenerConfig, dc *DialerConfig) { dc.BackoffMin, dc.BackoffMax = time.Second, 3*time.Second })
	f.dialer.now = func() time.Time { return now }
	f.dialer.jitter = func() float64 { return 0.5 }
	// Delays are 3/4 of 1, 2, 3, 3 seconds with this jitter.
	for i, delay := range []time.Duration{750, 1500, 2250, 2250} {
		call := func() {
			t.Helper()
			_, err := f.dialer.session(t.Context(), bob)
			if !errors.Is(err, errdefs.ErrUnavailable) {
				t.Fatalf("got %v, want ErrUnavailable", err)
			}
		}
		call()
		now = now.Add(delay*time.Millisecond - 1)
		call() // too early: no attempt
		if dials != i+1 {
			t.Fatalf("%d attempts in round %d", dials, i)
		}
		now = now.Add(1)
	}
}

func TestUnreachable(t *testing.T) {
	t.Run("nobody listens", func(t *testing.T) {
		f := newFleet(t, whoami())
		socket, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		f.address = socket.Addr().String()
		must(t, socket.Close())
		err = Call(t.Context(), f.dialer.Client(bob), http.MethodGet, "/", nil, nil)
		if !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("unknown server", func(t *testing.T) {
		f := newFleet(t, whoami(), func(_ *ListenerConfig, dc *DialerConfig) {
			dc.Resolve = func(context.Context, string) (string, error) {
				return "", errdefs.New(errdefs.ErrNotFound, "", "no such server")
			}
		})
		err := Call(t.Context(), f.dialer.Client(bob), http.MethodGet, "/", nil, nil)
		if !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the caller gives up", func(t *testing.T) {
		f := newFleet(t, whoami(), dialThrough(func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Call(ctx, f.dialer.Client(bob), http.MethodGet, "/", nil, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		f := newFleet(t, whoami())
		must(t, f.dialer.Close())
		err := Call(t.Context(), f.dialer.Client(bob), http.MethodGet, "/", nil, nil)
		if !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestCloseCutsOffWhatRuns(t *testing.T) {
	started := make(chan struct{})
	f := newFleet(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
	}))
	failed := make(chan error, 1)
	go func() { failed <- Call(t.Context(), f.dialer.Client(bob), http.MethodGet, "/", nil, nil) }()
	await(t, "the request", started)
	must(t, f.listener.Close())
	if err := await(t, "the caller", failed); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("the caller got %v", err)
	}
	if err := Call(t.Context(), f.dialer.Client(bob), http.MethodGet, "/", nil, nil); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
}

func TestIdleSessionsAreClosed(t *testing.T) {
	for name, option := range map[string]fleetOption{
		"by the dialler":  func(_ *ListenerConfig, dc *DialerConfig) { dc.IdleTimeout = time.Millisecond },
		"by the listener": func(lc *ListenerConfig, _ *DialerConfig) { lc.SessionIdleTimeout = 500 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, whoami(), option)
			s, err := f.dialer.session(t.Context(), bob)
			must(t, err)
			await(t, "the session to be closed", s.CloseChan())
		})
	}
}

const frameWindowUpdate = 1

// A session that ends by a timeout of its connection is over, like any other; its place goes to the next.
func TestASessionCutInsideAFrameIsOver(t *testing.T) {
	f := newFleet(t, whoami(), func(lc *ListenerConfig, _ *DialerConfig) { lc.frameTimeout = 50 * time.Millisecond })
	for range DefaultMaxSessionsPerPeer + 1 {
		conn, err := tls.Dial("tcp", f.address, f.credentials(t, alice).ClientConfig(bob))
		must(t, err)
		_, err = conn.Write([]byte{0, frameWindowUpdate, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0}) // opens a stream
		must(t, err)
		_, err = io.ReadFull(conn, make([]byte, frameHeadSize)) // it is accepted
		must(t, err)
		_, err = conn.Write([]byte{0, frameData, 0, 0, 0, 0, 0, 1, 0, 0, 3, 0, 'x'}) // one byte of a frame of 768
		must(t, err)
		_, err = io.Copy(io.Discard, conn) // until the listener ends it
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	must(t, Call(t.Context(), f.dialer.Client(bob), http.MethodGet, "/", nil, nil))
}
