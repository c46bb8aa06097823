package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Freeze is Source.Freeze for a peer, whose identity the transport has proved.
func (a *Agent) Freeze(ctx context.Context, peer, jobID string) (Manifest, error) {
	job, err := a.jobOfPeer(ctx, peer, jobID)
	if err != nil {
		return Manifest{}, err
	}
	if job.Freeze.GUID == 0 {
		freeze := a.freeze
		if job.SourceSnapshot != 0 {
			freeze = a.freezeAtSnapshot
		}
		if err := freeze(ctx, job); err != nil {
			return Manifest{}, fmt.Errorf("freeze container %s: %w", job.SourceID, err)
		}
		if job, err = a.jobOfPeer(ctx, peer, jobID); err != nil {
			return Manifest{}, err
		}
	}
	return a.manifest(ctx, job)
}

// freeze lets the job share the container's next snapshot with all who ask before it is made; the first of them makes it.
func (a *Agent) freeze(ctx context.Context, job store.Job) error {
	round, turn, leads := a.freezes.join(job)
	if !leads {
		select {
		case <-round.done:
			return round.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer close(round.done)
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		a.freezes.close(job.SourceID, round)
		// The others of the round did nothing wrong; their jobs ask again.
		round.err = errdefs.New(errdefs.ErrUnavailable, "", "Another operation that shared this freeze was given up").WithCause(ctx.Err())
		return ctx.Err()
	}
	jobs := a.freezes.close(job.SourceID, round)
	if round.err = a.freezeFor(ctx, job.SourceID, jobs); round.err != nil && ctx.Err() != nil {
		round.err = errdefs.New(errdefs.ErrUnavailable, "", "Another operation that shared this freeze was given up").WithCause(round.err)
	}
	return round.err
}

// freezeFor finds or makes the snapshot that holds the container's state of now, and records it in the jobs.
func (a *Agent) freezeFor(ctx context.Context, containerID string, jobs []store.Job) error {
	release, err := a.pins.share(ctx)
	if err != nil {
		return err
	}
	defer release()
	_, err = a.store.GetContainer(ctx, containerID)
	if err != nil {
		if errors.Is(err, errdefs.ErrNotFound) {
			return sourceNotFound()
		}
		return err
	}
	instance, err := a.checkedSource(ctx, containerID)
	if err != nil {
		return err
	}
	dataset := InstanceDataset(instance.Name)
	current, err := a.pool.Dataset(ctx, dataset)
	if err != nil {
		return err
	}
	if current.Volume {
		return volumeSource()
	}
	// A snapshot that was made before somebody died is the one for the jobs it was made for. Who asked since wants a later state.
	var fresh []store.Job
	made := make(map[string][]store.Job)
	for _, job := range jobs {
		if _, exists := current.Snapshot(job.Freeze.Name); job.Freeze.Name != "" && exists {
			made[job.Freeze.Name] = append(made[job.Freeze.Name], job)
		} else {
			fresh = append(fresh, job)
		}
	}
	for name, those := range made {
		snapshot, _ := current.Snapshot(name)
		if err := a.recordFrozen(ctx, containerID, instance, store.Freeze{Name: name, GUID: snapshot.GUID, At: those[0].Freeze.At}, those, current); err != nil {
			return err
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	frozen := store.Freeze{At: a.now()} // the frozen state is the one of this moment or a later one
	reusable, reused, err := a.reusableFreeze(ctx, current, fresh)
	if err != nil {
		return err
	}
	frozen.Name, frozen.GUID, frozen.Reused = reusable.Name, reusable.GUID, reused
	if !reused {
		frozen.Name = newFreezeName(frozen.At)
		if err := a.changeFreezes(ctx, containerID, fresh, store.Freeze{}, func(job *store.Job) {
			job.Freeze = store.Freeze{Name: frozen.Name, At: frozen.At}
		}); err != nil {
			return err
		}
		made, err := a.pool.Snapshot(ctx, dataset, frozen.Name)
		if err != nil {
			return err
		}
		frozen.GUID = made.GUID
	}
	return a.recordFrozen(ctx, containerID, instance, frozen, fresh, current)
}

// recordFrozen records a snapshot that exists in the jobs that want it, and releases the source from them. current is the source's dataset
// as it was before the freeze.
func (a *Agent) recordFrozen(ctx context.Context, containerID string, instance Instance, frozen store.Freeze, jobs []store.Job, current lineage.Dataset) error {
	var goesAlong []store.Snapshot
	if slices.ContainsFunc(jobs, func(job store.Job) bool { return job.Kind == store.JobCopy }) {
		var err error
		if goesAlong, err = a.userSnapshots(ctx, containerID, 0, lineage.Inventory{Datasets: []lineage.Dataset{current}}); err != nil {
			return err
		}
	}
	a.log.Info("froze container", zap.String("container", containerID), zap.String("snapshot", frozen.Name), zap.Bool("reused", frozen.Reused), zap.Int("jobs", len(jobs)))
	first := jobs[0].ID
	for some := range slices.Chunk(jobs, max(1, maxFreezeHistory/max(1, sizeOfHistory(goesAlong)))) {
		if err := a.changeFreezes(ctx, containerID, some, frozen, func(job *store.Job) {
			job.Freeze = frozen
			job.Freeze.Reused = frozen.Reused || job.ID != first
			job.IDMap = instance.IDMap
			job.Config, job.RootSize = instance.Config, instance.RootSize
			if job.Kind == store.JobCopy {
				job.History = goesAlong
			}
		}); err != nil {
			return err
		}
	}
	return nil
}

// sizeOfHistory is how many bytes a history takes in a job's record.
func sizeOfHistory(history []store.Snapshot) int {
	encoded, err := json.Marshal(history)
	if err != nil {
		return maxFreezeHistory // alone in its transaction it says what is wrong
	}
	return len(encoded)
}

// freezeAtSnapshot is freeze for a job that names one of the source's snapshots: nothing has to be made, and the history
// that goes along is that snapshot and what led to it.
func (a *Agent) freezeAtSnapshot(ctx context.Context, job store.Job) error {
	release, err := a.pins.share(ctx)
	if err != nil {
		return err
	}
	defer release()
	instance, err := a.checkedSource(ctx, job.SourceID)
	if err != nil {
		return err
	}
	inventory, err := a.pool.Inventory(ctx)
	if err != nil {
		return err
	}
	if current, stands := inventory.Dataset(InstanceDataset(instance.Name)); stands && current.Volume {
		return volumeSource()
	}
	source, err := a.store.GetContainer(ctx, job.SourceID)
	if err != nil {
		return err
	}
	name, held := lineage.Locate(ownedBy(inventory, source.OwnerID))[job.SourceSnapshot]
	if !held {
		return errdefs.New(errdefs.ErrNotFound, "", "snapshot %s of container %s is gone from the pool", job.SourceSnapshot, job.SourceID)
	}
	ancestors, err := lineage.Ancestry(inventory, name)
	if err != nil {
		return err
	}
	goesAlong, err := a.userSnapshots(ctx, job.SourceID, job.SourceSnapshot, inventory)
	if err != nil {
		return err
	}
	goesAlong = slices.DeleteFunc(goesAlong, func(s store.Snapshot) bool {
		return !slices.ContainsFunc(ancestors, func(n lineage.Node) bool { return n.GUID == s.GUID })
	})
	_, short, _ := lineage.SplitSnapshot(name)
	frozen := store.Freeze{Name: short, GUID: job.SourceSnapshot, At: a.now(), Reused: true}
	idMap := instance.IDMap
	history, err := a.store.GetHistory(ctx, job.SourceID)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	for _, snapshot := range history.Snapshots { // not only of those that go along: one that undoes something can be copied, too
		if snapshot.GUID == job.SourceSnapshot {
			frozen.At, idMap = snapshot.CreatedAt, snapshot.IDMap
		}
	}
	return a.changeFreezes(ctx, job.SourceID, []store.Job{job}, frozen, func(job *store.Job) {
		job.Freeze, job.IDMap, job.Config, job.RootSize, job.History = frozen, idMap, instance.Config, instance.RootSize, goesAlong
	})
}

// userSnapshots lists what a copy takes along: everything that the user made, nothing that only undoes, unless it is the one
// that was asked for (0 for none): on the copy it undoes nothing, and unlisted nobody could ever say that it may go. The rest of the pool is looked
// at only for what the part that the caller has just seen does not hold.
func (a *Agent) userSnapshots(ctx context.Context, containerID string, asked lineage.GUID, seen lineage.Inventory) ([]store.Snapshot, error) {
	history, err := a.store.GetHistory(ctx, containerID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	goesAlong := slices.DeleteFunc(slices.Clone(history.Snapshots), func(s store.Snapshot) bool { return s.Undo && s.GUID != asked })
	if len(goesAlong) == 0 {
		return nil, nil
	}
	container, err := a.store.GetContainer(ctx, containerID)
	if err != nil {
		return nil, err
	}
	held := lineage.Locate(ownedBy(seen, container.OwnerID))
	lacking := func(s store.Snapshot) bool { _, there := held[s.GUID]; return !there }
	if slices.ContainsFunc(goesAlong, lacking) {
		inventory, err := a.pool.Inventory(ctx)
		if err != nil {
			return nil, err
		}
		held = lineage.Locate(ownedBy(inventory, container.OwnerID))
		goesAlong = slices.DeleteFunc(goesAlong, lacking) // one that somebody destroyed by hand cannot go along, and must not be listed as if it had
	}
	for i := range goesAlong {
		goesAlong[i].LastUsedAt, goesAlong[i].Undo, goesAlong[i].Missing = nil, false, false // that is about the source
	}
	return goesAlong, nil
}

// checkedSource returns the source's instance, or refuses what is not supported whole rather than copying half of it.
func (a *Agent) checkedSource(ctx context.Context, containerID string) (Instance, error) {
	instance, err := a.runtime.Instance(ctx, InstanceName(containerID))
	if err != nil {
		return Instance{}, err
	}
	if len(instance.Unsupported) > 0 {
		return Instance{}, unsupportedSource("%s", strings.Join(instance.Unsupported, "; "))
	}
	dataset := InstanceDataset(instance.Name)
	inside, err := a.pool.Activity(ctx, dataset) // of all that looks into a dataset this asks least of the pool
	if err != nil {
		return Instance{}, err
	}
	if nested := slices.Sorted(maps.Keys(inside)); len(nested) > 0 {
		return Instance{}, unsupportedSource("it holds the nested dataset %s", strings.TrimPrefix(nested[0], dataset+"/"))
	}
	return instance, nil
}

func volumeSource() error { return unsupportedSource("its root is a block volume") }

func unsupportedSource(format string, args ...any) error {
	return errdefs.New(errdefs.ErrUnsupported, "", "Container cannot be copied: "+format, args...)
}

// reusableFreeze looks for a snapshot of the agent's own that already holds the state of now: the sync base that a target
// holds, or the dataset's newest. It returns false when there is none. A user's snapshot is not lent: where a copy has only
// its base of it, nobody could tell there that its owner has deleted it.
func (a *Agent) reusableFreeze(ctx context.Context, current lineage.Dataset, jobs []store.Job) (store.SnapshotRef, bool, error) {
	var candidates []store.SnapshotRef
	for _, job := range jobs {
		if job.Kind != store.JobSync {
			continue
		}
		target, err := a.store.GetContainer(ctx, job.ContainerID)
		if err != nil {
			continue // its own agent will find out; here it only costs a reuse
		}
		for _, snapshot := range current.Snapshots {
			if snapshot.GUID == syncBase(&target) && !snapshot.DeferDestroy && lineage.OwnSnapshot(snapshot.Name) {
				candidates = append(candidates, store.SnapshotRef{GUID: snapshot.GUID, Name: snapshot.Name})
			}
		}
	}
	for _, snapshot := range slices.Backward(current.Snapshots) {
		if !lineage.OwnSnapshot(snapshot.Name) {
			break // a user's is newer: what is frozen now descends from it, whether or not it differs
		}
		if !snapshot.DeferDestroy {
			candidates = append(candidates, store.SnapshotRef{GUID: snapshot.GUID, Name: snapshot.Name})
			break
		}
	}
	for _, candidate := range slices.CompactFunc(candidates, func(x, y store.SnapshotRef) bool { return x.GUID == y.GUID }) {
		unchanged, err := a.unchangedSince(ctx, current.Name+"@"+candidate.Name)
		if err != nil {
			return store.SnapshotRef{}, false, err
		}
		if unchanged {
			return candidate, true, nil
		}
	}
	return store.SnapshotRef{}, false, nil
}

// syncBase is the source's state that a copy last took over; 0 for what is no copy.
func syncBase(container *store.Container) lineage.GUID {
	switch {
	case container.SourceContainerID == "":
		return 0
	case container.SyncBase == 0: // recorded before SyncBase existed
		return container.Generation.Base
	default:
		return container.SyncBase
	}
}

// changeFreezes changes the freeze of those jobs that are still open; a recorded GUID also releases the source.
// made is the snapshot that it was made into, zero before it is there.
func (a *Agent) changeFreezes(ctx context.Context, containerID string, jobs []store.Job, made store.Freeze, change func(*store.Job)) error {
	return a.persist(ctx, func(tx *store.Tx) error {
		container, err := tx.Container(containerID)
		gone := errors.Is(err, errdefs.ErrNotFound)
		if err != nil && !gone {
			return err
		}
		keys := inheritedKeys(container)
		released := make(map[string]bool)
		for _, asked := range jobs {
			job, err := tx.Job(asked.ServerID, asked.ID)
			if errors.Is(err, errdefs.ErrNotFound) {
				released[asked.ID] = true
				continue
			}
			if err != nil {
				return err
			}
			if !job.Open() || job.Freeze.GUID != 0 {
				released[job.ID] = true
				continue
			}
			change(&job)
			job.LateKeys = keys[min(job.KnownKeys, len(keys)):]
			released[job.ID] = job.Freeze.GUID != 0
			if err := tx.PutJob(job); err != nil {
				return err
			}
		}
		if gone {
			return nil
		}
		container.PendingFreezes = slices.DeleteFunc(container.PendingFreezes, func(id string) bool { return released[id] })
		noteFrozen(&container, made)
		return tx.PutContainer(container)
	})
}
