// Package lxc runs the containers of one host through Incus: it is the real agent.Runtime.
//
// Everything goes through the Incus Go client over the daemon's unix socket, in the Incus project "default" and one
// ZFS storage pool. The package keeps no connection and no state of its own, so an Incus that was restarted, or an agent
// that was, needs no repair step: what Incus knows is asked each time.
//
// What is said here about Incus was read in, and tried on, version 6.0.4.
package lxc

import (
	"cmp"
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
)

// Defaults of Options.
const (
	DefaultSocket           = "/var/lib/incus/unix.socket"
	DefaultPool             = "default"
	DefaultAnswerTimeout    = time.Minute
	DefaultOperationTimeout = 30 * time.Minute
	DefaultBusyTimeout      = 2 * time.Minute
)

// Options say which Incus to use and how patient to be. The zero value of a field means its default.
type Options struct {
	// Socket is the path of the Incus daemon's unix socket.
	Socket string
	// Pool is the name of the Incus storage pool that holds the containers; its driver must be zfs.
	Pool string

	// AnswerTimeout bounds one HTTP exchange, so a hung daemon is noticed. It does not bound an operation's duration.
	AnswerTimeout time.Duration
	// OperationTimeout bounds one Incus operation of a daemon that answers but does not get on.
	OperationTimeout time.Duration
	// BusyTimeout bounds how long a call waits for what somebody else runs on the same instance; then it is ErrBusy, of Stop agent.ErrOccupied.
	BusyTimeout time.Duration

	// Logger gets what is worth a person's attention; nil for none.
	Logger *zap.Logger
	// Observe is told about every finished call: the call's name from a small fixed set, how long it took, and its
	// error. It must not block. Nil for none.
	Observe func(call string, took time.Duration, err error)
}

// Runtime implements agent.Runtime on Incus. It is safe for concurrent use; it holds nothing that needs closing.
type Runtime struct {
	options Options
	log     *zap.Logger

	// The pace of asking again. Fields, so that tests need not wait.
	busyPause    pace // between attempts on a busy instance
	connectPause pace // between attempts to reach the event stream
}

var _ agent.Runtime = (*Runtime)(nil)

// New returns a Runtime. It does not talk to Incus: Check does.
func New(options Options) *Runtime {
	options.Socket = cmp.Or(options.Socket, DefaultSocket)
	options.Pool = cmp.Or(options.Pool, DefaultPool)
	options.AnswerTimeout = cmp.Or(options.AnswerTimeout, DefaultAnswerTimeout)
	options.OperationTimeout = cmp.Or(options.OperationTimeout, DefaultOperationTimeout)
	options.BusyTimeout = cmp.Or(options.BusyTimeout, DefaultBusyTimeout)
	if options.Logger == nil {
		options.Logger = zap.NewNop()
	}
	return &Runtime{
		options:      options,
		log:          options.Logger,
		busyPause:    pace{first: 100 * time.Millisecond, most: 2 * time.Second},
		connectPause: pace{first: 500 * time.Millisecond, most: 15 * time.Second},
	}
}

// run is the one place every call passes: it names what failed and tells the observer.
func (r *Runtime) run(ctx context.Context, call, object string, do func(context.Context) error) error {
	began := time.Now()
	err := describe(call, object, do(ctx))
	if r.options.Observe != nil {
		r.options.Observe(call, time.Since(began), err)
	}
	return err
}

// pace is a doubling pause between attempts.
type pace struct{ first, most time.Duration }

// wait pauses before attempt n+1, n counting from 0, or until ctx ends, whose error it returns.
func (p pace) wait(ctx context.Context, n int) error {
	pause := p.most
	if n < 16 {
		pause = min(p.most, p.first<<n)
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
