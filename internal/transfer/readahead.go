package transfer

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

const (
	// aheadSize is how far a source is read ahead in bytes: enough to bridge the moments when the network waits.
	// For longer pauses the receiver's window is the buffer.
	aheadSize = 4 << 20
	// pieceSize is how much of that is sent at a time at most: with what is around it when it is stored, 1 MiB. net/http writes
	// the first 4 KiB of each piece as a small frame of their own, so small pieces cost twice.
	pieceSize = 1<<20 - storedOverhead
)

// readahead reads a source in a goroutine of its own into a ring, so that the source, the compressor and the network
// each work while the others do. Whatever is there can be taken: a slow source is passed on promptly, a fast one in
// large pieces.
type readahead struct {
	ring  []byte
	space chan struct{} // a token says that there may be space again
	data  chan struct{} // a token says that there may be data, or the end
	quit  chan struct{}
	stop  func()
	task  sync.WaitGroup
	// close ends the reading, waits for it and gives up what was taken. A Read of the source that is under way must come to an end by other means.
	close func()

	mu      sync.Mutex
	read    int // position in the ring of the first byte not given back
	filled  int // bytes from there on
	ended   bool
	current int // bytes that are taken and not given back

	// Valid once the end was seen, or after close.
	err   error // why the source ended; nil for io.EOF
	bytes uint64
	hash  uint64
}

// rings keeps those of former streams, for the same reason as encoders.
var rings = sync.Pool{New: func() any { return new([aheadSize]byte) }}

// readAhead starts reading. close must be called.
func readAhead(src io.Reader) *readahead {
	ring := rings.Get().(*[aheadSize]byte)
	r := &readahead{
		ring:  ring[:],
		space: make(chan struct{}, 1),
		data:  make(chan struct{}, 1),
		quit:  make(chan struct{}),
	}
	r.stop = sync.OnceFunc(func() { close(r.quit) })
	r.task.Go(func() { r.run(src) })
	r.close = sync.OnceFunc(func() {
		r.stop()
		r.task.Wait()
		r.ring = nil
		rings.Put(ring)
	})
	return r
}

func (r *readahead) run(src io.Reader) {
	hash := xxhash.New()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.hash, r.ended = hash.Sum64(), true
		signal(r.data)
	}()
	for {
		free := r.free()
		if len(free) == 0 {
			select {
			case <-r.space:
				continue
			case <-r.quit:
				return
			}
		}
		n, err := src.Read(free)
		_, _ = hash.Write(free[:n])
		r.bytes += uint64(n)
		r.mu.Lock()
		r.filled += n
		r.mu.Unlock()
		signal(r.data)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.err = err
			}
			return
		}
		select {
		case <-r.quit:
			return
		default:
		}
	}
}

// free returns the next stretch of the ring that may be filled.
func (r *readahead) free() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	start := (r.read + r.filled) % len(r.ring)
	return r.ring[start:min(len(r.ring), start+len(r.ring)-r.filled)]
}

// take waits for data and returns some of it, at most pieceSize bytes, which stay valid until the next take.
// It returns nothing at the end of the source and when late fires; the context's error when that ends first.
func (r *readahead) take(ctx context.Context, late <-chan time.Time) ([]byte, error) {
	r.mu.Lock()
	r.read = (r.read + r.current) % len(r.ring)
	r.filled -= r.current
	r.current = 0
	r.mu.Unlock()
	signal(r.space)
	for {
		piece, ended := r.piece()
		if len(piece) > 0 || ended {
			return piece, nil
		}
		select {
		case <-r.data:
		case <-late:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (r *readahead) piece() (piece []byte, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = min(r.filled, len(r.ring)-r.read, pieceSize)
	return r.ring[r.read : r.read+r.current], r.ended
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is a token already
	}
}
