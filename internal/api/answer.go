package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// response is a success: its status and its envelope.
type response struct {
	status   int
	envelope any
}

func ok[T any](message string, data T) response {
	return response{http.StatusOK, contract.Success[T]{StatusCode: http.StatusOK, Message: message, Data: data}}
}

func created[T any](message string, data T) response {
	return response{http.StatusCreated, contract.Success[T]{StatusCode: http.StatusCreated, Message: message, Data: data}}
}

func done(message string) response {
	return response{http.StatusOK, contract.Done{StatusCode: http.StatusOK, Message: message}}
}

// answer is the frame of every handler: work does it for the caller, and its outcome is sent.
func (s *server) answer(w http.ResponseWriter, r *http.Request, work func(context.Context, agent.Caller) (response, error)) {
	caller := exchangeOf(r).caller
	if since, stale := s.stale(); stale && r.Method == http.MethodGet {
		w.Header().Set("Age", strconv.Itoa(int(time.Since(since).Seconds()))) // RFC 9111, 5.1
	}
	result, err := work(r.Context(), caller)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	tellRepetition(w, caller)
	s.send(w, r, result.status, result.envelope)
}

// refusal is an error that is about HTTP itself, for which there is no class.
type refusal struct {
	status        int
	code, message string
}

func (e *refusal) Error() string { return e.message }

// fail answers a request with its error. It is the one place where an error becomes a status and an envelope.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := exchangeOf(r)
	envelope, class := envelopeOf(e.route.operation, err)
	if e.route.path != "" && !e.route.documents(envelope.StatusCode) {
		err = fmt.Errorf("answer %d is not documented for %s: %w", envelope.StatusCode, e.route.operation, err)
		envelope, class = internalError(), errdefs.ErrInternal
	}
	s.logFailure(e, envelope, err)

	header := w.Header()
	if seconds := retryAfter(envelope.StatusCode, class); seconds != "" {
		header.Set("Retry-After", seconds)
	}
	var early *tooMany
	if errors.As(err, &early) {
		header.Set("Retry-After", early.seconds())
	}
	if envelope.StatusCode == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", challenge(envelope.Code))
	}
	s.send(w, r, envelope.StatusCode, envelope)
}

// envelopeOf says an error in the contract's words, and returns the class that it was taken for.
func envelopeOf(operation string, err error) (contract.Error, error) {
	var refused *refusal
	if errors.As(err, &refused) {
		return contract.Error{
			StatusCode: refused.status, Reason: http.StatusText(refused.status), Message: refused.message, Code: refused.code,
		}, nil
	}
	class := errdefs.ClassOf(err)
	var told *errdefs.Error
	if !errors.As(err, &told) {
		told = &errdefs.Error{}
	} else if told.Class != nil {
		class = told.Class // what the operation says about itself counts, not what is behind it
	}
	code, message := generic(class)
	if told.Code != "" {
		code = told.Code
	}
	if told.Message != "" {
		message = told.Message
	}
	status := statusOf(operation, class, code)
	if status == http.StatusInternalServerError && !mayExplain500(code) {
		return internalError(), class
	}
	reason := http.StatusText(status)
	if replacesReason(code) {
		reason = code
	}
	return contract.Error{StatusCode: status, Reason: reason, Message: message, Code: code, Data: told.Data}, class
}

func internalError() contract.Error {
	return contract.Error{
		StatusCode: http.StatusInternalServerError,
		Reason:     http.StatusText(http.StatusInternalServerError),
		Message:    internalMessage,
		Code:       internalCode,
	}
}

// logFailure keeps what the caller is not told. What the client did wrong is in the access log already.
func (s *server) logFailure(e *exchange, envelope contract.Error, err error) {
	if envelope.StatusCode < http.StatusInternalServerError {
		return
	}
	log := s.log.Error
	if envelope.StatusCode == http.StatusServiceUnavailable {
		log = s.log.Warn
	}
	log("request failed",
		zap.String("operation", e.route.operation),
		zap.Int("status", envelope.StatusCode),
		zap.String("code", envelope.Code),
		zap.String("user", e.caller.UserID),
		zap.String("request_id", e.id),
		zap.Error(err),
	)
}

// challenge is the WWW-Authenticate header (RFC 6750, section 3): a request without credentials is not told that they
// were wrong.
func challenge(code string) string {
	const realm = `Bearer realm="hoody-agent"`
	switch code {
	case "MISSING_TOKEN":
		return realm
	case "TOKEN_EXPIRED":
		return realm + `, error="invalid_token", error_description="the token has expired"`
	}
	return realm + `, error="invalid_token"`
}

// send encodes first and writes then, so that an answer is either whole or not begun.
func (s *server) send(w http.ResponseWriter, r *http.Request, status int, envelope any) {
	body, err := json.Marshal(envelope)
	if err != nil {
		// Only an error's data can do this: all else is made of types that always encode.
		s.log.Error("answer cannot be encoded", zap.String("request_id", exchangeOf(r).id), zap.Error(err))
		status = http.StatusInternalServerError
		body, _ = json.Marshal(internalError())
	}
	s.sendJSON(w, status, body)
}

func (s *server) sendJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone; the access log has the status
}
