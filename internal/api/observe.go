package api

import (
	"net/http"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// observed is the outermost layer: it gives the request its id, and when it is over logs and measures it.
func (s *server) observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		r, e := withExchange(r)
		recorder := &recorder{ResponseWriter: w}
		header := recorder.Header()
		header.Set(requestIDHeader, e.id)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store") // answers hold private keys and what only this caller may see

		defer func() {
			took := time.Since(started)
			method, route := boundedMethod(r.Method), "unmatched"
			if e.route.path != "" {
				route = e.route.path
			}
			// Reads that went well are polled by the thousand; they would drown what an operator looks for.
			level := zap.InfoLevel
			if r.Method == http.MethodGet && recorder.status < http.StatusBadRequest {
				level = zap.DebugLevel
			}
			s.log.Log(level, "request",
				zap.String("method", method),
				zap.String("route", route),
				zap.Int("status", recorder.status),
				zap.Duration("took", took),
				zap.Int64("bytes", recorder.bytes),
				zap.String("user", e.caller.UserID),
				zap.String("operator", e.caller.ActingOperator),
				zap.String("request_id", e.id),
			)
			s.observe(method, route, recorder.status, took)
		}()
		defer s.recoverFrom(recorder, r)
		next.ServeHTTP(recorder, r)
	})
}

// recoverFrom turns a panic into a 500 that tells nothing, and a log line that tells everything. It is to be deferred.
func (s *server) recoverFrom(w *recorder, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if cause == http.ErrAbortHandler {
		panic(cause) // asked for: the server cuts the connection without a word
	}
	s.log.Error("panic", zap.Any("panic", cause), zap.ByteString("stack", debug.Stack()), zap.String("request_id", exchangeOf(r).id))
	if w.status != 0 {
		panic(http.ErrAbortHandler) // an answer has begun; a cut connection is all that is left to say so
	}
	s.fail(w, r, errdefs.ErrInternal)
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int // 0 until the answer begins
	bytes  int64
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// boundedMethod keeps a client from inventing metric labels.
func boundedMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions, http.MethodConnect, http.MethodTrace:
		return method
	}
	return "OTHER"
}
