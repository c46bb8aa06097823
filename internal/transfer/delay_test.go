package transfer

import (
	"context"
	"net"
	"sync"
	"time"
)

// delayedConn delivers what passes through it half a round trip time later, in both directions, without limiting how
// much is under way.
type delayedConn struct {
	net.Conn
	in, out *delayLine
	tasks   sync.WaitGroup
}

func delayedDial(rtt time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &delayedConn{Conn: conn, in: newDelayLine(rtt / 2), out: newDelayLine(rtt / 2)}
		c.tasks.Go(func() {
			buffer := make([]byte, 256<<10)
			for {
				n, err := conn.Read(buffer)
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
					_, err = conn.Write(buffer[:n])
				}
				if err != nil {
					return
				}
			}
		})
		return c, nil
	}
}

func (c *delayedConn) Read(p []byte) (int, error) { return c.in.read(p) }

func (c *delayedConn) Write(p []byte) (int, error) {
	c.out.put(p, nil)
	return len(p), nil
}

// SetDeadline and its siblings do nothing: the line ends when the connection does.
func (c *delayedConn) SetDeadline(time.Time) error      { return nil }
func (c *delayedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *delayedConn) SetWriteDeadline(time.Time) error { return nil }

func (c *delayedConn) Close() error {
	c.in.put(nil, net.ErrClosed)
	c.out.put(nil, net.ErrClosed)
	err := c.Conn.Close()
	c.tasks.Wait()
	return err
}

type delayLine struct {
	delay time.Duration
	mu    sync.Mutex
	more  *sync.Cond
	queue []delayed
}

type delayed struct {
	data []byte
	err  error
	due  time.Time
}

func newDelayLine(delay time.Duration) *delayLine {
	l := &delayLine{delay: delay}
	l.more = sync.NewCond(&l.mu)
	return l
}

func (l *delayLine) put(p []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, delayed{append([]byte(nil), p...), err, time.Now().Add(l.delay)})
	l.more.Signal()
}

func (l *delayLine) read(p []byte) (int, error) {
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
