package transfer

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

const (
	// linkBuffer is how much can be under way in one direction, in bytes. Within 50 ms that is 670 MB/s, more than anything here does.
	linkBuffer = 32 << 20
	// linkSegment is what is lost at a time: what a TCP segment holds on Ethernet.
	linkSegment = 1448
)

// link emulates a long way between two ends, in process: what goes through a connection arrives half a round trip time later.
//
// Loss is emulated as what it does to a TCP connection, since the loopback loses nothing: each connection sends a congestion window's
// worth of segments per round trip time, spread over it. The window grows by a segment per round trip time, and is halved by each lost segment,
// which arrives one round trip later, with all that came after it. That is Reno; CUBIC is no faster while the product of bandwidth and delay is as small as loss
// makes it here (RFC 9438, 4.3). BBR is. Not modelled: slow start (a connection begins at the mean window), timeouts, lost acknowledgements, and
// the queue and the bandwidth that connections share: several are independent of each other. Losses are 0.5 to 1.5 times their mean distance apart, so that
// short runs tell about long ones. Without loss nothing limits how much is under way but linkBuffer.
type link struct {
	rtt  time.Duration
	loss float64 // of segments; needs a round trip time
}

// dial opens a TCP connection over the link.
func (l link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	time.Sleep(l.rtt) // connecting
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil || l == (link{}) {
		return conn, err
	}
	if l.loss > 0 {
		// What waits here has not been sent yet. A real sender's kernel holds about as much.
		_ = conn.(*net.TCPConn).SetReadBuffer(128 << 10)
	}
	c := &linkConn{TCPConn: conn.(*net.TCPConn), in: l.line(), out: l.line()}
	c.tasks.Go(func() {
		buffer := make([]byte, 256<<10)
		for {
			n, err := c.TCPConn.Read(buffer)
			if c.in.put(buffer[:n], err); err != nil {
				return
			}
		}
	})
	c.tasks.Go(func() {
		buffer := make([]byte, 256<<10)
		for {
			n, err := c.out.take(buffer)
			if errors.Is(err, io.EOF) {
				_ = c.TCPConn.CloseWrite()
				return
			}
			if err == nil {
				_, err = c.TCPConn.Write(buffer[:n])
			}
			if err != nil {
				return
			}
		}
	})
	return c, nil
}

// relay lets programs connect to an address over the link; it returns where they do.
func (l link) relay(t testing.TB, address string) string {
	if l == (link{}) {
		return address
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			near, err := socket.Accept()
			if err != nil {
				return
			}
			far, err := l.dial(context.Background(), "tcp", address)
			if err != nil {
				_ = near.Close()
				continue
			}
			tasks.Go(func() {
				var up sync.WaitGroup
				up.Go(func() { pass(far, near) })
				pass(near, far)
				up.Wait()
				_, _ = near.Close(), far.Close()
			})
		}
	})
	t.Cleanup(func() {
		must(t, socket.Close())
		tasks.Wait()
	})
	return socket.Addr().String()
}

// pass copies one direction of a connection, its end included.
func pass(to, from net.Conn) {
	_, err := io.CopyBuffer(onlyWriter{to}, onlyReader{from}, make([]byte, 256<<10))
	_ = to.(interface{ CloseWrite() error }).CloseWrite()
	if err != nil {
		_ = from.Close()
	}
}

// onlyWriter and onlyReader hide the short cuts that io.Copy would take.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

type linkConn struct {
	*net.TCPConn
	in, out *line
	tasks   sync.WaitGroup
}

func (c *linkConn) Read(p []byte) (int, error) { return c.in.take(p) }

func (c *linkConn) Write(p []byte) (int, error) { return c.out.put(p, nil) }

func (c *linkConn) CloseWrite() error {
	_, err := c.out.put(nil, io.EOF)
	return err
}

// SetDeadline and its siblings do nothing: the line ends when the connection does.
func (c *linkConn) SetDeadline(time.Time) error      { return nil }
func (c *linkConn) SetReadDeadline(time.Time) error  { return nil }
func (c *linkConn) SetWriteDeadline(time.Time) error { return nil }

func (c *linkConn) Close() error {
	c.in.close()
	c.out.close()
	err := c.TCPConn.Close()
	c.tasks.Wait()
	return err
}

// line is one direction of a connection over a link.
type line struct {
	link
	mu     sync.Mutex
	change *sync.Cond
	closed bool

	ring     []byte
	at, held int       // what is under way
	arrivals []arrival // when it arrives, in order
	err      error     // how it ends, after that

	next   time.Time // when the next segment may be sent; of a link with loss, as are the following
	window float64   // in segments
	intact int       // segments until the next loss
}

type arrival struct {
	bytes int
	due   time.Time
}

func (l link) line() *line {
	n := &line{link: l, ring: make([]byte, linkBuffer)}
	n.change = sync.NewCond(&n.mu)
	if l.loss > 0 {
		n.window = math.Sqrt(1.5 / l.loss) // its mean
		n.intact = int(rand.Float64() / l.loss)
	}
	return n
}

// put sends p, and then the end if there is an err. It waits while the line is full or its window used up.
func (l *line) put(p []byte, err error) (int, error) {
	for sent := 0; sent < len(p); {
		piece := p[sent:]
		due := time.Now().Add(l.rtt / 2)
		if l.loss > 0 {
			piece = piece[:min(len(piece), linkSegment)]
			due = l.pace()
		}
		n, err := l.push(piece, due)
		if err != nil {
			return sent, err
		}
		sent += n
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return len(p), net.ErrClosed
	}
	if err != nil {
		l.err = err
		l.arrivals = append(l.arrivals, arrival{due: time.Now().Add(l.rtt / 2)})
		l.change.Broadcast()
	}
	return len(p), nil
}

// pace waits until the next segment may be sent and tells when it arrives.
func (l *line) pace() time.Time {
	now := time.Now()
	if wait := l.next.Sub(now); wait > time.Millisecond {
		time.Sleep(wait)
		now = time.Now()
	}
	if now.Sub(l.next) > l.rtt {
		l.next = now // there was nothing to send
	}
	l.next = l.next.Add(time.Duration(float64(l.rtt) / l.window))
	due := now.Add(l.rtt / 2)
	l.window += 1 / l.window
	if l.intact--; l.intact <= 0 {
		l.window = max(l.window/2, 2)
		l.intact = int((0.5 + rand.Float64()) / l.loss)
		due = due.Add(l.rtt)
	}
	return due
}

// push puts some of p on its way.
func (l *line) push(p []byte, due time.Time) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.held == len(l.ring) && !l.closed {
		l.change.Wait()
	}
	if l.closed {
		return 0, net.ErrClosed
	}
	if l.held == 0 {
		l.at = 0 // what is in the processor's cache is used again
	}
	end := (l.at + l.held) % len(l.ring)
	n := copy(l.ring[end:min(len(l.ring), end+len(l.ring)-l.held)], p)
	l.held += n
	l.arrivals = append(l.arrivals, arrival{n, due})
	l.change.Broadcast()
	return n, nil
}

// take waits for what arrives next.
func (l *line) take(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if l.closed {
			return 0, net.ErrClosed
		}
		if len(l.arrivals) == 0 {
			l.change.Wait()
			continue
		}
		wait := time.Until(l.arrivals[0].due)
		if wait <= 0 {
			break
		}
		l.mu.Unlock()
		time.Sleep(wait)
		l.mu.Lock()
	}
	first := &l.arrivals[0]
	if first.bytes == 0 {
		return 0, l.err // stays at the head
	}
	n := copy(p[:min(len(p), first.bytes)], l.ring[l.at:])
	l.at = (l.at + n) % len(l.ring)
	l.held -= n
	if first.bytes -= n; first.bytes == 0 {
		l.arrivals = l.arrivals[1:]
	}
	l.change.Broadcast()
	return n, nil
}

func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.change.Broadcast()
}
