package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Sent is what became of a stream that was sent.
type Sent struct {
	Bytes      uint64 // of the source that were passed on
	Wire       uint64 // given to the network, after compression
	Hash       uint64 // XXH64 of the source, once that has come to its end
	Compressed bool   // it was offered, and made the whole smaller
}

// receiverPatience is how many stall timeouts a write may wait for the receiver. That it reads is heard of only once half a window is
// used up, which is 8 MiB on a long path; a receiver that is limited to little needs minutes for that. One that is gone is noticed by pings.
const receiverPatience = 5

// flushBelow is the size in bytes below which a write is pushed out at once instead of waiting in net/http's buffers.
const flushBelow = 64 << 10

// WriteStream sends src to its end as the response to r, followed by a trailer that says how it ended. Nothing may have
// been written to w before, and nothing may be after.
//
// If the source fails, the receiver gets all bytes before that and then the error's class, code and message, and
// WriteStream returns the source's error. If the receiver goes away, stops reading for five times opts.StallTimeout, or r's context
// ends, the error is ErrAborted. In either case the handler has nothing more to answer.
//
// If the receiver accepts it, the stream is compressed (zstd) where that pays: the first few MiB say it, and every further
// stretch of 16 MiB says it for the next; where the network is so fast that trials would slow it down, longer ones.
//
// src is read from another goroutine, which is over when WriteStream returns. So a Read that waits must end when r's
// context does; if src is an io.Closer it is also closed when the stream ends early, even while a Read is under way,
// and the caller may close it again.
//
// When the connection itself is stuck, which neither a deadline nor a context gets a frame out of, the error comes after
// connectionWriteTimeout at the latest. At most 32 MiB of memory are used, whatever the length of the stream.
func WriteStream(w http.ResponseWriter, r *http.Request, src io.Reader, opts StreamOptions) (Sent, error) {
	opts.setDefaults()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := newWire(ctx, w, &opts)
	defer out.release()
	source := readAhead(src)
	defer source.close() // on a panic; else it is closed below

	w.Header().Set("Content-Type", "application/octet-stream")
	announce(w.Header())
	s := &sender{out: out, source: source, opts: &opts}
	if accepts(r.Header) && !opts.NoCompression {
		w.Header().Set("Content-Encoding", encodingZstd)
		s.encoder = newEncoder(out)
		defer s.encoder.release()
	}
	err := s.send(ctx)
	if err == nil && ctx.Err() != nil {
		// The source ended because the context did: that is not the source's failure.
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		source.stop()
		if closer, ok := src.(io.Closer); ok {
			_ = closer.Close()
		}
	}
	source.close()
	sent := Sent{Bytes: s.passed, Wire: out.count, Hash: source.hash, Compressed: s.encoder != nil && out.count < s.passed}
	if err != nil {
		return sent, errdefs.New(errdefs.ErrAborted, "", "send stream: cut off after %d bytes", out.count).WithCause(err)
	}
	end := trailer{bytes: sent.Bytes, wire: sent.Wire, hash: sent.Hash}
	if source.err != nil {
		failed := toWire(source.err)
		end.failure = &failed
	}
	end.write(w.Header())
	if source.err != nil {
		return sent, fmt.Errorf("send stream: source failed after %d bytes: %w", sent.Bytes, source.err)
	}
	return sent, nil
}

// sender is one stream on its way out.
type sender struct {
	out     *wire
	source  *readahead
	opts    *StreamOptions
	encoder *encoder // nil when the receiver wants the bytes as they are
	passed  uint64   // bytes of the source, compressed or not
}

// send moves the source to the wire. Its error is the wire's; the source's stays in s.source.err.
func (s *sender) send(ctx context.Context) error {
	if s.encoder != nil {
		if err := s.begin(ctx); err != nil {
			return err
		}
	}
	if s.out.count == 0 {
		// The source takes its time. The receiver learns at least that the stream has begun.
		if err := s.out.flush(); err != nil {
			return err
		}
	}
	for {
		began := time.Now()
		piece, err := s.source.take(ctx, nil)
		if err != nil {
			return err
		}
		if len(piece) == 0 {
			break
		}
		if err := s.pass(piece, time.Since(began)); err != nil {
			return err
		}
	}
	if s.encoder != nil {
		return s.encoder.finish()
	}
	return nil
}

func (s *sender) pass(p []byte, waited time.Duration) error {
	s.count(len(p))
	if s.encoder != nil {
		return s.encoder.write(p, waited)
	}
	return s.out.write(p)
}

func (s *sender) count(n int) {
	s.passed += uint64(n)
	s.opts.Observe(n, 0)
}

// begin collects the first bytes of the source, decides whether to compress, and sends them.
func (s *sender) begin(ctx context.Context) error {
	raw := &s.encoder.first
	raw.Grow(probeSize + pieceSize)
	// A source that is slow, or waits for something, is not held up for the sake of a better guess.
	timer := time.NewTimer(probeTime)
	defer timer.Stop()
	for raw.Len() < probeSize {
		piece, err := s.source.take(ctx, timer.C)
		if err != nil {
			return err
		}
		if len(piece) == 0 {
			break
		}
		raw.Write(piece)
	}
	if raw.Len() == 0 {
		return nil
	}
	s.count(raw.Len())
	return s.encoder.try(raw.Bytes())
}

// wire is the response body: it throttles, counts, and watches that the peer keeps reading.
type wire struct {
	ctx     context.Context // of the stream; io.Writer has no parameter for it
	w       http.ResponseWriter
	control *http.ResponseController
	opts    *StreamOptions
	count   uint64
	last    time.Time     // when something was last written
	spent   time.Duration // on writing, limits included
	now     func() time.Time
	stop    func() bool
	stopped chan struct{}
}

func newWire(ctx context.Context, w http.ResponseWriter, opts *StreamOptions) *wire {
	out := &wire{ctx: ctx, w: w, control: http.NewResponseController(w), opts: opts, last: time.Now(), stopped: make(chan struct{}), now: time.Now}
	// A Write that waits for the peer does not see the context end by itself.
	out.stop = context.AfterFunc(ctx, func() {
		defer close(out.stopped)
		_ = out.control.SetWriteDeadline(time.Unix(1, 0))
	})
	return out
}

// release gives up the context; afterwards nothing touches the response any more.
func (o *wire) release() {
	if !o.stop() {
		<-o.stopped
	}
}

func (o *wire) write(p []byte) error {
	began := o.now()
	defer func() { o.spent += o.now().Sub(began) }()
	for len(p) > 0 {
		n := o.opts.step(p)
		if err := o.opts.throttle(o.ctx, n); err != nil {
			return fmt.Errorf("throttle: %w", err)
		}
		if err := o.push(p[:n]); err != nil {
			return err
		}
		o.count += uint64(n)
		o.opts.Observe(0, n)
		p = p[n:]
	}
	return nil
}

func (o *wire) push(p []byte) error {
	if err := o.control.SetWriteDeadline(time.Now().Add(receiverPatience * o.opts.StallTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if o.ctx.Err() != nil { // looked at after the deadline, which would otherwise undo the one that the context set
		return context.Cause(o.ctx)
	}
	_, err := o.w.Write(p)
	if err == nil && len(p) < flushBelow {
		err = o.flush()
	}
	o.last = o.now()
	return err
}

func (o *wire) flush() error {
	if err := o.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
