package lxc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	incus "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// pollSeconds is how long one request for an operation's end is held open by Incus. Short polls in a row tell a slow
// operation from a daemon that hangs: the daemon must answer after each.
const pollSeconds = 20

var (
	errStuck = fmt.Errorf("the incus operation did not end in time: %w", errdefs.ErrUnavailable)
	errLost  = fmt.Errorf("incus forgot the operation, probably by a restart: %w", errdefs.ErrAborted)
)

// operate sends a request that starts an Incus operation, and waits for its end.
//
// When ctx ends first the operation goes on inside Incus, since none that is used here can be cancelled there; the next
// call on the instance finds it by whenIdle.
func (r *Runtime) operate(ctx context.Context, request func(incus.InstanceServer) (incus.Operation, error)) error {
	var operation api.Operation
	err := r.exchange(ctx, func(server incus.InstanceServer) error {
		started, err := request(server)
		if err == nil {
			operation = started.Get()
		}
		return err
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.options.OperationTimeout, errStuck)
	defer cancel()
	for !operation.StatusCode.IsFinal() {
		operation, err = r.poll(ctx, operation.ID, pollSeconds)
		if is(err, errdefs.ErrNotFound) {
			return errLost
		}
		if err != nil {
			return err
		}
	}
	return outcome(operation)
}

// poll waits some seconds for an operation and returns how it then stands.
//
// The client's own WaitContext is not used: without an event listener it hands the context's deadline to the server as
// the time to wait, and what the server says when that is over is no answer about the operation.
func (r *Runtime) poll(ctx context.Context, id string, seconds int) (api.Operation, error) {
	var operation api.Operation
	limit := r.options.AnswerTimeout + time.Duration(seconds)*time.Second
	err := r.exchangeWithin(ctx, limit, func(server incus.InstanceServer) error {
		current, _, err := server.GetOperationWait(id, seconds)
		if err == nil {
			operation = *current
		}
		return err
	})
	// Incus begins its answer as 200 OK and then waits. An error in such an answer is the operation's failure, or the
	// end of the time to wait; only the operation itself can tell. With another status it is the question that failed.
	if !api.StatusErrorCheck(err, http.StatusOK) {
		return operation, err
	}
	failure := err.Error()
	err = r.exchange(ctx, func(server incus.InstanceServer) error {
		current, _, err := server.GetOperation(id)
		if err == nil {
			operation = *current
		}
		return err
	})
	if is(err, errdefs.ErrNotFound) { // ended, and forgotten already: five seconds are enough for that
		return api.Operation{ID: id, StatusCode: api.Failure, Err: failure}, nil
	}
	return operation, err
}

func outcome(operation api.Operation) error {
	if operation.Err != "" {
		return &operationError{operation.Err}
	}
	if operation.StatusCode != api.Success {
		return &operationError{fmt.Sprintf("%s: %s", operation.Description, operation.StatusCode)}
	}
	return nil
}

// whenIdle tries an action until the instance is no longer busy with something else, such as an operation that an
// earlier life of the agent started, or a person. It gives up with ErrBusy after the busy timeout.
func (r *Runtime) whenIdle(ctx context.Context, instance string, action func(context.Context) error) error {
	patience, cancel := context.WithTimeout(ctx, r.options.BusyTimeout)
	defer cancel()
	for attempt := 0; ; attempt++ {
		err := action(ctx)
		if !busyRunning(err) {
			return err
		}
		if attempt == 0 {
			r.log.Info("waiting for a busy instance", zap.String("instance", instance), zap.Error(err))
		}
		if !r.awaitOthers(patience, instance) {
			_ = r.busyPause.wait(patience, attempt)
		}
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		if patience.Err() != nil {
			return err
		}
	}
}

// busyRunning tells whether Incus refused because of another operation on the instance: its in-memory lock per
// instance, which an operation may hold longer than the API shows it, or may have held until now.
func busyRunning(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "Instance is busy running a") || strings.Contains(err.Error(), otherUpdate))
}

// awaitOthers waits a little for the operations that Incus runs on the instance, and tells whether there were any.
func (r *Runtime) awaitOthers(ctx context.Context, instance string) bool {
	operations, _ := r.operationsOn(ctx, instance)
	for _, operation := range operations {
		// Bounded, so that an operation that has nothing to do with the refusal holds nobody up for long. What goes wrong
		// here the next attempt meets, too.
		_, _ = r.poll(ctx, operation.ID, 5)
	}
	return len(operations) > 0
}

// awaitCreation waits until no creation of the instance is under way, and tells whether one was.
func (r *Runtime) awaitCreation(ctx context.Context, instance string) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.options.OperationTimeout, errStuck)
	defer cancel()
	for waited := false; ; waited = true {
		operations, err := r.operationsOn(ctx, instance)
		creation := slices.IndexFunc(operations, func(o api.Operation) bool { return o.Description == "Creating instance" })
		if err != nil || creation < 0 {
			return waited, err
		}
		if _, err := r.poll(ctx, operations[creation].ID, pollSeconds); err != nil && !is(err, errdefs.ErrNotFound) {
			return true, err
		}
	}
}

// operationsOn lists what Incus runs on the instance as a whole.
func (r *Runtime) operationsOn(ctx context.Context, instance string) ([]api.Operation, error) {
	var operations []api.Operation
	err := r.exchange(ctx, func(server incus.InstanceServer) (err error) {
		operations, err = server.GetOperations()
		return err
	})
	return slices.DeleteFunc(operations, func(o api.Operation) bool { return !concerns(o, instance) }), err
}

// concerns tells whether an operation works on the instance as a whole. Commands and consoles that people run in it
// are operations, too; they may last for days and are in nobody's way.
func concerns(operation api.Operation, instance string) bool {
	if operation.StatusCode.IsFinal() || operation.Class != api.OperationClassTask ||
		operation.Description == "Executing command" {
		return false
	}
	return slices.ContainsFunc(operation.Resources["instances"], func(resource string) bool {
		resource, _, _ = strings.Cut(resource, "?")
		return path.Base(resource) == instance
	})
}
