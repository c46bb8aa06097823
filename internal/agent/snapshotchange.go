package agent

import (
	"context"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// RenameSnapshot gives one of a container's snapshots, found by name or alias, another alias; nil takes it away. The name stays.
func (a *Agent) RenameSnapshot(ctx context.Context, caller Caller, id, name string, alias *string) (SnapshotResult, error) {
	if err := a.snapshotsReadable(ctx); err != nil {
		return SnapshotResult{}, err
	}
	var result SnapshotResult
	err := a.accept(ctx, caller, func(tx *store.Tx) error {
		container, history, snapshot, err := a.changeableSnapshot(tx, caller, id, name)
		if err != nil {
			return err
		}
		if alias != nil {
			if err := refuseTakenAlias(history, snapshot.Name, *alias); err != nil {
				return err
			}
		}
		snapshot.Alias = alias
		history.Snapshots = slices.Clone(history.Snapshots)
		for i := range history.Snapshots {
			if history.Snapshots[i].Name == snapshot.Name {
				history.Snapshots[i] = snapshot
			}
		}
		result = SnapshotResult{Container: container, Snapshot: snapshot}
		return tx.PutHistory(history)
	})
	if err != nil {
		return SnapshotResult{}, err
	}
	return result, nil
}

// DeleteSnapshot takes a snapshot, found by name or alias, off a container's list and returns what it was. Who else lists
// the same state keeps it: only garbage collection, which sees all lists, destroys.
func (a *Agent) DeleteSnapshot(ctx context.Context, caller Caller, id, name string) (SnapshotResult, error) {
	var result SnapshotResult
	err := a.accept(ctx, caller, func(tx *store.Tx) error {
		container, history, snapshot, err := a.changeableSnapshot(tx, caller, id, name)
		if err != nil {
			return err
		}
		if len(container.PendingFreezes) > 0 { // one of them may be about to take it along
			return snapshotOperationInProgress()
		}
		if _, err := a.dropSnapshots(tx, &container, history, func(s store.Snapshot) bool { return s.Name == snapshot.Name }); err != nil {
			return err
		}
		result = SnapshotResult{Container: container, Snapshot: snapshot}
		return tx.PutContainer(container)
	})
	if err != nil {
		return SnapshotResult{}, err
	}
	return result, nil
}

// changeableSnapshot finds a snapshot to change, of a container that no operation works on: one may be about to list another.
func (a *Agent) changeableSnapshot(tx *store.Tx, caller Caller, id, name string) (store.Container, store.History, store.Snapshot, error) {
	container, _, err := visibleContainer(tx, caller, id, store.PermissionEdit, containerNotFound())
	if err != nil {
		return store.Container{}, store.History{}, store.Snapshot{}, err
	}
	if container.JobID != "" {
		return store.Container{}, store.History{}, store.Snapshot{}, snapshotOperationInProgress()
	}
	snapshot, err := namedSnapshot(tx, id, name)
	if err != nil {
		return store.Container{}, store.History{}, store.Snapshot{}, err
	}
	history, err := tx.History(id)
	return container, history, snapshot, err
}

// dropSnapshots takes those that drop names off a container's list and records that they went on purpose. The caller
// writes the container. It returns how many those were.
func (a *Agent) dropSnapshots(tx *store.Tx, container *store.Container, history store.History, drop func(store.Snapshot) bool) (int, error) {
	var kept []store.Snapshot
	var dropped []lineage.GUID
	for _, snapshot := range history.Snapshots {
		if !drop(snapshot) {
			kept = append(kept, snapshot)
			continue
		}
		dropped = append(dropped, snapshot.GUID)
		if container.LastUsedSnapshot == snapshot.Name {
			container.LastUsedSnapshot = ""
		}
	}
	if len(dropped) == 0 {
		return 0, nil
	}
	history.Snapshots = kept
	container.SnapshotCount = countUserSnapshots(history)
	if err := tx.PutHistory(history); err != nil {
		return 0, err
	}
	return len(dropped), a.addTombstone(tx, *container, dropped)
}
