package transfer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// remnantFactor is how many streams, as a multiple of those in use at most, a session may have including the remains
// that the peer has not closed. Who exceeds it opens streams faster than a caller can and never closes them.
const remnantFactor = 8

// sessionListener is a session as http.Server wants it. Close stops accepting; the session and its streams stay.
type sessionListener struct {
	session    *session
	maxStreams int
	ctx        context.Context // ends with Close; what net.Listener's Accept waits on has no parameter for it
	stop       context.CancelFunc
}

func newSessionListener(s *session, maxStreams int) *sessionListener {
	ctx, stop := context.WithCancel(context.Background())
	return &sessionListener{session: s, maxStreams: maxStreams, ctx: ctx, stop: stop}
}

// Accept returns the next stream. Streams beyond the limit are closed unread: our own Dialer never opens them.
func (l *sessionListener) Accept() (net.Conn, error) {
	for {
		stream, err := l.session.AcceptStreamWithContext(l.ctx)
		if err != nil {
			if l.ctx.Err() != nil {
				return nil, net.ErrClosed
			}
			// The reason may be a timeout of the connection, which http.Server, seeing a net.Error, takes for one of Accept: it would
			// try again for ever. Wrapped it is none.
			return nil, fmt.Errorf("session ended: %w", err)
		}
		if l.session.NumStreams() > remnantFactor*l.maxStreams {
			_ = l.session.Close()
		}
		if conn := l.session.wrap(stream, l.maxStreams); conn != nil {
			return conn, nil
		}
		_ = stream.Close()
	}
}

func (l *sessionListener) Close() error {
	l.stop()
	return nil
}

func (l *sessionListener) Addr() net.Addr { return l.session.Addr() }

// admit is what every request passes before its handler: the limit on requests, the body, the request id.
func (l *Listener) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(WithRequestID(r.Context(), r.Header.Get(RequestIDHeader)))
		select {
		case l.requests <- struct{}{}:
			defer func() { <-l.requests }()
		default:
			WriteError(w, r, l.config.Log, errdefs.New(errdefs.ErrBusy, "", "too many requests at a time"))
			return
		}
		if err := l.readBody(w, r); err != nil {
			WriteError(w, r, l.config.Log, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// readBody replaces the body by its content, read within the request timeout. http.Server's own ReadTimeout would
// not do: it goes on while the handler runs, and ends the request's context when it passes.
func (l *Listener) readBody(w http.ResponseWriter, r *http.Request) error {
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(l.config.RequestTimeout)); err != nil {
		return errdefs.New(errdefs.ErrInternal, "", "bound the request's time").WithCause(err)
	}
	limit := int64(MaxRequest)
	if l.config.RequestLimit != nil {
		limit = l.config.RequestLimit(r.URL.Path)
	}
	body, err := readAtMost(r.Body, limit)
	if err != nil {
		return err
	}
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		return errdefs.New(errdefs.ErrUnavailable, "", "the peer went away").WithCause(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}
