package transfer

import (
	"context"
	"crypto/rand"
)

// RequestIDHeader carries the id that ties the log lines of one request together, from agent to agent.
const RequestIDHeader = "X-Request-Id"

// maxRequestID is how long an id from outside may be, in bytes. It ends up in every log line.
const maxRequestID = 64

type requestIDKey struct{}

// WithRequestID returns a context whose requests to other agents carry id.
// An id that is empty, long or holds anything but letters, digits and "-_.:" is replaced by a new one.
func WithRequestID(ctx context.Context, id string) context.Context {
	if !validRequestID(id) {
		id = rand.Text()
	}
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestIDFromContext returns the request's id, or "" when it has none.
func RequestIDFromContext(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

func validRequestID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == ':':
		default:
			return false
		}
	}
	return true
}
