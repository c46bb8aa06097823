package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/time/rate"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// noise is data that does not compress.
func noise(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

// prose is data that compresses about as well as binaries do.
func prose(size int) []byte {
	data := noise(size)
	for i := range data {
		if i%16 >= 6 {
			data[i] = byte(i / 4096)
		}
	}
	return data
}

// sends serves a stream and reports what WriteStream returned.
func sends(src func() io.Reader, opts StreamOptions, results chan<- result) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, err := WriteStream(w, r, src(), opts)
		results <- result{sent, err}
	})
}

type result struct {
	sent Sent
	err  error
}

func TestStreamArrivesWhole(t *testing.T) {
	sources := map[string]struct {
		data       []byte
		compressed bool
	}{
		"nothing":               {nil, false},
		"one byte":              {[]byte("x"), false},
		"noise":                 {noise(9<<20 + 17), false},
		"prose":                 {prose(9<<20 + 17), true},
		"zeros":                 {make([]byte, 32<<20), true},
		"short and repetitive":  {bytes.Repeat([]byte("ab"), 4000), true},
		"noise after a preface": {append(make([]byte, 4<<20), noise(4<<20)...), true},
	}
	for name, source := range sources {
		for _, offered := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				results := make(chan result, 1)
				var content, onWire atomic.Int64
				observe := func(c, w int) { content.Add(int64(c)); onWire.Add(int64(w)) }
				f := newFleet(t, sends(func() io.Reader { return bytes.NewReader(source.data) }, StreamOptions{Observe: observe}, results))
				stream := f.open(t, t.Context(), offered, StreamOptions{})
				got, err := io.ReadAll(stream)
				must(t, err)
				if !bytes.Equal(got, source.data) {
					t.Fatalf("got %d bytes, not the %d that were sent", len(got), len(source.data))
				}
				sent := await(t, "the sender", results)
				must(t, sent.err)
				received := stream.Received()
				want := Received{Bytes: uint64(len(source.data)), Wire: sent.sent.Wire, Hash: xxhash.Sum64(source.data),
					Compressed: offered && source.compressed, Complete: true}
				if received != want {
					t.Errorf("received %+v, want %+v", received, want)
				}
				if sent.sent.Bytes != want.Bytes || sent.sent.Hash != want.Hash || sent.sent.Compressed != want.Compressed {
					t.Errorf("sent %+v, want %+v", sent.sent, want)
				}
				if uint64(content.Load()) != want.Bytes || uint64(onWire.Load()) != want.Wire {
					t.Errorf("observed %d and %d bytes, want %d and %d", content.Load(), onWire.Load(), want.Bytes, want.Wire)
				}
				if _, err := stream.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("after the end: %v", err)
				}
			})
		}
	}
}

func TestStreamThatStartsSlowlyIsNotHeldBack(t *testing.T) {
	reader, writer := io.Pipe()
	results := make(chan result, 1)
	f := newFleet(t, sends(func() io.Reader { return reader }, StreamOptions{}, results))
	stream := f.open(t, t.Context(), false, StreamOptions{})
	buffer := make([]byte, 16)
	for range 3 { // each byte arrives although no more follow
		_, err := writer.Write([]byte{'x'})
		must(t, err)
		n, err := stream.Read(buffer)
		must(t, err)
		if n != 1 {
			t.Fatalf("read %d bytes", n)
		}
	}
	must(t, writer.Close())
	if n, err := stream.Read(buffer); n != 0 || err != io.EOF {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	must(t, await(t, "the sender", results).err)
}

func TestSourceErrorKeepsItsClass(t *testing.T) {
	failure := errdefs.New(errdefs.ErrStale, "BASE_GONE", "the base is gone\n").WithCause(errors.New("/secret/path"))
	for _, compressible := range []bool{true, false} {
		data := noise(5 << 20)
		if compressible {
			data = make([]byte, 5<<20)
		}
		results := make(chan result, 1)
		f := newFleet(t, sends(func() io.Reader {
			return io.MultiReader(bytes.NewReader(data), iotest.ErrReader(failure))
		}, StreamOptions{}, results))
		stream := f.open(t, t.Context(), true, StreamOptions{})
		got, err := io.ReadAll(stream)
		if !errors.Is(err, errdefs.ErrStale) {
			t.Fatalf("got %v, want the sender's class", err)
		}
		var classified *errdefs.Error
		if !errors.As(err, &classified) || classified.Code != "BASE_GONE" || classified.Message != "the base is gone " {
			t.Errorf("got %+v", classified)
		}
		if !bytes.Equal(got, data) {
			t.Errorf("got %d bytes of %d that came before the failure", len(got), len(data))
		}
		if err := await(t, "the sender", results).err; !errors.Is(err, failure) {
			t.Errorf("WriteStream returned %v", err)
		}
		if stream.Received().Complete {
			t.Error("a failed stream counts as complete")
		}
	}
}

func TestCutIsNeverAnEnd(t *testing.T) {
	const size = 6 << 20 // more than the largest budget, compressed too
	for _, compression := range []bool{true, false} {
		for _, budget := range []int64{5_000, 100_000, 1 << 20, 2 << 20} {
			results := make(chan result, 4)
			f := newFleet(t, sends(func() io.Reader { return bytes.NewReader(prose(size)) }, StreamOptions{}, results),
				dialThrough(faultyDial(t, budget, false)))
			response, err := f.get(t.Context(), "/stream", compression)
			if err != nil {
				if !errors.Is(err, errdefs.ErrUnavailable) {
					t.Fatal(err)
				}
				continue // cut before the answer began
			}
			stream, err := OpenStream(response, StreamOptions{})
			must(t, err)
			n, err := io.Copy(io.Discard, stream)
			if !errors.Is(err, errdefs.ErrAborted) {
				t.Errorf("cut at %d: got %d bytes and %v, want ErrAborted", budget, n, err)
			}
			must(t, stream.Close())
			await(t, "the sender", results) // that it ends, not how: all may be in its buffers already
		}
	}
}

func TestLyingTrailerIsCorrupt(t *testing.T) {
	content := []byte("the content")
	honest := trailer{bytes: uint64(len(content)), wire: uint64(len(content)), hash: xxhash.Sum64(content)}
	lies := map[string]func(*trailer){
		"hash":   func(t *trailer) { t.hash++ },
		"longer": func(t *trailer) { t.bytes++ },
		"wire":   func(t *trailer) { t.wire-- },
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				announce(w.Header())
				_, _ = w.Write(content)
				end := honest
				lie(&end)
				end.write(w.Header())
			}))
			_, err := io.ReadAll(f.open(t, t.Context(), false, StreamOptions{}))
			if !errors.Is(err, errdefs.ErrCorrupt) {
				t.Fatalf("got %v, want ErrCorrupt", err)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		f := newFleet(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }))
		_, err := io.ReadAll(f.open(t, t.Context(), false, StreamOptions{}))
		if !errors.Is(err, errdefs.ErrAborted) {
			t.Fatalf("got %v, want ErrAborted", err)
		}
	})
}

func TestFrozenConnectionIsEnded(t *testing.T) {
	results := make(chan result, 1)
	f := newFleet(t, sends(func() io.Reader { return bytes.NewReader(noise(64 << 20)) },
		StreamOptions{StallTimeout: 200 * time.Millisecond}, results), dialThrough(faultyDial(t, 2<<20, true)),
		func(_ *ListenerConfig, dc *DialerConfig) { dc.frameTimeout = 200 * time.Millisecond })
	stream := f.open(t, t.Context(), false, StreamOptions{StallTimeout: 200 * time.Millisecond})
	_, err := io.Copy(io.Discard, stream)
	if !errors.Is(err, errdefs.ErrAborted) { // by the watchdog or because of the unfinished frame, whichever is first
		t.Fatalf("receiver got %v, want ErrAborted", err)
	}
	// The dialler gave the connection up, which frees the sender too.
	if err := await(t, "the sender", results).err; !errors.Is(err, errdefs.ErrAborted) {
		t.Fatalf("sender got %v, want ErrAborted", err)
	}
}

func TestSilentSenderIsEndedByTheWatchdog(t *testing.T) {
	results := make(chan result, 1)
	f := newFleet(t, sends(func() io.Reader { return &endless{true, make(chan struct{})} }, StreamOptions{}, results))
	stream := f.open(t, t.Context(), false, StreamOptions{StallTimeout: 50 * time.Millisecond, StartTimeout: 60 * time.Millisecond})
	_, err := io.Copy(io.Discard, stream)
	if !errors.Is(err, errdefs.ErrAborted) || !errors.Is(err, errStalled) {
		t.Fatalf("receiver got %v, want ErrAborted by the watchdog", err)
	}
	if err := await(t, "the sender", results).err; !errors.Is(err, errdefs.ErrAborted) {
		t.Fatalf("sender got %v, want ErrAborted", err)
	}
}

func TestSenderThatFallsSilentIsEndedByTheWatchdog(t *testing.T) {
	results := make(chan result, 1)
	source := func() io.Reader {
		silence := &endless{true, make(chan struct{})}
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(noise(2<<20)), silence), silence}
	}
	f := newFleet(t, sends(source, StreamOptions{}, results))
	stream := f.open(t, t.Context(), false, StreamOptions{StallTimeout: 50 * time.Millisecond})
	if _, err := io.Copy(io.Discard, stream); !errors.Is(err, errStalled) {
		t.Fatalf("receiver got %v, want ErrAborted by the watchdog", err)
	}
}

// zfs send writes the head of a stream before it looks for what to send.
func TestASlowStartIsNotAStall(t *testing.T) {
	results := make(chan result, 1)
	wait := make(chan struct{})
	time.AfterFunc(600*time.Millisecond, func() { close(wait) })
	source := func() io.Reader {
		return io.MultiReader(strings.NewReader("head, "), waiting(wait), strings.NewReader("body"))
	}
	f := newFleet(t, sends(source, StreamOptions{}, results))
	stream := f.open(t, t.Context(), false, StreamOptions{StallTimeout: 300 * time.Millisecond})
	if got, err := io.ReadAll(stream); err != nil || string(got) != "head, body" {
		t.Fatalf("%q, %v", got, err)
	}
}

// What has been sent whole may be read slowly. yamux throws it away when the sender's wait for the other half ends, so that has to be long.
func TestAnAnswerThatWasGivenWaitsForItsReader(t *testing.T) {
	data := noise(1 << 20)
	for wait, whole := range map[time.Duration]bool{0: true, time.Millisecond: false} {
		results := make(chan result, 1)
		f := newFleet(t, sends(func() io.Reader { return bytes.NewReader(data) }, StreamOptions{}, results),
			func(lc *ListenerConfig, _ *DialerConfig) { lc.answerCloseTimeout = wait })
		stream := f.open(t, t.Context(), false, StreamOptions{})
		must(t, await(t, "the sender", results).err)
		s, err := f.dialer.session(t.Context(), bob)
		must(t, err)
		for !whole && s.NumStreams() > 0 { // until the reset is here; yamux has no event for it
			time.Sleep(time.Millisecond)
		}
		got, err := io.ReadAll(stream)
		if whole != (err == nil && bytes.Equal(got, data)) {
			t.Errorf("waiting %s: %d of %d bytes, %v", wait, len(got), len(data), err)
		}
	}
}

// The error of a stream fits its trailer, whatever is in it.
func TestAnErrorFullOfQuotesFitsTheTrailer(t *testing.T) {
	header := make(http.Header)
	trailer{failure: &wireError{Class: errdefs.ErrExhausted.Error(), Message: strings.Repeat(`"<\&`, maxErrorMessage/4)}}.write(header)
	if size := len(header.Get(trailerError)); size > maxEscaped {
		t.Errorf("%d bytes", size)
	}
	got, err := parseTrailer(header)
	if err != nil || got.failure == nil || !errors.Is(got.failure.fromWire(), errdefs.ErrExhausted) || !strings.HasPrefix(got.failure.Message, `"<\&"`) {
		t.Errorf("%+v, %v", got.failure, err)
	}
}

// waiting is a source that ends when it is told to.
type waiting <-chan struct{}

func (w waiting) Read([]byte) (int, error) {
	<-w
	return 0, io.EOF
}

func TestReceiverThatDoesNotReadIsEndedByTheSender(t *testing.T) {
	results := make(chan result, 1)
	f := newFleet(t, sends(func() io.Reader { return bytes.NewReader(noise(64 << 20)) },
		StreamOptions{StallTimeout: 200 * time.Millisecond}, results))
	stream := f.open(t, t.Context(), false, StreamOptions{})
	if err := await(t, "the sender", results).err; !errors.Is(err, errdefs.ErrAborted) {
		t.Fatalf("sender got %v, want ErrAborted", err)
	}
	if _, err := io.Copy(io.Discard, stream); !errors.Is(err, errdefs.ErrAborted) {
		t.Fatalf("receiver got %v, want ErrAborted", err)
	}
}

// endless is a source that produces for ever, or waits for ever once it ran dry; Close wakes it.
type endless struct {
	dry    bool
	closed chan struct{}
}

func (e *endless) Read(p []byte) (int, error) {
	if e.dry {
		<-e.closed
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func (e *endless) Close() error { close(e.closed); return nil }

func TestCancellingEitherSideFreesBoth(t *testing.T) {
	for _, dry := range []bool{true, false} {
		t.Run("receiver's context", func(t *testing.T) {
			results := make(chan result, 1)
			f := newFleet(t, sends(func() io.Reader { return &endless{dry, make(chan struct{})} }, StreamOptions{}, results))
			ctx, cancel := context.WithCancel(t.Context())
			stream := f.open(t, ctx, false, StreamOptions{})
			cancel()
			if _, err := io.Copy(io.Discard, stream); !errors.Is(err, errdefs.ErrAborted) {
				t.Errorf("receiver got %v", err)
			}
			if err := await(t, "the sender", results).err; !errors.Is(err, errdefs.ErrAborted) {
				t.Errorf("sender got %v", err)
			}
		})
		t.Run("receiver's Close beside a Read", func(t *testing.T) {
			results := make(chan result, 1)
			f := newFleet(t, sends(func() io.Reader { return &endless{dry, make(chan struct{})} }, StreamOptions{}, results))
			stream := f.open(t, t.Context(), false, StreamOptions{})
			ended := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, stream)
				ended <- err
			}()
			must(t, stream.Close())
			if err := await(t, "the receiver", ended); !errors.Is(err, errdefs.ErrAborted) {
				t.Errorf("receiver got %v", err)
			}
			if err := await(t, "the sender", results).err; !errors.Is(err, errdefs.ErrAborted) {
				t.Errorf("sender got %v", err)
			}
		})
		t.Run("sender's context", func(t *testing.T) {
			results := make(chan result, 1)
			stop := make(chan struct{})
			f := newFleet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithCancel(r.Context())
				go func() { <-stop; cancel() }()
				sent, err := WriteStream(w, r.WithContext(ctx), &endless{dry, make(chan struct{})}, StreamOptions{})
				results <- result{sent, err}
			}))
			stream := f.open(t, t.Context(), false, StreamOptions{})
			close(stop)
			if _, err := io.Copy(io.Discard, stream); !errors.Is(err, errdefs.ErrAborted) {
				t.Errorf("receiver got %v", err)
			}
			if err := await(t, "the sender", results).err; !errors.Is(err, errdefs.ErrAborted) {
				t.Errorf("sender got %v", err)
			}
		})
	}
}

// countingLimiter lets everything pass and counts.
type countingLimiter struct {
	*rate.Limiter
	total, largest atomic.Int64
}

func (l *countingLimiter) WaitN(_ context.Context, n int) error {
	l.total.Add(int64(n))
	l.largest.Store(max(l.largest.Load(), int64(n)))
	return nil
}

func TestThrottleAccountsForEveryByteOnTheWire(t *testing.T) {
	for _, data := range [][]byte{noise(5 << 20), prose(5 << 20)} {
		mine := &countingLimiter{Limiter: rate.NewLimiter(1, 50_000)}
		all := &countingLimiter{Limiter: rate.NewLimiter(1, 1<<20)}
		taken := &countingLimiter{Limiter: rate.NewLimiter(1, 10_000)}
		results := make(chan result, 1)
		f := newFleet(t, sends(func() io.Reader { return bytes.NewReader(data) }, StreamOptions{Limiters: []Limiter{mine, all}}, results))
		stream := f.open(t, t.Context(), true, StreamOptions{Limiters: []Limiter{taken}})
		n, err := io.Copy(io.Discard, stream)
		must(t, err)
		sent := await(t, "the sender", results).sent
		for name, limiter := range map[string]*countingLimiter{"peer": mine, "all": all} {
			if got := limiter.total.Load(); uint64(got) != sent.Wire {
				t.Errorf("%s: %d tokens for %d bytes", name, got, sent.Wire)
			}
			if got := limiter.largest.Load(); got > 50_000 {
				t.Errorf("%s: asked for %d tokens at once", name, got)
			}
		}
		if taken.total.Load() != n || taken.largest.Load() > 10_000 {
			t.Errorf("receiver: %d tokens for %d bytes, %d at once", taken.total.Load(), n, taken.largest.Load())
		}
	}
}

func TestThrottleHoldsTheStreamBack(t *testing.T) {
	// A bucket that is never filled again: what is in it is all that ever passes.
	limiter := rate.NewLimiter(rate.Every(time.Hour), 100_000)
	results := make(chan result, 1)
	var onWire atomic.Int64
	f := newFleet(t, sends(func() io.Reader { return bytes.NewReader(noise(1 << 20)) }, StreamOptions{
		Limiters: []Limiter{limiter},
		Observe:  func(_, wire int) { onWire.Add(int64(wire)) },
	}, results))
	ctx, cancel := context.WithCancel(t.Context())
	stream := f.open(t, ctx, false, StreamOptions{})
	_, err := io.ReadFull(stream, make([]byte, 100_000))
	must(t, err)
	cancel()
	if err := await(t, "the sender", results).err; !errors.Is(err, errdefs.ErrAborted) {
		t.Errorf("sender got %v", err)
	}
	if got := onWire.Load(); got != 100_000 {
		t.Errorf("%d bytes passed a bucket of 100000", got)
	}
}

func TestMaxBytes(t *testing.T) {
	results := make(chan result, 1)
	f := newFleet(t, sends(func() io.Reader { return bytes.NewReader(make([]byte, 64<<20)) }, StreamOptions{}, results))
	stream := f.open(t, t.Context(), true, StreamOptions{MaxBytes: 1 << 20})
	if n, err := io.Copy(io.Discard, stream); !errors.Is(err, errdefs.ErrExhausted) || n > 1<<20 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	must(t, stream.Close())
	await(t, "the sender", results)
}

func TestRefusalInsteadOfAStream(t *testing.T) {
	f := newFleet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		WriteError(w, r, nopLog, errdefs.New(errdefs.ErrNotFound, "NO_SUCH", "no such snapshot"))
	}))
	response, err := f.get(t.Context(), "/stream", false)
	must(t, err)
	if _, err := OpenStream(response, StreamOptions{}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
}

func TestEncodingNobodyAskedFor(t *testing.T) {
	for _, encoding := range []string{"gzip", "zstd"} {
		response := httptest.NewRecorder().Result()
		response.Header.Set("Content-Encoding", encoding)
		if _, err := OpenStream(response, StreamOptions{NoCompression: true}); !errors.Is(err, errdefs.ErrCorrupt) {
			t.Errorf("%s: got %v", encoding, err)
		}
	}
}
