//go:build e2e

package hosts_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hoodynetwork/hoody-agent/test/e2e/hosts"
)

func TestMain(m *testing.M) { os.Exit(hosts.Main(m)) }

// dataSize is more than the prepared disks have, so that they must grow.
const dataSize = 16 << 30

// TestHosts shows that the hosts are what other tests take them for. It is one story told in order: booting
// is what costs time.
func TestHosts(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cluster, err := hosts.Up(ctx, hosts.Options{DataSize: dataSize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Down(); err != nil {
			t.Error(err)
		}
	})
	s := &story{t: t, ctx: ctx, cluster: cluster, a: cluster.Hosts[0], b: cluster.Hosts[1]}
	s.chapter("versions", s.versions)
	s.chapter("identities differ", s.identities)
	s.chapter("disks", s.disks)
	s.chapter("commands", s.commands)
	s.chapter("files", s.files)
	s.chapter("containers", s.containers)
	s.chapter("network between the hosts", s.network)
	s.chapter("network cut", s.networkCut)
	s.chapter("power cut", s.powerCut)
	s.chapter("power off", s.powerOff)
}

// story is a test whose parts build on each other.
type story struct {
	t       *testing.T
	ctx     context.Context
	cluster *hosts.Cluster
	a, b    *hosts.Host
}

// chapter runs a part; what follows a failed part would only fail for its reasons.
func (s *story) chapter(name string, f func(t *testing.T)) {
	s.t.Helper()
	start := time.Now()
	if !s.t.Run(name, f) {
		s.t.FailNow()
	}
	s.t.Logf("%s: %.1f s", name, time.Since(start).Seconds())
}

func (s *story) run(t *testing.T, host *hosts.Host, argv ...string) string {
	t.Helper()
	out, err := host.Run(s.ctx, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (s *story) versions(t *testing.T) {
	for _, host := range s.cluster.Hosts {
		if got := s.run(t, host, "zfs", "version"); !strings.Contains(got, "zfs-kmod-2.3") {
			t.Errorf("%s: zfs version is %q, want kernel module 2.3", host.Name(), got)
		}
		if got := s.run(t, host, "incus", "version"); !strings.Contains(got, "Server version: 6.0") {
			t.Errorf("%s: incus version is %q, want server 6.0", host.Name(), got)
		}
		if got := host.Condition(); !strings.Contains(got, "is switched on") || !strings.Contains(got, "pages RAM") {
			t.Errorf("condition of %s: %s", host.Name(), got)
		}
	}
}

// identities looks for what two servers never share, and what would make tests of copies meaningless.
func (s *story) identities(t *testing.T) {
	for _, argv := range [][]string{
		{"cat", "/etc/machine-id"},
		{"cat", "/etc/ssh/ssh_host_ed25519_key.pub"},
		{"hostname"},
		{"zpool", "get", "-H", "-o", "value", "guid", "tank"},
		{"sh", "-c", "zfs list -H -o guid -t snapshot -r tank/incus/images"},
	} {
		a, b := s.run(t, s.a, argv...), s.run(t, s.b, argv...)
		if a == "" || a == b {
			t.Errorf("%v: %q on both hosts", argv, a)
		}
	}
}

func (s *story) disks(t *testing.T) {
	for _, host := range s.cluster.Hosts {
		size, err := strconv.ParseInt(s.run(t, host, "zpool", "list", "-Hp", "-o", "size", "tank"), 10, 64)
		if err != nil || size < dataSize*9/10 {
			t.Errorf("%s: pool has %d bytes, %v; want about %d", host.Name(), size, err, int64(dataSize))
		}
	}
}

func (s *story) commands(t *testing.T) {
	_, err := s.a.Run(s.ctx, "sh", "-c", `echo "it's $0" >&2; exit 3`, "broken")
	var failed *hosts.CommandError
	if !errors.As(err, &failed) || failed.ExitCode != 3 || failed.Stderr != "it's broken\n" {
		t.Errorf("failing command: %v, want exit code 3 and its message", err)
	}
	if out, err := s.a.RunStdin(s.ctx, strings.NewReader("given"), "cat"); err != nil || out != "given" {
		t.Errorf("cat: %q, %v", out, err)
	}
	ctx, cancel := context.WithTimeout(s.ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := s.a.Run(ctx, "sleep", "1234"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("command past its deadline: %v, want %v", err, context.DeadlineExceeded)
	}
	if _, err := s.a.Run(s.ctx, "pgrep", "-f", "^sleep 1234"); err == nil {
		t.Error("a cancelled command still runs")
	}
	const rounds = 20
	start := time.Now()
	for range rounds {
		s.run(t, s.a, "true")
	}
	t.Logf("one command: %.0f ms", time.Since(start).Seconds()*1000/rounds)
}

func (s *story) files(t *testing.T) {
	local := filepath.Join(t.TempDir(), "file")
	content := strings.Repeat("0123456789abcdef", 32<<20/16)
	if err := os.WriteFile(local, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := s.a.Push(s.ctx, local, "/var/tmp/new folder/file", 0o750); err != nil {
		t.Fatal(err)
	}
	if mode := s.run(t, s.a, "stat", "-c", "%a", "/var/tmp/new folder/file"); mode != "750" {
		t.Errorf("mode is %s, want 750", mode)
	}
	pushed := time.Now()
	if err := s.a.Pull(s.ctx, "/var/tmp/new folder/file", local+".back"); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB: push %.1f s, pull %.1f s", len(content)>>20, pushed.Sub(start).Seconds(), time.Since(pushed).Seconds())
	back, err := os.ReadFile(local + ".back")
	if err != nil || string(back) != content {
		t.Errorf("the file came back with %d bytes, %v; want the %d that went", len(back), err, len(content))
	}
}

// containers starts one on each host and stops it: cleanly, so at once.
func (s *story) containers(t *testing.T) {
	group, ctx := errgroup.WithContext(s.ctx)
	for _, host := range s.cluster.Hosts {
		group.Go(func() error {
			start := time.Now()
			if _, err := host.Run(ctx, "incus", "launch", "busybox", "c1", "--quiet"); err != nil {
				return err
			}
			launched := time.Now()
			if _, err := host.Run(ctx, "incus", "stop", "c1", "--timeout=10"); err != nil {
				return err
			}
			t.Logf("%s: launch %.1f s, stop %.1f s", host.Name(),
				launched.Sub(start).Seconds(), time.Since(launched).Seconds())
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (s *story) network(t *testing.T) {
	s.run(t, s.a, "ping", "-c", "1", "-W", "2", s.b.Addr())
	s.run(t, s.b, "ping", "-c", "1", "-W", "2", s.a.Addr())
	s.run(t, s.a, "ping", "-c", "1", "-W", "2", "10.99.0.254")

	const delay = 50 * time.Millisecond
	if err := s.cluster.Link(s.ctx, hosts.Link{Delay: delay, Rate: "50mbit"}); err != nil {
		t.Fatal(err)
	}
	if took := s.roundTrip(t); took < 2*delay || took > 3*delay {
		t.Errorf("round trip takes %v, want about %v", took, 2*delay)
	}
	if err := s.cluster.Link(s.ctx, hosts.Link{}); err != nil {
		t.Fatal(err)
	}
	if took := s.roundTrip(t); took > delay {
		t.Errorf("round trip takes %v after the delay was taken away", took)
	}
}

// roundTrip is the best of a few pings from hosta to hostb.
func (s *story) roundTrip(t *testing.T) time.Duration {
	t.Helper()
	out := s.run(t, s.a, "ping", "-c", "3", "-i", "0.3", "-q", s.b.Addr())
	_, numbers, _ := strings.Cut(out, "mdev = ")
	least, _, _ := strings.Cut(numbers, "/")
	took, err := time.ParseDuration(least + "ms")
	if err != nil {
		t.Fatalf("no times in %q", out)
	}
	return took
}

func (s *story) networkCut(t *testing.T) {
	ping := []string{"ping", "-c", "1", "-W", "1", s.b.Addr()}
	if err := s.cluster.Split(s.ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.a.Run(s.ctx, ping...); err == nil {
		t.Error("hosta reaches hostb across a split")
	}
	if err := s.cluster.Join(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.run(t, s.a, ping...)

	if err := s.cluster.Cut(s.ctx, s.b); err != nil {
		t.Fatal(err)
	}
	if _, err := s.a.Run(s.ctx, ping...); err == nil {
		t.Error("hosta reaches hostb after it was cut")
	}
	if err := s.cluster.Heal(s.ctx, s.b); err != nil {
		t.Fatal(err)
	}
	s.run(t, s.a, ping...)
	s.run(t, s.b, "true")
}

// powerCut is what the hosts are for: after it there is what was flushed, and only that.
func (s *story) powerCut(t *testing.T) {
	s.run(t, s.a, "incus config set c1 boot.autostart=true && incus start c1")
	s.run(t, s.a, "zfs create tank/kept && echo kept >/tank/kept/file && zpool sync tank")
	if err := s.a.PowerCut(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.ctx, time.Second)
	defer cancel()
	if _, err := s.a.Run(ctx, "true"); err == nil {
		t.Error("a host without power takes commands")
	}
	if err := s.a.Boot(s.ctx); err != nil {
		t.Fatal(err)
	}
	if got := s.run(t, s.a, "cat", "/tank/kept/file"); got != "kept" {
		t.Errorf("the file holds %q after the power cut", got)
	}
	if boots := s.run(t, s.a, "journalctl", "--list-boots", "--quiet", "--no-pager"); strings.Count(boots, "\n") < 1 {
		t.Errorf("the journal knows these boots: %q; want the one before the power cut too", boots)
	}
	start := time.Now()
	s.waitRunning(t, s.a, "c1")
	t.Logf("container with boot.autostart runs %.1f s after the boot", time.Since(start).Seconds())
}

// powerOff shuts down with a container running and finds it running again: it starts with the host.
func (s *story) powerOff(t *testing.T) {
	if err := s.a.PowerOff(s.ctx); err != nil {
		t.Fatal(err)
	}
	if got := s.a.Condition(); !strings.Contains(got, "is switched off") {
		t.Errorf("condition of a host that was switched off: %s", got)
	}
	if err := s.a.Boot(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.waitRunning(t, s.a, "c1")
	if failed := s.run(t, s.a, "systemctl", "list-units", "--failed", "--plain", "--no-legend"); failed != "" {
		t.Errorf("failed units after the boot: %s", failed)
	}
}

func (s *story) waitRunning(t *testing.T, host *hosts.Host, container string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	for {
		state, err := host.Run(ctx, "incus", "list", "-f", "csv", "-c", "s", container)
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(state) == "RUNNING" {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}
