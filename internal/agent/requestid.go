package agent

import "context"

type requestIDKey struct{}

// withRequestID marks what is done in ctx as being for a request.
func withRequestID(ctx context.Context, id string) context.Context {
	if id == "" {
		return ctx
	}
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID is the id of the request that something is done for, "" for none: it goes along to other agents, so that the
// log lines of all servers about one request can be found together.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
