package agent

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/identity"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// The phases of a checkout: make a new generation from a snapshot in this pool, give it what is the container's own, and
// swap it in. Dataset names and hoody:job alone tell how far a checkout has come, whatever the journal missed:
//
//	hoody/incoming/<job>      the new generation, until it is swapped in
//	containers/<instance>     with hoody:job=<job>: swapped in
//	hoody/generations/<job>   the generation that it displaced

// clone makes the new generation: O(1), no data moves, nothing is allocated.
func (r *run) clone(ctx context.Context) error {
	container, err := r.store.GetContainer(ctx, r.job.ContainerID)
	if err != nil {
		return err
	}
	release, err := r.pins.share(ctx)
	if err != nil {
		return err
	}
	defer release()
	inventory, err := r.pool.Inventory(ctx)
	if err != nil {
		return err
	}
	if current, exists := inventory.Dataset(ContainerDataset(r.job.ContainerID)); exists && r.made(current) {
		return nil // swapped in already
	}
	if _, exists := inventory.Dataset(incomingDataset(r.job.ID)); exists {
		return nil
	}
	base, held := lineage.Locate(ownedBy(inventory, container.OwnerID))[r.job.Freeze.GUID]
	if !held {
		return errdefs.New(errdefs.ErrStale, "", "snapshot %s is not in the pool", r.job.Freeze.GUID)
	}
	err = r.pool.Clone(ctx, base, incomingDataset(r.job.ID), generationProperties(container, r.job.ID))
	if errors.Is(err, errdefs.ErrNotFound) {
		return errdefs.New(errdefs.ErrStale, "", "snapshot %s moved", r.job.Freeze.GUID).WithCause(err) // settled or promoted meanwhile
	}
	return err
}

// prepare gives the new generation the container's identity and takes the marker snapshot, after which everything that
// differs was written by the container itself. The tree may come from another host: it is checked before it is touched.
func (r *run) prepare(ctx context.Context) error {
	container, err := r.store.GetContainer(ctx, r.job.ContainerID)
	if err != nil {
		return err
	}
	if swapped, err := r.swapped(ctx); swapped || err != nil {
		return err
	}
	incoming := incomingDataset(r.job.ID)
	spec := identity.Spec{AuthorizedKey: container.SSHPublicKey, RemoveKeys: withLateKeys(container.InheritedKeys, r.job), Hostname: container.Name}
	if r.job.Kind != store.JobCopy {
		if spec.Carried, err = r.keepIdentity(ctx, ContainerDataset(container.ID)); err != nil {
			return err
		}
	}
	return r.establish(ctx, incoming, spec)
}

// establish writes an identity into a dataset that nothing runs on and takes the marker of the job's generation.
func (r *run) establish(ctx context.Context, dataset string, spec identity.Spec) error {
	current, err := r.pool.Dataset(ctx, dataset)
	if err != nil {
		return err
	}
	marker := r.job.Generation.Marker.Name
	made, exists := current.Snapshot(marker)
	if marker == "" || !exists {
		if err := r.withTree(ctx, dataset, func(mount Mount) error { return identity.Apply(mount.Root(), spec) }); err != nil {
			return err
		}
		marker = newMarkerName(r.now())
		if err := r.journal(ctx, func(job *store.Job) {
			job.Generation = store.Generation{Marker: store.SnapshotRef{Name: marker}, Base: job.Freeze.GUID}
		}); err != nil {
			return err
		}
		if made, err = r.pool.Snapshot(ctx, dataset, marker); err != nil {
			return err
		}
	}
	return r.journal(ctx, func(job *store.Job) {
		job.Generation = store.Generation{Marker: store.SnapshotRef{Name: marker, GUID: made.GUID}, Base: job.Freeze.GUID}
	})
}

// keepIdentity reads what the container's new generation has to carry from the current one.
func (r *run) keepIdentity(ctx context.Context, dataset string) (kept *identity.Kept, err error) {
	err = r.withTree(ctx, dataset, func(mount Mount) error {
		kept, err = identity.Keep(mount.Root())
		return err
	})
	return kept, err
}

// withTree mounts a dataset for as long as use takes.
func (a *Agent) withTree(ctx context.Context, dataset string, use func(Mount) error) error {
	return withTree(ctx, a.pool, dataset, use)
}

func withTree(ctx context.Context, pool Pool, dataset string, use func(Mount) error) error {
	mount, err := pool.Mount(ctx, dataset)
	if err != nil {
		return err
	}
	err = use(mount)
	// Left mounted, the dataset would be the wrong one under the instance's name later: not a step further with it.
	if unmounted := mount.Unmount(context.WithoutCancel(ctx)); err == nil {
		err = unmounted
	}
	if err != nil {
		return fmt.Errorf("files of %s: %w", dataset, err)
	}
	return nil
}

// swapped tells whether the job's generation is the container's current one already.
func (r *run) swapped(ctx context.Context) (bool, error) {
	current, err := r.pool.Dataset(ctx, ContainerDataset(r.job.ContainerID))
	if errors.Is(err, errdefs.ErrNotFound) {
		return false, nil
	}
	return err == nil && r.made(current), err
}

// made tells whether a dataset is the job's generation.
func (r *run) made(dataset lineage.Dataset) bool { return dataset.Properties[propertyJob] == r.job.ID }

// swap makes the new generation the container's current one. The instance is down from here until start.
func (r *run) swap(ctx context.Context) error {
	instance := InstanceName(r.job.ContainerID)
	current := InstanceDataset(instance)
	if swapped, err := r.swapped(ctx); swapped || err != nil {
		return err
	}
	worth, err := r.worthKeeping(ctx, current) // as long as the container runs: a list of changes takes its time
	if err != nil {
		return err
	}
	before, err := r.runtime.Instance(ctx, instance)
	if err != nil {
		return err
	}
	if err := refuseTooMany(before); err != nil {
		return err
	}
	if err := r.tryLimits(ctx, before); err != nil {
		return err
	}
	if r.job.StoppedAt == nil {
		prior, err := r.displacedStatus(before)
		if err != nil {
			return err
		}
		if err := r.journal(ctx, func(job *store.Job) {
			job.StoppedAt, job.PriorIDMap, job.PriorStatus = new(r.now()), before.IDMap, prior
		}); err != nil {
			return err
		}
	}
	// Whatever happens between here and the job's end, only the job starts this instance.
	halt := func(ctx context.Context, instance string) error {
		if err := r.noticeStart(ctx, instance); err != nil {
			return err
		}
		return r.halt(ctx, instance)
	}
	if err := r.configureBeforeStop(ctx, instance, map[string]string{ConfigAutostart: "false"}, halt); err != nil {
		return err
	}
	if err := halt(ctx, instance); err != nil {
		return err
	}
	if r.job.IDMap != before.IDMap { // only now: one that does not stop goes on with its own
		if err := r.runtime.Configure(ctx, instance, map[string]string{ConfigIDMap: r.job.IDMap}); err != nil {
			return err
		}
	}
	if err := r.keepUndo(ctx, current, worth); err != nil {
		return err
	}
	if err := r.displace(ctx, current, generationDataset(r.job.ID)); err != nil {
		return err
	}
	if err := r.giveUpReservation(ctx, generationDataset(r.job.ID), before); err != nil {
		return err
	}
	if err := r.adopt(ctx, instance); err != nil {
		return err
	}
	return r.pool.Rename(ctx, incomingDataset(r.job.ID), current)
}

// configureBeforeStop changes the configuration of an instance that is about to be stopped. One that has not heeded an earlier stop takes none until it
// is: Incus keeps that stop's lock, and only another stop gets past it (tried).
func (r *run) configureBeforeStop(ctx context.Context, instance string, config map[string]string, stop func(context.Context, string) error) error {
	err := r.runtime.Configure(ctx, instance, config)
	if !errors.Is(err, errdefs.ErrBusy) {
		return err
	}
	if err := stop(ctx, instance); err != nil {
		return err
	}
	return r.runtime.Configure(ctx, instance, config)
}

// displacedStatus is what the container goes back to after the swap: what the runtime says it is now. The record may be behind
// an admin who used the runtime, by a moment when the job was accepted, by hours when a long transfer came before.
func (r *run) displacedStatus(instance Instance) (store.Status, error) {
	status := statusOf(instance)
	switch {
	case r.job.Kind == store.JobCopy || !settled(status):
		return r.job.PriorStatus, nil
	case status == store.StatusPaused:
		return "", stateConflict("Container was paused meanwhile; what runs in it would be lost")
	default:
		return status, nil
	}
}

// noticeStart looks once more before the instance is halted: one that seemed to be stopped may have been on its way through a
// restart, or was started since by somebody else. It is to run again.
func (r *run) noticeStart(ctx context.Context, name string) error {
	if r.job.Kind == store.JobCopy || r.job.PriorStatus != store.StatusStopped {
		return nil
	}
	instance, err := r.runtime.Instance(ctx, name)
	if err != nil || statusOf(instance) != store.StatusRunning {
		return err
	}
	return r.journal(ctx, func(job *store.Job) { job.PriorStatus = store.StatusRunning })
}

// halt stops the instance, at first by asking it.
func (r *run) halt(ctx context.Context, instance string) error {
	err := r.runtime.Stop(ctx, instance, r.options.StopTimeout)
	if errors.Is(err, errdefs.ErrBusy) && !r.options.NoForceStop {
		r.log.Info("the container does not stop by itself; stops it by force", zap.Error(err))
		err = r.runtime.ForceStop(ctx, instance)
	}
	return err
}

// end stops an instance that is to go, or whose generation is: by force if need be, whatever is configured for those that stay.
func (r *run) end(ctx context.Context, instance string) error {
	err := r.halt(ctx, instance)
	if errors.Is(err, errdefs.ErrBusy) {
		err = r.runtime.ForceStop(ctx, instance)
	}
	return err
}

// displace moves the current generation aside. Mounted still, it is moved back: somebody uses it. An earlier attempt may
// have moved it and died before it looked.
func (r *run) displace(ctx context.Context, current, aside string) error {
	if err := r.pool.Rename(ctx, current, aside); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	mounted, err := r.pool.Mounted(ctx, aside)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil // there was nothing to move
	}
	if err != nil || mounted {
		if back := r.pool.Rename(ctx, aside, current); back != nil {
			return errors.Join(err, back)
		}
	}
	if mounted {
		return stillMounted(current)
	}
	return err
}

func stillMounted(dataset string) error {
	return errdefs.New(errdefs.ErrBusy, "", "The container's files are still in use on the host").WithCause(fmt.Errorf("dataset %s is mounted", dataset))
}

// swapBack undoes swap: the displaced generation is current again, the new one where it was before.
func (r *run) swapBack(ctx context.Context) error {
	current := ContainerDataset(r.job.ContainerID)
	swapped, err := r.swapped(ctx)
	if err != nil {
		return err
	}
	if swapped && r.job.Generation.Marker.GUID == 0 {
		return errdefs.New(errdefs.ErrInternal, "", "The operation went further than its record says").WithCause(fmt.Errorf("the generation at %s was finished later", current))
	}
	aside := generationDataset(r.job.ID)
	if _, err := r.pool.Dataset(ctx, aside); swapped && r.job.Kind != store.JobCopy && errors.Is(err, errdefs.ErrNotFound) {
		// Without the old generation the new one is all there is; it stays.
		return errdefs.New(errdefs.ErrInternal, "", "The files that the container had before are gone").WithCause(fmt.Errorf("displaced generation %s", aside))
	}
	if swapped {
		if err := r.end(ctx, InstanceName(r.job.ContainerID)); err != nil {
			return err
		}
		if err := r.displace(ctx, current, incomingDataset(r.job.ID)); err != nil {
			return err
		}
	} else if err := r.incomingUnmounted(ctx, aside); err != nil {
		return err
	}
	if err := r.pool.Rename(ctx, aside, current); err != nil && !errors.Is(err, errdefs.ErrNotFound) && !errors.Is(err, errdefs.ErrAlreadyExists) {
		return err
	}
	return nil
}

// incomingUnmounted refuses when a swap back was cut off between its renames and the new generation is still mounted: if that is at the
// instance's path, the instance would start on it, and nothing here tells one mount from another.
func (r *run) incomingUnmounted(ctx context.Context, aside string) error {
	if _, err := r.pool.Dataset(ctx, aside); err != nil {
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		return err
	}
	mounted, err := r.pool.Mounted(ctx, incomingDataset(r.job.ID))
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err == nil && mounted {
		err = stillMounted(incomingDataset(r.job.ID))
	}
	return err
}

// dropIncoming destroys the generation that the job made and nobody will use.
func (r *run) dropIncoming(ctx context.Context) error {
	incoming, err := r.pool.Dataset(ctx, incomingDataset(r.job.ID))
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if incoming.Properties[propertyJob] != r.job.ID {
		return nil // not ours to destroy
	}
	for _, snapshot := range incoming.Snapshots {
		if !agentMade(snapshot.Name) { // nor is what somebody made of it while it was in place
			return errdefs.New(errdefs.ErrBusy, "", "%s holds snapshot %s of somebody else", incoming.Name, snapshot.Name)
		}
	}
	if err := r.pool.Destroy(ctx, incoming.Name); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	return nil
}

// start sets the properties that belong to the container on its new generation and boots it if it is to run. One that runs was started by an
// earlier attempt, and has them: whatever may be refused by now, nothing of what it has written since may be undone.
func (r *run) start(ctx context.Context, toRun bool) error {
	name := InstanceName(r.job.ContainerID)
	instance, err := r.runtime.Instance(ctx, name)
	if err != nil {
		return err
	}
	if status := statusOf(instance); status == store.StatusRunning || status == store.StatusPaused {
		if r.startedAt.IsZero() {
			r.startedAt = r.now()
		}
		return nil
	}
	if instance.Status == InstanceError { // it may be starting already, by an attempt whose answer was lost, on a host that is busy
		return errdefs.New(errdefs.ErrAborted, "", "The host reports that the container is in a state of error")
	}
	if err := r.limitRoot(ctx, instance); err != nil {
		return err
	}
	if toRun {
		if err := r.startInstance(ctx, name); err != nil {
			return err
		}
	}
	r.startedAt = r.now()
	return nil
}

// startInstance starts an instance. A failure that nobody can explain is told in words that callers may read, too; the runtime's own are the log's.
func (r *run) startInstance(ctx context.Context, name string) error {
	err := r.runtime.Start(ctx, name)
	var told *errdefs.Error
	if errdefs.ClassOf(err) == errdefs.ErrInternal && !errors.As(err, &told) {
		return errdefs.New(errdefs.ErrInternal, "", "The container does not start").WithCause(err)
	}
	return err
}

// downMillis is how long the container was down for the swap: until it was started, or now.
func (r *run) downMillis() int64 {
	if r.job.StoppedAt == nil {
		return 0
	}
	up := r.startedAt
	if up.IsZero() {
		up = r.now()
	}
	return up.Sub(*r.job.StoppedAt).Milliseconds()
}
