package transfer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const (
	// bundleChunk is how much goes over one connection of a bundle at a time, in bytes. Whoever needs it waits for all of it.
	bundleChunk = 64 << 10
	// bundleHead is what each chunk begins with: its number in the stream (8 bytes) and its length (4).
	bundleHead = 12
	// bundleAhead bounds what is kept here, in bytes, because a chunk before it has not arrived. The connections that are ahead
	// wait then; the one behind never does.
	bundleAhead = 8 << 20
	// bundleLinger is how long closing waits for what was written before to leave.
	bundleLinger = time.Second
)

// strand is one connection of a bundle.
type strand struct {
	net.Conn            // TLS
	below    *batchConn // what is below it
}

// bundle is several connections to one peer that a session uses as one. A connection slows down by itself when a segment is lost, and
// holds no more than a window under way; several lose less speed by a loss, and hold more. Each takes the next chunk when it has
// sent its last, so a slow one carries less. If one ends, all end.
//
// Like a connection below a session it allows one reader and one writer at a time.
type bundle struct {
	strands []strand

	out    chan []byte // the next chunk to whoever is free
	free   chan []byte // for chunks
	quit   chan struct{}
	chunk  []byte // that is being filled
	held   bool
	number uint64 // of chunk

	readers, writers sync.WaitGroup
	closing          sync.Once
	closed           chan struct{} // when nothing of it runs any more

	mu       sync.Mutex
	change   *sync.Cond
	err      error
	arrived  map[uint64][]byte
	ahead    int    // bytes in arrived
	ended    int    // connections that the peer has closed in order
	next     uint64 // chunk to be read
	current  []byte // rest of the one before
	spent    []byte // what current is of
	deadline time.Time
	alarm    *time.Timer
}

var chunks = sync.Pool{New: func() any { return new([bundleChunk]byte) }}

// newBundle makes one connection of several. Close must be called.
func newBundle(strands []strand) *bundle {
	b := &bundle{
		strands: strands,
		out:     make(chan []byte),
		free:    make(chan []byte, len(strands)+1),
		quit:    make(chan struct{}),
		closed:  make(chan struct{}),
		arrived: map[uint64][]byte{},
	}
	b.change = sync.NewCond(&b.mu)
	b.alarm = time.AfterFunc(time.Hour, b.change.Broadcast)
	for range cap(b.free) {
		b.free <- make([]byte, 0, bundleHead+bundleChunk)
	}
	for _, s := range strands {
		limitUnsent(s.below.Conn)
		b.readers.Go(func() { b.over(b.receive(s)) })
		b.writers.Go(func() { b.send(s) })
	}
	return b
}

// hold collects what is written from here on; release sends the rest of it.
func (b *bundle) hold() { b.held = true }

func (b *bundle) release() error {
	b.held = false
	return b.flush()
}

func (b *bundle) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		if b.chunk == nil {
			select {
			case b.chunk = <-b.free:
			case <-b.quit:
				return written, b.reason()
			}
			b.chunk = b.chunk[:bundleHead]
		}
		n := min(len(p), cap(b.chunk)-len(b.chunk))
		b.chunk = append(b.chunk, p[:n]...)
		written += n
		p = p[n:]
		if len(b.chunk) == cap(b.chunk) {
			if err := b.flush(); err != nil {
				return written, err
			}
		}
	}
	if b.held {
		return written, nil
	}
	return written, b.flush()
}

// flush hands the chunk at hand to a connection.
func (b *bundle) flush() error {
	if b.chunk == nil {
		return nil
	}
	binary.BigEndian.PutUint64(b.chunk, b.number)
	binary.BigEndian.PutUint32(b.chunk[8:], uint32(len(b.chunk)-bundleHead))
	select {
	case b.out <- b.chunk:
	case <-b.quit:
		return b.reason()
	}
	b.chunk = nil
	b.number++
	return nil
}

func (b *bundle) send(s strand) {
	for {
		select {
		case chunk := <-b.out:
			s.below.hold()
			_, err := s.Write(chunk)
			if err := errors.Join(err, s.below.release()); err != nil {
				b.end(err)
				return
			}
			b.free <- chunk
		case <-b.quit:
			return
		}
	}
}

// receive takes chunks off a connection until that ends.
func (b *bundle) receive(s strand) error {
	in := bufio.NewReaderSize(s, 4<<10) // for heads; large reads go past it
	var head [bundleHead]byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return err
		}
		number, size := binary.BigEndian.Uint64(head[:]), binary.BigEndian.Uint32(head[8:])
		if size == 0 || size > bundleChunk {
			return fmt.Errorf("chunk of %d bytes: %w", size, errdefs.ErrCorrupt)
		}
		data := chunks.Get().(*[bundleChunk]byte)[:size]
		if _, err := io.ReadFull(in, data); err != nil {
			return err
		}
		if err := b.arrive(number, data); err != nil {
			return err
		}
	}
}

// arrive keeps a chunk until it is read. It waits while there is too much before it is its turn: whatever a chunk holds, it
// counts as the memory that it has.
func (b *bundle) arrive(number uint64, data []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.ahead+bundleChunk > bundleAhead && number != b.next && b.err == nil {
		b.change.Wait()
	}
	if b.err != nil {
		return b.err
	}
	if _, twice := b.arrived[number]; twice || number < b.next {
		return fmt.Errorf("chunk %d twice: %w", number, errdefs.ErrCorrupt)
	}
	b.arrived[number] = data
	b.ahead += bundleChunk
	if number == b.next {
		b.change.Broadcast()
	}
	return nil
}

func (b *bundle) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.current) == 0 {
		if data, ok := b.arrived[b.next]; ok {
			if b.spent != nil {
				chunks.Put((*[bundleChunk]byte)(b.spent[:bundleChunk]))
			}
			delete(b.arrived, b.next)
			b.ahead -= bundleChunk
			b.next++
			b.current, b.spent = data, data
			b.change.Broadcast()
			break
		}
		if b.err != nil {
			return 0, b.err
		}
		if !b.deadline.IsZero() && !time.Now().Before(b.deadline) {
			return 0, os.ErrDeadlineExceeded
		}
		b.change.Wait()
	}
	n := copy(p, b.current)
	b.current = b.current[n:]
	return n, nil
}

// over is called with how reading from a connection ended. A peer that closes the bundle closes one connection after the other, and
// the others may still bring something.
func (b *bundle) over(reason error) {
	if errors.Is(reason, io.EOF) {
		b.mu.Lock()
		b.ended++
		left := len(b.strands) - b.ended
		b.mu.Unlock()
		if left > 0 {
			return
		}
	}
	b.end(reason)
}

// end is the end of all connections for a reason.
func (b *bundle) end(reason error) {
	b.stop(reason)
	for _, s := range b.strands {
		_ = s.below.Close()
	}
}

// stop keeps anything new from being read or written; the first reason counts.
func (b *bundle) stop(reason error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = reason
		close(b.quit)
		b.change.Broadcast()
	}
}

func (b *bundle) reason() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// Close ends the connections when what was written has left, or bundleLinger is over, and waits until nothing of the bundle runs any more.
func (b *bundle) Close() error {
	b.closing.Do(func() {
		b.stop(net.ErrClosed)
		for _, s := range b.strands {
			_ = s.SetWriteDeadline(time.Now().Add(bundleLinger))
		}
		b.writers.Wait()
		for _, s := range b.strands {
			_ = s.Close()
		}
		b.readers.Wait()
		b.alarm.Stop()
		close(b.closed)
	})
	return nil
}

func (b *bundle) LocalAddr() net.Addr  { return b.strands[0].LocalAddr() }
func (b *bundle) RemoteAddr() net.Addr { return b.strands[0].RemoteAddr() }

func (b *bundle) SetReadDeadline(t time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deadline = t
	if !t.IsZero() {
		b.alarm.Reset(time.Until(t))
	}
	return nil
}

// SetWriteDeadline has no effect: sessions set none.
func (b *bundle) SetWriteDeadline(time.Time) error { return nil }
func (b *bundle) SetDeadline(t time.Time) error    { return b.SetReadDeadline(t) }

var _ net.Conn = (*bundle)(nil)
