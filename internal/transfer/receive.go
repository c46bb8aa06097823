package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Received is what has become of a stream so far.
type Received struct {
	Bytes      uint64 // handed to the consumer
	Wire       uint64 // taken from the network, before decompression
	Hash       uint64 // XXH64 of Bytes
	Compressed bool   // the sender compressed, and it made the whole smaller
	Complete   bool   // the sender ended well, and all of the above agrees with what it said
}

// Stream is a bulk stream being received. Read returns io.EOF only when the trailer was read and says that the source
// ended well, and length and hash are right. Every other end is an error, which stays:
// ErrAborted when the stream was cut off or stood still, ErrCorrupt when what arrived is not what was sent, ErrExhausted
// past MaxBytes, or the class that the sender's source failed with.
// One goroutine at a time may read; Close may be called beside it.
type Stream struct {
	ctx      context.Context // of the request; io.Reader has no parameter for it
	response *http.Response
	opts     StreamOptions
	wire     *wireReader
	decoder  *decoder // nil when not compressed
	hash     *xxhash.Digest
	bytes    uint64
	err      error // the end; sticky

	closing sync.Once
}

// OpenStream takes the answer to a request for a stream. A refusal (see WriteError) is returned as its error, and the
// body is closed then. Otherwise the Stream must be closed.
func OpenStream(response *http.Response, opts StreamOptions) (*Stream, error) {
	s, err := openStream(response, opts)
	if err != nil {
		_ = response.Body.Close()
		return nil, fmt.Errorf("open stream: %w", err)
	}
	return s, nil
}

func openStream(response *http.Response, opts StreamOptions) (*Stream, error) {
	if response.StatusCode != http.StatusOK {
		return nil, errorFromResponse(response)
	}
	opts.setDefaults()
	s := &Stream{
		ctx:      context.Background(),
		response: response,
		opts:     opts,
		wire:     newWireReader(response.Body, opts.StartTimeout, opts.StallTimeout, opts.Observe),
		hash:     xxhash.New(),
	}
	if response.Request != nil {
		s.ctx = response.Request.Context()
	}
	switch encoding := response.Header.Get("Content-Encoding"); {
	case encoding == "":
	case encoding == encodingZstd && !opts.NoCompression:
		decoder, err := newDecoder(s.wire)
		if err != nil {
			return nil, errdefs.New(errdefs.ErrInternal, "", "start decompressor").WithCause(err)
		}
		s.decoder = decoder
	default:
		return nil, errdefs.New(errdefs.ErrCorrupt, "", "the peer encoded the stream in a way that was not asked for")
	}
	return s, nil
}

// Read implements io.Reader.
func (s *Stream) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	p = p[:s.opts.step(p)]
	n, err := s.fill(p)
	_, _ = s.hash.Write(p[:n])
	s.bytes += uint64(n)
	if n > 0 {
		s.opts.Observe(n, 0)
		if limit := s.opts.MaxBytes; limit > 0 && s.bytes > limit {
			s.err = errdefs.New(errdefs.ErrExhausted, "", "receive stream: more than %d bytes", limit)
			return 0, s.err
		}
		if waitErr := s.opts.throttle(s.ctx, n); waitErr != nil {
			s.err = errdefs.New(errdefs.ErrAborted, "", "receive stream: throttle").WithCause(waitErr)
			return n, s.err
		}
	}
	if err != nil {
		s.err = s.conclude(err)
	}
	return n, s.err
}

// readSize is how much WriteTo moves at a time in bytes: what a frame of the session holds at most.
const readSize = 256 << 10

// WriteTo implements io.WriterTo, so that io.Copy, and with it os/exec, moves large pieces.
// It returns nil only where Read would have returned io.EOF.
func (s *Stream) WriteTo(w io.Writer) (written int64, err error) {
	buffer := make([]byte, readSize)
	for {
		n, err := s.Read(buffer)
		if n > 0 {
			m, writeErr := w.Write(buffer[:n])
			written += int64(m)
			if writeErr != nil {
				return written, writeErr
			}
		}
		if errors.Is(err, io.EOF) {
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
}

func (s *Stream) fill(p []byte) (int, error) {
	if s.decoder != nil {
		return s.decoder.Read(p)
	}
	return s.wire.Read(p)
}

// conclude decides what an end of the content means. It returns io.EOF for success.
func (s *Stream) conclude(end error) error {
	if s.wire.err == nil {
		// The decompressor gave up before the end of what was sent.
		return errdefs.New(errdefs.ErrCorrupt, "", "receive stream: decompress after %d bytes", s.bytes).WithCause(end)
	}
	if !errors.Is(s.wire.err, io.EOF) {
		return errdefs.New(errdefs.ErrAborted, "", "receive stream: cut off after %d bytes", s.bytes).WithCause(s.wire.err)
	}
	sent, err := parseTrailer(s.response.Trailer)
	if reason := s.wire.reason(); err != nil && reason != nil {
		// We closed it, and the sender's answer to that was faster than the closing.
		return errdefs.New(errdefs.ErrAborted, "", "receive stream: cut off after %d bytes", s.bytes).WithCause(reason)
	}
	if err != nil {
		return fmt.Errorf("receive stream: after %d bytes: %w", s.bytes, err)
	}
	if sent.failure != nil {
		// Said by the sender of its source; whatever else is wrong follows from that.
		return fmt.Errorf("receive stream: the sender failed after %d bytes: %w", s.bytes, sent.failure.fromWire())
	}
	switch {
	case !errors.Is(end, io.EOF):
		return errdefs.New(errdefs.ErrCorrupt, "", "receive stream: decompress after %d bytes", s.bytes).WithCause(end)
	case sent.bytes != s.bytes || sent.wire != s.wire.count:
		return errdefs.New(errdefs.ErrCorrupt, "", "receive stream: %d bytes arrived, %d on the wire; sent were %d and %d",
			s.bytes, s.wire.count, sent.bytes, sent.wire)
	case sent.hash != s.hash.Sum64():
		return errdefs.New(errdefs.ErrCorrupt, "", "receive stream: the hash of %d bytes differs", s.bytes)
	}
	return io.EOF
}

// Received tells how far the stream has come. It must not be called while a Read runs.
func (s *Stream) Received() Received {
	return Received{
		Bytes:      s.bytes,
		Wire:       s.wire.count,
		Hash:       s.hash.Sum64(),
		Compressed: s.decoder != nil && s.wire.count < s.bytes,
		Complete:   errors.Is(s.err, io.EOF),
	}
}

// Close ends the stream, wherever it is, and tells the sender. A Read that waits returns ErrAborted. Closing again is
// without effect, and so is closing a stream that came to its end.
func (s *Stream) Close() error {
	s.closing.Do(func() {
		s.wire.close()
	})
	return nil
}
