package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
)

// requestIDHeader carries the request's id in both directions.
const requestIDHeader = "X-Request-Id"

// exchange is what the layers find out about one request on its way in. It is made once, outermost, and filled by
// pointer, so that the access log sees what the inner layers learned.
type exchange struct {
	id     string
	route  route        // zero until matched
	caller agent.Caller // zero until authenticated
}

type exchangeKey struct{}

// withExchange returns r with a fresh exchange.
func withExchange(r *http.Request) (*http.Request, *exchange) {
	e := &exchange{id: requestID(r.Header.Get(requestIDHeader))}
	return r.WithContext(context.WithValue(r.Context(), exchangeKey{}, e)), e
}

// exchangeOf returns the exchange of a request that came through New's handler.
func exchangeOf(r *http.Request) *exchange {
	e, ok := r.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return &exchange{}
	}
	return e
}

// requestID accepts the client's id if it is harmless in a header and a log line, and makes one otherwise.
func requestID(offered string) string {
	if harmlessID(offered) {
		return offered
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails: it aborts the program instead
	return hex.EncodeToString(random[:])
}

func harmlessID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		digit := c >= '0' && c <= '9'
		if !letter && !digit && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
