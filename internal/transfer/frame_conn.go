package transfer

import (
	"encoding/binary"
	"errors"
	"net"
	"time"

	"golang.org/x/time/rate"
)

// The head of a yamux frame (hashicorp/yamux spec.md): version, type, flags (2), stream id (4), length (4).
const (
	frameHeadSize   = 12
	frameTypeOffset = 1
	frameLenOffset  = 8

	frameData = 0
	framePing = 2
)

// A peer of ours pings three times at the start and then every keepAliveInterval.
const (
	pingRate  = 2
	pingBurst = 100
)

var errPingFlood = errors.New("the peer floods the session with pings")

// frameTimeout is how long the rest of a frame may keep everybody waiting without a byte. It cannot be shorter than an
// outage that TCP gets over by itself.
const frameTimeout = 30 * time.Second

// frameConn is the connection below yamux. It knows frames just enough for three things that yamux lacks:
//
//   - yamux writes the head and the body of a frame apart, and crypto/tls makes a system call of each 16 KiB record.
//     Here a frame goes out in one, which costs a copy and saves some 17 of 18 calls.
//   - yamux starts a goroutine for each ping that arrives, and these pile up when the peer does not read the answers.
//     Too many pings end the connection here.
//   - yamux reads a frame into the buffer of a stream under that buffer's lock. When the connection falls silent in the
//     middle, a Read of the stream waits for the lock, and neither a deadline nor closing the stream gets it out.
//     Here the connection ends when nothing of a frame arrives for frameTimeout.
//
// Like yamux's use of it, it allows one reader and one writer at a time.
type frameConn struct {
	net.Conn

	below holder // what collects the parts of a frame
	body  bool   // a head was written, its body is next

	pings   *rate.Limiter
	skip    uint32 // bytes left of the body that is being read
	partial []byte // of a head that is being read

	timeout  time.Duration
	deadline time.Time // as set; zero for none
}

// holder collects what is written between hold and release.
type holder interface {
	hold()
	release() error
}

// newFrameConn wraps a TLS connection over below, or a bundle of several. timeout 0 is frameTimeout.
func newFrameConn(conn net.Conn, below holder, timeout time.Duration) *frameConn {
	orDefault(&timeout, frameTimeout)
	return &frameConn{
		Conn:    conn,
		below:   below,
		pings:   rate.NewLimiter(pingRate, pingBurst),
		partial: make([]byte, 0, frameHeadSize),
		timeout: timeout,
	}
}

func (c *frameConn) Write(p []byte) (int, error) {
	if len(p) == frameHeadSize && !c.body && p[frameTypeOffset] == frameData && binary.BigEndian.Uint32(p[frameLenOffset:]) > 0 {
		c.body = true // comes with the next Write
		c.below.hold()
		return c.Conn.Write(p)
	}
	if !c.body {
		return c.Conn.Write(p)
	}
	c.body = false
	n, err := c.Conn.Write(p)
	return n, errors.Join(err, c.below.release())
}

func (c *frameConn) Read(p []byte) (int, error) {
	if err := c.setDeadline(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if !c.follow(p[:n]) {
		return 0, errPingFlood
	}
	return n, err
}

// setDeadline bounds the next Read inside a frame, and only there: between frames silence is nothing unusual.
func (c *frameConn) setDeadline() error {
	if c.skip == 0 {
		if c.deadline.IsZero() {
			return nil
		}
		c.deadline = time.Time{}
		return c.Conn.SetReadDeadline(c.deadline)
	}
	// Pushed on in steps: setting it for each Read would cost more than the precision is worth.
	now := time.Now()
	if c.deadline.Sub(now) > c.timeout*3/4 {
		return nil
	}
	c.deadline = now.Add(c.timeout)
	return c.Conn.SetReadDeadline(c.deadline)
}

// follow keeps track of where frames begin in what was read. It returns false when there are too many pings.
func (c *frameConn) follow(p []byte) bool {
	for len(p) > 0 {
		if c.skip > 0 {
			n := min(uint32(len(p)), c.skip)
			c.skip -= n
			p = p[n:]
			continue
		}
		n := min(frameHeadSize-len(c.partial), len(p))
		c.partial = append(c.partial, p[:n]...)
		p = p[n:]
		if len(c.partial) < frameHeadSize {
			return true
		}
		switch c.partial[frameTypeOffset] {
		case frameData:
			c.skip = binary.BigEndian.Uint32(c.partial[frameLenOffset:])
		case framePing:
			if !c.pings.Allow() {
				return false
			}
		}
		c.partial = c.partial[:0]
	}
	return true
}
