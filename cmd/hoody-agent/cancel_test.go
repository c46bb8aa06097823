package main

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/admin"
)

// A copy whose server is gone is given up from another server, which knows of it.
func TestCancelCommand(t *testing.T) {
	f, err := openFleet(t.Context(), fleetOptions{dir: t.TempDir(), servers: 2, log: zap.NewNop()})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	defer func() {
		if err := f.close(); err != nil {
			t.Error(err)
		}
	}()
	us, eu := f.servers[0], f.servers[1]
	socket := us.cfg.AdminSocket()
	project, err := us.api.CreateProject(t.Context(), "production")
	must(err)
	source, err := us.api.CreateContainer(t.Context(), project.ID, map[string]any{"server_id": us.id, "name": "web", "container_image": "busybox"})
	must(err)
	_, err = us.api.Settle(t.Context(), source.ID)
	must(err)
	must(us.Use(t.Context(), source.ID, func(root *os.Root) error {
		content := make([]byte, 1<<20)
		_, _ = rand.NewChaCha8([32]byte{1}).Read(content) // never fails
		return root.WriteFile("data", content, 0o600)
	}))
	if code, _, stderr := invoke(t, nil, "cancel", "web", "--socket", socket); code != exitFailed || !strings.Contains(stderr, "no operation works on container web") {
		t.Errorf("cancel of nothing: code %d, %s", code, stderr)
	}
	if code, _, stderr := invoke(t, nil, "cancel", "nobody", "--socket", socket); code != exitFailed || !strings.Contains(stderr, `no container has the id or name "nobody"`) {
		t.Errorf("cancel of nobody: code %d, %s", code, stderr)
	}

	stop, err := eu.StopMidway(t.Context(), 64<<10)
	must(err)
	copied, err := us.api.Copy(t.Context(), source.ID, map[string]any{"target_project_id": project.ID, "target_server_id": eu.id, "name": "web-eu"})
	must(err)
	_, err = stop()
	must(err)

	if _, out, _ := invoke(t, nil, "jobs", "--socket", socket); out != "no jobs\n" {
		t.Errorf("jobs of the source's server:\n%s", out)
	}
	if code, out, stderr := invoke(t, nil, "jobs", "--fleet", "--socket", socket); code != exitOK || !strings.Contains(out, "  web on node-us  ") || !strings.Contains(out, "  SERVER\n") || !strings.Contains(out, "  node-eu\n") {
		t.Errorf("jobs of the fleet: code %d, %s\n%s", code, stderr, out)
	}
	var cancelled admin.Cancelled
	askJSON(t, &cancelled, "cancel", "web-eu", "--socket", socket)
	if cancelled.Container.ID != copied.ID || cancelled.Server.Name != "node-eu" || cancelled.Job == "" {
		t.Errorf("cancelled: %+v", cancelled)
	}
	if code, out, stderr := invoke(t, nil, "cancel", copied.ID, "--socket", socket); code != exitOK || !strings.Contains(out, " on web-eu is given up by server node-eu\n") {
		t.Errorf("cancel again: code %d, %s%s", code, out, stderr)
	}
	must(us.api.Delete(t.Context(), source.ID)) // nothing reads it any more

	must(eu.Start(t.Context()))
	container, err := eu.api.Settle(t.Context(), copied.ID)
	must(err)
	if container.Status != "failed" || container.LastOperation == nil || container.LastOperation.State != "cancelled" {
		t.Errorf("the copy is %s after %+v", container.Status, container.LastOperation)
	}
}
