package peer

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/transfer"
)

// PathHello is where an agent says hello: how others find out whether it can be reached, and whether it can reach them.
const PathHello = "/v1/hello"

// Greeting is an agent's answer to a hello.
type Greeting struct {
	ServerID string    `json:"server_id"`
	Version  string    `json:"version"`
	Time     time.Time `json:"time"` // the agent's clock
	// Back is why the agent cannot reach the one that asked; empty when it can, or was not asked to try.
	Back string `json:"back,omitempty"`
}

type helloRequest struct {
	Back bool `json:"back"` // say hello to me in turn
}

// helloBackLimit bounds the way back: who asked waits for it.
const helloBackLimit = 5 * time.Second

// NewHelloHandler serves PathHello. say returns what this agent says of itself; back says hello to the agent of a server.
func NewHelloHandler(log *zap.Logger, say func() Greeting, back func(ctx context.Context, serverID string) error) http.Handler {
	return transfer.Handle(log, func(ctx context.Context, request helloRequest) (Greeting, error) {
		asker, err := caller(ctx)
		if err != nil {
			return Greeting{}, err
		}
		greeting := say()
		if !request.Back {
			return greeting, nil
		}
		ctx, cancel := context.WithTimeout(ctx, helloBackLimit)
		defer cancel()
		if err := back(ctx, asker); err != nil {
			greeting.Back = err.Error()
		}
		return greeting, nil
	})
}

// Hello says hello to the agent behind client; with back it is asked to do the same in turn.
func Hello(ctx context.Context, client *http.Client, back bool) (Greeting, error) {
	var greeting Greeting
	if err := transfer.Call(ctx, client, http.MethodPost, PathHello, helloRequest{Back: back}, &greeting); err != nil {
		return Greeting{}, fmt.Errorf("hello: %w", err)
	}
	return greeting, nil
}
