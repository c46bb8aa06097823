package lxc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/lxc/incus/v6/shared/api"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// operationError is the failure of an Incus operation. All that Incus hands out of it is a text.
type operationError struct{ text string }

func (e *operationError) Error() string { return e.text }

// describe wraps err with the call, the object and the error's class. Nil stays nil.
func describe(call, object string, err error) error {
	if err == nil {
		return nil
	}
	if object != "" {
		call += " " + object
	}
	if class := classify(err); class != nil {
		return fmt.Errorf("incus: %s: %w: %w", call, class, err)
	}
	return fmt.Errorf("incus: %s: %w", call, err)
}

// classify finds the class of what the Incus client returned. It is nil for an error that has a class already and for
// the end of the caller's context, which speaks for itself.
func classify(err error) error {
	var operation *operationError
	var network net.Error
	status, answered := api.StatusErrorMatch(err)
	switch {
	case errdefs.ClassOf(err) != errdefs.ErrInternal || errors.Is(err, errdefs.ErrInternal):
		return nil
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return nil
	case errors.As(err, &operation):
		return classOfText(operation.text, errdefs.ErrInternal)
	case answered:
		return classOfStatus(status, err.Error())
	case errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM):
		return errdefs.ErrPermissionDenied // the socket is for root and the group incus-admin
	case errors.As(err, &network), errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), strings.HasSuffix(err.Error(), "EOF"):
		return errdefs.ErrUnavailable // no daemon, or it went away in the middle of the answer
	}
	return classOfText(err.Error(), errdefs.ErrInternal)
}

func classOfStatus(status int, text string) error {
	switch status {
	case http.StatusNotFound:
		return errdefs.ErrNotFound
	case http.StatusConflict:
		return errdefs.ErrAlreadyExists
	case http.StatusPreconditionFailed:
		return errdefs.ErrStale
	case http.StatusUnauthorized:
		return errdefs.ErrUnauthenticated
	case http.StatusForbidden:
		return errdefs.ErrPermissionDenied
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return errdefs.ErrUnavailable
	case http.StatusBadRequest:
		return classOfText(text, errdefs.ErrInvalid)
	}
	return classOfText(text, errdefs.ErrInternal)
}

// otherUpdate is what a change of an instance ends with that has waited for another, such as that of a profile: it was not made (operationlock of Incus 6.23).
const otherUpdate = "A matching non-reusable operation has now succeeded"

// texts are the messages by which failures can be told apart where Incus gives no status: those of operations, and the
// reasons behind its 400 and 500 answers. The first that the text contains wins. "Not found" alone is not among them:
// a start that misses a bridge must not look like a missing instance.
var texts = []struct {
	part  string
	class error
}{
	{"Instance is busy running a", errdefs.ErrBusy},
	{otherUpdate, errdefs.ErrBusy},
	{"Instance not found", errdefs.ErrNotFound},
	{"Instance snapshot not found", errdefs.ErrNotFound},
	{"Instance is protected", errdefs.ErrFailedPrecondition},
	{"is protected against", errdefs.ErrFailedPrecondition},
	{"Failed shutting down instance", errdefs.ErrBusy}, // it does not heed the request; it may yet
	{"no space left on device", errdefs.ErrExhausted},
	{"out of space", errdefs.ErrExhausted},
	{"quota exceeded", errdefs.ErrExhausted},
	{"dataset is busy", errdefs.ErrBusy},
	{"resource busy", errdefs.ErrBusy},
	{"target is busy", errdefs.ErrBusy},
	{"nstance is running", errdefs.ErrFailedPrecondition},
	{"of running instance not allowed", errdefs.ErrFailedPrecondition},
	{"already running", errdefs.ErrFailedPrecondition},
	{"already stopped", errdefs.ErrFailedPrecondition},
	{"already frozen", errdefs.ErrFailedPrecondition},
	{"isn't running", errdefs.ErrFailedPrecondition},
	{"not running", errdefs.ErrFailedPrecondition},
	{"in Error status", errdefs.ErrAborted}, // Incus says so, too, of what its monitor has not answered for in 5 s (driver_lxc.go)
	{"already exists", errdefs.ErrAlreadyExists},
	{"UNIQUE constraint failed: instances", errdefs.ErrAlreadyExists}, // what creating a taken name really says
	// What Incus answers while it ends: its database goes before its socket (Daemon.Stop), and what waits is let go.
	{"s shutting down", errdefs.ErrUnavailable},
	{"Failed to begin transaction", errdefs.ErrUnavailable},
	{"sql: database is closed", errdefs.ErrUnavailable},
	{"sql: statement is closed", errdefs.ErrUnavailable},
	{"database is locked", errdefs.ErrUnavailable},
	{"bad connection", errdefs.ErrUnavailable},
	{"checkpoint in progress", errdefs.ErrUnavailable},
	{"no available cowsql leader", errdefs.ErrUnavailable},
	{"Failed to obtain lock", errdefs.ErrUnavailable},
	{"Failed to fetch http", errdefs.ErrUnavailable},
	// A storage pool or a bridge that may be late after a boot, or never come.
	{"unavailable on this server", errdefs.ErrAborted},
	{"Unknown configuration key", errdefs.ErrInvalid},
	{"Invalid value", errdefs.ErrInvalid},
	{"Invalid config", errdefs.ErrInvalid},
}

func classOfText(text string, otherwise error) error {
	for _, known := range texts {
		if strings.Contains(text, known.part) {
			return known.class
		}
	}
	return otherwise
}

// withoutFiles tells whether an operation failed because the instance's dataset is not where Incus expects it. Where an
// operation ends by writing the backup file into it, the change itself has been made.
func withoutFiles(err error) bool {
	var operation *operationError
	return errors.As(err, &operation) && strings.Contains(operation.text, "dataset does not exist")
}

// withoutBackupFile tells whether an operation failed only at its end, at writing the backup file into the instance's dataset: that
// is not there, or full. The change itself has been made (Incus 6.23, internal/server/instance/drivers, Update).
func withoutBackupFile(err error) bool {
	var operation *operationError
	return withoutFiles(err) || errors.As(err, &operation) && strings.Contains(operation.text, "Failed to write backup file")
}

// is tells whether err, as it came from the Incus client, belongs to the class.
func is(err, class error) bool {
	return err != nil && (errors.Is(err, class) || classify(err) == class)
}
