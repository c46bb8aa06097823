package transfer

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// intruder is an authenticated peer that does not use our Dialer: alice's raw TLS connection to bob.
func intruder(t *testing.T, f *fleet) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", f.address, f.credentials(t, alice).ClientConfig(bob))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func intruderMux(t *testing.T, f *fleet) *yamux.Session {
	t.Helper()
	mux, err := yamux.Client(intruder(t, f), muxConfig(requestWindow, streamCloseTimeout, nopLog))
	must(t, err)
	t.Cleanup(func() { _ = mux.Close() })
	return mux
}

// untilClosed reads until the other side ends the connection.
func untilClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	must(t, conn.SetReadDeadline(time.Now().Add(within)))
	_, err := io.Copy(io.Discard, conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("the connection was not ended")
	}
}

func listenerOption(set func(*ListenerConfig)) fleetOption {
	return func(lc *ListenerConfig, _ *DialerConfig) { set(lc) }
}

func TestHandshakeTimeout(t *testing.T) {
	f := newFleet(t, whoami(), listenerOption(func(lc *ListenerConfig) { lc.HandshakeTimeout = 50 * time.Millisecond }))
	conn, err := net.Dial("tcp", f.address)
	must(t, err)
	defer func() { must(t, conn.Close()) }()
	untilClosed(t, conn)
}

func TestTooManyStrangers(t *testing.T) {
	f := newFleet(t, whoami(), listenerOption(func(lc *ListenerConfig) { lc.MaxHandshakes = 1 }))
	first, err := net.Dial("tcp", f.address)
	must(t, err)
	defer func() { must(t, first.Close()) }()
	second, err := net.Dial("tcp", f.address)
	must(t, err)
	defer func() { must(t, second.Close()) }()
	untilClosed(t, second)
}

func TestTooManySessions(t *testing.T) {
	f := newFleet(t, whoami(), listenerOption(func(lc *ListenerConfig) { lc.MaxSessionsPerPeer = 1 }))
	_, err := f.dialer.session(t.Context(), bob)
	must(t, err)
	untilClosed(t, intruder(t, f))
	must(t, Call(t.Context(), f.dialer.Client(bob), http.MethodGet, "/", nil, nil)) // the first is not affected
}

func TestSlowRequests(t *testing.T) {
	f := newFleet(t, whoami(), listenerOption(func(lc *ListenerConfig) { lc.RequestTimeout = 50 * time.Millisecond }))
	for name, sent := range map[string]string{
		"nothing":     "",
		"half a head": "GET / HTTP/1.1\r\nHost: p",
		"half a body": "POST / HTTP/1.1\r\nHost: peer\r\nContent-Length: 100\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := intruderMux(t, f).Open()
			must(t, err)
			_, err = stream.Write([]byte(sent))
			must(t, err)
			untilClosed(t, stream)
		})
	}
}

func TestLargeRequests(t *testing.T) {
	f := newFleet(t, whoami())
	for name, sent := range map[string]string{
		"head": "GET / HTTP/1.1\r\nHost: peer\r\nX: " + strings.Repeat("x", 1<<20),
		"body": "POST / HTTP/1.1\r\nHost: peer\r\nContent-Length: 8000000\r\n\r\n" + strings.Repeat("x", 8_000_000),
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := intruderMux(t, f).Open()
			must(t, err)
			var writing sync.WaitGroup
			writing.Go(func() { _, _ = stream.Write([]byte(sent)) })
			response, err := http.ReadResponse(bufio.NewReader(stream), nil)
			must(t, err)
			if response.StatusCode < 400 {
				t.Errorf("status %d", response.StatusCode)
			}
			must(t, stream.Close())
			writing.Wait()
		})
	}
}

func TestTooManyStreams(t *testing.T) {
	started, proceed := make(chan struct{}, 8), make(chan struct{})
	f := newFleet(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		started <- struct{}{}
		<-proceed
	}), listenerOption(func(lc *ListenerConfig) { lc.MaxStreams = 2 }))
	mux := intruderMux(t, f)
	for range 2 {
		stream, err := mux.Open()
		must(t, err)
		_, err = stream.Write([]byte("GET / HTTP/1.1\r\nHost: peer\r\n\r\n"))
		must(t, err)
		await(t, "a request", started)
	}
	third, err := mux.Open()
	must(t, err)
	untilClosed(t, third)
	// Whoever goes on like that loses the session.
	for {
		if _, err := mux.Open(); err != nil {
			break
		}
	}
	await(t, "the session to be ended", mux.CloseChan())
	close(proceed)
}

func TestTooManyRequests(t *testing.T) {
	started, proceed := make(chan struct{}), make(chan struct{})
	f := newFleet(t, Handle(nopLog, func(context.Context, struct{}) (struct{}, error) {
		close(started)
		<-proceed
		return struct{}{}, nil
	}), listenerOption(func(lc *ListenerConfig) { lc.MaxRequests = 1 }))
	first := make(chan error, 1)
	go func() { first <- Call(t.Context(), f.dialer.Client(bob), http.MethodGet, "/", nil, nil) }()
	await(t, "the first", started)
	if err := Call(t.Context(), f.dialer.Client(bob), http.MethodGet, "/", nil, nil); !errors.Is(err, errdefs.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	close(proceed)
	must(t, await(t, "the first", first))
}

func TestPingFlood(t *testing.T) {
	f := newFleet(t, whoami())
	conn := intruder(t, f)
	ping := []byte{0, framePing, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7}
	var flood sync.WaitGroup
	flood.Go(func() {
		for {
			if _, err := conn.Write(ping); err != nil {
				return
			}
		}
	})
	untilClosed(t, conn)
	_ = conn.Close() // reports that the other side was faster
	flood.Wait()
}

func TestGarbageInsteadOfFrames(t *testing.T) {
	f := newFleet(t, whoami())
	conn := intruder(t, f)
	_, err := conn.Write(noise(4096))
	must(t, err)
	untilClosed(t, conn)
}
