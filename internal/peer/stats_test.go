package peer

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
)

// What one agent says of its containers is what another one, perhaps of another version, reads.
func TestStatsOnTheWire(t *testing.T) {
	const wire = `{"containers":[` +
		`{"container_id":"64c1aa00b2d34e5f60718201","stats":{"status":"running","processes":12,"started_at":"2026-01-05T09:00:00Z",` +
		`"cpu":{"used":5000000000,"allocated":20000000000},` +
		`"memory":{"Usage":1,"UsagePeak":2,"Total":3,"SwapUsage":4,"SwapUsagePeak":5},` +
		`"disk_total":2000,"disk_usage":1000,` +
		`"network":[{"Name":"eth0","State":"up","Type":"broadcast","Addresses":[{"Family":"inet","Address":"10.0.0.2","Netmask":"24","Scope":"global"}],` +
		`"BytesReceived":1,"BytesSent":2,"PacketsReceived":3,"PacketsSent":4,"ErrorsReceived":5,"ErrorsSent":6,"DroppedInbound":7,"DroppedOutbound":8}]},` +
		`"took":1000000},` +
		`{"container_id":"64c1aa00b2d34e5f60718209","stats":{"status":"stopped","processes":0,"started_at":"0001-01-01T00:00:00Z",` +
		`"cpu":null,"memory":null,"disk_total":0,"disk_usage":7,"network":null},"took":0}]}`
	want := statsAnswer{[]agent.Measured{
		{
			ContainerID: "64c1aa00b2d34e5f60718201", Took: time.Millisecond,
			Stats: agent.Stats{
				Status: agent.InstanceRunning, Processes: 12, StartedAt: time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC),
				CPU:       &agent.CPUStats{Used: 5 * time.Second, Allocated: 20 * time.Second},
				Memory:    &agent.MemoryStats{Usage: 1, UsagePeak: 2, Total: 3, SwapUsage: 4, SwapUsagePeak: 5},
				DiskTotal: 2000, DiskUsage: 1000,
				Network: []agent.NetworkStats{{
					Name: "eth0", State: "up", Type: "broadcast",
					Addresses:     []agent.NetworkAddress{{Family: "inet", Address: "10.0.0.2", Netmask: "24", Scope: "global"}},
					BytesReceived: 1, BytesSent: 2, PacketsReceived: 3, PacketsSent: 4, ErrorsReceived: 5, ErrorsSent: 6, DroppedInbound: 7, DroppedOutbound: 8,
				}},
			},
		},
		{ContainerID: "64c1aa00b2d34e5f60718209", Stats: agent.Stats{Status: agent.InstanceStopped, DiskUsage: 7}},
	}}
	var got statsAnswer
	if err := json.Unmarshal([]byte(wire), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if said, err := json.Marshal(want); err != nil || string(said) != wire {
		t.Errorf("said %s, %v", said, err)
	}
}
