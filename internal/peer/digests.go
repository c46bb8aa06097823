package peer

import (
	"context"
	"fmt"
	"net/http"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/transfer"
)

// headerSnapshot of an answer tells which of the snapshots asked for it is about.
const headerSnapshot = "Hoody-Snapshot"

func (s *server) digests(w http.ResponseWriter, r *http.Request) {
	peer, err := caller(r.Context())
	if err != nil {
		transfer.WriteError(w, r, s.options.Log, err)
		return
	}
	var request agent.DigestRequest
	if err := transfer.DecodeRequest(r, &request); err != nil {
		transfer.WriteError(w, r, s.options.Log, err)
		return
	}
	digests, err := s.serving.OpenDigests(r.Context(), peer, request)
	if err != nil {
		transfer.WriteError(w, r, s.options.Log, err)
		return
	}
	w.Header().Set(headerSnapshot, digests.Snapshot.String())
	options := s.options.Stream
	options.Limiters = append(s.options.Limits.For(peer), options.Limiters...)
	options.Observe = nil // what it counts is snapshots' streams
	sent, err := transfer.WriteStream(w, r, digests, options)
	if closed := digests.Close(); err == nil {
		err = closed
	}
	s.options.Log.Info("digests sent", zap.String("container", request.ContainerID), zap.String("peer", peer),
		zap.Stringer("snapshot", digests.Snapshot), zap.Uint64("bytes", sent.Bytes), zap.Error(err))
}

// Digests asks a server's agent for the files of a snapshot.
func (c Clients) Digests(ctx context.Context, serverID string, request agent.DigestRequest) (agent.Digests, error) {
	digests, err := c.digests(ctx, serverID, request)
	if err != nil {
		return agent.Digests{}, fmt.Errorf("digests from server %s: %w", serverID, err)
	}
	return digests, nil
}

func (c Clients) digests(ctx context.Context, serverID string, request agent.DigestRequest) (agent.Digests, error) {
	options := c.Stream
	options.Limiters = append(c.Limits.For(serverID), options.Limiters...)
	options.Observe = nil
	stream, head, err := open(ctx, c.Dial(serverID), pathDigests, request, options)
	if err != nil {
		return agent.Digests{}, err
	}
	snapshot, err := lineage.ParseGUID(head.Get(headerSnapshot))
	if err != nil {
		_ = stream.Close() // never fails
		return agent.Digests{}, errdefs.New(errdefs.ErrCorrupt, "", "the answer names no snapshot").WithCause(err)
	}
	return agent.Digests{Snapshot: snapshot, ReadCloser: stream}, nil
}
