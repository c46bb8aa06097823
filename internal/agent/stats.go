package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

const (
	maxMeasured  = 100 // containers in one request between agents
	askedAtOnce  = 16  // of a project's containers in one request, so that what takes its time ends within statsTimeout
	maxMeasuring = 4   // instances measured at a time: the runtime starts processes for each
	statsTimeout = 10 * time.Second
)

// Stats is what an instance uses at a moment. Sizes are in bytes; what it used is since its start.
type Stats struct {
	Status    InstanceStatus `json:"status"`
	Processes int64          `json:"processes"`
	StartedAt time.Time      `json:"started_at"` // zero when it is not known, or does not run
	CPU       *CPUStats      `json:"cpu"`        // nil unless it runs
	Memory    *MemoryStats   `json:"memory"`     // nil unless it runs
	DiskTotal int64          `json:"disk_total"` // 0 without a limit
	DiskUsage int64          `json:"disk_usage"`
	Network   []NetworkStats `json:"network"` // by name
}

// CPUStats is CPU time.
type CPUStats struct {
	Used      time.Duration `json:"used"`
	Allocated time.Duration `json:"allocated"` // that it could have used; 0 when that is not known
}

// MemoryStats is memory, in bytes.
type MemoryStats struct {
	Usage, UsagePeak, Total, SwapUsage, SwapUsagePeak int64
}

// NetworkStats is one interface of an instance.
type NetworkStats struct {
	Name, State, Type string
	Addresses         []NetworkAddress

	BytesReceived, BytesSent, PacketsReceived, PacketsSent      int64
	ErrorsReceived, ErrorsSent, DroppedInbound, DroppedOutbound int64
}

// NetworkAddress is an address of an interface.
type NetworkAddress struct{ Family, Address, Netmask, Scope string }

// Measured is one container's stats, and how long it took to get them.
type Measured struct {
	ContainerID string        `json:"container_id"`
	Stats       Stats         `json:"stats"`
	Took        time.Duration `json:"took"`
}

// ContainerStats is what a container uses, with what its API object shows of it.
type ContainerStats struct {
	Measured
	View ContainerView
}

// ProjectStats is what the containers of a project use.
type ProjectStats struct {
	Project    store.Project
	Containers []ContainerStats // by id
	Took       time.Duration
}

// ContainerStats measures a container, on whatever server it is.
func (a *Agent) ContainerStats(ctx context.Context, caller Caller, id string) (ContainerStats, error) {
	container, err := a.readContainer(ctx, caller, id)
	if err != nil {
		return ContainerStats{}, err
	}
	measured, err := a.measuredOn(ctx, container.ServerID, []string{id})
	if err != nil {
		return ContainerStats{}, err
	}
	if len(measured) == 0 {
		return ContainerStats{}, resourceNotFound("Instance")
	}
	return ContainerStats{Measured: measured[0], View: a.view(container)}, nil
}

// ProjectStats measures the containers of a project on all servers that are alive: what is on the others is not. A server
// that is alive and does not answer in time fails the whole: half a sum would pass for the whole one.
func (a *Agent) ProjectStats(ctx context.Context, caller Caller, id string) (ProjectStats, error) {
	project, err := a.Project(ctx, caller, id)
	if err != nil {
		if errors.Is(err, errdefs.ErrNotFound) {
			return ProjectStats{}, resourceNotFound("Resource")
		}
		return ProjectStats{}, err
	}
	began := time.Now()
	byID := make(map[string]*store.Container)
	byServer := make(map[string][]string)
	for _, container := range a.store.Mirror().ContainersInProject(project.ID) {
		if alive, _ := a.store.Mirror().Alive(container.ServerID); alive && inRealm(caller.RealmID, container.RealmIDs) {
			byID[container.ID] = container
			byServer[container.ServerID] = append(byServer[container.ServerID], container.ID)
		}
	}
	var mu sync.Mutex
	stats := ProjectStats{Project: project}
	group, ctx := errgroup.WithContext(ctx)
	for server, ids := range byServer {
		group.Go(func() error {
			for some := range slices.Chunk(ids, askedAtOnce) {
				measured, err := a.measuredOn(ctx, server, some)
				if err != nil {
					return err
				}
				mu.Lock()
				for _, one := range measured {
					stats.Containers = append(stats.Containers, ContainerStats{Measured: one, View: a.view(*byID[one.ContainerID])})
				}
				mu.Unlock()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return ProjectStats{}, err
	}
	slices.SortFunc(stats.Containers, func(x, y ContainerStats) int { return strings.Compare(x.ContainerID, y.ContainerID) })
	stats.Took = time.Since(began)
	return stats, nil
}

// measuredOn measures containers of one server, this or another. Of what another answers, only what was asked for counts.
func (a *Agent) measuredOn(ctx context.Context, server string, ids []string) ([]Measured, error) {
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	var measured []Measured
	var err error
	if server == a.serverID {
		measured, err = a.Measure(ctx, ids)
	} else {
		measured, err = a.peers.Measure(ctx, server, ids)
	}
	if err != nil {
		return nil, errdefs.New(errdefs.ErrUnavailable, "EXTERNAL_SERVICE_ERROR", "External service unavailable").WithCause(err)
	}
	asked := make(map[string]bool, len(ids))
	for _, id := range ids {
		asked[id] = true
	}
	return slices.DeleteFunc(measured, func(one Measured) bool {
		wanted := asked[one.ContainerID]
		delete(asked, one.ContainerID)
		return !wanted
	}), nil
}

// Measure measures containers of this server, for this agent or for a peer. Those without an instance are left out.
func (a *Agent) Measure(ctx context.Context, ids []string) ([]Measured, error) {
	if len(ids) > maxMeasured {
		return nil, errdefs.New(errdefs.ErrInvalid, "", "at most %d containers can be measured at once", maxMeasured)
	}
	results := make([]*Measured, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	for i, id := range ids {
		container, ok := a.store.Mirror().Container(id)
		if !ok || container.ServerID != a.serverID {
			continue
		}
		group.Go(func() error {
			select {
			case a.measuring <- struct{}{}:
				defer func() { <-a.measuring }()
			case <-ctx.Done():
				return ctx.Err()
			}
			began := time.Now()
			stats, err := a.runtime.Stats(ctx, InstanceName(id))
			if errors.Is(err, errdefs.ErrNotFound) {
				return nil
			}
			results[i] = &Measured{ContainerID: id, Stats: stats, Took: time.Since(began)}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var measured []Measured
	for _, result := range results {
		if result != nil {
			measured = append(measured, *result)
		}
	}
	return measured, nil
}
