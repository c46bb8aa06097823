package agent

import (
	"context"
	"errors"
	"slices"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// A listed snapshot that somebody destroyed by hand stays listed, marked as missing, until its owner deletes it or a copy brings
// the same state back. The mark is as old as the last look at the pool; no request asks the pool itself.

// markMissing brings the marks of containers' lists up to what is in the pool. Of what a first look did not find it looks for
// again, while no collection moves anything: a snapshot may have been made just then.
func (a *Agent) markMissing(ctx context.Context, suspects map[string][]lineage.GUID) error {
	release, err := a.pins.share(ctx)
	if err != nil {
		return err
	}
	inventory, err := a.pool.Inventory(ctx)
	release()
	if err != nil {
		return err
	}
	var failed error
	for id, suspected := range suspects {
		failed = errors.Join(failed, a.update(ctx, func(tx *store.Tx) error {
			container, err := tx.Container(id)
			if errors.Is(err, errdefs.ErrNotFound) || err == nil && (container.JobID != "" || container.ServerID != a.serverID) {
				return nil // gone, or an operation's for now
			}
			if err != nil {
				return err
			}
			history, err := tx.History(id)
			if err != nil {
				return err
			}
			held := lineage.Locate(ownedBy(inventory, container.OwnerID))
			changed := false
			history.Snapshots = slices.Clone(history.Snapshots)
			for i, snapshot := range history.Snapshots {
				_, there := held[snapshot.GUID]
				missing := !there && (snapshot.Missing || slices.Contains(suspected, snapshot.GUID))
				if missing != snapshot.Missing {
					a.log.Warn("listed snapshot", zap.String("container", id), zap.String("snapshot", snapshot.Name), zap.Bool("missing", missing))
					history.Snapshots[i].Missing, changed = missing, true
				}
			}
			if !changed {
				return nil
			}
			return tx.PutHistory(history)
		}))
	}
	return failed
}

// refuseMissing says that a snapshot cannot be used.
func refuseMissing(snapshot store.Snapshot) error {
	if !snapshot.Missing {
		return nil
	}
	return snapshotGone(snapshot)
}

func snapshotGone(snapshot store.Snapshot) *errdefs.Error {
	return errdefs.New(errdefs.ErrNotFound, "RESOURCE_NOT_FOUND", "Snapshot %s is gone from the server's storage", snapshot.Name)
}
