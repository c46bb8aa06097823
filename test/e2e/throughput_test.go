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

// ways are what an admin would send with by hand: the listening and the dialling end of a pipe.
var ways = map[string][2]string{
	"plain": {"TCP-LISTEN:7000,reuseaddr", "TCP:%s:7000,retry=50,interval=0.1"},
	"tls": {"OPENSSL-LISTEN:7000,reuseaddr,cert=/root/agent.pem,cafile=/root/ca.crt,openssl-min-proto-version=TLS1.3",
		"OPENSSL:%s:7000,retry=50,interval=0.1,cert=/root/agent.pem,cafile=/root/ca.crt,openssl-min-proto-version=TLS1.3"},
}

// throughput compares what the agents do with what their hosts can do.
func (s *story) throughput() {
	if !full() {
		s.t.Skip("only in full: it moves gigabytes")
	}
	const credentials = "cat /etc/hoody-agent/pki/ca.crt > /root/ca.crt && cat /etc/hoody-agent/pki/agent.pem > /root/agent.pem && "
	s.a.run(s.ctx, credentials+"zfs create -o mountpoint=/bench tank/bench")
	s.b.run(s.ctx, credentials+"zfs create -o mountpoint=none tank/bench")
	defer func() {
		for _, n := range s.nodes() {
			n.run(s.ctx, "zfs destroy -r tank/bench")
		}
	}()
	s.unchangedCosts()
	s.shortStreams()
	s.longStreams()
}

// longStreams compares a copy's stream with the same data through `zfs send | socat | zfs receive` over the same link,
// with TLS and without. The runs are interleaved, so that what else the machine does hits all alike; the medians count.
func (s *story) longStreams() {
	const size, runs = 2 << 30, 3
	rates := make(map[string][]float64)
	for i := range runs {
		s.a.run(s.ctx, fmt.Sprintf("head -c %d /dev/urandom > /bench/data && zfs snapshot tank/bench@%d && zpool sync tank", size, i))
		for way := range ways {
			rates[way] = append(rates[way], size/s.piped(way, fmt.Sprintf("tank/bench@%d", i)).Seconds())
			s.b.run(s.ctx, "zfs destroy -r tank/bench/received")
		}
		s.a.run(s.ctx, fmt.Sprintf("zfs destroy tank/bench@%d", i))
		s.source.fill(s.ctx, "data/bench", size, uint64(100+i))
		s.a.run(s.ctx, "zpool sync tank")
		created := s.a.copy(s.ctx, s.source.id, map[string]any{"target_project_id": s.other.ID, "target_server_id": serverB, "name": fmt.Sprintf("bench-%d", i)})
		container := s.b.settled(s.ctx, created.ID, "running")
		took := s.phaseTook(s.b, container.LastOperation.ID, "replicate")
		rates["agent"] = append(rates["agent"], float64(container.LastOperation.BytesDone)/took.Seconds())
		s.must(s.b.api.Delete(s.ctx, created.ID))
		s.t.Logf("run %d of %s, MB/s: agent %.1f, socat with TLS %.1f, plain %.1f", i+1, mib(size), rates["agent"][i]/1e6, rates["tls"][i]/1e6, rates["plain"][i]/1e6)
	}
	s.a.run(s.ctx, "rm", s.source.rootfs()+"/data/bench")
	median := func(way string) float64 {
		slices.Sort(rates[way])
		return rates[way][runs/2] / 1e6
	}
	s.t.Logf("%s a run, medians of %d, MB/s: agent %.1f (freeze and plan included), socat with TLS %.1f, plain %.1f; ratio to TLS %.2f, to plain %.2f",
		mib(size), runs, median("agent"), median("tls"), median("plain"), median("agent")/median("tls"), median("agent")/median("plain"))
}

// shortStreams compares a history of many small snapshots with the same history in one `zfs send -I`.
func (s *story) shortStreams() {
	const snapshots, size = 200, 1 << 20
	source := s.container("short-streams", size)
	for i := range snapshots {
		source.fill(s.ctx, "data/changing", size, uint64(i))
		_, err := s.a.api.Snapshot(s.ctx, source.id, fmt.Sprintf("s%d", i))
		s.must(err)
	}
	names := strings.Fields(s.a.run(s.ctx, "zfs list -H -t snapshot -o name -s createtxg "+source.dataset()))
	whole := s.piped("tls", names[0]) + s.piped("tls", fmt.Sprintf("-I %s %s", names[0], names[len(names)-1]))
	s.b.run(s.ctx, "zfs destroy -r tank/bench/received")
	created := s.a.copy(s.ctx, source.id, map[string]any{"target_project_id": s.other.ID, "target_server_id": serverB, "name": "short-streams-copy"})
	container := s.b.settled(s.ctx, created.ID, "running")
	took := s.phaseTook(s.b, container.LastOperation.ID, "replicate")
	s.t.Logf("%d snapshots of %s: agent %s (freeze and plan included), zfs send -I through socat with TLS %s, ratio %.2f",
		snapshots, mib(size), took.Round(time.Millisecond), whole.Round(time.Millisecond), whole.Seconds()/took.Seconds())
	s.must(s.b.api.Delete(s.ctx, created.ID))
	s.must(s.a.api.Delete(s.ctx, source.id))
}

// unchangedCosts prints what a sync costs each side when there is nothing to do.
func (s *story) unchangedCosts() {
	s.b.sync(s.ctx, s.remote.id, "running")
	counts, seconds := make(map[*node]float64), make(map[*node]float64)
	for _, n := range s.nodes() {
		counts[n], seconds[n] = s.commands(n)
	}
	began := time.Now()
	if last := s.b.sync(s.ctx, s.remote.id, "running"); !last.NoOp {
		s.t.Errorf("sync with neither side changed: %+v, want a no-op", last)
	}
	took := time.Since(began)
	for _, n := range s.nodes() {
		count, spent := s.commands(n)
		s.t.Logf("sync with neither side changed, %s in all: %s ran %.0f zfs processes for %.0f ms", took.Round(time.Millisecond), n.Name(), count-counts[n], (spent-seconds[n])*1000)
	}
}

// commands are how many processes for the pool an agent has run so far, and for how many seconds in all.
func (s *story) commands(n *node) (count, seconds float64) {
	s.t.Helper()
	out := n.run(s.ctx, "curl -s http://"+n.Addr()+":6473/metrics | awk '/^hoody_agent_zfs_command_duration_seconds_count/ {c += $NF} /^hoody_agent_zfs_command_duration_seconds_sum/ {s += $NF} END {print c, s}'")
	_, err := fmt.Sscan(out, &count, &seconds)
	s.must(err)
	return count, seconds
}

// piped sends what zfs send is told to send from the first host to the second's tank/bench/received and returns how long that took.
func (s *story) piped(way, what string) time.Duration {
	s.t.Helper()
	listen, dial := ways[way][0], fmt.Sprintf(ways[way][1], s.b.Addr())
	began := time.Now()
	var group errgroup.Group
	group.Go(func() error {
		return s.b.tryRun(s.ctx, "socat -b 1048576 -u "+listen+" STDOUT | zfs receive -u tank/bench/received")
	})
	group.Go(func() error {
		return s.a.tryRun(s.ctx, "zfs send -L -c "+what+" | socat -b 1048576 -u STDIN "+dial)
	})
	s.must(group.Wait())
	return time.Since(began)
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
