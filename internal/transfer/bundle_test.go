package transfer

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// connections makes a dialer use so many.
func connections(n int) fleetOption {
	return func(_ *ListenerConfig, dc *DialerConfig) { dc.Connections = n }
}

// counted counts the connections that are dialled, and fails those from some one on.
func counted(count *atomic.Int32, failFrom int32) fleetOption {
	return dialThrough(func(ctx context.Context, network, address string) (net.Conn, error) {
		if count.Add(1) > failFrom {
			return nil, errors.New("no more")
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	})
}

// What one connection carries, several carry just so, and whoever knows of no bundles is spoken to without.
func TestSeveralConnections(t *testing.T) {
	content := noise(5 << 20)
	for name, test := range map[string]struct {
		options []fleetOption
		fail    int32 // connections from this one on cannot be opened
		want    int32
	}{
		"one":                         {[]fleetOption{connections(1)}, 9, 1},
		"nothing said":                {nil, 9, 1},
		"four":                        {[]fleetOption{connections(4)}, 9, 4},
		"two of four":                 {[]fleetOption{connections(4)}, 2, 4},
		"only one of four":            {[]fleetOption{connections(4)}, 1, 4},
		"a listener without bundles":  {[]fleetOption{connections(4)}, 9, 1},
		"a listener without a choice": {[]fleetOption{connections(4), fixedConfig}, 9, 4},
	} {
		t.Run(name, func(t *testing.T) {
			var dialled atomic.Int32
			options := append(test.options, counted(&dialled, test.fail))
			f, socket := idleFleet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = WriteStream(w, r, bytes.NewReader(content), StreamOptions{})
			}), options...)
			if name == "a listener without bundles" {
				f.listener.config.TLS = f.credentials(t, bob).ServerConfig()
			}
			f.serve(t, socket)
			for range 2 {
				var got bytes.Buffer
				stream := f.open(t, t.Context(), true, StreamOptions{})
				_, err := stream.WriteTo(&got)
				must(t, err)
				if !bytes.Equal(got.Bytes(), content) {
					t.Error("something else arrived")
				}
			}
			if n := dialled.Load(); n != test.want {
				t.Errorf("%d connections, want %d", n, test.want)
			}
		})
	}
}

// fixedConfig is a listener's TLS configuration that is the same for all connections.
func fixedConfig(lc *ListenerConfig, _ *DialerConfig) {
	config, err := lc.TLS.GetConfigForClient(&tls.ClientHelloInfo{})
	if err == nil {
		lc.TLS = config
	}
}

// A bundle of which connections are missing is given up.
func TestIncompleteBundle(t *testing.T) {
	f := newFleet(t, http.NotFoundHandler(), func(lc *ListenerConfig, _ *DialerConfig) {
		lc.HandshakeTimeout = 3 * time.Second
	})
	var tasks sync.WaitGroup
	for name, hello := range map[string][]byte{
		"no hello":       nil,
		"one of two":     append(make([]byte, 16), 2),
		"one of nobody":  append(make([]byte, 16), 0),
		"one of a crowd": append(make([]byte, 16), MaxConnections+1),
	} {
		conn := f.alone(t)
		tasks.Go(func() {
			_, err := conn.Write(hello)
			if answer, readErr := io.ReadAll(conn); len(answer) > 0 || err != nil || readErr != nil {
				t.Errorf("%s: %q, %v, %v", name, answer, err, readErr)
			}
			_ = conn.Close()
		})
	}
	tasks.Wait()
	response, err := f.get(t.Context(), "/", false)
	must(t, err)
	must(t, response.Body.Close())
	f.listener.mu.Lock()
	defer f.listener.mu.Unlock()
	if len(f.listener.joints) > 0 {
		t.Errorf("%d bundles wait", len(f.listener.joints))
	}
}

// alone opens a connection of a bundle.
func (f *fleet) alone(t *testing.T) *tls.Conn {
	t.Helper()
	config := f.credentials(t, alice).ClientConfig(bob)
	config.NextProtos = []string{bundleProtocol}
	conn, err := tls.Dial("tcp", f.address, config)
	must(t, err)
	return conn
}

// When one connection of a session ends, the session does, and the next request gets another.
func TestOneOfSeveralEnds(t *testing.T) {
	var last atomic.Pointer[net.Conn]
	f := newFleet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = WriteStream(w, r, &repeat{data: noise(1 << 20), left: 1 << 30}, StreamOptions{})
	}), connections(3), dialThrough(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			last.Store(&conn)
		}
		return conn, err
	}))
	stream := f.open(t, t.Context(), true, StreamOptions{})
	_, err := io.CopyN(io.Discard, stream, 8<<20)
	must(t, err)
	must(t, (*last.Load()).Close())
	if _, err := stream.WriteTo(io.Discard); !errors.Is(err, errdefs.ErrAborted) {
		t.Error(err)
	}
	_, err = io.CopyN(io.Discard, f.open(t, t.Context(), true, StreamOptions{}), 8<<20)
	must(t, err)
}

// When one connection of a session freezes, what the others bring meanwhile is bounded, and the transfer ends on both sides.
func TestOneOfSeveralFreezes(t *testing.T) {
	var dialled atomic.Int32
	freezing := faultyDial(t, 2<<20, true)
	sent := make(chan result, 1)
	f := newFleet(t, sends(func() io.Reader { return &repeat{data: noise(1 << 20), left: 1 << 30} }, StreamOptions{StallTimeout: time.Second}, sent),
		connections(3), dialThrough(func(ctx context.Context, network, address string) (net.Conn, error) {
			if dialled.Add(1) == 2 {
				return freezing(ctx, network, address)
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}), func(_ *ListenerConfig, dc *DialerConfig) { dc.frameTimeout = time.Second })
	stream := f.open(t, t.Context(), false, StreamOptions{StallTimeout: time.Second})
	if _, err := io.Copy(io.Discard, stream); !errors.Is(err, errdefs.ErrAborted) {
		t.Errorf("receiver got %v, want ErrAborted", err)
	}
	if err := await(t, "the sender", sent).err; !errors.Is(err, errdefs.ErrAborted) {
		t.Errorf("sender got %v, want ErrAborted", err)
	}
}

// What arrives before its turn waits in its connection once there is much of it; what the turn is at never does.
func TestWhatIsAheadIsBounded(t *testing.T) {
	_, far := bundlePair(t, 2)
	const much = 4 * bundleAhead / bundleChunk
	refused := make(chan struct{})
	go func() {
		defer close(refused)
		for number := range uint64(much) {
			if far.arrive(number+1, make([]byte, bundleChunk)) != nil {
				return
			}
		}
	}()
	full := func() bool {
		far.mu.Lock()
		defer far.mu.Unlock()
		return far.ahead == bundleAhead
	}
	for !full() {
		runtime.Gosched()
	}
	must(t, far.arrive(0, make([]byte, bundleChunk)))
	_, err := io.ReadFull(far, make([]byte, (much+1)*bundleChunk))
	must(t, err)
	await(t, "all of it", refused)
	if far.ahead != 0 {
		t.Errorf("%d bytes are left", far.ahead)
	}
}

// A peer that says little in each chunk, and never what the turn is at, makes us keep no more than one that says much.
func TestSmallChunksAreBoundedToo(t *testing.T) {
	near, far := bundlePair(t, 2)
	var head [bundleHead]byte
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for number := range uint64(10_000) {
			binary.BigEndian.PutUint64(head[:], number+1)
			binary.BigEndian.PutUint32(head[8:], 1)
			if _, err := near.strands[0].Write(append(head[:], 'x')); err != nil {
				return
			}
		}
	}()
	kept := func() int {
		far.mu.Lock()
		defer far.mu.Unlock()
		return len(far.arrived)
	}
	await(t, "all to be sent", sent) // into the sockets' buffers, where the rest waits
	for kept() < bundleAhead/bundleChunk {
		runtime.Gosched()
	}
	_, err := near.strands[1].Write(append(make([]byte, bundleHead-1), 1, 'x'))
	must(t, err)
	for range 10_001 {
		if n := kept(); n > bundleAhead/bundleChunk+1 {
			t.Fatalf("%d chunks are kept", n)
		}
		_, err := io.ReadFull(far, make([]byte, 1))
		must(t, err)
	}
}

// A connection that cannot be had, and does not say so either, does not hold up the others.
func TestAConnectionThatIsNotAnsweredIsDoneWithout(t *testing.T) {
	var dialled atomic.Int32
	f := newFleet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = WriteStream(w, r, bytes.NewReader(noise(1<<20)), StreamOptions{})
	}), connections(4), dialThrough(func(ctx context.Context, network, address string) (net.Conn, error) {
		if dialled.Add(1) == 3 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}), func(_ *ListenerConfig, dc *DialerConfig) { dc.ConnectTimeout = 6 * time.Second })
	var got bytes.Buffer
	_, err := f.open(t, t.Context(), true, StreamOptions{}).WriteTo(&got)
	must(t, err)
	if n := dialled.Load(); n != 4 {
		t.Errorf("%d connections dialled, want no second attempt", n)
	}
}

// Whatever order chunks arrive in, they are read in theirs, and what comes too early waits for room.
func TestChunksInOrder(t *testing.T) {
	near, far := bundlePair(t, 2)
	content := noise(3 << 20)
	go func() {
		for piece := range bytesIn(content, 100_000) {
			near.hold()
			_, _ = near.Write(piece[:1])
			_, _ = near.Write(piece[1:])
			_ = near.release()
		}
		_ = near.Close()
	}()
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d of %d bytes, %v", len(got), len(content), err)
	}
	if _, err := far.Write([]byte("x")); err == nil {
		t.Error("written to nobody")
	}
}

func TestBundleDeadline(t *testing.T) {
	near, _ := bundlePair(t, 2)
	must(t, near.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestHostileChunks(t *testing.T) {
	for name, sent := range map[string][]byte{
		"empty":   {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"huge":    {0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255},
		"twice":   {0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 'x', 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 'x'},
		"cut off": {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 'x'},
	} {
		near, far := bundlePair(t, 2)
		_, err := far.strands[0].Write(sent)
		must(t, err)
		if name == "cut off" {
			must(t, far.strands[0].Close())
		}
		if _, err := near.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// bundlePair returns both ends of a bundle over plain TCP; they are closed with the test.
func bundlePair(t *testing.T, count int) (near, far *bundle) {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { must(t, socket.Close()) }()
	var ends [2][]strand
	for range count {
		one, err := net.Dial("tcp", socket.Addr().String())
		must(t, err)
		other, err := socket.Accept()
		must(t, err)
		for i, conn := range []net.Conn{one, other} {
			below := &batchConn{Conn: conn}
			ends[i] = append(ends[i], strand{below, below})
		}
	}
	near, far = newBundle(ends[0]), newBundle(ends[1])
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}
