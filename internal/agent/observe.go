package agent

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// followRuntime keeps the containers' states true to what the runtime says: a container may stop by itself, or be
// stopped by an admin. Containers that an operation works on are the operation's.
func (a *Agent) followRuntime(ctx context.Context) error {
	for {
		events, err := a.runtime.Events(ctx)
		if err != nil {
			a.log.Warn("no events from the runtime; tries again", zap.Error(err))
			if err := sleep(ctx, 5*time.Second); err != nil {
				return err
			}
			continue
		}
		if err := a.observeAll(ctx); err != nil {
			a.log.Warn("states of containers not compared", zap.Error(err))
		}
		a.followEvents(ctx, events)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// followEvents looks at each container that the runtime reports something of, and at those that an operation has just let go
// of, until events end.
func (a *Agent) followEvents(ctx context.Context, events <-chan RuntimeEvent) {
	look := func(id string) {
		if err := a.observeOne(ctx, id); err != nil && ctx.Err() == nil {
			a.log.Warn("state of container not compared", zap.String("container", id), zap.Error(err))
		}
	}
	for {
		select {
		case <-a.unseen.some:
			for _, id := range a.unseen.take() {
				look(id)
			}
		case event, open := <-events:
			if !open {
				return
			}
			if a.unexplained(event) {
				a.reconcileSoon()
			}
			if event.Kind == EventResync {
				if err := a.observeAll(ctx); err != nil && ctx.Err() == nil {
					a.log.Warn("states of containers not compared", zap.Error(err))
				}
			} else if id, ours := strings.CutPrefix(event.Instance, InstanceName("")); ours && id != "" {
				look(id)
			}
		}
	}
}

// unexplained tells whether an instance came or went that no operation made come or go.
func (a *Agent) unexplained(event RuntimeEvent) bool {
	if event.Kind == EventResync {
		return true
	}
	id, ok := strings.CutPrefix(event.Instance, InstanceName(""))
	if !ok || event.Kind != EventCreated && event.Kind != EventDeleted {
		return false
	}
	container, known := a.store.Mirror().Container(id)
	return known && container.JobID == "" || !known && event.Kind == EventCreated
}

func (a *Agent) observeAll(ctx context.Context) error {
	instances, err := a.runtime.Instances(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, instance := range instances {
		if instance.Name != InstanceName(instance.ContainerID) {
			continue // a copy by hand, which bears the original's marks
		}
		if err := a.observe(ctx, instance.ContainerID, statusOf(instance)); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func (a *Agent) observeOne(ctx context.Context, containerID string) error {
	container, ok := a.store.Mirror().Container(containerID)
	if !ok || container.JobID != "" {
		return nil
	}
	status, err := a.observedStatus(ctx, containerID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return a.observe(ctx, containerID, status)
}

// observe records a state that the runtime reports, unless the container is in an operation's hands.
func (a *Agent) observe(ctx context.Context, containerID string, status store.Status) error {
	known, ok := a.store.Mirror().Container(containerID)
	if !ok || known.JobID != "" || known.Status == status || !settled(known.Status) || !settled(status) {
		return nil
	}
	return a.update(ctx, func(tx *store.Tx) error {
		container, err := tx.Container(containerID)
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		if err != nil || container.JobID != "" || container.ServerID != a.serverID || !settled(container.Status) {
			return err
		}
		container.Status = status
		return tx.PutContainer(container)
	})
}

// reportServer refreshes what the fleet knows of this server's sizes.
func (a *Agent) reportServer(ctx context.Context) error {
	ticker := time.NewTicker(a.options.ReportInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if !a.refreshSizes(ctx) {
			continue
		}
		measured := a.options.Server
		err := a.update(ctx, func(tx *store.Tx) error {
			server, err := tx.Server(a.serverID)
			if err != nil {
				return err
			}
			server.PoolSize, server.PoolFree, server.UpdatedAt = measured.PoolSize, measured.PoolFree, a.now()
			return tx.PutServer(server)
		})
		if err != nil && ctx.Err() == nil {
			a.log.Warn("server record not refreshed", zap.Error(err))
		}
	}
}

// worthReporting is how far the free space has to move before it is written again: the record is everybody's to watch.
const worthReporting = 64 << 20

// refreshSizes reads the server's sizes and tells whether they moved enough to be reported. Only Run and reportServer call it, in turn.
func (a *Agent) refreshSizes(ctx context.Context) bool {
	server := &a.options.Server
	server.Cores = runtime.NumCPU()
	space, err := a.pool.Space(ctx)
	if err != nil {
		a.log.Warn("pool size unknown", zap.Error(err))
		return false
	}
	moved := max(space.Free, server.PoolFree) - min(space.Free, server.PoolFree)
	if space.Size == server.PoolSize && moved < worthReporting {
		return false
	}
	server.PoolSize, server.PoolFree = space.Size, space.Free
	return true
}
