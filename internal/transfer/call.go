package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const (
	// MaxRequest bounds a request's body in bytes. The largest request is a list of the snapshots that a target
	// holds: 10,000 GUIDs are about 200 KiB.
	MaxRequest = 4 << 20
	// MaxAnswer bounds the body of an answer to Call in bytes: a manifest of 10,000 snapshots with names.
	MaxAnswer = 16 << 20
	// answerTimeout is how long a peer may take to read an answer.
	answerTimeout = time.Minute
	// peerHost stands in a URL where the host goes. The client knows whom it talks to; the name is never looked up.
	peerHost = "peer"
)

const contentJSON = "application/json"

// URL returns the URL of a path at a client's peer, for requests that Call does not fit, such as a stream's.
// path begins with "/" and may carry a query.
func URL(path string) string { return "http://" + peerHost + path }

// Call sends in as JSON to a peer and decodes its answer into out. A nil in sends no body, a nil out ignores the answer.
//
// A refusal by the peer comes back as an *errdefs.Error of the class that the peer's handler returned. A peer that
// could not be reached, or went away before it answered, is ErrUnavailable: the call may or may not have had its effect.
// An answer that cannot be understood is ErrCorrupt.
func Call(ctx context.Context, client *http.Client, method, path string, in, out any) error {
	if err := call(ctx, client, method, path, in, out); err != nil {
		return fmt.Errorf("call %s %s: %w", method, path, err)
	}
	return nil
}

func call(ctx context.Context, client *http.Client, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return errdefs.New(errdefs.ErrInternal, "", "encode request").WithCause(err)
		}
		if len(encoded) > MaxRequest {
			return errdefs.New(errdefs.ErrInvalid, "", "request of %d bytes, at most %d", len(encoded), MaxRequest)
		}
		body = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, URL(path), body)
	if err != nil {
		return errdefs.New(errdefs.ErrInternal, "", "make request").WithCause(err)
	}
	if in != nil {
		request.Header.Set("Content-Type", contentJSON)
	}
	response, err := client.Do(request)
	if err != nil {
		return unreachable(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return errorFromResponse(response)
	}
	answer, err := readAtMost(watched(response.Body), MaxAnswer)
	if err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if err := proportionate(answer); err != nil {
		return errdefs.New(errdefs.ErrCorrupt, "", "decode answer").WithCause(err)
	}
	// Unknown members are ignored here: a peer may be a version ahead.
	if err := json.Unmarshal(answer, out); err != nil {
		return errdefs.New(errdefs.ErrCorrupt, "", "decode answer").WithCause(err)
	}
	return nil
}

// Handle makes a handler of a function: the body is decoded into In, the result is encoded, an error travels as class,
// code and message. Decoding is strict (DecodeRequest), since a
// request that is only half understood must not be half obeyed. With In = struct{} the body may be missing.
// The function finds the calling agent with PeerFromContext; its context ends when the caller goes away.
func Handle[In, Out any](log *zap.Logger, do func(ctx context.Context, in In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := DecodeRequest(r, &in); err != nil {
			WriteError(w, r, log, err)
			return
		}
		out, err := do(r.Context(), in)
		if err != nil {
			WriteError(w, r, log, err)
			return
		}
		encoded, err := json.Marshal(out)
		if err != nil {
			WriteError(w, r, log, fmt.Errorf("encode answer: %w", err))
			return
		}
		writeJSON(w, http.StatusOK, encoded)
	})
}

// WriteError answers a request with an error: class, code and message go to the peer, the whole of it to the log.
// Nothing may have been written to w before.
func WriteError(w http.ResponseWriter, r *http.Request, log *zap.Logger, err error) {
	wire := toWire(err)
	level := zap.DebugLevel
	if errdefs.ClassOf(err) == errdefs.ErrInternal {
		level = zap.ErrorLevel
	}
	peer, _ := PeerFromContext(r.Context())
	log.Log(level, "request refused", zap.String("method", r.Method), zap.String("path", r.URL.Path),
		zap.String("peer", peer), zap.String("request_id", RequestIDFromContext(r.Context())), zap.Error(err))
	encoded, err := json.Marshal(wire)
	if err != nil { // three strings: cannot happen
		panic(http.ErrAbortHandler)
	}
	writeJSON(w, statusOf(errdefs.ClassNamed(wire.Class)), encoded)
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	// A recorder in a test has no deadlines; a peer's connection has, and may not hold the handler for ever.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
	w.Header().Set("Content-Type", contentJSON)
	w.WriteHeader(status)
	_, _ = w.Write(body) // a peer that went away will not miss it
}

// DecodeRequest reads the JSON body of a request, at most MaxRequest bytes, into a struct. What is no such thing is ErrInvalid. A member
// that is not known comes from an agent of a later version: ErrUnavailable, since an upgrade ends it.
func DecodeRequest(r *http.Request, into any) error {
	body, err := readAtMost(r.Body, MaxRequest)
	if err != nil {
		return err
	}
	if _, empty := into.(*struct{}); empty && len(body) == 0 {
		return nil
	}
	if err := proportionate(body); err != nil {
		return errdefs.New(errdefs.ErrInvalid, "", "decode request: %s", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		class := errdefs.ErrInvalid
		if strings.HasPrefix(err.Error(), "json: unknown field ") {
			class = errdefs.ErrUnavailable
		}
		return errdefs.New(class, "", "decode request: %s", cleanText(err.Error(), maxErrorMessage))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errdefs.New(errdefs.ErrInvalid, "", "decode request: data after the end")
	}
	return nil
}

// watched is an answer's body that ends when the peer falls silent in its middle.
func watched(body io.ReadCloser) io.Reader {
	return newWireReader(body, DefaultStallTimeout, DefaultStallTimeout, func(int, int) {})
}

// proportionate refuses objects that are too many for their text: decoded, "{}" and "null" are as large as what they leave out. One of ours has 40 bytes and more.
func proportionate(text []byte) error {
	if objects := bytes.Count(text, []byte("{")) + bytes.Count(text, []byte("null")); objects > 1000+len(text)/32 {
		return fmt.Errorf("%d objects in %d bytes", objects, len(text))
	}
	return nil
}

func readAtMost(body io.Reader, limit int64) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(body, limit+1))
	switch {
	case err != nil:
		return nil, errdefs.New(errdefs.ErrUnavailable, "", "the message broke off").WithCause(err)
	case int64(len(content)) > limit:
		return nil, errdefs.New(errdefs.ErrInvalid, "", "the message exceeds %d bytes", limit)
	}
	return content, nil
}

// errorFromResponse reads a refusal. What is no error of an agent is reported by its status alone.
func errorFromResponse(response *http.Response) error {
	var wire wireError
	content, err := readAtMost(watched(response.Body), 16<<10)
	if errors.Is(err, errdefs.ErrUnavailable) {
		return err
	}
	if err == nil {
		err = json.Unmarshal(content, &wire)
	}
	if err != nil || wire.Class == "" {
		return errdefs.New(errdefs.ErrInternal, "", "the peer answered %d without an error of ours", response.StatusCode)
	}
	return wire.fromWire()
}

// unreachable classifies the failure of a request that got no answer. Errors of the Dialer have their class already,
// and a caller's own cancelled context stays recognisable.
func unreachable(err error) error {
	var classified *errdefs.Error
	if errors.As(err, &classified) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errdefs.New(errdefs.ErrUnavailable, "", "no answer").WithCause(err)
}
