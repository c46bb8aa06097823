package api

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

// GetContainerStats implements GET /api/v1/containers/{id}/stats.
func (s *server) GetContainerStats(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		stats, err := s.ops.ContainerStats(ctx, caller, id)
		if err != nil {
			return response{}, err
		}
		return ok("Container statistics retrieved successfully", containerStatsView(stats)), nil
	})
}

// GetProjectStats implements GET /api/v1/projects/{id}/stats.
func (s *server) GetProjectStats(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		stats, err := s.ops.ProjectStats(ctx, caller, id)
		if err != nil {
			return response{}, err
		}
		return ok("Project statistics retrieved successfully", contract.ProjectStats{
			Stats: each(stats.Containers, containerStatsView),
			Summary: contract.ProjectStatsSummary{
				ProjectID:           stats.Project.ID,
				ProjectName:         stats.Project.Alias,
				ContainerCount:      len(stats.Containers),
				TotalProcessingTime: milliseconds(stats.Took),
			},
		}), nil
	})
}

func containerStatsView(stats agent.ContainerStats) contract.ContainerStats {
	status, code := runtimeStatus(stats.Stats.Status)
	shown := contract.ContainerStats{
		ID:             stats.ContainerID,
		ProjectID:      stats.View.Project.ID,
		ProjectName:    stats.View.Project.Alias,
		ServerName:     stats.View.Server.Name,
		Status:         status,
		StatusCode:     code,
		Processes:      stats.Stats.Processes,
		Disk:           contract.DiskStats{Root: contract.DiskUse{Total: stats.Stats.DiskTotal, Usage: stats.Stats.DiskUsage}},
		Network:        each(stats.Stats.Network, networkStatsView),
		ProcessingTime: milliseconds(stats.Took),
	}
	if started := stats.Stats.StartedAt; !started.IsZero() {
		shown.StartedAt = &started
	}
	if cpu := stats.Stats.CPU; cpu != nil {
		shown.CPU = &contract.CPUStats{
			Usage: cpu.Used.Nanoseconds(), AllocatedTime: cpu.Allocated.Nanoseconds(),
			UsagePercent: percent(cpu.Used.Nanoseconds(), cpu.Allocated.Nanoseconds()),
		}
	}
	if memory := stats.Stats.Memory; memory != nil {
		shown.Memory = &contract.MemoryStats{
			Usage: memory.Usage, Total: memory.Total, UsagePercent: percent(memory.Usage, memory.Total),
			SwapUsage: memory.SwapUsage, SwapUsagePeak: memory.SwapUsagePeak, UsagePeak: memory.UsagePeak,
		}
	}
	return shown
}

// runtimeStatus is a status in Incus's words and numbers, which the contract uses here.
func runtimeStatus(status agent.InstanceStatus) (contract.ContainerStatsStatus, int) {
	switch status {
	case agent.InstanceRunning:
		return contract.ContainerStatsStatusRunning, 103
	case agent.InstanceStopped:
		return contract.ContainerStatsStatusStopped, 102
	case agent.InstancePaused:
		return contract.ContainerStatsStatusFrozen, 110
	default:
		return contract.ContainerStatsStatusError, 112
	}
}

func networkStatsView(stats agent.NetworkStats) contract.NetworkStats {
	return contract.NetworkStats{
		Interface: stats.Name,
		State:     stats.State,
		Type:      stats.Type,
		Addresses: each(stats.Addresses, func(a agent.NetworkAddress) contract.NetworkAddress {
			return contract.NetworkAddress{Address: a.Address, Family: a.Family, Netmask: a.Netmask, Scope: a.Scope}
		}),
		Counters: contract.NetworkCounters{
			BytesReceived: stats.BytesReceived, BytesSent: stats.BytesSent,
			PacketsReceived: stats.PacketsReceived, PacketsSent: stats.PacketsSent,
			ErrorsReceived: stats.ErrorsReceived, ErrorsSent: stats.ErrorsSent,
			PacketsDroppedInbound: stats.DroppedInbound, PacketsDroppedOutbound: stats.DroppedOutbound,
		},
	}
}

// percent has two digits behind the point; 0 of an unknown whole.
func percent(part, whole int64) float32 {
	if whole <= 0 {
		return 0
	}
	return float32(math.Round(float64(part)/float64(whole)*10_000) / 100)
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%dms", max(0, d.Milliseconds())) }
