package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// What sync and restore share: how a checkout ends, well or not, into a container that had a generation before.

// startAsBefore starts what ran when the operation was accepted; what was stopped stays stopped.
func (r *run) startAsBefore(ctx context.Context) error {
	return r.start(ctx, r.job.PriorStatus == store.StatusRunning)
}

// finishReplace records that the container is on its new generation, and lists what was kept of the displaced one. change
// adds what the kind of operation has to say.
func (r *run) finishReplace(ctx context.Context, change func(*store.Tx, *store.Job, *store.Container) error) error {
	if err := r.restoreAutostart(ctx); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	return r.finish(ctx, store.JobDone, func(tx *store.Tx, job *store.Job, container *store.Container) error {
		job.Progress.DownMillis = r.downMillis()
		container.Status = job.PriorStatus
		container.FailureReason = ""
		container.Generation = job.Generation
		container.IDMap = job.IDMap
		container.InheritedKeys = withLateKeys(container.InheritedKeys, *job)
		if err := change(tx, job, container); err != nil {
			return err
		}
		if err := listAdopted(tx, *job, container); err != nil {
			return err
		}
		if err := listUndo(tx, *job, container); err != nil {
			return err
		}
		return r.limitUndo(tx, *job, container)
	})
}

// undoReplace leaves the container as it was before, running if it ran. What was received and nobody has built on goes, too.
func (r *run) undoReplace(ctx context.Context) error {
	if err := r.swapBack(ctx); err != nil {
		return err
	}
	status, ran := r.job.PriorStatus, r.job.IDMap
	if r.job.PriorIDMap != "" && r.job.PriorIDMap != r.job.IDMap {
		instance, err := r.runtime.Instance(ctx, InstanceName(r.job.ContainerID))
		if err != nil {
			return err
		}
		if instance.IDMap != r.job.PriorIDMap {
			ran = instance.IDMap // of what is taken back, should it have run
		}
		// What is in place again has the id map that it had; under the other one a start would shift its owners.
		if err := r.runtime.Configure(ctx, InstanceName(r.job.ContainerID), map[string]string{ConfigIDMap: r.job.PriorIDMap}); err != nil {
			return err
		}
	}
	instance, err := r.runtime.Instance(ctx, InstanceName(r.job.ContainerID))
	if err == nil {
		err = r.giveUpReservation(ctx, incomingDataset(r.job.ID), instance)
	}
	if err == nil {
		err = r.limitRoot(ctx, instance)
	}
	if err != nil { // a reservation that it cannot have back is no reason to keep the container down
		r.log.Warn("limits not set again", zap.Error(err))
	}
	if r.job.StoppedAt != nil && status == store.StatusRunning { // else it runs, or somebody else has stopped it
		if err := r.startAgain(ctx); err != nil {
			if errors.Is(err, errdefs.ErrUnavailable) {
				return err
			}
			r.log.Error("the container does not start again after a failed "+string(r.job.Kind), zap.Error(err))
			status = store.StatusStopped
		}
	}
	err = r.restoreAutostart(ctx)
	late := false
	switch {
	case err == nil || errors.Is(err, errdefs.ErrNotFound):
	case errdefs.Retryable(err) && !errors.Is(err, errdefs.ErrBusy):
		return err
	default: // it has not heeded the stop and takes no configuration until it does, or nobody knows why: that breaks no container
		r.log.Warn("autostart not set again", zap.Error(err))
		late = true
	}
	// Only now that the container runs again: somebody may hold what is to go.
	rescued := r.rescue(ctx, ran)
	if err := r.leftToCollection(rescued); err != nil {
		return err
	}
	if rescued == nil {
		if err := r.leftToCollection(r.dropIncoming(ctx)); err != nil {
			return err
		}
	}
	if err := r.leftToCollection(r.dropReplicas(ctx)); err != nil {
		return err
	}
	giveUp, err := r.unlisted(ctx, r.job.UndoName)
	if err := r.leftToCollection(err); err != nil {
		return err
	}
	if giveUp == nil { // the pool does not tell; the journal may
		giveUp = func(tx *store.Tx, container store.Container) error {
			if r.job.Undo == nil {
				return nil
			}
			return r.addTombstone(tx, container, []lineage.GUID{r.job.Undo.GUID})
		}
	}
	return r.finish(ctx, r.failure(), func(tx *store.Tx, job *store.Job, container *store.Container) error {
		if err := releaseSource(tx, *job); err != nil {
			return err
		}
		if err := giveUp(tx, *container); err != nil {
			return err
		}
		if late {
			container.Settings.Revision++ // comes with the settings, when it can
		}
		container.Status = status
		if err := listAdopted(tx, *job, container); err != nil { // the runtime's records of them are gone
			return err
		}
		if r.options.UndoSnapshots < 0 {
			return nil
		}
		return r.limitUndo(tx, *job, container)
	})
}

// leftToCollection returns an error of clearing up only if another attempt may get over it, and it is not that something is in use: nobody
// waits for that. All else is left to garbage collection, so that a container which is in order does not end as failed.
func (r *run) leftToCollection(err error) error {
	if err == nil || errdefs.Retryable(err) && !errors.Is(err, errdefs.ErrBusy) {
		return err
	}
	r.log.Warn("left to collection", zap.Error(err))
	return nil
}

// rescue keeps what the container has written on the generation that is taken back: it may have run for hours on it while the store was
// away, and not start again later. What is there becomes a snapshot, listed like one that undoes, of a displaced generation. idMap is the one
// that its files are owned by.
func (r *run) rescue(ctx context.Context, idMap string) error {
	incoming, err := r.pool.Dataset(ctx, incomingDataset(r.job.ID))
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	since, ok := markerOf(incoming, r.job.Generation)
	if !ok || !r.made(incoming) {
		return nil // nothing has run on it
	}
	name := "hoody-" + r.job.ID // the one name that it can have: an attempt that did not get further has left it
	made, rescued := incoming.Snapshot(name)
	if !rescued {
		unchanged, err := r.unchangedSince(ctx, incoming.Name+"@"+since.Name)
		if errdefs.Retryable(err) || err == nil && unchanged {
			return err
		}
		if err != nil { // where nobody can tell, it has changed
			r.log.Warn("changes of the generation that is taken back not found out", zap.Error(err))
		}
		if made, err = r.pool.Snapshot(ctx, incoming.Name, name); err != nil {
			return err
		}
		r.log.Warn("keeps what was written on the generation that is taken back", zap.String("snapshot", name))
	}
	if err := r.journal(ctx, func(job *store.Job) {
		if slices.Contains(guidsIn(job.Adopted), made.GUID) {
			return
		}
		now := r.now().Truncate(time.Millisecond)
		job.Adopted = append(job.Adopted, store.Snapshot{
			Name: now.Format("during-" + string(job.Kind) + "-20060102-150405"), GUID: made.GUID, Undo: true, IDMap: idMap,
			Size: made.Referenced, CreatedAt: now, ExpiresAt: new(now.Add(r.options.UndoExpiry)),
		})
	}); err != nil {
		return err
	}
	return r.pool.Rename(ctx, incoming.Name, generationDataset(r.job.ID+"-rescued"))
}

// startAgain starts what ran before the operation, as often as what was to replace it.
func (r *run) startAgain(ctx context.Context) error {
	pauses := newPauses(r.job.Progress)
	for attempt := 1; ; attempt++ {
		err := r.startInstance(ctx, InstanceName(r.job.ContainerID))
		if err == nil || errors.Is(err, errdefs.ErrUnavailable) || attempt >= costlyAttempts {
			return err
		}
		r.log.Warn("the container is started again", zap.Int("attempt", attempt), zap.Error(err))
		if err := sleep(ctx, max(pauses.next(r.job.Progress), r.options.UnexplainedPause)); err != nil {
			return err
		}
	}
}
