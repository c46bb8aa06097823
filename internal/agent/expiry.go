package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// expireSnapshots drops expired snapshots now and then, as long as the clock can be believed, until ctx ends.
func (a *Agent) expireSnapshots(ctx context.Context) error {
	ticker := time.NewTicker(a.options.ExpiryInterval)
	defer ticker.Stop()
	var clock steadyClock
	clock.look(a.now(), 0)
	for looked := time.Now(); ; {
		steady := clock.steady >= a.options.ClockTrial
		if a.clockSteady.Store(steady); steady {
			a.sweepExpired(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		now := time.Now()
		clock.look(a.now(), now.Sub(looked))
		looked = now
	}
}

// sweepExpired drops what has expired, and says so.
func (a *Agent) sweepExpired(ctx context.Context) {
	dropped, err := a.DropExpiredSnapshots(ctx)
	if err != nil && ctx.Err() == nil {
		a.log.Warn("expired snapshots not dropped; tries again", zap.Error(err))
	}
	if dropped > 0 {
		a.log.Info("dropped expired snapshots", zap.Int("snapshots", dropped))
	}
}

// expiringAtOnce is how many containers' lists are written between two pauses: a list is written as a whole and read by every agent, and
// where all containers of a fleet are snapshot at one hour, all lists are due in one minute.
const expiringAtOnce = 10

// DropExpiredSnapshots takes the expired snapshots of this server's containers off their lists, and returns how many those
// were. Containers that an operation works on, or is about to freeze, keep theirs until the next sweep; records that the
// pool does not belong to, until they are recovered.
func (a *Agent) DropExpiredSnapshots(ctx context.Context) (total int, failed error) {
	var due []string
	for _, container := range a.store.Mirror().ContainersOnServer(a.serverID) {
		history, ok := a.store.Mirror().History(container.ID)
		if ok && slices.ContainsFunc(history.Snapshots, a.expired) {
			due = append(due, container.ID)
		}
	}
	if len(due) == 0 {
		return 0, nil
	}
	if err := a.trusted(ctx); err != nil {
		return 0, err
	}
	written := 0
	for _, id := range due {
		dropped, err := a.dropExpired(ctx, id)
		failed = errors.Join(failed, err)
		if total += dropped; dropped == 0 {
			continue
		}
		if written++; written%expiringAtOnce == 0 {
			if err := sleep(ctx, a.options.ExpiryPause); err != nil {
				failed = errors.Join(failed, err)
				break
			}
		}
	}
	if total > 0 {
		a.collectSoon()
	}
	return total, failed
}

func (a *Agent) dropExpired(ctx context.Context, containerID string) (dropped int, err error) {
	err = a.update(ctx, func(tx *store.Tx) error {
		dropped = 0
		container, err := tx.Container(containerID)
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		if err != nil || container.JobID != "" || len(container.PendingFreezes) > 0 {
			return err
		}
		history, err := tx.History(containerID)
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if dropped, err = a.dropSnapshots(tx, &container, history, a.expired); err != nil {
			return err
		}
		return tx.PutContainer(container)
	})
	if err != nil {
		return 0, err
	}
	return dropped, nil
}

func (a *Agent) expired(snapshot store.Snapshot) bool {
	return snapshot.ExpiresAt != nil && !snapshot.ExpiresAt.After(a.now())
}
