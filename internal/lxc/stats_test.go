package lxc

import (
	"errors"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// What Incus answers is told in the agent's terms; what it marks as unknown, with -1, is told as nothing.
func TestStats(t *testing.T) {
	started := time.Date(2026, 1, 5, 10, 0, 0, 0, time.FixedZone("", 3600))
	state := api.InstanceState{
		Status: "Running", StatusCode: api.Running, Processes: 12, StartedAt: started,
		CPU:    api.InstanceStateCPU{Usage: 5_000_000_000, AllocatedTime: 2_000_000_000},
		Memory: api.InstanceStateMemory{Usage: 100, UsagePeak: 200, Total: 300, SwapUsage: 40, SwapUsagePeak: -1},
		Disk:   map[string]api.InstanceStateDisk{"root": {Usage: 1000, Total: 2000}, "data": {Usage: 9, Total: 9}},
		Network: map[string]api.InstanceStateNetwork{
			"lo": {State: "up", Type: "loopback"},
			"eth0": {
				State: "up", Type: "broadcast",
				Addresses: []api.InstanceStateNetworkAddress{{Family: "inet", Address: "10.0.0.2", Netmask: "24", Scope: "global"}},
				Counters: api.InstanceStateNetworkCounters{
					BytesReceived: 1, BytesSent: 2, PacketsReceived: 3, PacketsSent: 4,
					ErrorsReceived: 5, ErrorsSent: 6, PacketsDroppedInbound: 7, PacketsDroppedOutbound: 8,
				},
			},
		},
	}
	running := agent.Stats{
		Status: agent.InstanceRunning, Processes: 12, StartedAt: started.UTC(),
		CPU:       &agent.CPUStats{Used: 5 * time.Second, Allocated: 20 * time.Second},
		Memory:    &agent.MemoryStats{Usage: 100, UsagePeak: 200, Total: 300, SwapUsage: 40},
		DiskTotal: 2000, DiskUsage: 1000,
		Network: []agent.NetworkStats{
			{
				Name: "eth0", State: "up", Type: "broadcast",
				Addresses:     []agent.NetworkAddress{{Family: "inet", Address: "10.0.0.2", Netmask: "24", Scope: "global"}},
				BytesReceived: 1, BytesSent: 2, PacketsReceived: 3, PacketsSent: 4,
				ErrorsReceived: 5, ErrorsSent: 6, DroppedInbound: 7, DroppedOutbound: 8,
			},
			{Name: "lo", State: "up", Type: "loopback"},
		},
	}
	changed := func(state api.InstanceState, change func(*api.InstanceState)) *api.InstanceState {
		change(&state)
		return &state
	}
	old := running
	old.CPU = &agent.CPUStats{Used: 5 * time.Second, Allocated: 10 * time.Second * time.Duration(runtime.NumCPU())}
	justStarted := running
	justStarted.StartedAt, justStarted.CPU = time.Time{}, &agent.CPUStats{Used: 5 * time.Second}
	for name, test := range map[string]struct {
		state *api.InstanceState
		want  agent.Stats
	}{
		"running":                {&state, running},
		"no allocation told":     {changed(state, func(s *api.InstanceState) { s.CPU.AllocatedTime = 0 }), old},
		"start not known":        {changed(state, func(s *api.InstanceState) { s.StartedAt = time.Time{} }), justStarted},
		"stopped":                {changed(state, func(s *api.InstanceState) { s.StatusCode = api.Stopped }), agent.Stats{Status: agent.InstanceStopped, DiskTotal: 2000, DiskUsage: 1000}},
		"disk usage not known":   {&api.InstanceState{StatusCode: api.Stopped, Disk: map[string]api.InstanceStateDisk{"root": {Usage: -1, Total: -1}}}, agent.Stats{Status: agent.InstanceStopped}},
		"nothing but its status": {&api.InstanceState{StatusCode: api.Error}, agent.Stats{Status: agent.InstanceError}},
	} {
		if diff := cmp.Diff(test.want, statsOf(test.state, started.Add(10*time.Second))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestStatsOverTheSocket(t *testing.T) {
	fake, incus := newFake(t)
	fake.handle("GET /1.0/instances/c1/state", answers(api.InstanceState{StatusCode: api.Frozen, Processes: 3}))
	fake.handle("GET /1.0/instances/c2/state", refuses(http.StatusNotFound, "Instance not found"))
	if got, err := incus.Stats(t.Context(), "c1"); err != nil || got.Status != agent.InstancePaused || got.Processes != 3 || got.CPU == nil {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := incus.Stats(t.Context(), "c2"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("of none: %v", err)
	}
}
