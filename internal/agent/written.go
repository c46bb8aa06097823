package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// SourceWritten tells, by the id of the copy, how many bytes were written on a source of this server since the state that
// the copy holds, some seconds ago; the copies may be anywhere. It looks at no more than limit sources, since each costs a command. A
// copy whose state the source's generation does not hold (any more) is left out: nobody can tell.
func (a *Agent) SourceWritten(ctx context.Context, limit int) (map[string]uint64, error) {
	inventory, err := a.pool.Inventory(ctx)
	if err != nil {
		return nil, fmt.Errorf("bytes written on sources: %w", err)
	}
	written := make(map[string]uint64)
	for _, source := range a.store.Mirror().ContainersOnServer(a.serverID) {
		copies := a.store.Mirror().CopiesOf(source.ID)
		if len(copies) == 0 {
			continue
		}
		dataset, ok := inventory.Dataset(ContainerDataset(source.ID))
		if !ok {
			continue
		}
		holders := make(map[string][]string) // by the name of the snapshot that they hold
		for _, snapshot := range dataset.Snapshots {
			if ids := holding(copies, snapshot.GUID); len(ids) > 0 {
				holders[snapshot.Name] = ids
			}
		}
		if len(holders) == 0 {
			continue
		}
		if limit--; limit < 0 {
			return written, nil
		}
		since, err := a.pool.WrittenLately(ctx, dataset.Name, slices.Sorted(maps.Keys(holders)))
		if errors.Is(err, errdefs.ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("bytes written on source %s: %w", source.ID, err)
		}
		for name, bytes := range since {
			for _, id := range holders[name] {
				written[id] = bytes
			}
		}
	}
	return written, nil
}

// holding lists the copies that were checked out from the snapshot.
func holding(copies []*store.Container, snapshot lineage.GUID) []string {
	var ids []string
	for _, derived := range copies {
		if derived.Generation.Base == snapshot {
			ids = append(ids, derived.ID)
		}
	}
	return ids
}
