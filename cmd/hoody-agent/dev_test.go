package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/client"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// screen is what somebody sees who runs a command, while it runs.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// runDev runs `hoody-agent dev` until stop is called, and returns what it printed when it was up.
func runDev(t *testing.T, flags devFlags) (welcome string, stop func() error) {
	t.Helper()
	var out screen
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	p := &program{stdout: &out, stderr: io.Discard}
	go func() { ended <- p.runFleet(ctx, flags) }()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(out.String(), "/containers\n"); time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-ended:
			t.Fatalf("ended before it was up: %v", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("not up; printed %q", out.String())
		}
	}
	return out.String(), func() error { cancel(); return <-ended }
}

func TestDevRunsWhatItPrints(t *testing.T) {
	for _, tool := range []string{"sh", "curl", "grep"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	welcome, stop := runDev(t, devFlags{servers: 3, level: "error"})
	_, commands, _ := strings.Cut(welcome, "\nexport ")
	answers, err := exec.CommandContext(t.Context(), "sh", "-ec", "export "+commands).CombinedOutput()
	if err != nil {
		t.Errorf("%v", err)
	}
	for _, want := range []string{`"name":"node-us"`, `"name":"node-eu"`, `"name":"node-asia"`, `"statusCode":201`, `"status":"creating"`} {
		if !strings.Contains(string(answers), want) {
			t.Errorf("no %s in the answers to\n%s\n%s", want, commands, answers)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	_, dir, _ := strings.Cut(welcome, "Everything is in ")
	dir, _, _ = strings.Cut(dir, " ")
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("temporary directory %q: %v", dir, err)
	}
}

func TestDevContinues(t *testing.T) {
	flags := devFlags{dir: filepath.Join(t.TempDir(), "kept"), servers: 2, level: "error"}
	welcome, stop := runDev(t, flags)
	project, err := devClient(t, welcome).CreateProject(t.Context(), "kept")
	if err != nil {
		t.Error(err)
	}
	created, err := devClient(t, welcome).CreateContainer(t.Context(), project.ID, map[string]any{
		"server_id": devServers(t, welcome)[1].ID, "name": "kept", "container_image": "busybox",
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := devClient(t, welcome).Settle(t.Context(), created.ID); err != nil {
		t.Error(err)
	}
	second := &program{stdout: io.Discard, stderr: io.Discard}
	if err := second.runFleet(t.Context(), flags); !errors.Is(err, errdefs.ErrBusy) {
		t.Errorf("a second one in the same directory ends with %v, want ErrBusy", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}

	again, stop := runDev(t, flags)
	if before, after := devServers(t, welcome), devServers(t, again); before[0].ID != after[0].ID || len(before) != len(after) {
		t.Errorf("servers were %+v and are %+v", before, after)
	}
	kept, err := devClient(t, again).Container(t.Context(), created.ID)
	if err != nil || kept.Status != contract.ContainerStatusRunning {
		t.Errorf("the container is %q after a restart: %v", kept.Status, err)
	}
	if err := devClient(t, again).Delete(t.Context(), created.ID); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// devClient reads from what dev printed how to talk to the first server.
func devClient(t *testing.T, welcome string) *client.Client {
	t.Helper()
	_, rest, _ := strings.Cut(welcome, "HOODY_TOKEN=")
	token, rest, _ := strings.Cut(rest, " API=")
	base, _, ok := strings.Cut(rest, "/api/v1\n")
	if !ok {
		t.Fatalf("no token and address in %q", welcome)
	}
	return &client.Client{Base: base, Token: token}
}

// devServers reads the servers' ids from what dev printed.
func devServers(t *testing.T, welcome string) []contract.Server {
	t.Helper()
	var servers []contract.Server
	for line := range strings.Lines(welcome) {
		if _, id, ok := strings.Cut(line, "server id "); ok {
			servers = append(servers, contract.Server{ID: strings.TrimSpace(id)})
		}
	}
	if len(servers) == 0 {
		t.Fatalf("no servers in %q", welcome)
	}
	return servers
}

func TestDevPorts(t *testing.T) {
	_, port, _ := strings.Cut(freePort(t), ":")
	code, _, stderr := invoke(t, nil, "dev", "--servers", "2", "--port", "65535")
	if code != exitUsage {
		t.Errorf("no room for the second port: code %d, %s", code, stderr)
	}
	if code, _, stderr := invoke(t, nil, "dev", "--servers", "0"); code != exitUsage {
		t.Errorf("no servers: code %d, %s", code, stderr)
	}
	var number int
	for _, digit := range port {
		number = number*10 + int(digit-'0')
	}
	welcome, stop := runDev(t, devFlags{servers: 1, port: number, level: "error"})
	if err := devClient(t, welcome).Do(t.Context(), http.MethodGet, "/api/v1/servers", nil, nil); err != nil || !strings.Contains(welcome, "http://127.0.0.1:"+port) {
		t.Errorf("%v; printed %s", err, welcome)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
