package agent

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// When garbage is collected: after whatever may have made some, and from time to time.

// collectSoon asks for a collection a moment from now; requests that come together are one.
func (a *Agent) collectSoon() {
	select {
	case a.collectDue <- struct{}{}:
	default:
	}
}

// collectNowAndThen collects when asked, and now and then unasked, until ctx ends.
func (a *Agent) collectNowAndThen(ctx context.Context) error {
	if a.options.CollectInterval < 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	ticker := time.NewTicker(a.options.CollectInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case <-a.collectDue:
			if err := sleep(ctx, a.options.CollectDelay); err != nil {
				return err
			}
		}
		report, err := a.Collect(ctx, false)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			a.log.Warn("garbage not collected", zap.Error(err))
		case report.Removed > 0:
			a.log.Info("garbage collected", zap.Int("removed", report.Removed), zap.Uint64("freed", report.Freed), zap.Duration("took", report.Took))
		}
	}
}

// noticeReleases asks for a collection when a record wants less of this server's pool than it did, until ctx ends: what
// another server's agent writes it cannot collect here.
func (a *Agent) noticeReleases(ctx context.Context) error {
	changes := a.store.Mirror().Subscribe(store.KindContainer)
	defer changes.Close()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case change, open := <-changes.Changes():
			if !open {
				return storeClosed()
			}
			if old, new := store.Records[store.Container](change); a.released(old, new) {
				a.collectSoon()
			}
		}
	}
}

// released tells whether a container lists fewer snapshots of this pool, or lets go of what it was last synced with here.
func (a *Agent) released(old, new *store.Container) bool {
	switch {
	case old == nil:
		return false
	case old.ServerID == a.serverID:
		return new != nil && new.SnapshotCount < old.SnapshotCount
	default:
		source, known := a.store.Mirror().Container(old.SourceContainerID)
		return known && source.ServerID == a.serverID && (new == nil || syncBase(new) != syncBase(old))
	}
}
