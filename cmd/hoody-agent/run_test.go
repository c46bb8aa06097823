package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/metrics"
)

// testConfig serves on ports that were free a moment ago.
func testConfig(t *testing.T) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.StateDir = filepath.Join(t.TempDir(), "state")
	cfg.RuntimeDir = filepath.Join(t.TempDir(), "run")
	cfg.API.Listen, cfg.Metrics.Listen = freePort(t), freePort(t)
	return cfg
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// systemd stands in for the service manager: what the daemon tells it arrives on the channel.
func systemd(t *testing.T) <-chan string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	told := make(chan string, 1000)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			told <- string(buf[:n])
		}
	}()
	return told
}

func await(t *testing.T, told <-chan string, want string) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case got := <-told:
			if strings.HasPrefix(got, want) {
				return
			}
		case <-timeout:
			t.Fatalf("systemd never heard %s", want)
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// whole fills in what a test leaves out of a node: work that goes on until it is stopped, and parts that do nothing.
func (n node) whole() *node {
	if n.run == nil {
		n.run = func(ctx context.Context) error { <-ctx.Done(); return nil }
	}
	if n.ready == nil {
		ready := make(chan struct{})
		close(ready)
		n.ready = ready
	}
	if n.endStreams == nil {
		n.endStreams = func() {}
	}
	if n.close == nil {
		n.close = func() error { return nil }
	}
	if n.admin == nil {
		n.admin = http.NotFoundHandler()
	}
	if n.reload == nil {
		n.reload = func(config.Config) {}
	}
	if n.alive == nil {
		n.alive = func() {}
	}
	return &n
}

func readiness(t *testing.T, cfg config.Config) int {
	t.Helper()
	answer, err := http.Get("http://" + cfg.API.Listen + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

func TestLifeOfADaemon(t *testing.T) {
	cfg := testConfig(t)
	told := systemd(t)
	t.Setenv("WATCHDOG_USEC", "30000")
	var order []string
	ready := make(chan struct{})
	fake := func(_ context.Context, d daemon) (*node, error) {
		d.metrics.ZFSCommand("zfs list", time.Millisecond, nil)
		return node{
			api: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "server ", d.serverID) }),
			run: func(ctx context.Context) error {
				<-ctx.Done()
				order = append(order, "work stopped")
				return nil
			},
			ready:   ready,
			close:   func() error { order = append(order, "closed"); return nil },
			sources: metrics.Sources{Jobs: func() []metrics.JobCount { return []metrics.JobCount{{Kind: "copy", State: "queued", Count: 7}} }},
		}.whole(), nil
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, cfg, zaptest.NewLogger(t), fake) }()

	if got := <-told; got != "WATCHDOG=1" {
		t.Errorf("before it is ready the daemon says %s", got)
	}
	if status := readiness(t, cfg); status != http.StatusServiceUnavailable {
		t.Errorf("before it is ready /readyz says %d", status)
	}
	close(ready)
	await(t, told, "READY=1")
	if status := readiness(t, cfg); status != http.StatusOK {
		t.Errorf("when it is ready /readyz says %d", status)
	}
	await(t, told, "STATUS=serving on "+cfg.API.Listen)
	await(t, told, "WATCHDOG=1")
	await(t, told, "WATCHDOG=1")
	id, err := cfg.ServerID()
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, "http://"+cfg.API.Listen+"/x"); got != "server "+id {
		t.Errorf("API answered %q", got)
	}
	scrape := get(t, "http://"+cfg.Metrics.Listen+"/metrics")
	for _, want := range []string{
		`hoody_agent_jobs{kind="copy",state="queued"} 7`,
		`hoody_agent_zfs_command_duration_seconds_count{command="zfs list"} 1`,
	} {
		if !strings.Contains(scrape, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	stop()
	await(t, told, "STOPPING=1")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := strings.Join(order, ", "); got != "work stopped, closed" {
		t.Errorf("order %q", got)
	}
}

func TestRequestsAreAnsweredAtShutdown(t *testing.T) {
	cfg := testConfig(t)
	told := systemd(t)
	arrived := make(chan struct{})
	var working atomic.Bool
	fake := func(context.Context, daemon) (*node, error) {
		return node{
			api: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				close(arrived)
				time.Sleep(200 * time.Millisecond) // ends by itself, within the grace
				fmt.Fprint(w, "worked on: ", working.Load())
			}),
			run: func(ctx context.Context) error {
				working.Store(true)
				<-ctx.Done()
				working.Store(false)
				return nil
			},
		}.whole(), nil
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, cfg, zap.NewNop(), fake) }()
	await(t, told, "READY=1")
	answered := make(chan string, 1)
	go func() {
		response, err := http.Get("http://" + cfg.API.Listen)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answered <- string(body)
	}()
	<-arrived
	stop()
	if got := <-answered; got != "worked on: true" {
		t.Errorf("answer %q: the work must not stop before the requests that wait for it", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestFailures(t *testing.T) {
	boom := errors.New("boom")
	for _, test := range []struct {
		name   string
		change func(*config.Config)
		node   node
		err    error
		want   string
	}{
		{name: "parts", err: boom, want: "start agent: boom"},
		{name: "work", node: node{run: func(context.Context) error { return boom }}, want: "agent: boom"},
		{name: "work ends early", node: node{run: func(context.Context) error { return nil }}, want: "agent: stopped by itself"},
		{name: "closing", node: node{run: func(context.Context) error { return boom }, close: func() error { return errors.New("bang") }}, want: "agent: boom\nbang"},
		{name: "stuck work", change: func(c *config.Config) { c.Operations.ShutdownTimeout = 50 * time.Millisecond },
			node: node{run: func(context.Context) error { time.Sleep(time.Second); return nil }},
			want: "work did not reach a safe point within 50ms; it continues from its journal"},
		{name: "taken address", change: func(c *config.Config) { c.Metrics.Listen = c.API.Listen }, want: "address already in use"},
		{name: "bad certificate", change: func(c *config.Config) { c.API.TLS = config.KeyPair{Cert: "/none", Key: "/none"} },
			want: "serve API: stat /none: no such file or directory"},
		{name: "state directory", change: func(c *config.Config) { c.StateDir = "/proc/none" }, want: "make directory: mkdir /proc/none: no such file or directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := testConfig(t)
			if test.change != nil {
				test.change(&cfg)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			err := run(ctx, cfg, zap.NewNop(), func(context.Context, daemon) (*node, error) {
				if test.name == "stuck work" {
					stop()
				}
				return test.node.whole(), test.err
			})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
}

// At boot the agent waits for Incus; being stopped then is no failure.
func TestStoppedWhileStarting(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	err := run(ctx, testConfig(t), zap.NewNop(), func(ctx context.Context, _ daemon) (*node, error) {
		stop()
		return nil, fmt.Errorf("wait for incus: %w", ctx.Err())
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSignals(t *testing.T) {
	forced := make(chan struct{})
	ctx, release := untilSignal(t.Context(), func() { close(forced) })
	defer release()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	select {
	case <-forced:
		t.Fatal("the first signal is for a clean shutdown")
	case <-time.After(50 * time.Millisecond):
	}
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-forced
}

func TestSignalsAreGivenBack(t *testing.T) {
	ctx, release := untilSignal(t.Context(), func() { t.Error("forced") })
	release()
	if ctx.Err() == nil {
		t.Error("the context outlives its owner")
	}
}
