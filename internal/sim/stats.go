package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Stats implements agent.Runtime. Nothing runs, so it is made up, apart from the status and the size of the files.
func (r *Runtime) Stats(ctx context.Context, name string) (agent.Stats, error) {
	i, err := r.look(name)
	if err != nil {
		return agent.Stats{}, fmt.Errorf("stats of %s: %w", name, err)
	}
	stats := agent.Stats{Status: i.Status}
	switch dataset, err := r.pool.Dataset(ctx, agent.InstanceDataset(name)); {
	case err == nil:
		stats.DiskUsage = int64(dataset.Referenced)
	case !errors.Is(err, errdefs.ErrNotFound):
		return agent.Stats{}, fmt.Errorf("stats of %s: %w", name, err)
	}
	if i.Status != agent.InstanceRunning && i.Status != agent.InstancePaused {
		return stats, nil
	}
	stats.Processes = 1
	stats.CPU = &agent.CPUStats{Used: time.Duration(i.Starts) * time.Second, Allocated: time.Duration(i.Starts) * 4 * time.Second}
	stats.Memory = &agent.MemoryStats{Usage: 64 << 20, UsagePeak: 80 << 20, Total: 1 << 30}
	stats.Network = []agent.NetworkStats{{
		Name: "lo", State: "up", Type: "loopback",
		Addresses: []agent.NetworkAddress{{Family: "inet", Address: "127.0.0.1", Netmask: "8", Scope: "local"}},
	}}
	return stats, nil
}
