package transfer

import (
	"net"
	"sync"
)

// batchConn is the TCP connection below TLS. While held it collects what is written, and release writes it in one go.
//
// Measured on the loopback it takes a sixth off the processor time of a whole stream; reading ahead in the same way on
// the other side gained nothing.
type batchConn struct {
	net.Conn
	mu      sync.Mutex
	held    bool
	pending []byte
}

func (c *batchConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held {
		c.pending = append(c.pending, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *batchConn) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = true
}

func (c *batchConn) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = false
	_, err := c.Conn.Write(c.pending)
	c.pending = c.pending[:0]
	return err
}
