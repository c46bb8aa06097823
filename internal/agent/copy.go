package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Copy accepts a copy: one transaction makes the container, its claims and the job. The work follows on the target's server.
func (a *Agent) Copy(ctx context.Context, caller Caller, sourceID string, request CopyRequest) (CopyResult, error) {
	now := a.now()
	id := newID(now)
	public, private, err := keyFor(request.SSHPublicKey, "hoody-"+id)
	if err != nil {
		return CopyResult{}, err
	}
	var container store.Container
	var job store.Job
	var receipt store.Receipt
	err = a.acceptOnce(ctx, caller, &receipt, func(tx *store.Tx) error {
		source, sourceProject, err := visibleContainer(tx, caller, sourceID, store.PermissionRead, sourceNotFound())
		if err != nil {
			return err
		}
		project, err := copyTarget(tx, caller, sourceProject.UserID, request.TargetProjectID)
		if err != nil {
			return err
		}
		if !settled(source.Status) {
			return stateConflict("Container cannot be copied while it is %s", source.Status)
		}
		if _, err := a.serverForJob(tx, source.ServerID, caller.UserID); err != nil {
			return err
		}
		serverID := request.TargetServerID
		if serverID == "" {
			serverID = source.ServerID
		}
		if err := a.checkServerForContainer(tx, serverID, caller.UserID); err != nil {
			return err
		}
		container = copyRecord(source, request, store.Container{
			ID: id, ProjectID: project.ID, ServerID: serverID, OwnerID: project.UserID, Name: request.Name,
			SSHPublicKey: public, RealmIDs: project.RealmIDs, CreatedAt: now, UpdatedAt: now,
		})
		if err := enrol(tx, &container, project, copyName(source.Name)); err != nil {
			return err
		}
		job = a.newJob(store.JobCopy, container, caller)
		job.SourceID, job.SourceServerID = source.ID, source.ServerID
		job.KnownKeys = len(inheritedKeys(source))
		if request.SourceSnapshot != "" {
			snapshot, err := namedSnapshot(tx, source.ID, request.SourceSnapshot)
			if err != nil {
				return err
			}
			if err := refuseMissing(snapshot); err != nil {
				return err
			}
			job.SourceSnapshot = snapshot.GUID
		}
		source.PendingFreezes = append(slices.Clone(source.PendingFreezes), job.ID)
		if err := tx.PutContainer(source); err != nil {
			return err
		}
		receipt = receiptOf(job)
		return assignJob(tx, &container, job)
	})
	if err != nil {
		return CopyResult{}, err
	}
	if caller.repeats() {
		view, err := a.Container(ctx, caller, receipt.ContainerID)
		return CopyResult{View: view, JobID: receipt.JobID}, err
	}
	return CopyResult{View: a.view(container), PrivateKey: private, JobID: job.ID}, nil
}

// copyTarget is the project that a copy goes to: the caller may edit it, and it is the source's owner's.
func copyTarget(tx *store.Tx, caller Caller, owner, id string) (store.Project, error) {
	project, err := tx.Project(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return project, resourceNotFound("Target project")
	}
	if err != nil {
		return project, err
	}
	if err := allow(caller, project, store.PermissionEdit, resourceNotFound("Target project")); err != nil {
		return project, err
	}
	if !caller.sees(project.RealmIDs) {
		return project, errdefs.New(errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS", "Containers cannot be copied to another realm")
	}
	if project.UserID != owner {
		return project, errdefs.New(errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS", "Containers can be copied only between projects of the same owner")
	}
	return project, nil
}

// settled tells whether a container is in a state that can be copied or worked on.
func settled(status store.Status) bool {
	return status == store.StatusRunning || status == store.StatusStopped || status == store.StatusPaused
}

// copyRecord fills in what a copy takes over from its source.
func copyRecord(source store.Container, request CopyRequest, own store.Container) store.Container {
	own.Color = randomColor()
	own.Image = source.Image
	own.AI, own.HoodyKit, own.DevKit, own.Autostart, own.Ramdisk = source.AI, source.HoodyKit, source.DevKit, source.Autostart, source.Ramdisk
	own.RamdiskScope = source.RamdiskScope
	own.Env = source.Env
	own.Config = source.Config
	own.InheritedKeys = inheritedKeys(source)
	own.Comment = source.Comment
	own.SourceContainerID = source.ID
	own.CopyFirewallRules, own.CopyNetworkRules = request.CopyFirewallRules, request.CopyNetworkRules
	own.Status = store.StatusCopying
	return own
}

// copyName proposes names for a copy that came without one, within the contract's 100 characters.
func copyName(source string) func(attempt int) string {
	if len(source) > 80 {
		source = source[:80]
	}
	return func(attempt int) string {
		if attempt == 0 {
			return source + "-copy"
		}
		return fmt.Sprintf("%s-copy-%04d", source, randomInt(10000))
	}
}

// namedSnapshot finds one of a container's snapshots by name or, failing that, by alias, the newest first.
func namedSnapshot(tx *store.Tx, containerID, name string) (store.Snapshot, error) {
	history, err := historyOf(tx, containerID)
	if err != nil {
		return store.Snapshot{}, err
	}
	for _, snapshot := range history.Snapshots {
		if snapshot.Name == name {
			return snapshot, nil
		}
	}
	for _, snapshot := range slices.Backward(history.Snapshots) {
		if snapshot.Alias != nil && *snapshot.Alias == name {
			return snapshot, nil
		}
	}
	return store.Snapshot{}, resourceNotFound("Snapshot")
}

// A copy: freeze the source, replicate, check out into a new container, with the history.
var copyOperation = operation{
	phases: []phase{
		{name: "replicate", do: (*run).replicate, patient: true, costly: true},
		{name: "clone", do: (*run).cloneOrFetchAgain, patient: true},
		{name: "prepare", do: (*run).prepare, heavy: true},
		{name: "instance", do: (*run).createCopyInstance, heavy: true, outlastsRuntime: true},
		{name: phaseSwap, do: (*run).swap, uncancellable: true, outlastsRuntime: true},
		{name: "start", do: (*run).startCopy, outlastsRuntime: true, costly: true, uncancellable: true, firstStart: true},
		{name: "finish", do: (*run).finishCopy, concluding: true, uncancellable: true},
	},
	undo: (*run).undoCopy,
}

// cloneOrFetchAgain clones; a snapshot that went missing between the phases is fetched again.
func (r *run) cloneOrFetchAgain(ctx context.Context) error {
	err := r.clone(ctx)
	if errors.Is(err, errdefs.ErrStale) {
		if err := r.replicate(ctx); err != nil {
			return err
		}
		return r.clone(ctx)
	}
	return err
}

// createCopyInstance makes the instance that the generation will belong to; the runtime gives it an empty stub.
func (r *run) createCopyInstance(ctx context.Context) error {
	container, err := r.store.GetContainer(ctx, r.job.ContainerID)
	if err != nil {
		return err
	}
	err = r.runtime.CreateEmpty(ctx, r.instanceSpec(container, r.job.Config))
	if !errors.Is(err, errdefs.ErrAlreadyExists) {
		return err
	}
	if err := r.ownInstance(ctx); err != nil {
		return err
	}
	if _, err := r.pool.Dataset(ctx, ContainerDataset(container.ID)); !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	return r.removeHalfMade(ctx)
}

func (r *run) startCopy(ctx context.Context) error {
	if err := r.dropStub(ctx); err != nil {
		return err
	}
	return r.start(ctx, true)
}

// dropStub destroys the empty dataset that the runtime made and the swap displaced, or leaves it to collection: somebody may hold it, which is no
// reason to give up the copy. Anything that is not clearly it stays.
func (r *run) dropStub(ctx context.Context) error {
	stub, err := r.pool.Dataset(ctx, generationDataset(r.job.ID))
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(stub.Snapshots) > 0 || stub.Origin != "" || stub.Properties[propertyRole] != "" {
		return nil
	}
	err = r.pool.Destroy(ctx, stub.Name)
	if err == nil || errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err := r.leftToCollection(err); err != nil {
		return err
	}
	container, err := r.store.GetContainer(ctx, r.job.ContainerID)
	if err != nil {
		return err
	}
	marks := generationProperties(container, r.job.ID)
	delete(marks, propertyJob) // it is not the generation that the job made
	return r.leftToCollection(r.pool.SetProperties(ctx, stub.Name, marks))
}

func (r *run) finishCopy(ctx context.Context) error {
	if err := r.restoreAutostart(ctx); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	return r.finish(ctx, store.JobDone, func(tx *store.Tx, job *store.Job, container *store.Container) error {
		container.Status = store.StatusRunning
		container.FailureReason = ""
		container.Generation, container.SyncBase = job.Generation, job.Freeze.GUID
		container.IDMap = job.IDMap
		container.Config = job.Config
		container.InheritedKeys = withLateKeys(container.InheritedKeys, *job)
		container.SnapshotCount = len(job.History)
		container.UpdatedAt = job.Freeze.At // of a copy: the age of what it holds
		container.SyncedAt = job.Freeze.At
		return tx.PutHistory(store.History{ContainerID: container.ID, Snapshots: job.History})
	})
}

// undoCopy removes what the job made and leaves the container failed, with the reason, for its owner to delete.
func (r *run) undoCopy(ctx context.Context) error {
	if err := r.swapBack(ctx); err != nil {
		return err
	}
	if err := r.leftToCollection(r.dropIncoming(ctx)); err != nil {
		return err
	}
	if err := r.removeInstance(ctx); err != nil {
		return err
	}
	if err := r.leftToCollection(r.dropReplicas(ctx)); err != nil {
		return err
	}
	return r.finish(ctx, r.failure(), func(tx *store.Tx, job *store.Job, container *store.Container) error {
		if err := releaseSource(tx, *job); err != nil {
			return err
		}
		if err := r.tombstoneHistory(tx, *job, *container); err != nil {
			return err
		}
		return failContainer(tx, job, container)
	})
}

// tombstoneHistory buries the history that came along for a copy that failed: nobody lists it.
func (a *Agent) tombstoneHistory(tx *store.Tx, job store.Job, container store.Container) error {
	if job.Kind != store.JobCopy {
		return nil
	}
	return a.addTombstone(tx, container, guidsIn(job.History))
}

// releaseSource takes back a job's claim to freeze its source.
func releaseSource(tx *store.Tx, job store.Job) error {
	if job.SourceID == "" {
		return nil
	}
	source, err := tx.Container(job.SourceID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	source.PendingFreezes = slices.DeleteFunc(source.PendingFreezes, func(id string) bool { return id == job.ID })
	return tx.PutContainer(source)
}

func failContainer(_ *store.Tx, job *store.Job, container *store.Container) error {
	container.Status = store.StatusFailed
	if job.Error != nil {
		container.FailureReason = job.Error.Message
	}
	return nil
}
