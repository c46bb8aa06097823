package agent

import (
	"errors"
	"slices"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// addTombstone records that snapshots of a container were deleted on purpose; those of earlier deletions stay recorded.
func (a *Agent) addTombstone(tx *store.Tx, container store.Container, deleted []lineage.GUID) error {
	return bury(tx, container.ID, container.ServerID, a.now(), deleted)
}

func bury(tx *store.Tx, containerID, serverID string, now time.Time, deleted []lineage.GUID) error {
	if len(deleted) == 0 {
		return nil
	}
	tombstone, err := tx.Tombstone(containerID)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	tombstone.ContainerID, tombstone.ServerID, tombstone.DeletedAt = containerID, serverID, now
	for _, guid := range deleted {
		if !slices.Contains(tombstone.Snapshots, guid) {
			tombstone.Snapshots = append(tombstone.Snapshots, guid)
		}
	}
	return tx.PutTombstone(tombstone)
}

func guidsIn(snapshots []store.Snapshot) []lineage.GUID {
	guids := make([]lineage.GUID, 0, len(snapshots))
	for _, snapshot := range snapshots {
		guids = append(guids, snapshot.GUID)
	}
	return guids
}
