package hosts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Host is a container host under test.
//
// Its methods may be called by several goroutines at once, those that switch it on or off by one at a time.
type Host struct {
	name string
	addr string
	key  ssh.Signer
	ns   *netns
	log  *stepLog
	vm   *machine // nil when another process owns the machine, see Connect

	mu   sync.Mutex
	conn *connection // shared by all commands; nil when there is none
}

// ErrNotOwner is the answer of a host that another process has booted: it takes commands and files only.
var ErrNotOwner = errors.New("the host belongs to another process")

// Name is the host's name: hosta or hostb.
func (h *Host) Name() string { return h.name }

// Addr is the host's IP address on the bridge.
func (h *Host) Addr() string { return h.addr }

// Boot switches the host on and waits until it takes commands and has its pool. Incus starts by itself for
// containers that start with the host, otherwise with the first command that needs it.
func (h *Host) Boot(ctx context.Context) error {
	if h.vm == nil {
		return fmt.Errorf("boot %s: %w", h.name, ErrNotOwner)
	}
	done := h.log.step("boot %s", h.name)
	if err := h.vm.start(); err != nil {
		return err
	}
	if err := h.WaitSSH(ctx); err != nil {
		return err
	}
	// Started already, or about to be: this waits for the end of the import and tells how it went.
	if _, err := h.Run(ctx, "systemctl", "start", "e2e-pool.service"); err != nil {
		return fmt.Errorf("boot %s: import pool: %w", h.name, err)
	}
	done()
	return nil
}

// WaitSSH waits until the host takes commands.
func (h *Host) WaitSSH(ctx context.Context) error {
	for {
		_, err := h.connection(ctx)
		if err == nil {
			return nil
		}
		if h.vm != nil && !h.vm.running() {
			return fmt.Errorf("wait for %s: it %w; console:\n%s", h.name, errOff, h.vm.lastWords())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last attempt: %w)", h.name, ctx.Err(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// PowerOff shuts the host down in order: containers stop, disks are flushed.
func (h *Host) PowerOff(ctx context.Context) error {
	if h.vm == nil {
		return fmt.Errorf("power off %s: %w", h.name, ErrNotOwner)
	}
	if !h.vm.running() {
		return nil
	}
	done := h.log.step("power off %s", h.name)
	if _, err := h.Run(ctx, "systemctl", "start", "--no-block", "--job-mode=replace-irreversibly", "poweroff.target"); err != nil {
		// The connection may go before the answer comes. What counts is whether the host goes too.
		var failed *CommandError
		if errors.As(err, &failed) {
			return fmt.Errorf("power off %s: %w", h.name, err)
		}
	}
	if err := h.vm.wait(ctx); err != nil {
		return err
	}
	h.disconnect()
	done()
	return nil
}

// PowerCut takes the power away at once. What the host had handed to its disks stays, flushed or not: the
// disks lose nothing. All else is lost.
func (h *Host) PowerCut() error {
	if h.vm == nil {
		return fmt.Errorf("cut power of %s: %w", h.name, ErrNotOwner)
	}
	h.vm.cut()
	h.disconnect()
	return nil
}

// Condition tells whether the host is switched on, what its console shows last, and what its kernel says of itself: it
// explains a host that no longer answers.
func (h *Host) Condition() string {
	if h.vm == nil {
		return h.name + " belongs to another process"
	}
	return h.name + " " + h.vm.condition()
}

// connection returns the shared connection, making it if there is none.
func (h *Host) connection(ctx context.Context) (*connection, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn != nil {
		return h.conn, nil
	}
	client, err := dialSSH(ctx, h.ns, h.addr, h.key)
	if err != nil {
		return nil, err
	}
	h.conn = &connection{client: client}
	return h.conn, nil
}

// forget drops a connection that has failed; the next command makes another.
func (h *Host) forget(conn *connection) {
	h.mu.Lock()
	if h.conn == conn {
		h.conn = nil
	}
	h.mu.Unlock()
	conn.close()
}

func (h *Host) disconnect() {
	h.mu.Lock()
	conn := h.conn
	h.conn = nil
	h.mu.Unlock()
	if conn != nil {
		conn.close()
	}
}
