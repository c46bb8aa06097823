package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

type question struct {
	Word string `json:"word"`
}

type answer struct {
	Length int `json:"length"`
}

func TestCall(t *testing.T) {
	f := newFleet(t, Handle(nopLog, func(_ context.Context, in question) (answer, error) {
		return answer{len(in.Word)}, nil
	}))
	var out answer
	must(t, Call(t.Context(), f.dialer.Client(bob), http.MethodPost, "/count", question{"seven"}, &out))
	if out.Length != 5 {
		t.Errorf("got %+v", out)
	}
}

func TestErrorsCrossAgents(t *testing.T) {
	secret := errors.New("open /etc/secret")
	cases := map[string]struct {
		err               error
		class             error
		code, wantMessage string
	}{
		"classified": {errdefs.New(errdefs.ErrExhausted, "QUOTA", "no room").WithCause(secret), errdefs.ErrExhausted, "QUOTA", "no room"},
		"wrapped":    {fmt.Errorf("freeze: %w", errdefs.New(errdefs.ErrBusy, "", "held")), errdefs.ErrBusy, "", "held"},
		"bare class": {fmt.Errorf("find it: %w", errdefs.ErrNotFound), errdefs.ErrNotFound, "", "find it: not found"},
		"bug":        {secret, errdefs.ErrInternal, "", "internal error"},
		"unprintable": {errdefs.New(errdefs.ErrStale, "", "a\x1b[31m\nb"), errdefs.ErrStale, "",
			"a [31m b"},
		"long": {errdefs.New(errdefs.ErrStale, "", "%s", strings.Repeat("é", 5000)), errdefs.ErrStale, "", strings.Repeat("é", maxErrorMessage/2)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, Handle(nopLog, func(context.Context, struct{}) (struct{}, error) { return struct{}{}, c.err }))
			err := Call(t.Context(), f.dialer.Client(bob), http.MethodGet, "/", nil, nil)
			var got *errdefs.Error
			if !errors.As(err, &got) || !errors.Is(err, c.class) {
				t.Fatalf("got %v, want class %v", err, c.class)
			}
			if got.Code != c.code || got.Message != c.wantMessage {
				t.Errorf("got %q %q, want %q %q", got.Code, got.Message, c.code, c.wantMessage)
			}
		})
	}
}

func TestEveryClassSurvives(t *testing.T) {
	for _, class := range []error{
		errdefs.ErrInvalid, errdefs.ErrNotFound, errdefs.ErrAlreadyExists, errdefs.ErrUnauthenticated, errdefs.ErrPermissionDenied,
		errdefs.ErrFailedPrecondition, errdefs.ErrBusy, errdefs.ErrExhausted, errdefs.ErrUnprocessable, errdefs.ErrUnavailable,
		errdefs.ErrAborted, errdefs.ErrStale, errdefs.ErrCorrupt, errdefs.ErrUnsupported, errdefs.ErrInternal,
	} {
		recorder := httptest.NewRecorder()
		WriteError(recorder, httptest.NewRequest(http.MethodGet, "/", nil), nopLog, class)
		response := recorder.Result()
		if response.StatusCode < 400 {
			t.Errorf("%v: status %d", class, response.StatusCode)
		}
		if err := errorFromResponse(response); !errors.Is(err, class) {
			t.Errorf("%v became %v", class, err)
		}
	}
}

func TestHandleIsStrict(t *testing.T) {
	handler := Handle(nopLog, func(_ context.Context, in question) (answer, error) { return answer{len(in.Word)}, nil })
	for name, body := range map[string]string{
		"nothing":       "",
		"more":          `{"word":"a"}{"word":"b"}`,
		"another type":  `{"word":1}`,
		"cut":           `{"word":"a"`,
		"a bomb":        `{"word":[` + strings.Repeat("{},", 2000) + `{}]}`,
		"a hollow bomb": `{"word":[` + strings.Repeat("null,", 2000) + `null]}`,
	} {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		if err := errorFromResponse(recorder.Result()); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// What a later version has added is waited for until this one is upgraded, too.
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"word":"a","later":"b"}`)))
	if err := errorFromResponse(recorder.Result()); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("unknown member: got %v", err)
	}
}

func TestAnswersThatMakeNoSense(t *testing.T) {
	f := newFleet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "http://elsewhere/", http.StatusFound)
		case "/garbage":
			_, _ = w.Write([]byte("<html>"))
		case "/bomb":
			_, _ = w.Write([]byte(`{"more":[` + strings.Repeat("{},", 2000) + `{}]}`))
		case "/endless":
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		case "/panic":
			panic(http.ErrAbortHandler)
		}
	}))
	for path, class := range map[string]error{
		"/redirect": errdefs.ErrInternal, "/garbage": errdefs.ErrCorrupt, "/bomb": errdefs.ErrCorrupt, "/endless": errdefs.ErrInvalid, "/panic": errdefs.ErrUnavailable,
	} {
		var out answer
		if err := Call(t.Context(), f.dialer.Client(bob), http.MethodGet, path, nil, &out); !errors.Is(err, class) {
			t.Errorf("%s: got %v, want %v", path, err, class)
		}
	}
}

func TestRequestIDsFromOutside(t *testing.T) {
	for _, id := range []string{"", "with space", "line\nbreak", strings.Repeat("x", 65), "ümlaut"} {
		got := RequestIDFromContext(WithRequestID(t.Context(), id))
		if got == id || !validRequestID(got) {
			t.Errorf("%q became %q", id, got)
		}
	}
}
