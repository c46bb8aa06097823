package api_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// shown returns the container that a reply shows, member by member.
func (got reply) shown(t *testing.T) map[string]any {
	t.Helper()
	var envelope struct {
		Data map[string]any `json:"data"`
	}
	if err := json.Unmarshal(got.body, &envelope); err != nil || envelope.Data == nil {
		t.Fatalf("%v in %s", err, got.body)
	}
	return envelope.Data
}

func TestContainerView(t *testing.T) {
	h := newHarness(t)
	cases := map[string]struct {
		change func(*agent.ContainerView)
		check  func(map[string]any) bool
	}{
		"nothing that is not there": {
			func(*agent.ContainerView) {},
			func(c map[string]any) bool {
				for _, absent := range []string{"ssh_private_key", "operation_id", "progress", "failure_reason", "last_operation", "copy_firewall_rules", "copy_network_rules"} {
					if _, there := c[absent]; there {
						return false
					}
				}
				return true
			},
		},
		"copying tells its progress": {
			func(v *agent.ContainerView) { v.Container.Status, v.Job = store.StatusCopying, copyJob() },
			func(c map[string]any) bool {
				progress, _ := c["progress"].(map[string]any)
				return progress["phase"] == "receive" && progress["attempts"] == 2.0 && progress["bytes_done"] == float64(1<<30)
			},
		},
		"copying tells how fast, how long and what is in its way": {
			func(v *agent.ContainerView) {
				v.Container.Status, v.Job = store.StatusCopying, copyJob()
				v.Job.Progress.BytesPerSecond = 1 << 20
				v.Job.Error = &store.JobError{Message: "the source's server is gone"}
				v.Job.CancelledAt = new(time.Time)
			},
			func(c map[string]any) bool {
				progress, _ := c["progress"].(map[string]any)
				return progress["bytes_per_second"] == float64(1<<20) && progress["eta_seconds"] == 2048.0 &&
					progress["error"] == "the source's server is gone" && progress["cancelling"] == true
			},
		},
		"copying without its job": {
			func(v *agent.ContainerView) { v.Container.Status = store.StatusCopying },
			func(c map[string]any) bool { return c["progress"] == nil },
		},
		"failed tells why": {
			func(v *agent.ContainerView) {
				v.Container.Status, v.Container.FailureReason = store.StatusFailed, "the source's server is gone"
			},
			func(c map[string]any) bool { return c["failure_reason"] == "the source's server is gone" },
		},
		"an old failure is not told": {
			func(v *agent.ContainerView) { v.Container.FailureReason = "long ago" },
			func(c map[string]any) bool { return c["failure_reason"] == nil },
		},
		"what the last operation did": {
			func(v *agent.ContainerView) {
				v.Container.LastOperation = &store.OperationSummary{
					ID: jobID, Kind: store.JobSync, State: store.JobDone, FinishedAt: at(10),
					Progress: store.Progress{BytesDone: 1 << 20, BytesWire: 1 << 18, Snapshots: 2, Compression: "zstd", DownMillis: 900},
				}
			},
			func(c map[string]any) bool {
				last, _ := c["last_operation"].(map[string]any)
				_, failed := last["error"]
				return last["kind"] == "sync" && last["finished_at"] == "2026-01-05T10:00:00.123Z" && last["down_millis"] == 900.0 && !failed
			},
		},
		"why the last operation failed": {
			func(v *agent.ContainerView) {
				v.Container.LastOperation = &store.OperationSummary{ID: jobID, Kind: store.JobCopy, State: store.JobFailed, FinishedAt: at(10), Error: "no space"}
			},
			func(c map[string]any) bool {
				last, _ := c["last_operation"].(map[string]any)
				return last["state"] == "failed" && last["error"] == "no space"
			},
		},
		"a copy names its source": {
			func(v *agent.ContainerView) { v.Container.SourceContainerID = webCopy },
			func(c map[string]any) bool { return c["source_container_id"] == webCopy },
		},
		"an original has none": {
			func(*agent.ContainerView) {},
			func(c map[string]any) bool { value, there := c["source_container_id"]; return there && value == nil },
		},
		"server gone": {
			func(v *agent.ContainerView) { v.Server = store.Server{} },
			func(c map[string]any) bool {
				return c["server"] == nil && c["server_name"] == nil && c["server_id"] == nodeA
			},
		},
		"bare record": {
			func(v *agent.ContainerView) {
				v.Container = store.Container{ID: web, ProjectID: shop, ServerID: nodeA, Name: "abc", Color: "#ABC", Status: store.StatusStopped}
			},
			func(c map[string]any) bool {
				realms, isList := c["realm_ids"].([]any)
				_, isObject := c["environment_vars"].(map[string]any)
				return isList && len(realms) == 0 && isObject && c["comment"] == nil && c["ssh_public_key"] == nil && c["ssh_key_fingerprint"] == nil
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h.ops.container = c.change
			got := h.do(t, request{method: "GET", path: "/api/v1/containers/" + web})
			if got.status != http.StatusOK || !c.check(got.shown(t)) {
				t.Errorf("answered %s", got.body)
			}
		})
	}
}

func TestEveryStatusCanBeShown(t *testing.T) {
	h := newHarness(t)
	for _, status := range []store.Status{
		store.StatusCreating, store.StatusRunning, store.StatusPaused, store.StatusStopped,
		store.StatusFailed, store.StatusDeleted, store.StatusCopying, store.StatusDeleting,
	} {
		h.ops.container = func(v *agent.ContainerView) { v.Container.Status = status }
		if shown := h.do(t, request{method: "GET", path: "/api/v1/containers/" + web}).shown(t); shown["status"] != string(status) {
			t.Errorf("%s is shown as %v", status, shown["status"])
		}
		h.ops.sync = status
		if shown := h.do(t, request{method: "POST", path: "/api/v1/containers/" + webCopy + "/sync"}).shown(t); shown["status"] != string(status) {
			t.Errorf("sync: %s is shown as %v", status, shown["status"])
		}
	}
}

// The private key is shown when one was generated, and never else.
func TestPrivateKeyIsShownOnce(t *testing.T) {
	h := newHarness(t)
	for _, operation := range []string{"createContainer", "copyContainer"} {
		h.ops.noKey = false
		if shown := h.do(t, successes()[operation].request).shown(t); shown["ssh_private_key"] != pemKey {
			t.Errorf("%s: key %v", operation, shown["ssh_private_key"])
		}
		h.ops.noKey = true
		if key, there := h.do(t, successes()[operation].request).shown(t)["ssh_private_key"]; there {
			t.Errorf("%s: key %v", operation, key)
		}
	}
}

func TestPagination(t *testing.T) {
	h := newHarness(t)
	for total, pages := range map[int]float64{0: 0, 1: 1, 10: 1, 11: 2, 100: 10} {
		h.ops.containers = total
		shown := h.do(t, request{method: "GET", path: "/api/v1/containers?limit=10&page=3"}).shown(t)
		pagination := shown["pagination"].(map[string]any)
		if pagination["total"] != float64(total) || pagination["totalPages"] != pages || pagination["page"] != 3.0 || pagination["limit"] != 10.0 {
			t.Errorf("%d in total: %v", total, pagination)
		}
		if _, isList := shown["containers"].([]any); !isList {
			t.Errorf("%d in total: containers %v", total, shown["containers"])
		}
	}
}

func TestUnlimitedSnapshots(t *testing.T) {
	h := newHarness(t)
	h.ops.unlimited = true
	shown := h.do(t, request{method: "GET", path: "/api/v1/containers/" + web + "/snapshots"}).shown(t)
	if limit, there := shown["max_snapshots"]; !there || limit != nil {
		t.Errorf("max_snapshots %v", limit)
	}
	if shown["snapshot_count"] != 1.0 {
		t.Errorf("snapshot_count %v, want the one that is not for undo", shown["snapshot_count"])
	}
}
