// Package api serves the HTTP contract of api/openapi.yaml.
//
// It decodes, lets the caller be established, calls the agent and encodes; it decides nothing. The document itself is
// what requests are checked against, so what it says and what is accepted cannot drift apart.
//
// A request passes, in this order: its id, the access log and metrics, the recovery from panics, the route, the
// credentials, the query, the body, the document's rules, the handler.
package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	document "github.com/hoodynetwork/hoody-agent/api"
	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

// Authenticator establishes who sent a request.
type Authenticator interface {
	// Authenticate returns the caller. An error is of class errdefs.ErrUnauthenticated with one of the codes
	// MISSING_TOKEN, INVALID_TOKEN and TOKEN_EXPIRED, or of class errdefs.ErrUnavailable when the credentials
	// could not be checked. It never holds the credentials.
	Authenticate(r *http.Request) (agent.Caller, error)
}

// Options are what New takes besides what it serves. The zero value is usable.
type Options struct {
	// Logger gets a line per request and the causes of failures. Nil logs nothing.
	Logger *zap.Logger
	// Observe is called once per finished request. Route is a pattern of the document or "unmatched", method one of
	// the registered methods or "OTHER", so both are safe as metric labels. Nil observes nothing.
	Observe func(method, route string, status int, took time.Duration)
	// Limiter keeps clients within limits. Nil has none.
	Limiter *Limiter
	// Stale tells whether what is read is from records that may be behind the store, and since when. Nil is never.
	Stale func() (since time.Time, stale bool)
	// Closing ends when the server is about to shut down: streams, which would not end by themselves, end then. Nil never ends.
	Closing context.Context
}

// New returns the handler of everything under /api/v1. Timeouts and the like are the http.Server's.
//
// It panics if the document that it was built with does not load, or does not match the generated code: there is
// nothing to handle about that at run time.
func New(ops Operations, auth Authenticator, opts Options) http.Handler {
	s := &server{ops: ops, auth: auth, log: opts.Logger, observe: opts.Observe, limiter: opts.Limiter, stale: opts.Stale, closing: opts.Closing}
	if s.limiter == nil {
		s.limiter = NewLimiter(Limits{})
	}
	if s.stale == nil {
		s.stale = func() (since time.Time, stale bool) { return time.Time{}, false }
	}
	if s.closing == nil {
		s.closing = context.Background()
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if s.observe == nil {
		s.observe = func(string, string, int, time.Duration) {}
	}
	if err := s.load(document.Document()); err != nil {
		panic(fmt.Sprintf("api: %v", err))
	}
	routes := newRouter(s)
	contract.HandlerWithOptions(s, contract.StdHTTPServerOptions{
		BaseRouter: routes,
		// The document has accepted the parameters before the generated code reads them. What still fails is a
		// value that the two understand differently, and that is the client's to change.
		ErrorHandlerFunc: func(w http.ResponseWriter, r *http.Request, err error) {
			s.fail(w, r, invalidParameter(err))
		},
	})
	return s.observed(routes)
}

// server implements contract.ServerInterface.
type server struct {
	ops     Operations
	auth    Authenticator
	log     *zap.Logger
	observe func(method, route string, status int, took time.Duration)
	limiter *Limiter
	stale   func() (since time.Time, stale bool)
	closing context.Context

	document     []byte           // the contract, as JSON
	descriptions map[string]route // by "METHOD /path"
}

var _ contract.ServerInterface = (*server)(nil)
