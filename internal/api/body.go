package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"
)

const (
	// maxBody is the most that a request body may have; the largest sensible one is a full set of environment variables.
	maxBody = 1 << 20
	// maxDepth is how deep a body may nest. The contract needs three.
	maxDepth = 16
)

// readBody reads the body, whole, and of an operation that takes one refuses what could be read in two ways.
func readBody(r *http.Request, rt route) error {
	if rt.spec.Operation.RequestBody == nil {
		// Nobody looks at it, but read it must be while the server's limit stands: net/http waits for the rest of it before it answers.
		return discardBody(r)
	}
	data, err := readLimited(r)
	if err != nil {
		return err
	}
	if len(data) > 0 {
		if err := checkMediaType(r.Header); err != nil {
			return err
		}
		if err := checkJSON(data); err != nil {
			return invalidBody("", "%s", err)
		}
	}
	// What was accepted is JSON, whatever the client called it.
	r.Header.Set("Content-Type", "application/json")
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	return nil
}

func discardBody(r *http.Request) error {
	if r.ContentLength > maxBody {
		return invalidBody("", "there must be no body")
	}
	if r.Body == nil {
		return nil
	}
	switch _, err := io.CopyN(io.Discard, r.Body, maxBody+1); {
	case err == nil:
		return invalidBody("", "there must be no body")
	case !errors.Is(err, io.EOF):
		return invalidBody("", "the body ended early")
	}
	r.Body = http.NoBody
	return nil
}

func readLimited(r *http.Request) ([]byte, error) {
	tooLarge := &refusal{
		status:  http.StatusRequestEntityTooLarge,
		code:    "PAYLOAD_TOO_LARGE",
		message: fmt.Sprintf("The body must not have more than %d bytes", maxBody),
	}
	if r.ContentLength > maxBody {
		return nil, tooLarge
	}
	if r.Body == nil {
		return nil, nil
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if len(data) > maxBody {
		return nil, tooLarge
	}
	if err != nil {
		return nil, invalidBody("", "the body ended early")
	}
	return data, nil
}

// checkMediaType accepts JSON, and what sends JSON without saying so: no declaration at all, and the form type that
// command-line clients declare by default. Nothing here reads forms, so it cannot mean anything else.
func checkMediaType(header http.Header) error {
	refused := &refusal{
		status:  http.StatusUnsupportedMediaType,
		code:    "UNSUPPORTED_MEDIA_TYPE",
		message: "The body must be application/json in UTF-8, not compressed",
	}
	if encoding := header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return refused
	}
	declared := header.Get("Content-Type")
	if declared == "" {
		return nil
	}
	mediaType, parameters, err := mime.ParseMediaType(declared)
	if err != nil || (mediaType != "application/json" && mediaType != "application/x-www-form-urlencoded") {
		return refused
	}
	if charset, given := parameters["charset"]; given && !strings.EqualFold(charset, "utf-8") {
		return refused
	}
	return nil
}

// checkJSON accepts exactly one JSON value that every parser reads the same way: valid UTF-8, no name twice in an
// object, nothing behind it.
func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("the body is not valid UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var scan nesting
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return errors.New("the body ends before its JSON value does")
		}
		if err != nil {
			return fmt.Errorf("the body is not valid JSON: %w", err)
		}
		if err := scan.take(token); err != nil {
			return err
		}
		if len(scan.open) == 0 {
			break
		}
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more behind the body's JSON value")
	}
	return nil
}

// nesting follows the objects and arrays that are open at a point of a JSON text.
type nesting struct {
	open []level
}

// level is one open object or array. In an object, names and values take turns.
type level struct {
	names map[string]bool // nil for an array
	value bool            // a name was read, its value comes next
}

func (n *nesting) take(token json.Token) error {
	if token == json.Delim('}') || token == json.Delim(']') {
		n.open = n.open[:len(n.open)-1]
		n.valueDone()
		return nil
	}
	if top := n.top(); top != nil && top.names != nil && !top.value {
		name := token.(string) // the decoder accepts nothing else here
		if top.names[name] {
			return fmt.Errorf("the field %q is given twice", shorten(name))
		}
		top.names[name], top.value = true, true
		return nil
	}
	switch token {
	case json.Delim('{'):
		n.open = append(n.open, level{names: map[string]bool{}})
	case json.Delim('['):
		n.open = append(n.open, level{})
	default:
		n.valueDone()
	}
	if len(n.open) > maxDepth {
		return fmt.Errorf("the body nests deeper than %d levels", maxDepth)
	}
	return nil
}

func (n *nesting) top() *level {
	if len(n.open) == 0 {
		return nil
	}
	return &n.open[len(n.open)-1]
}

func (n *nesting) valueDone() {
	if top := n.top(); top != nil {
		top.value = false
	}
}

// decode reads the body that the checks have accepted; no body is the zero value. Only numbers can still fail: the
// document calls 1.0 an integer, Go does not.
func decode[T any](r *http.Request) (T, error) {
	var value T
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return value, fmt.Errorf("read the checked body: %w", err)
	}
	if len(data) == 0 {
		return value, nil
	}
	if err := json.Unmarshal(data, &value); err != nil {
		var mismatch *json.UnmarshalTypeError
		if errors.As(err, &mismatch) {
			return value, invalidBody("/"+strings.ReplaceAll(mismatch.Field, ".", "/"), "must be a number without fraction and exponent")
		}
		return value, fmt.Errorf("decode the checked body: %w", err)
	}
	return value, nil
}
