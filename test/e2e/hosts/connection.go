package hosts

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/crypto/ssh"
)

// connection is a login at a host, and the goroutines that use it: closing it ends them and waits for them.
type connection struct {
	client *ssh.Client

	mu     sync.Mutex
	closed bool
	users  sync.WaitGroup
}

var errDisconnected = errors.New("disconnected")

// run calls f on a goroutine of its own, unless the connection is closed.
func (c *connection) run(f func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errDisconnected
	}
	c.users.Go(f)
	return nil
}

func (c *connection) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	_ = c.client.Close()
	c.users.Wait()
}

// session is client.NewSession with a context: across a cut link it would wait for ever. Giving up closes the
// connection, which is of no use then, and so ends the wait.
func (c *connection) session(ctx context.Context) (*ssh.Session, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.client.Close() })
	defer stop()
	return c.client.NewSession()
}
