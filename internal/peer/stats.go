package peer

import (
	"context"
	"fmt"
	"net/http"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/transfer"
)

type statsRequest struct {
	Containers []string `json:"containers"`
}

type statsAnswer struct {
	Containers []agent.Measured `json:"containers"`
}

func (s *server) stats(ctx context.Context, request statsRequest) (statsAnswer, error) {
	if _, err := caller(ctx); err != nil {
		return statsAnswer{}, err
	}
	measured, err := s.serving.Measure(ctx, request.Containers)
	return statsAnswer{measured}, err
}

// Measure asks a server's agent what some of its containers use.
func (c Clients) Measure(ctx context.Context, serverID string, containers []string) ([]agent.Measured, error) {
	var answer statsAnswer
	err := transfer.Call(ctx, c.Dial(serverID), http.MethodPost, pathStats, statsRequest{containers}, &answer)
	if err != nil {
		return nil, fmt.Errorf("stats of server %s: %w", serverID, err)
	}
	return answer.Containers, nil
}
