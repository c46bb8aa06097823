package lxc

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"time"

	incus "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
)

// Stats measures one instance; Incus starts processes for it if it runs. A missing one is ErrNotFound.
func (r *Runtime) Stats(ctx context.Context, instance string) (agent.Stats, error) {
	var stats agent.Stats
	err := r.run(ctx, "stats", instance, func(ctx context.Context) error {
		return r.exchange(ctx, func(server incus.InstanceServer) error {
			state, _, err := server.GetInstanceState(instance)
			if err == nil {
				stats = statsOf(state, time.Now())
			}
			return err
		})
	})
	return stats, err
}

// statsOf translates what Incus measured. Of CPU time Incus says how much an instance may use per second, and an older one
// not even that: then it is all of the host's.
func statsOf(state *api.InstanceState, now time.Time) agent.Stats {
	stats := agent.Stats{Status: statusOf(state.StatusCode)}
	if disk, ok := state.Disk["root"]; ok {
		stats.DiskTotal, stats.DiskUsage = max(0, disk.Total), max(0, disk.Usage)
	}
	if stats.Status != agent.InstanceRunning && stats.Status != agent.InstancePaused {
		return stats
	}
	stats.Processes = max(0, state.Processes)
	perSecond := time.Duration(state.CPU.AllocatedTime)
	if perSecond <= 0 {
		perSecond = time.Duration(runtime.NumCPU()) * time.Second
	}
	cpu := &agent.CPUStats{Used: time.Duration(max(0, state.CPU.Usage))}
	if state.StartedAt.Unix() > 0 {
		stats.StartedAt = state.StartedAt.UTC()
		cpu.Allocated = time.Duration(max(0, now.Sub(state.StartedAt).Seconds()) * float64(perSecond))
	}
	stats.CPU = cpu
	memory := state.Memory
	stats.Memory = &agent.MemoryStats{
		Usage: max(0, memory.Usage), UsagePeak: max(0, memory.UsagePeak), Total: max(0, memory.Total),
		SwapUsage: max(0, memory.SwapUsage), SwapUsagePeak: max(0, memory.SwapUsagePeak),
	}
	for _, name := range slices.Sorted(maps.Keys(state.Network)) {
		stats.Network = append(stats.Network, networkStats(name, state.Network[name]))
	}
	return stats
}

func networkStats(name string, state api.InstanceStateNetwork) agent.NetworkStats {
	counters := state.Counters
	stats := agent.NetworkStats{
		Name: name, State: state.State, Type: state.Type,
		BytesReceived: counters.BytesReceived, BytesSent: counters.BytesSent,
		PacketsReceived: counters.PacketsReceived, PacketsSent: counters.PacketsSent,
		ErrorsReceived: counters.ErrorsReceived, ErrorsSent: counters.ErrorsSent,
		DroppedInbound: counters.PacketsDroppedInbound, DroppedOutbound: counters.PacketsDroppedOutbound,
	}
	for _, address := range state.Addresses {
		stats.Addresses = append(stats.Addresses, agent.NetworkAddress{
			Family: address.Family, Address: address.Address, Netmask: address.Netmask, Scope: address.Scope,
		})
	}
	return stats
}
