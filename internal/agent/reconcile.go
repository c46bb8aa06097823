package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// findings are what the last look around found.
type findings struct {
	mu   sync.Mutex
	list []Finding
	soon chan struct{} // a value asks for a look
}

// Findings lists what is not as the records say, as of the last look: first why the records are not trusted, if they are not.
func (a *Agent) Findings() []Finding {
	var all []Finding
	if degraded := a.Degraded(); degraded != nil {
		all = append(all, *degraded)
	}
	a.findings.mu.Lock()
	defer a.findings.mu.Unlock()
	return append(all, a.findings.list...)
}

// reconcileSoon asks for a look around; requests that come together are one.
func (a *Agent) reconcileSoon() {
	select {
	case a.findings.soon <- struct{}{}:
	default:
	}
}

// reconcile looks around at the start, when the runtime reports what the agent did not do, and from time to time.
func (a *Agent) reconcile(ctx context.Context) error {
	tick := time.NewTicker(a.options.InspectInterval)
	defer tick.Stop()
	for {
		if err := a.LookAround(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("instances and datasets not compared with the records", zap.Error(err))
		}
		// Events come in crowds, and a look costs two listings of the pool.
		if err := sleep(ctx, min(a.options.InspectInterval/10, 2*time.Second)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-a.findings.soon:
		}
	}
}

// LookAround notes what does not agree and does what can be done without destroying anything: a container that lost its
// instance or files fails until they are back, files that the runtime put aside are taken back, and lists say which of their
// snapshots are missing. While the records are not trusted it only notes. Run calls it from time to time.
func (a *Agent) LookAround(ctx context.Context) error {
	seen, err := a.scene(ctx)
	if err != nil {
		return err
	}
	i := inspect(seen)
	a.noteFindings(i.findings)
	if err := a.observeChanged(ctx, seen); err != nil {
		return err
	}
	if len(i.failed) == 0 && len(i.found) == 0 && len(i.takeBack) == 0 && len(i.missing) == 0 {
		return nil
	}
	if err := a.trusted(ctx); err != nil {
		if errors.Is(err, errdefs.ErrFailedPrecondition) {
			return nil
		}
		return err
	}
	var failed error
	for id, reason := range i.failed {
		failed = errors.Join(failed, a.lose(ctx, id, reason))
	}
	for _, id := range i.found {
		failed = errors.Join(failed, a.regain(ctx, id))
	}
	for _, name := range i.takeBack {
		failed = errors.Join(failed, a.takeBack(ctx, name))
	}
	if len(i.missing) > 0 {
		failed = errors.Join(failed, a.markMissing(ctx, i.missing), a.noteMarked(ctx))
	}
	return failed
}

// observeChanged looks again at the containers whose instances are in another state than the records say. Of some changes no event tells: a container that halts
// after its stop has run out of time ends without one (driver_lxc.go of Incus 6.23, onStop), and a look after an event may have failed.
func (a *Agent) observeChanged(ctx context.Context, seen scene) error {
	records := make(map[string]*store.Container)
	for _, container := range seen.containers {
		records[container.ID] = container
	}
	var failed error
	for _, instance := range seen.instances {
		record := records[instance.ContainerID]
		if record != nil && instance.Name == InstanceName(record.ID) && record.JobID == "" && record.Status != statusOf(instance) {
			failed = errors.Join(failed, a.observeOne(ctx, record.ID))
		}
	}
	return failed
}

// noteMarked notes what is known to be missing now that it is marked.
func (a *Agent) noteMarked(ctx context.Context) error {
	seen, err := a.scene(ctx)
	if err == nil {
		a.noteFindings(inspect(seen).findings)
	}
	return err
}

// scene looks at the records last: what an operation makes or removes meanwhile shows as an operation there.
func (a *Agent) scene(ctx context.Context) (s scene, err error) {
	s.settledBefore = a.now().Add(-a.options.InspectInterval)
	if s.inventory, err = a.pool.Inventory(ctx); err != nil {
		return s, err
	}
	if s.instances, err = a.runtime.Instances(ctx); err != nil {
		return s, err
	}
	if _, err := a.store.Barrier(ctx); err != nil {
		return s, err
	}
	mirror := a.store.Mirror()
	s.containers = mirror.ContainersOnServer(a.serverID)
	s.histories, s.jobs = make(map[string]*store.History), make(map[string]*store.Job)
	for _, container := range s.containers {
		if history, ok := mirror.History(container.ID); ok {
			s.histories[container.ID] = history
		}
	}
	for _, job := range mirror.Jobs() {
		justOver := job.FinishedAt != nil && a.now().Sub(*job.FinishedAt) < a.options.InspectInterval // garbage collection has yet to come by
		if job.ServerID == a.serverID && (job.Open() || justOver) {
			s.jobs[job.ID] = job
		}
	}
	return s, nil
}

// noteFindings keeps the findings, with the time since when they hold, and logs what is new and what is over.
func (a *Agent) noteFindings(found []Finding) {
	slices.SortFunc(found, func(x, y Finding) int {
		return cmp.Or(strings.Compare(x.Code, y.Code), strings.Compare(x.Object, y.Object))
	})
	a.findings.mu.Lock()
	defer a.findings.mu.Unlock()
	same := func(x Finding) func(Finding) bool {
		return func(y Finding) bool { return x.Code == y.Code && x.Object == y.Object }
	}
	for n := range found {
		if at := slices.IndexFunc(a.findings.list, same(found[n])); at >= 0 {
			found[n].Since = a.findings.list[at].Since
			continue
		}
		found[n].Since = a.now()
		a.log.Warn("found", zap.String("code", found[n].Code), zap.String("object", found[n].Object), zap.String("text", found[n].Text), zap.String("hint", found[n].Hint))
	}
	for _, was := range a.findings.list {
		if !slices.ContainsFunc(found, same(was)) {
			a.log.Info("found no more", zap.String("code", was.Code), zap.String("object", was.Object))
		}
	}
	a.findings.list = found
}

// lose makes a container fail for what it has lost, after another look: the records may have been behind.
func (a *Agent) lose(ctx context.Context, id, reason string) error {
	now, err := a.lossOf(ctx, id)
	if err != nil || now != reason {
		return err
	}
	return a.changeIdle(ctx, id, func(container *store.Container) {
		container.Status, container.FailureReason = store.StatusFailed, reason
	})
}

// regain takes a container out of its failure when nothing of it is gone any more.
func (a *Agent) regain(ctx context.Context, id string) error {
	if loss, err := a.lossOf(ctx, id); err != nil || loss != "" {
		return err
	}
	status, err := a.observedStatus(ctx, id)
	if err != nil || !settled(status) {
		return err
	}
	current, err := a.pool.Dataset(ctx, ContainerDataset(id))
	if err != nil {
		return err
	}
	record, err := a.store.GetContainer(ctx, id)
	if err != nil || record.Status != store.StatusFailed || !recoverable(record, current) {
		return err
	}
	if !isLossReason(record.FailureReason) && record.IDMap != "" && status == store.StatusStopped {
		// What could not be undone may have left the instance the id map of another generation: a start would shift the owners.
		if err := a.runtime.Configure(ctx, InstanceName(id), map[string]string{ConfigIDMap: record.IDMap}); err != nil {
			return err
		}
	}
	return a.changeIdle(ctx, id, func(container *store.Container) {
		if container.Status == store.StatusFailed && recoverable(*container, current) {
			container.Settings.Revision++ // an operation may have turned autostart off
			container.Status, container.FailureReason = status, ""
		}
	})
}

// lossOf tells what of a container is gone; empty for nothing.
func (a *Agent) lossOf(ctx context.Context, id string) (reason string, err error) {
	instance, err := a.runtime.Instance(ctx, InstanceName(id))
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return "", err
	}
	instanceExists := err == nil && instance.ContainerID == id
	dataset, err := a.pool.Dataset(ctx, ContainerDataset(id))
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return "", err
	}
	filesExist := err == nil && dataset.Properties[propertyContainer] == id
	return lossReason(instanceExists, filesExist), nil
}

// changeIdle changes a container of this server that no operation works on; one that is busy or gone is left alone.
func (a *Agent) changeIdle(ctx context.Context, id string, change func(*store.Container)) error {
	return a.update(ctx, func(tx *store.Tx) error {
		container, err := tx.Container(id)
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		if err != nil || container.JobID != "" || container.ServerID != a.serverID || !settled(container.Status) && container.Status != store.StatusFailed {
			return err
		}
		change(&container)
		return tx.PutContainer(container)
	})
}

// takeBack moves a dataset that the runtime would destroy in its own time among the agent's generations, where only garbage
// collection does. Nobody else works on it: its instance is gone.
func (a *Agent) takeBack(ctx context.Context, name string) error {
	aside := generationDataset(newJobID(a.now()))
	err := a.pool.Rename(ctx, name, aside)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil // the runtime was faster
	}
	if err == nil {
		a.log.Info("took back what the runtime had put aside", zap.String("dataset", name), zap.String("to", aside))
	}
	return err
}
