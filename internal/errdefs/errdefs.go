// Package errdefs is the closed set of error classes that every layer speaks.
//
// A driver or the store wraps what went wrong in one of the classes; operations add a contract code where the API
// documents one; the API maps class to status and code to body. Nothing in between looks at error texts.
package errdefs

import (
	"context"
	"errors"
	"fmt"
)

// The classes. Test with errors.Is.
var (
	ErrInvalid            = errors.New("invalid")             // the request can never succeed as it stands
	ErrNotFound           = errors.New("not found")           // the object does not exist, or the caller may not know of it
	ErrAlreadyExists      = errors.New("already exists")      // the name or key is taken
	ErrUnauthenticated    = errors.New("unauthenticated")     // no valid credentials
	ErrPermissionDenied   = errors.New("permission denied")   // known caller, not allowed
	ErrFailedPrecondition = errors.New("failed precondition") // the object's state does not allow it
	ErrBusy               = errors.New("busy")                // somebody else works on the object; later it may succeed
	ErrExhausted          = errors.New("exhausted")           // a quota, a limit or the space is used up
	ErrUnprocessable      = errors.New("unprocessable")       // well formed, refused by a rule that the contract answers with 422
	ErrUnavailable        = errors.New("unavailable")         // a part we need does not answer; retry
	ErrAborted            = errors.New("aborted")             // cut off in the middle; what is on disk allows to go on
	ErrStale              = errors.New("stale")               // planned on facts that no longer hold; plan again
	ErrCorrupt            = errors.New("corrupt")             // data is not what it says it is; never retry blindly
	ErrUnsupported        = errors.New("unsupported")         // refused on purpose: we do not handle this half
	ErrInternal           = errors.New("internal error")      // a bug, or an answer nobody expected
)

var classes = []error{
	ErrInvalid, ErrNotFound, ErrAlreadyExists, ErrUnauthenticated, ErrPermissionDenied, ErrFailedPrecondition,
	ErrBusy, ErrExhausted, ErrUnprocessable, ErrUnavailable, ErrAborted, ErrStale, ErrCorrupt, ErrUnsupported, ErrInternal,
}

// ClassOf returns the class that err belongs to. The outermost *Error decides: what it says about its cause is more than
// the cause knew. A cancelled or expired context is ErrUnavailable; anything unclassified is ErrInternal; nil is nil.
func ClassOf(err error) error {
	if err == nil {
		return nil
	}
	var outermost *Error
	if errors.As(err, &outermost) && outermost.Class != nil {
		return outermost.Class
	}
	for _, class := range classes {
		if errors.Is(err, class) {
			return class
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return ErrUnavailable
	}
	return ErrInternal
}

// ClassNamed is the inverse of a class's text, for classes that travelled through a record or the wire.
// An unknown name is ErrInternal.
func ClassNamed(name string) error {
	for _, class := range classes {
		if class.Error() == name {
			return class
		}
	}
	return ErrInternal
}

// Retryable tells whether the same attempt may succeed later without anybody changing the request.
func Retryable(err error) bool {
	class := ClassOf(err)
	return class == ErrBusy || class == ErrUnavailable || class == ErrAborted || class == ErrStale
}

// Error is an error with a class, an optional contract code and optional data for the caller.
type Error struct {
	Class   error  // one of the Err… classes
	Code    string // contract code such as CONTAINER_NAME_IN_USE; empty when the contract has none
	Message string // for the caller; holds no secrets and no host paths
	Data    any    // the envelope's data member, JSON encodable; nil for none
	Cause   error  // what is behind it, for the log; may be nil
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

// Unwrap exposes class and cause to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.Cause != nil {
		return []error{e.Class, e.Cause}
	}
	return []error{e.Class}
}

// New returns an *Error of the class with a contract code (may be empty) and a message for the caller.
func New(class error, code, format string, args ...any) *Error {
	return &Error{Class: class, Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithData returns e with data for the caller.
func (e *Error) WithData(data any) *Error { e.Data = data; return e }

// WithCause returns e with the error behind it.
func (e *Error) WithCause(cause error) *Error { e.Cause = cause; return e }
