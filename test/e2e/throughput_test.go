//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// throughput compares a copy's stream with the same data through `zfs send | socat | zfs receive` over the same link,
// with TLS and without. The runs are interleaved, so that what else the machine does hits all alike; the medians count.
func (s *story) throughput() {
	if !full() {
		s.t.Skip("only in full: it moves gigabytes")
	}
	const size, runs = 512 << 20, 3
	s.a.run(s.ctx, "cat /etc/hoody-agent/pki/ca.crt > /root/ca.crt && cat /etc/hoody-agent/pki/agent.pem > /root/agent.pem && zfs create -o mountpoint=/bench tank/bench")
	s.b.run(s.ctx, "cat /etc/hoody-agent/pki/ca.crt > /root/ca.crt && cat /etc/hoody-agent/pki/agent.pem > /root/agent.pem && zfs create -o mountpoint=none tank/bench")
	defer func() {
		for _, n := range s.nodes() {
			n.run(s.ctx, "zfs destroy -r tank/bench")
		}
	}()
	rates := make(map[string][]float64)
	for i := range runs {
		s.a.run(s.ctx, fmt.Sprintf("head -c %d /dev/urandom > /bench/data && zfs snapshot tank/bench@%d && zpool sync tank", size, i))
		for way, ends := range map[string][2]string{
			"plain": {"TCP-LISTEN:7000,reuseaddr", "TCP:%s:7000,retry=50,interval=0.1"},
			"tls": {"OPENSSL-LISTEN:7000,reuseaddr,cert=/root/agent.pem,cafile=/root/ca.crt,openssl-min-proto-version=TLS1.3",
				"OPENSSL:%s:7000,retry=50,interval=0.1,cert=/root/agent.pem,cafile=/root/ca.crt,openssl-min-proto-version=TLS1.3"},
		} {
			rates[way] = append(rates[way], size/s.piped(i, ends[0], fmt.Sprintf(ends[1], s.b.Addr())).Seconds())
		}
		s.source.fill(s.ctx, "data/bench", size, uint64(100+i))
		s.a.run(s.ctx, "zpool sync tank")
		created := s.a.copy(s.ctx, s.source.id, map[string]any{"target_project_id": s.other.ID, "target_server_id": serverB, "name": fmt.Sprintf("bench-%d", i)})
		container := s.b.settled(s.ctx, created.ID, "running")
		took := s.phaseTook(s.b, container.LastOperation.ID, "replicate")
		rates["agent"] = append(rates["agent"], float64(container.LastOperation.BytesDone)/took.Seconds())
		s.must(s.b.api.Delete(s.ctx, created.ID))
	}
	s.a.run(s.ctx, "rm", s.source.rootfs()+"/data/bench")
	median := func(way string) float64 {
		slices.Sort(rates[way])
		return rates[way][runs/2] / 1e6
	}
	s.t.Logf("%s a run, medians of %d, MB/s: agent %.1f (freeze and plan included), socat with TLS %.1f, plain %.1f; ratio to TLS %.2f, to plain %.2f",
		mib(size), runs, median("agent"), median("tls"), median("plain"), median("agent")/median("tls"), median("agent")/median("plain"))
}

// piped sends snapshot i of the first host's tank/bench to the second and returns how long that took.
func (s *story) piped(i int, listen, dial string) time.Duration {
	s.t.Helper()
	began := time.Now()
	var group errgroup.Group
	group.Go(func() error {
		return s.b.tryRun(s.ctx, "socat -b 1048576 -u "+listen+" STDOUT | zfs receive -u tank/bench/received")
	})
	group.Go(func() error {
		return s.a.tryRun(s.ctx, fmt.Sprintf("zfs send -L -c tank/bench@%d | socat -b 1048576 -u STDIN %s", i, dial))
	})
	s.must(group.Wait())
	took := time.Since(began)
	s.b.run(s.ctx, "zfs destroy -r tank/bench/received")
	return took
}

// phaseTook is how long a phase of a job took, all attempts together, as the job's agent logged them.
func (s *story) phaseTook(n *node, job, phase string) time.Duration {
	s.t.Helper()
	var total time.Duration
	for line := range strings.Lines(n.run(s.ctx, "journalctl -u hoody-agent --no-pager -o cat | grep '"+job+"' | grep '\"took\"'")) {
		var entry struct {
			Phase string `json:"phase"`
			Took  string `json:"took"`
		}
		start := strings.IndexByte(line, '{')
		if start < 0 || json.Unmarshal([]byte(line[start:]), &entry) != nil || entry.Phase != phase {
			continue
		}
		d, err := time.ParseDuration(entry.Took)
		s.must(err)
		total += d
	}
	if total == 0 {
		s.t.Fatalf("%s has logged no phase %s of job %s", n.Name(), phase, job)
	}
	return total
}
