package lxc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	incus "github.com/lxc/incus/v6/client"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// A client for every exchange.
//
// The Incus client takes a context only when it is made: its WithContext changes the shared client in place, and waiting
// for an operation changes the shared transport, so one client cannot serve calls with different deadlines. Making one is
// a few small structures, and since it never keeps connections alive a shared client would open as many. So each exchange
// makes its own, bound to that exchange's context: cancelling the context ends the request at once, and nothing is left
// to reopen after Incus restarted.

// errSilent is the cause of a context that ended because Incus did not answer in time.
var errSilent = fmt.Errorf("incus did not answer in time: %w", errdefs.ErrUnavailable)

// exchange makes a client for one request and its answer, bounded by the answer timeout on top of ctx.
func (r *Runtime) exchange(ctx context.Context, do func(incus.InstanceServer) error) error {
	return r.exchangeWithin(ctx, r.options.AnswerTimeout, do)
}

func (r *Runtime) exchangeWithin(ctx context.Context, limit time.Duration, do func(incus.InstanceServer) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errSilent)
	defer cancel()
	server, err := r.connect(ctx)
	if err != nil {
		return err
	}
	if err := do(server); err != nil {
		return ended(ctx, err)
	}
	return nil
}

// connect makes a client whose requests live in ctx. It sends nothing: without the first GetServer the client assumes
// that the server has every API extension, which Check verifies once instead.
func (r *Runtime) connect(ctx context.Context) (incus.InstanceServer, error) {
	server, err := incus.ConnectIncusUnixWithContext(ctx, r.options.Socket, &incus.ConnectionArgs{
		SkipGetServer: true, // see above
		SkipGetEvents: true, // else every operation opens a websocket and leaves goroutines behind for a minute
		UserAgent:     "hoody-agent",
	})
	if err != nil {
		return nil, err
	}
	client, err := server.GetHTTPClient()
	if err != nil {
		return nil, err
	}
	transport, ok := client.Transport.(*http.Transport)
	if !ok {
		return nil, fmt.Errorf("the incus client's transport is %T: %w", client.Transport, errdefs.ErrInternal)
	}
	// The client's own dialer ignores the context.
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.options.Socket)
	}
	return server, nil
}

// ended explains err by the end of ctx when that is what caused it.
func ended(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if cause == nil || errors.Is(err, cause) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return cause
	}
	return err
}
