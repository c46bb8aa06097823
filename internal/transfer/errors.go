package transfer

import (
	"errors"
	"net/http"
	"strings"
	"unicode"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const (
	// maxErrorMessage bounds an error's message in bytes, on both sides.
	maxErrorMessage = 1024
	maxErrorCode    = 64
)

// wireError is an error between agents. The class travels by its text.
type wireError struct {
	Class   string `json:"class"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
}

// toWire reduces an error to what may leave this agent: class, code and the message meant for a caller.
// Causes stay here, and so does the text of an internal error: nobody wrote it with a stranger in mind.
func toWire(err error) wireError {
	class := errdefs.ClassOf(err)
	wire := wireError{Class: class.Error()}
	var classified *errdefs.Error
	switch {
	case errors.As(err, &classified):
		wire.Code, wire.Message = classified.Code, classified.Message
	case class == errdefs.ErrInternal:
		wire.Message = class.Error()
	default:
		wire.Message = err.Error()
	}
	wire.Message = cleanText(wire.Message, maxErrorMessage)
	return wire
}

// fromWire makes a peer's error one of ours. A class that we do not know is internal.
func (w wireError) fromWire() *errdefs.Error {
	return &errdefs.Error{
		Class:   errdefs.ClassNamed(w.Class),
		Code:    cleanText(w.Code, maxErrorCode),
		Message: cleanText(w.Message, maxErrorMessage),
	}
}

// cleanText makes a stranger's text fit for logs and terminals: printable, one line, at most limit bytes.
func cleanText(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == unicode.ReplacementChar:
			return -1 // also what a cut in the middle of a character leaves
		case unicode.IsPrint(r):
			return r
		default:
			return ' '
		}
	}, text)
}

// statusOf is the HTTP status that goes with a class. Agents look at the class; the status is for people with curl.
func statusOf(class error) int {
	switch class {
	case errdefs.ErrInvalid:
		return http.StatusBadRequest
	case errdefs.ErrUnauthenticated:
		return http.StatusUnauthorized
	case errdefs.ErrPermissionDenied:
		return http.StatusForbidden
	case errdefs.ErrNotFound:
		return http.StatusNotFound
	case errdefs.ErrAlreadyExists, errdefs.ErrFailedPrecondition, errdefs.ErrBusy, errdefs.ErrStale, errdefs.ErrAborted:
		return http.StatusConflict
	case errdefs.ErrUnprocessable, errdefs.ErrCorrupt:
		return http.StatusUnprocessableEntity
	case errdefs.ErrExhausted:
		return http.StatusInsufficientStorage
	case errdefs.ErrUnavailable:
		return http.StatusServiceUnavailable
	case errdefs.ErrUnsupported:
		return http.StatusNotImplemented
	default:
		return http.StatusInternalServerError
	}
}
