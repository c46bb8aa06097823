package transfer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// scripted is a transport that does to a request what a test says, in the time of a synctest bubble.
type scripted func(ctx context.Context, trace *httptrace.ClientTrace) error

func (s scripted) RoundTrip(request *http.Request) (*http.Response, error) {
	if err := s(request.Context(), httptrace.ContextClientTrace(request.Context())); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("answer")), Request: request}, nil
}

// after waits for d, or less when the request is given up.
func after(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func TestAnswersAreWaitedFor(t *testing.T) {
	const timeout = time.Minute
	for name, test := range map[string]struct {
		peer scripted
		want error
	}{
		"a prompt one": {peer: func(ctx context.Context, trace *httptrace.ClientTrace) error {
			trace.WroteRequest(httptrace.WroteRequestInfo{})
			return after(ctx, timeout-1)
		}},
		"a queue before the request is written": {peer: func(ctx context.Context, trace *httptrace.ClientTrace) error {
			err := after(ctx, time.Hour)
			trace.WroteRequest(httptrace.WroteRequestInfo{})
			return err
		}},
		"silence": {want: errdefs.ErrUnavailable, peer: func(ctx context.Context, trace *httptrace.ClientTrace) error {
			trace.WroteRequest(httptrace.WroteRequestInfo{})
			return after(ctx, timeout+1)
		}},
		"hours with notices": {peer: func(ctx context.Context, trace *httptrace.ClientTrace) error {
			trace.WroteRequest(httptrace.WroteRequestInfo{})
			for range 300 {
				if err := after(ctx, timeout-1); err != nil {
					return err
				}
				if err := trace.Got1xxResponse(http.StatusProcessing, nil); err != nil {
					return err
				}
			}
			return after(ctx, timeout-1)
		}},
		"silence after a notice": {want: errdefs.ErrUnavailable, peer: func(ctx context.Context, trace *httptrace.ClientTrace) error {
			trace.WroteRequest(httptrace.WroteRequestInfo{})
			if err := errors.Join(after(ctx, timeout-1), trace.Got1xxResponse(http.StatusProcessing, nil)); err != nil {
				return err
			}
			return after(ctx, timeout+1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, URL("/"), nil)
				must(t, err)
				response, err := roundTrip(test.peer, request, timeout)
				if !errors.Is(err, test.want) {
					t.Fatalf("got %v, want %v", err, test.want)
				}
				if err != nil {
					return
				}
				time.Sleep(2 * timeout) // reading the answer has no limit from here
				if err := response.Request.Context().Err(); err != nil {
					t.Errorf("the answer is cut off: %v", err)
				}
				must(t, response.Body.Close())
				if response.Request.Context().Err() == nil {
					t.Error("a closed answer holds on to its context")
				}
			})
		})
	}
}

func TestAPeerThatDoesNotAnswer(t *testing.T) {
	f := newFleet(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
		func(_ *ListenerConfig, dc *DialerConfig) { dc.HeaderTimeout = 50 * time.Millisecond })
	if err := Call(t.Context(), f.dialer.Client(bob), http.MethodGet, "/", nil, nil); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

// What a handler says while it keeps a request waiting reaches who waits, and is no part of the answer.
func TestNoticesOverASession(t *testing.T) {
	proceed := make(chan struct{})
	f := newFleet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := KeepWaiting(w, time.Millisecond)
		<-proceed
		answer()
		writeJSON(w, http.StatusOK, []byte(`"done"`))
	}))
	notices := make(chan struct{}, 100)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		if code != http.StatusProcessing {
			t.Errorf("a notice with status %d", code)
		}
		select {
		case notices <- struct{}{}:
		default:
		}
		return nil
	}})
	var answer string
	answered := make(chan error, 1)
	go func() { answered <- Call(ctx, f.dialer.Client(bob), http.MethodGet, "/", nil, &answer) }()
	for range 8 { // more than net/http bears by itself
		await(t, "a notice", notices)
	}
	close(proceed)
	must(t, await(t, "the answer", answered))
	if answer != "done" {
		t.Errorf("answered %q", answer)
	}
}
