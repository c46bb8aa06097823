//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

// fault is something that happens to a host in the middle of a sync. mend, where there is something to mend, follows at once.
type fault struct {
	name   string
	strike func(*story)
	mend   func(*story)
	// mayFail faults leave the agent no way to complete by itself: the sync may end failed, with a reason, and the next one completes.
	mayFail bool
}

// moment is how far the sync has come when the fault strikes. await waits for it, and tells whether it came in time to see it.
type moment struct {
	name  string
	await func(s *story, sentBefore int64) bool
}

const faultBytes = 96 << 20 // what each sync has to move

func faults() []fault {
	const firewall = "nft add table inet fault; nft add chain inet fault in '{ type filter hook input priority 0; }'; nft add rule inet fault in tcp "
	const open = "nft delete table inet fault"
	return []fault{
		{name: "kill -9 of the target's agent", strike: func(s *story) { s.b.run(s.ctx, "systemctl kill -s KILL hoody-agent") }},
		{name: "kill -9 of the source's agent", strike: func(s *story) { s.a.run(s.ctx, "systemctl kill -s KILL hoody-agent") }},
		{name: "kill -9 of zfs receive", strike: func(s *story) { s.b.run(s.ctx, "pkill -KILL -f '^zfs receive' || true") }},
		{name: "kill -9 of zfs send", strike: func(s *story) { s.a.run(s.ctx, "pkill -KILL -f '^zfs send' || true") }},
		{name: "connection reset",
			strike: func(s *story) {
				s.a.run(s.ctx, firewall+"dport "+peerPort+" reject with tcp reset && sleep 3")
			},
			mend: func(s *story) { s.a.run(s.ctx, open) }},
		{name: "connection frozen",
			strike: func(s *story) { s.a.run(s.ctx, firewall+"dport "+peerPort+" drop && sleep 45") },
			mend:   func(s *story) { s.a.run(s.ctx, open) }},
		{name: "etcd away",
			strike: func(s *story) { s.a.run(s.ctx, "systemctl stop etcd && sleep 8") },
			mend:   func(s *story) { s.a.run(s.ctx, "systemctl start etcd") }},
		{name: "power off of the target", strike: func(s *story) { s.must(s.b.PowerCut()); s.must(s.b.Boot(s.ctx)) }},
		{name: "power off of the source", strike: func(s *story) { s.must(s.a.PowerCut()); s.must(s.a.Boot(s.ctx)) }},
		{name: "a quota on the target", mayFail: true,
			strike: func(s *story) {
				s.b.run(s.ctx, "zfs set quota=$(($(zfs get -Hp -o value used "+pool+"/hoody) + 4194304)) "+pool+"/hoody && sleep 10")
			},
			mend: func(s *story) { s.b.run(s.ctx, "zfs set quota=none "+pool+"/hoody") }},
		{name: "a snapshot of what is being received", strike: func(s *story) {
			s.b.run(s.ctx, "for d in $(zfs list -H -o name -d 1 "+pool+"/hoody/incoming | tail -n +2); do zfs snapshot $d@by-hand; done; true")
		}},
		{name: "the source's snapshots destroyed", mayFail: true, strike: func(s *story) {
			s.a.run(s.ctx, "for d in $(zfs list -H -t snapshot -o name -S createtxg "+s.source.dataset()+" | head -n 1); do zfs destroy $d; done; true")
		}},
	}
}

func moments() []moment {
	sent := func(share float64) func(*story, int64) bool {
		return func(s *story, before int64) bool { s.sending(before, int64(share*faultBytes)); return true }
	}
	phase := func(name string) func(*story, int64) bool {
		return func(s *story, _ int64) bool { return s.phaseOf(s.remote.id, name) }
	}
	return []moment{
		{"before the first byte", func(*story, int64) bool { return true }},
		{"at 10 %", sent(0.1)},
		{"at 50 %", sent(0.5)},
		{"at 95 %", sent(0.95)},
		{"in the swap", phase("swap")},
		{"before the start", phase("start")},
	}
}

// inTheGate are the cells that every run tells; a full run tells all.
var inTheGate = []string{
	"kill -9 of the source's agent at 50 %", "kill -9 of zfs receive at 10 %", "connection reset at 50 %",
	"etcd away at 10 %", "kill -9 of the target's agent in the swap", "power off of the target at 50 %",
}

// faultMatrix lets every fault strike at every moment of a sync. Whatever happens, the copy is the old state or the new one,
// the sync ends right or failed with a reason, and nothing is left of it.
func (s *story) faultMatrix() {
	cells, faults, moments := 0, faults(), moments()
	// Along diagonals: however early a run is ended, it has told of every fault, and of every moment.
	for shift := range moments {
		for i, fault := range faults {
			moment := moments[(i+shift)%len(moments)]
			name := fault.name + " " + moment.name
			if !full() && !slices.Contains(inTheGate, name) {
				continue
			}
			if cells > 0 && s.later(untilMore) {
				s.t.Logf("left out for want of time: %s", name)
				continue
			}
			cells++
			s.faultCell(fault, moment, uint64(200+cells))
			if s.t.Failed() {
				s.t.Fatalf("%s: failed", name)
			}
		}
	}
	s.t.Logf("%d cells", cells)
}

func (s *story) faultCell(fault fault, moment moment, seed uint64) {
	s.source.fill(s.ctx, "data/faults", faultBytes, seed)
	s.a.run(s.ctx, "zpool sync tank")
	old := s.remote.treeHash(s.ctx)
	before := s.sent(s.a)
	began := time.Now()
	s.must(s.b.api.Sync(s.ctx, s.remote.id))
	if !moment.await(s, before) {
		s.t.Logf("%s %s: it was over before it was seen", fault.name, moment.name)
	}
	fault.strike(s)
	if fault.mend != nil {
		fault.mend(s)
	}
	container := s.endedSync()
	outcome := "complete"
	now, want := s.remote.treeHash(s.ctx), s.source.treeHash(s.ctx)
	if container.LastOperation.State != "done" {
		reason := ""
		if container.LastOperation.Error != nil {
			reason = *container.LastOperation.Error
		}
		outcome = "failed: " + reason
		if !fault.mayFail || reason == "" {
			s.t.Errorf("%s %s: the sync ended %s: %s", fault.name, moment.name, container.LastOperation.State, reason)
		}
		s.equal("content after a failed sync", now, old)
		s.b.sync(s.ctx, s.remote.id, "running")
		now = s.remote.treeHash(s.ctx)
	}
	s.equal("content", now, want)
	s.becomes(s.b, s.remote.id, "running")
	moved := container.LastOperation.BytesDone
	s.t.Logf("%-40s %-22s %s in %s, %s of stream counted for %s", fault.name, moment.name, outcome, time.Since(began).Round(100*time.Millisecond), mib(moved), mib(faultBytes))
	for _, n := range s.nodes() {
		if left := n.run(s.ctx, "zfs list -H -o name -r "+pool+"/hoody/incoming | tail -n +2; zfs get -H -o value -r receive_resume_token "+pool+"/hoody | grep -v '^-$'; pgrep -af '^zfs (send|receive)'; true"); left != "" {
			s.t.Errorf("%s %s: left on %s: %s", fault.name, moment.name, n.Name(), left)
		}
	}
}

// endedSync waits for the end of the sync through whichever agent answers: the other may be the one that is down.
func (s *story) endedSync() contract.Container {
	s.t.Helper()
	var container contract.Container
	s.b.eventually(s.ctx, "end of the sync", func() error {
		var err error
		if container, err = s.b.api.Container(s.ctx, s.remote.id); err != nil {
			return err
		}
		if container.Status == "copying" || container.LastOperation == nil {
			return fmt.Errorf("it is %s", container.Status)
		}
		return nil
	})
	return container
}

// phaseOf waits until the operation on a container has begun a phase, and tells whether it was seen in it and not past it.
func (s *story) phaseOf(id, want string) bool {
	s.t.Helper()
	for {
		container, err := s.b.api.Container(s.ctx, id)
		s.must(err)
		if container.Progress != nil && strings.EqualFold(container.Progress.Phase, want) {
			return true
		}
		if container.Status != "copying" {
			return false
		}
		time.Sleep(pollInterval)
	}
}
