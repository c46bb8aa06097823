// Package delay emulates, for tests and benchmarks, a network with a round trip time.
package delay

import (
	"context"
	"net"
	"sync"
	"time"
)

// conn delivers what passes through it half a round trip time later, in both directions, without limiting how
// much is under way.
type conn struct {
	net.Conn
	in, out *line
	tasks   sync.WaitGroup
}

// Dial returns a function that dials and delays what passes by what rtt says at the time, half of it each way.
func Dial(rtt func() time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		below, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: below, in: newLine(rtt), out: newLine(rtt)}
		c.tasks.Go(func() {
			buffer := make([]byte, 256<<10)
			for {
				n, err := below.Read(buffer)
				c.in.put(buffer[:n], err)
				if err != nil {
					return
				}
			}
		})
		c.tasks.Go(func() {
			buffer := make([]byte, 256<<10)
			for {
				n, err := c.out.read(buffer)
				if err == nil {
					_, err = below.Write(buffer[:n])
				}
				if err != nil {
					return
				}
			}
		})
		return c, nil
	}
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) { return c.in.read(p) }

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	c.out.put(p, nil)
	return len(p), nil
}

// SetDeadline and its siblings do nothing: the line ends when the connection does.
func (c *conn) SetDeadline(time.Time) error      { return nil }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// Close implements net.Conn.
func (c *conn) Close() error {
	c.in.put(nil, net.ErrClosed)
	c.out.put(nil, net.ErrClosed)
	err := c.Conn.Close()
	c.tasks.Wait()
	return err
}

// line is one direction.
type line struct {
	rtt   func() time.Duration
	mu    sync.Mutex
	more  *sync.Cond
	queue []delayed
}

type delayed struct {
	data []byte
	err  error
	due  time.Time
}

func newLine(rtt func() time.Duration) *line {
	l := &line{rtt: rtt}
	l.more = sync.NewCond(&l.mu)
	return l
}

func (l *line) put(p []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, delayed{append([]byte(nil), p...), err, time.Now().Add(l.rtt() / 2)})
	l.more.Signal()
}

// read waits for what is due.
func (l *line) read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 {
		l.more.Wait()
	}
	head := &l.queue[0]
	if wait := time.Until(head.due); wait > 0 {
		l.mu.Unlock()
		time.Sleep(wait)
		l.mu.Lock()
		head = &l.queue[0]
	}
	n := copy(p, head.data)
	head.data = head.data[n:]
	if len(head.data) > 0 {
		return n, nil
	}
	if n > 0 || head.err == nil {
		if head.err == nil {
			l.queue = l.queue[1:]
		}
		return n, nil
	}
	return 0, head.err // stays at the head
}
