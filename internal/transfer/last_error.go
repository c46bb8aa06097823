package transfer

import (
	"net"
	"sync"
)

// lastError is a connection that remembers why reading from it failed. yamux logs the reason and reports only that the
// session is over; whether the peer hung up or refused our certificate makes a difference.
type lastError struct {
	net.Conn
	mu  sync.Mutex
	err error
}

func (c *lastError) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err == nil {
			c.err = err
		}
	}
	return n, err
}

func (c *lastError) get() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
