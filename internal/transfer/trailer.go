package transfer

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// The trailer of a bulk stream. Without the first four, each exactly once, a stream is not complete.
const (
	trailerStatus = "Hoody-Stream-Status" // "complete" or "failed"
	trailerBytes  = "Hoody-Stream-Bytes"  // of the source, before compression; decimal
	trailerWire   = "Hoody-Stream-Wire"   // of the response body, after compression; decimal
	trailerHash   = "Hoody-Stream-Hash"   // XXH64 of the source's bytes; 16 hex digits
	trailerError  = "Hoody-Stream-Error"  // a failed stream's wireError, JSON, path-escaped
)

const (
	statusComplete = "complete"
	statusFailed   = "failed"
)

// trailer is what a sender says about a stream once it is over.
type trailer struct {
	bytes, wire uint64
	hash        uint64
	failure     *wireError // nil for a complete stream
}

// announce declares the trailer's fields, which net/http wants before the body.
func announce(header http.Header) {
	for _, name := range []string{trailerStatus, trailerBytes, trailerWire, trailerHash, trailerError} {
		header.Add("Trailer", name)
	}
}

// write puts the trailer into a response's header after its body, which is where net/http takes it from.
func (t trailer) write(header http.Header) {
	header.Set(trailerBytes, strconv.FormatUint(t.bytes, 10))
	header.Set(trailerWire, strconv.FormatUint(t.wire, 10))
	header.Set(trailerHash, fmt.Sprintf("%016x", t.hash))
	if t.failure == nil {
		header.Set(trailerStatus, statusComplete)
		return
	}
	header.Set(trailerStatus, statusFailed)
	header.Set(trailerError, escape(*t.failure))
}

// maxEscaped is how long the error may be in a trailer, which net/http wants to see whole in its read buffer of 4 KiB.
const maxEscaped = 3 << 10

// escape writes an error as a header's value, which may not hold everything that JSON may. A quote takes six bytes there: the message is shortened until it fits.
func escape(failure wireError) string {
	for {
		encoded, err := json.Marshal(failure)
		if err != nil { // three strings: cannot happen
			encoded = []byte(`{}`)
		}
		escaped := url.PathEscape(string(encoded))
		if len(escaped) <= maxEscaped || failure.Message == "" {
			return escaped
		}
		failure.Message = cleanText(failure.Message, len(failure.Message)*3/4)
	}
}

// parseTrailer reads a trailer. ErrAborted: there is none, the sender did not get to its end.
// ErrCorrupt: there is one, and it is not well formed.
func parseTrailer(header http.Header) (trailer, error) {
	var t trailer
	if len(header[trailerStatus]) == 0 {
		return t, errdefs.New(errdefs.ErrAborted, "", "the stream ended without its trailer")
	}
	status, err := single(header, trailerStatus)
	if err != nil {
		return t, err
	}
	if t.bytes, err = number(header, trailerBytes, 10); err != nil {
		return t, err
	}
	if t.wire, err = number(header, trailerWire, 10); err != nil {
		return t, err
	}
	if t.hash, err = number(header, trailerHash, 16); err != nil {
		return t, err
	}
	switch status {
	case statusComplete:
		return t, nil
	case statusFailed:
		t.failure, err = failure(header)
		return t, err
	default:
		return t, malformed(trailerStatus)
	}
}

func failure(header http.Header) (*wireError, error) {
	escaped, err := single(header, trailerError)
	if err != nil {
		return nil, err
	}
	encoded, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, malformed(trailerError)
	}
	var wire wireError
	if err := json.Unmarshal([]byte(encoded), &wire); err != nil {
		return nil, malformed(trailerError)
	}
	return &wire, nil
}

func number(header http.Header, name string, base int) (uint64, error) {
	text, err := single(header, name)
	if err != nil {
		return 0, err
	}
	if base == 16 && len(text) != 16 {
		return 0, malformed(name)
	}
	n, err := strconv.ParseUint(text, base, 64)
	if err != nil {
		return 0, malformed(name)
	}
	return n, nil
}

func single(header http.Header, name string) (string, error) {
	if values := header[name]; len(values) == 1 {
		return values[0], nil
	}
	return "", malformed(name)
}

func malformed(name string) error {
	return errdefs.New(errdefs.ErrCorrupt, "", "the stream's trailer has no valid %s", name)
}
