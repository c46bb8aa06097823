package agent

import (
	"context"
	"fmt"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Drain keeps new containers off this server, or lets them on it again: creates and copies to it are refused, at every
// agent, from the next request on. What was accepted before goes on, and so does all else: syncs, snapshots, copies to
// other servers. It stands in the server's record, so it outlasts restarts.
func (a *Agent) Drain(ctx context.Context, on bool) error {
	err := a.update(ctx, func(tx *store.Tx) error {
		server, err := tx.Server(a.serverID)
		if err != nil || server.Draining == on {
			return err
		}
		server.Draining, server.UpdatedAt = on, a.now()
		return tx.PutServer(server)
	})
	if err != nil {
		return fmt.Errorf("drain server %s: %w", a.serverID, err)
	}
	return nil
}

// refuseDraining is why a draining server gets no new container.
func refuseDraining(server store.Server) error {
	if !server.Draining {
		return nil
	}
	return errdefs.New(errdefs.ErrUnavailable, "", "Server %s takes no new containers at the moment", server.Name)
}
