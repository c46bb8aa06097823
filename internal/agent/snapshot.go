package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// CreateSnapshot takes a snapshot and returns when it exists.
func (a *Agent) CreateSnapshot(ctx context.Context, caller Caller, id string, request CreateSnapshotRequest) (SnapshotResult, error) {
	if err := a.snapshotsReadable(ctx); err != nil {
		return SnapshotResult{}, err
	}
	var job store.Job
	var receipt store.Receipt
	err := a.acceptOnce(ctx, caller, &receipt, func(tx *store.Tx) error {
		container, _, err := visibleContainer(tx, caller, id, store.PermissionEdit, containerNotFound())
		if err != nil {
			return err
		}
		if container.JobID != "" && container.Generation.Marker.GUID == 0 {
			return errdefs.New(errdefs.ErrBusy, "container_finalizing", "Container is still being set up")
		}
		if container.JobID != "" {
			return snapshotOperationInProgress()
		}
		if !settled(container.Status) {
			return stateConflict("Container cannot be snapshotted while it is %s", container.Status)
		}
		server, err := a.serverForJob(tx, container.ServerID, caller.UserID)
		if err != nil {
			return err
		}
		history, err := historyOf(tx, id)
		if err != nil {
			return err
		}
		if used, limit := countUserSnapshots(history), a.maxSnapshots(server); used >= limit {
			return errdefs.New(errdefs.ErrInvalid, "CONTAINER_SNAPSHOT_LIMIT", "The container has reached its snapshot limit").WithData(map[string]any{
				"field": "container_snapshot_limit", "container_id": id, "server_id": container.ServerID, "current_count": used, "limit": limit})
		}
		if request.Alias != nil {
			if err := refuseTakenAlias(history, "", *request.Alias); err != nil {
				return err
			}
		}
		now := a.now().Truncate(time.Millisecond)
		snapshot := &store.Snapshot{Name: snapshotName(history, request.Alias, now), Alias: request.Alias, CreatedAt: now}
		if request.ExpiryDays != nil {
			snapshot.ExpiresAt = new(now.AddDate(0, 0, *request.ExpiryDays))
		}
		job = a.newJob(store.JobSnapshot, container, caller)
		job.Snapshot = snapshot
		receipt = receiptOf(job)
		return assignJob(tx, &container, job)
	})
	if err != nil {
		return SnapshotResult{}, err
	}
	result, err := a.awaitSnapshot(ctx, caller, receipt)
	if err == nil && caller.repeats() {
		result.Snapshot, err = a.snapshotNow(receipt.ContainerID, result.Snapshot.GUID)
	}
	return result, err
}

// snapshotNow is a snapshot as its container lists it by now.
func (a *Agent) snapshotNow(containerID string, guid lineage.GUID) (store.Snapshot, error) {
	if history, ok := a.store.Mirror().History(containerID); ok {
		for _, snapshot := range history.Snapshots {
			if snapshot.GUID == guid {
				return snapshot, nil
			}
		}
	}
	return store.Snapshot{}, resourceNotFound("Snapshot")
}

// awaitSnapshot waits for a job about a snapshot and returns it as the job left it.
func (a *Agent) awaitSnapshot(ctx context.Context, caller Caller, receipt store.Receipt) (SnapshotResult, error) {
	ended, err := a.awaitReceipt(ctx, caller, receipt)
	var failed *errdefs.Error
	if errors.As(err, &failed) && ended.ID != "" && failed.Class != errdefs.ErrExhausted && failed.Class != errdefs.ErrUnavailable {
		return SnapshotResult{}, hostFailure(failed, "CONTAINER_HOST_COMMAND_FAILED")
	}
	if err != nil {
		return SnapshotResult{}, err
	}
	container, ok := a.store.Mirror().Container(receipt.ContainerID)
	if !ok {
		return SnapshotResult{}, containerNotFound()
	}
	return SnapshotResult{Container: *container, Snapshot: *ended.Snapshot}, nil
}

// snapshotsReadable says in the contract's words, before anything is changed, that limit and aliases cannot be checked.
func (a *Agent) snapshotsReadable(ctx context.Context) error {
	_, err := a.store.Barrier(ctx)
	if errors.Is(err, errdefs.ErrUnavailable) {
		return errdefs.New(errdefs.ErrUnavailable, "SNAPSHOT_INVENTORY_UNAVAILABLE", "The container's snapshots cannot be looked at now; nothing was changed").WithCause(err)
	}
	return err
}

// maxSnapshots is how many a user may keep of a container of the server; it is in the record of every server that has
// registered since that field exists.
func (a *Agent) maxSnapshots(server store.Server) int {
	if server.MaxSnapshots > 0 {
		return server.MaxSnapshots
	}
	return a.options.Server.MaxSnapshots
}

// refuseTakenAlias refuses an alias under which another snapshot than the named one would be found, too.
func refuseTakenAlias(history store.History, name, alias string) error {
	for _, snapshot := range history.Snapshots {
		if snapshot.Name != name && (snapshot.Name == alias || snapshot.Alias != nil && *snapshot.Alias == alias) {
			return errdefs.New(errdefs.ErrAlreadyExists, "RESOURCE_ALREADY_EXISTS", "A snapshot of this container already has that name or alias")
		}
	}
	return nil
}

// snapshotName derives the canonical name: the alias reduced to letters, digits, _ and -, without leading hyphens, or
// else the time. A name that is taken gets a number.
func snapshotName(history store.History, alias *string, now time.Time) string {
	name := ""
	if alias != nil {
		name = strings.TrimLeft(strings.Map(func(c rune) rune {
			if c < 128 && (c == '_' || c == '-' || unicode.IsLetter(c) || unicode.IsDigit(c)) {
				return c
			}
			return -1
		}, *alias), "-")
	}
	if name == "" {
		name = now.Format("snap-20060102-150405")
	}
	candidate := name
	for n := 2; snapshotNamed(history, candidate); n++ {
		candidate = fmt.Sprintf("%s-%d", name, n)
	}
	return candidate
}

// Snapshots lists a container's snapshots, newest first. Automatic ones are listed, too: they can be restored.
func (a *Agent) Snapshots(ctx context.Context, caller Caller, id string) (SnapshotList, error) {
	container, err := a.readContainer(ctx, caller, id)
	if err != nil {
		return SnapshotList{}, err
	}
	list := SnapshotList{Container: container, MaxSnapshots: a.options.Server.MaxSnapshots}
	if server, ok := a.store.Mirror().Server(container.ServerID); ok {
		list.MaxSnapshots = a.maxSnapshots(*server)
	}
	if history, ok := a.store.Mirror().History(id); ok {
		list.Snapshots = slices.Clone(history.Snapshots)
		slices.Reverse(list.Snapshots)
	}
	return list, nil
}

// A snapshot: the name is journalled, the snapshot made, the record written.
var snapshotOperation = operation{
	phases: []phase{
		{name: "snapshot", do: (*run).takeSnapshot},
		{name: "finish", do: (*run).finishSnapshot, patient: true},
	},
	undo:        (*run).undoSnapshot,
	leavesFiles: true,
}

func (r *run) takeSnapshot(ctx context.Context) error {
	instance, err := r.runtime.Instance(ctx, InstanceName(r.job.ContainerID))
	if err != nil {
		return err
	}
	dataset := InstanceDataset(instance.Name)
	current, err := r.pool.Dataset(ctx, dataset)
	if err != nil {
		return err
	}
	name := r.job.Freeze.Name
	made, exists := current.Snapshot(name)
	if name == "" || !exists {
		name = newSnapshotName(r.now())
		if err := r.journal(ctx, func(job *store.Job) { job.Freeze = store.Freeze{Name: name, At: r.now()} }); err != nil {
			return err
		}
		if made, err = r.pool.Snapshot(ctx, dataset, name); err != nil {
			return err
		}
	}
	return r.journal(ctx, func(job *store.Job) {
		job.Freeze.GUID = made.GUID
		job.IDMap = instance.IDMap
		job.Snapshot.GUID, job.Snapshot.Size, job.Snapshot.IDMap = made.GUID, made.Referenced, instance.IDMap
	})
}

// historyOf reads a container's history, which is empty where nothing was listed yet.
func historyOf(tx *store.Tx, containerID string) (store.History, error) {
	history, err := tx.History(containerID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return store.History{ContainerID: containerID}, nil
	}
	return history, err
}

func (r *run) finishSnapshot(ctx context.Context) error {
	return r.finish(ctx, store.JobDone, func(tx *store.Tx, job *store.Job, container *store.Container) error {
		history, err := historyOf(tx, container.ID)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(history.Snapshots, func(s store.Snapshot) bool { return s.Name == job.Snapshot.Name }) {
			return nil
		}
		history.Snapshots = append(slices.Clone(history.Snapshots), *job.Snapshot)
		container.SnapshotCount = countUserSnapshots(history)
		noteFrozen(container, job.Freeze)
		return tx.PutHistory(history)
	})
}

// undoSnapshot gives up the request.
func (r *run) undoSnapshot(ctx context.Context) error {
	giveUp, err := r.unlisted(ctx, r.job.Freeze.Name)
	if err != nil {
		return err
	}
	return r.finish(ctx, r.failure(), func(tx *store.Tx, _ *store.Job, container *store.Container) error {
		return giveUp(tx, *container)
	})
}

// unlisted finds what a job may have made in the container's dataset under a journalled name, empty for none, that nobody
// will list. What it returns records that it may go: without that it would be kept, for nobody knows whose it is.
func (r *run) unlisted(ctx context.Context, name string) (giveUp func(*store.Tx, store.Container) error, err error) {
	nothing := func(*store.Tx, store.Container) error { return nil }
	if name == "" {
		return nothing, nil
	}
	current, err := r.pool.Dataset(ctx, ContainerDataset(r.job.ContainerID))
	if errors.Is(err, errdefs.ErrNotFound) {
		return nothing, nil
	}
	if err != nil {
		return nil, err
	}
	made, exists := current.Snapshot(name)
	if !exists {
		return nothing, nil
	}
	return func(tx *store.Tx, container store.Container) error {
		return r.addTombstone(tx, container, []lineage.GUID{made.GUID})
	}, nil
}

func countUserSnapshots(history store.History) int {
	count := 0
	for _, snapshot := range history.Snapshots {
		if !snapshot.Undo {
			count++
		}
	}
	return count
}

// snapshotNamed tells whether a list has a snapshot of that name or alias.
func snapshotNamed(history store.History, name string) bool {
	return slices.ContainsFunc(history.Snapshots, func(s store.Snapshot) bool { return s.Name == name || s.Alias != nil && *s.Alias == name })
}

// sortByAge puts the oldest first.
func sortByAge(snapshots []store.Snapshot) {
	slices.SortStableFunc(snapshots, func(x, y store.Snapshot) int { return x.CreatedAt.Compare(y.CreatedAt) })
}
