//go:build e2e

package e2e

import (
	"crypto/rand"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/client"
)

// patient asks again where an agent cannot act for the moment (503 with Retry-After), as the contract tells clients to: with a
// key, so that what was accepted although its answer got lost counts once. On a machine that stands still for seconds, etcd
// does, too.
type patient struct {
	n *node
}

// patience bounds how often one request is made.
const patience = 6

func (p patient) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodPost && request.Header.Get("Idempotency-Key") == "" {
		request = request.Clone(request.Context())
		request.Header.Set("Idempotency-Key", rand.Text())
	}
	for attempt := 1; ; attempt++ {
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil || response.StatusCode != http.StatusServiceUnavailable || attempt == patience || request.Body != nil && request.GetBody == nil {
			return response, err
		}
		seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
		if err != nil {
			return response, nil
		}
		said, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		_ = response.Body.Close()
		p.n.t.Logf("%s: %s %s: not for the moment, asked again after %d s: %s", p.n.Name(), request.Method, request.URL.Path, seconds, said)
		select {
		case <-request.Context().Done():
			return nil, request.Context().Err()
		case <-time.After(time.Duration(seconds) * time.Second):
		}
		request = request.Clone(request.Context())
		if request.GetBody != nil {
			if request.Body, err = request.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// impatient is a client that takes the first answer, for faults that are to be seen.
func (n *node) impatient() *client.Client {
	c := *n.api
	c.HTTP = &http.Client{Timeout: 10 * time.Minute}
	return &c
}
