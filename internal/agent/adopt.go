package agent

import (
	"context"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// maxAdopted is how many of the runtime's own snapshots a checkout takes over: they are written down in one transaction with all else that
// the container lists.
const maxAdopted = 1000

// refuseTooMany looks at what adopt would have to take over, while the container still runs.
func refuseTooMany(instance Instance) error {
	if len(instance.Snapshots) > maxAdopted {
		return errdefs.New(errdefs.ErrFailedPrecondition, "", "The container has %d snapshots of the host's runtime, of which %d can be taken over: delete some of them there",
			len(instance.Snapshots), maxAdopted)
	}
	return nil
}

// adopt makes the runtime's own snapshots of the displaced generation the container's. Left with the runtime, they would
// stand for a dataset that is somewhere else: restoring one would report success and do nothing (tried on Incus 6.0.4).
// With the dataset aside, deleting the runtime's record leaves the snapshot itself alone.
func (r *run) adopt(ctx context.Context, name string) error {
	instance, err := r.runtime.Instance(ctx, name)
	if err != nil || len(instance.Snapshots) == 0 {
		return err
	}
	displaced, err := r.pool.Dataset(ctx, generationDataset(r.job.ID))
	if err != nil {
		return err
	}
	var adopted []store.Snapshot
	for _, short := range instance.Snapshots {
		if snapshot, ok := displaced.Snapshot(RuntimeSnapshotPrefix + short); ok {
			adopted = append(adopted, store.Snapshot{
				Name: short, GUID: snapshot.GUID, IDMap: r.job.PriorIDMap, Size: snapshot.Referenced, CreatedAt: snapshot.Creation.UTC(),
			})
		}
	}
	if err := r.journal(ctx, func(job *store.Job) {
		for _, snapshot := range adopted {
			if !slices.ContainsFunc(job.Adopted, func(s store.Snapshot) bool { return s.GUID == snapshot.GUID }) {
				job.Adopted = append(job.Adopted, snapshot)
			}
		}
	}); err != nil {
		return err
	}
	for _, short := range instance.Snapshots {
		if err := r.runtime.DeleteSnapshot(ctx, name, short); err != nil {
			return err
		}
	}
	return nil
}

// listAdopted adds what a checkout adopted to the container's history, under names that are free there.
func listAdopted(tx *store.Tx, job store.Job, container *store.Container) error {
	if len(job.Adopted) == 0 {
		return nil
	}
	history, err := historyOf(tx, container.ID)
	if err != nil {
		return err
	}
	history.Snapshots = slices.Clone(history.Snapshots)
	for _, snapshot := range job.Adopted {
		if slices.ContainsFunc(history.Snapshots, func(s store.Snapshot) bool { return s.GUID == snapshot.GUID }) {
			continue // by an earlier operation that was undone
		}
		snapshot.Name = snapshotName(history, &snapshot.Name, snapshot.CreatedAt)
		history.Snapshots = append(history.Snapshots, snapshot)
	}
	sortByAge(history.Snapshots)
	container.SnapshotCount = countUserSnapshots(history)
	return tx.PutHistory(history)
}
