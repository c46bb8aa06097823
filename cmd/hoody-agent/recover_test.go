package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/store/embedded"
)

// A server loses its store and its state directory, its id with it. Its agent comes up all the same and says that it does
// not trust its records; `recover` brings back the server, its containers and its id.
func TestRecoverBringsBackAServerThatLostItsStateAndStore(t *testing.T) {
	f, err := openFleet(t.Context(), fleetOptions{dir: t.TempDir(), servers: 1, log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.close(); err != nil {
			t.Error(err)
		}
	}()
	s := f.servers[0]
	project, err := s.api.CreateProject(t.Context(), "prod")
	if err != nil {
		t.Fatal(err)
	}
	made, err := s.api.CreateContainer(t.Context(), project.ID, map[string]any{"server_id": s.id, "name": "web", "container_image": "busybox"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.api.Settle(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	open := func(context.Context, daemon) (host, error) { return s.openHost() }
	if _, err := recoverServer(t.Context(), s.cfg, zap.NewNop(), open, false); err == nil || !strings.Contains(err.Error(), "another agent runs") {
		t.Errorf("beside a running agent: %v", err)
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	f.records.Close()

	if f.records, err = embedded.Start(t.Context(), embedded.Options{Dir: filepath.Join(f.dir, "etcd2")}, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	s.cfg.Store.Endpoints = []string{f.records.Endpoint()}
	s.cfg.StateDir = filepath.Join(s.dir, "state2")
	wrong := s.cfg
	wrong.Server.ID = fleetUser
	if _, err := recoverServer(t.Context(), wrong, zap.NewNop(), open, false); err == nil || !strings.Contains(err.Error(), s.id) {
		t.Errorf("with another configured id: %v", err)
	}
	plan, err := recoverServer(t.Context(), s.cfg, zap.NewNop(), open, true)
	if err != nil {
		t.Fatal(err)
	}
	var printed strings.Builder
	printRecovery(&printed, *plan, true)
	if len(plan.Containers) != 1 || !strings.Contains(printed.String(), "web") || !strings.Contains(printed.String(), "do not belong together") {
		t.Errorf("printed %s", printed.String())
	}
	if plan.ServerID != s.id || plan.Distrust.Code != agent.FindingOtherStore {
		t.Errorf("server %s, distrust %v", plan.ServerID, plan.Distrust)
	}
	s.begin()
	if err := s.awaitFleet(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept, err := s.api.Container(t.Context(), made.ID)
	if err != nil || kept.Status != contract.ContainerStatusRunning {
		// The file is written within seconds of a change: the container's start may not be in it, the container is.
		t.Errorf("the container is %q: %v", kept.Status, err)
	}
	if again, err := s.cfg.ServerID(); err != nil || again != s.id {
		t.Errorf("the server is %s: %v", again, err)
	}
}

func TestRecoverIsACommand(t *testing.T) {
	if code, _, stderr := invoke(t, nil, "recover", "--output", "xml"); code != exitUsage || !strings.Contains(stderr, "--output") {
		t.Errorf("code %d, %s", code, stderr)
	}
}

func TestKeepServerID(t *testing.T) {
	cfg := config.Default()
	cfg.StateDir = t.TempDir()
	made, err := cfg.ServerID()
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.KeepServerID(fleetUser); err != nil {
		t.Fatal(err)
	}
	if id, err := cfg.ServerID(); err != nil || id != fleetUser || id == made {
		t.Errorf("got %s, %v", id, err)
	}
}
