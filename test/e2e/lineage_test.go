//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/client"
)

// lineageAtSize tells what long histories and many copies cost: counts and sizes that stay flat.
func (s *story) lineageAtSize() {
	if !full() {
		s.t.Skip("only in full: it takes its time")
	}
	s.sizeLimit()
	s.bigHistory()
	s.manyCopies()
	s.manySyncs()
}

// bigHistory: 20 snapshots of 1 GiB on a same-server copy cost nothing, and each can be restored, the source gone or not.
func (s *story) bigHistory() {
	const snapshots = 20
	source := s.container("history", 1<<30)
	for i := range snapshots {
		source.put(s.ctx, "data/version", fmt.Sprintln(i))
		source.fill(s.ctx, "data/changing", 1<<20, uint64(i))
		_, err := s.a.api.Snapshot(s.ctx, source.id, fmt.Sprintf("h%d", i))
		s.must(err)
	}
	source.put(s.ctx, "data/version", "latest\n")
	before, tookBefore := s.a.allocated(s.ctx), s.changesTook(s.a)
	created := s.a.copy(s.ctx, source.id, map[string]any{"target_project_id": s.project.ID, "name": "history-copy"})
	container := s.a.settled(s.ctx, created.ID, "running")
	grew, clone, took := s.a.allocated(s.ctx)-before, s.phaseTook(s.a, container.LastOperation.ID, "clone"), s.changesTook(s.a)-tookBefore
	s.t.Logf("copy of 1 GiB with %d snapshots on the same server: pool grew by %s, the commands that change it took %.2f s, phase clone %s", snapshots, mib(grew), took, clone)
	if grew > 4<<20 {
		s.t.Errorf("pool grew by %s, want at most 4 MiB", mib(grew))
	}
	copied := s.a.box(created.ID)
	s.must(s.a.api.Operate(s.ctx, copied.id, "stop"))
	restoreAll := func() {
		for i := range snapshots {
			s.restore(copied, fmt.Sprintf("h%d", i))
			s.equal("restored version", copied.file(s.ctx, "data/version"), fmt.Sprint(i))
		}
	}
	restoreAll()
	s.must(s.a.api.Delete(s.ctx, source.id))
	restoreAll()
	s.must(s.a.api.Delete(s.ctx, copied.id))
}

// changesTook is how long the commands that change a host's pool have taken so far, in seconds, as its agent's metrics have it.
func (s *story) changesTook(n *node) (seconds float64) {
	s.t.Helper()
	out := n.run(s.ctx, "curl -s http://"+n.Addr()+":6473/metrics | awk '/^hoody_agent_zfs_command_duration_seconds_sum{command=\"zfs (snapshot|clone|create|rename|promote|set|destroy)\"}/ {s += $NF} END {print s}'")
	_, err := fmt.Sscan(out, &seconds)
	s.must(err)
	return seconds
}

// container makes a running busybox with some random data in it on the first host.
func (s *story) container(name string, size int64) box {
	s.t.Helper()
	created, err := s.a.api.CreateContainer(s.ctx, s.project.ID, map[string]any{"server_id": serverA, "name": name, "container_image": "busybox"})
	s.must(err)
	s.a.settled(s.ctx, created.ID, "running")
	made := s.a.box(created.ID)
	made.fill(s.ctx, "data/big", size, 7)
	return made
}

// manySyncs: 200 syncs of a stopped copy leave as many datasets as ten do, and reading them takes as long.
func (s *story) manySyncs() {
	source := s.container("many-syncs", 1<<20)
	created := s.a.copy(s.ctx, source.id, map[string]any{"target_project_id": s.project.ID, "name": "many-syncs-copy"})
	s.a.settled(s.ctx, created.ID, "running")
	copied := s.a.box(created.ID)
	s.must(s.a.api.Operate(s.ctx, copied.id, "stop"))
	counts := make(map[int]int64)
	for i := 1; i <= 200; i++ {
		source.put(s.ctx, "data/version", fmt.Sprintln(i))
		s.a.sync(s.ctx, copied.id, "stopped")
		if i == 10 || i == 100 || i == 200 {
			s.collect(s.a)
			s.equal("content", copied.file(s.ctx, "data/version"), fmt.Sprint(i))
			began := time.Now()
			counts[i] = s.a.number(s.ctx, "zfs list -H -t all -o name -r "+pool+" | wc -l")
			s.t.Logf("after %d syncs: %d datasets and snapshots, zfs list took %s, chain of %d origins", i, counts[i], time.Since(began).Round(time.Millisecond), s.depth(copied))
		}
	}
	if counts[200] > counts[10]+2 {
		s.t.Errorf("%d datasets and snapshots after 200 syncs, %d after 10", counts[200], counts[10])
	}
	s.must(s.a.api.Operate(s.ctx, copied.id, "start"))
	for i := range 10 {
		source.put(s.ctx, "data/version", fmt.Sprintln("running", i))
		s.a.sync(s.ctx, copied.id, "running")
	}
	s.collect(s.a)
	s.t.Logf("after 10 more of a running one: %d datasets and snapshots, chain of %d origins", s.a.number(s.ctx, "zfs list -H -t all -o name -r "+pool+" | wc -l"), s.depth(copied))
	for _, b := range []box{copied, source} {
		s.must(s.a.api.Delete(s.ctx, b.id))
	}
}

// collect lets a host's agent collect garbage now.
func (s *story) collect(n *node) {
	s.t.Helper()
	out := n.run(s.ctx, "hoody-agent gc --apply -o json")
	if !json.Valid([]byte(out)) {
		s.t.Fatalf("hoody-agent gc: %s", out)
	}
}

// settleGarbage collects what there is to collect, so that what a host holds is compared with nothing of it under way.
func (s *story) settleGarbage() {
	s.t.Helper()
	for _, n := range s.nodes() {
		s.collect(n)
	}
}

// depth is how many clones stand on one another below a container's files.
func (s *story) depth(b box) int {
	s.t.Helper()
	depth := 0
	for dataset := b.dataset(); ; depth++ {
		origin := b.run(s.ctx, "zfs get -Hp -o value origin "+dataset)
		if origin == "-" {
			return depth
		}
		dataset, _, _ = strings.Cut(origin, "@")
	}
}

// manyCopies: 50 copies of a running template to the other server, asked for at once, move it once.
func (s *story) manyCopies() {
	const copies = 50
	template := s.container("template", 16<<20)
	var group sync.WaitGroup
	created := make([]client.Created, copies)
	failed := make([]error, copies)
	for i := range created {
		group.Go(func() {
			created[i], failed[i] = s.a.api.Copy(s.ctx, template.id, map[string]any{
				"target_project_id": s.other.ID, "target_server_id": serverB, "name": fmt.Sprintf("fifty-%d", i)})
		})
	}
	group.Wait()
	s.must(errors.Join(failed...))
	want := template.treeHash(s.ctx)
	var moved []uint64
	for i := range created {
		container := s.b.settled(s.ctx, created[i].ID, "running")
		s.must(s.b.api.Operate(s.ctx, created[i].ID, "stop")) // room for the others
		s.equal("content", s.b.box(created[i].ID).treeHash(s.ctx), want)
		moved = append(moved, uint64(container.LastOperation.BytesDone))
	}
	slices.Sort(moved)
	var total uint64
	for _, bytes := range moved {
		total += bytes
	}
	one := moved[len(moved)-1]
	s.t.Logf("%d copies at once: %s of stream, the largest share %s", copies, mib(total), mib(one))
	if total > one*105/100 {
		s.t.Errorf("%s of stream for %d copies, want at most 1.05 x %s", mib(total), copies, mib(one))
	}
	for i := range created {
		s.must(s.b.api.Delete(s.ctx, created[i].ID))
	}
	s.must(s.a.api.Delete(s.ctx, template.id))
}

// sizeLimit: inherited history never fills a container with a limit, and the limit outlives whatever happens to its source.
func (s *story) sizeLimit() {
	source := s.container("limited", 32<<20)
	size := "incus config device %s " + source.instance() + " root size=96MiB"
	s.a.run(s.ctx, fmt.Sprintf(size+" || "+size, "set", "override"))
	for i := range 20 {
		source.fill(s.ctx, "data/changing", 8<<20, uint64(i))
		_, err := s.a.api.Snapshot(s.ctx, source.id, fmt.Sprintf("l%d", i))
		s.must(err)
	}
	created := s.a.copy(s.ctx, source.id, map[string]any{"target_project_id": s.project.ID, "name": "limited-copy"})
	s.a.settled(s.ctx, created.ID, "running")
	copied := s.a.box(created.ID)
	source.put(s.ctx, "data/version", "synced\n")
	s.a.sync(s.ctx, copied.id, "running")
	s.must(s.a.api.Delete(s.ctx, source.id))
	s.collect(s.a)
	s.equal("limit of the copy", s.a.run(s.ctx, "zfs get -Hp -o value refquota "+copied.dataset()), fmt.Sprint(96<<20))
	s.equal("origin once its source is gone and collected", s.a.run(s.ctx, "zfs get -Hp -o value origin "+copied.dataset()+" | grep -c hoody/generations || true"), "0")
	copied.fill(s.ctx, "data/more", 16<<20, 99)
	listed, err := s.a.api.Snapshots(s.ctx, copied.id)
	s.must(err)
	if len(listed) < 20 {
		s.t.Errorf("the copy lists %d snapshots, want its 20", len(listed))
	}
	if _, err := s.a.Run(s.ctx, "head -c 134217728 /dev/urandom > "+copied.rootfs()+"/data/over"); err == nil {
		s.t.Error("a container with a limit of 96 MiB takes 128 MiB more")
	}
	s.a.run(s.ctx, "rm -f "+copied.rootfs()+"/data/over")
	s.must(s.a.api.Delete(s.ctx, copied.id))
}
