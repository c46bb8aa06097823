//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/client"
)

// unsupported: what cannot be copied whole is refused with a reason, and nothing is left of the attempt but the failed
// container, for its owner to delete.
func (s *story) unsupported() {
	created, err := s.a.api.CreateContainer(s.ctx, s.project.ID, map[string]any{"server_id": serverA, "name": "odd", "container_image": "busybox"})
	s.must(err)
	s.a.settled(s.ctx, created.ID, "running")
	odd := s.a.box(created.ID)
	becomes := func(kind int) string {
		return fmt.Sprintf(`incus admin sql global "UPDATE instances SET type=%d WHERE name='%s'"`, kind, odd.instance())
	}
	for _, oddity := range []struct {
		what, reason string
		make, unmake string
	}{
		{"a nested dataset", "nested dataset", "zfs create -o mountpoint=none " + odd.dataset() + "/inner", "zfs destroy " + odd.dataset() + "/inner"},
		{"an attached custom volume", "volume",
			"incus storage volume create default extra && incus storage volume attach default extra " + odd.instance() + " extra /extra",
			"incus storage volume detach default extra " + odd.instance() + " && incus storage volume delete default extra"},
		// Without KVM no virtual machine can be made, but Incus can be made to believe that this is one.
		{"a virtual machine", "virtual machine", "incus stop -f " + odd.instance() + " && " + becomes(1), becomes(0)},
	} {
		s.a.run(s.ctx, oddity.make)
		refused := s.a.copy(s.ctx, odd.id, map[string]any{"target_project_id": s.project.ID})
		failed := s.a.settled(s.ctx, refused.ID, "failed")
		if failed.FailureReason == nil || !strings.Contains(*failed.FailureReason, oddity.reason) {
			s.t.Errorf("copy of a container with %s fails with %v, want a reason with %q", oddity.what, failed.FailureReason, oddity.reason)
		} else {
			s.t.Logf("%s: %s", oddity.what, *failed.FailureReason)
		}
		s.must(s.a.api.Delete(s.ctx, refused.ID))
		if left := s.a.run(s.ctx, "{ zfs list -H -o name -r "+pool+"; incus list -f csv -c n; } | grep "+refused.ID+" || true"); left != "" {
			s.t.Errorf("left behind: %s", left)
		}
		s.a.run(s.ctx, oddity.unmake)
	}
	s.must(s.a.api.Delete(s.ctx, odd.id))
}

// debian: a system with systemd, SSH host keys and a machine id, copied and synced on its own server and to the other.
func (s *story) debian() {
	created, err := s.a.api.CreateContainer(s.ctx, s.project.ID, map[string]any{"server_id": serverA, "name": "debian", "container_image": "debian"})
	s.must(err)
	s.a.settled(s.ctx, created.ID, "running")
	source := s.a.box(created.ID)
	s.booted(source)
	s.must(s.a.api.Operate(s.ctx, source.id, "stop"))
	for _, target := range []struct {
		name    string
		node    *node
		project string
	}{{"here", s.a, s.project.ID}, {"there", s.b, s.other.ID}} {
		copied := s.a.copy(s.ctx, source.id, map[string]any{"target_project_id": target.project, "target_server_id": target.node.server, "name": "debian-" + target.name})
		target.node.settled(s.ctx, copied.ID, "running")
		s.debianCopy(source, target.node.box(copied.ID), target.name)
		s.must(target.node.api.Delete(s.ctx, copied.ID))
	}
	s.must(s.a.api.Delete(s.ctx, source.id))
}

// debianCopy: a copy of a stopped Debian has an identity of its own, and keeps it whatever its syncs do.
func (s *story) debianCopy(source, copied box, where string) {
	s.booted(copied)
	s.checkHost(copied, source, "machine id", "ed25519 key", "rsa key", "host name")
	mine := s.hostIdentity(copied)
	s.must(copied.api.Operate(s.ctx, copied.id, "stop"))
	copied.sync(s.ctx, copied.id, "stopped")
	last := copied.sync(s.ctx, copied.id, "stopped")
	if last.BytesDone != 0 || !last.NoOp {
		s.t.Errorf("%s: sync of two stopped, unchanged containers: %+v, want a no-op", where, last)
	}
	s.must(copied.api.Operate(s.ctx, copied.id, "start"))
	s.booted(copied)
	copied.exec(s.ctx, "logger", "the copy's own log moves")
	pid := copied.pid(s.ctx)
	last = copied.sync(s.ctx, copied.id, "running")
	s.t.Logf("%s: sync of a running copy whose logs moved: %d bytes, down for %d ms", where, last.BytesDone, last.DownMillis)
	if last.BytesDone != 0 || last.NoOp || copied.pid(s.ctx) == pid {
		s.t.Errorf("%s: sync of a running copy whose logs moved: %+v, want 0 bytes and a restart", where, last)
	}
	for what, value := range s.hostIdentity(copied) {
		s.equal(what+" after syncs", value, mine[what])
	}
}

// booted waits until systemd in the container has started everything.
func (s *story) booted(b box) {
	s.t.Helper()
	b.eventually(s.ctx, "booted system", func() error {
		out, err := b.Run(s.ctx, "incus", "exec", b.instance(), "-T", "-n", "--", "systemctl", "is-system-running")
		if state := strings.TrimSpace(out); state != "running" && state != "degraded" {
			return fmt.Errorf("system is %q: %v", state, err)
		}
		return nil
	})
}

// runtimeView: what admins do through Incus works on copies and is noticed.
func (s *story) runtimeView() {
	s.equal("state in incus list", s.remote.state(s.ctx), "RUNNING")
	if shown := s.b.run(s.ctx, "incus", "config", "show", s.remote.instance()); !strings.Contains(shown, "user.hoody.container: "+s.remote.id) {
		s.t.Errorf("incus config show:\n%s", shown)
	}
	s.b.run(s.ctx, "incus", "stop", s.remote.instance())
	s.becomes(s.b, s.remote.id, "stopped")
	s.b.run(s.ctx, "incus", "start", s.remote.instance())
	s.becomes(s.b, s.remote.id, "running")
	s.a.run(s.ctx, "incus", "restart", s.source.instance())
	s.b.run(s.ctx, "incus", "restart", s.remote.instance())
	s.becomes(s.a, s.source.id, "running")
	s.becomes(s.b, s.remote.id, "running")
	s.source.put(s.ctx, "data/small", "version 5\n")
	s.b.sync(s.ctx, s.remote.id, "running")
	s.equal("content", s.remote.treeHash(s.ctx), s.source.treeHash(s.ctx))
	if err := s.b.tryRun(s.ctx, "incus", "delete", "-f", s.remote.instance()); err == nil {
		s.t.Error("incus deletes a container that is the agent's")
	}
	// It stops it first, though.
	s.b.run(s.ctx, "incus start "+s.remote.instance()+" 2>/dev/null || true")
	s.becomes(s.b, s.remote.id, "running")
}

func (s *story) becomes(n *node, id string, want contract.ContainerStatus) {
	s.t.Helper()
	n.eventually(s.ctx, "container "+string(want), func() error {
		container, err := n.api.Container(s.ctx, id)
		if err == nil && container.Status != want {
			return fmt.Errorf("it is %s", container.Status)
		}
		return err
	})
}

// killed: the target's agent dies in the middle of a big copy, and is upgraded in its middle, too; it goes on where it was.
func (s *story) killed() {
	const size = 1 << 30
	next := s.nextPackage()
	s.source.fill(s.ctx, "data/huge", size, 5)
	before := s.sent(s.a)
	created := s.a.copy(s.ctx, s.source.id, map[string]any{"target_project_id": s.other.ID, "target_server_id": serverB, "name": "survivor"})
	s.sending(before, size/5)
	s.b.run(s.ctx, "systemctl kill -s KILL hoody-agent; systemctl start hoody-agent")
	s.sending(before, size/2)
	killed := s.b.run(s.ctx, "systemctl show -P MainPID hoody-agent")
	s.b.installPackage(s.ctx, next)
	began := time.Now()
	if after := s.b.run(s.ctx, "systemctl show -P MainPID hoody-agent"); after == killed || after == "0" {
		s.t.Errorf("the agent's process after the upgrade is %s, before it was %s", after, killed)
	}
	container := s.b.settled(s.ctx, created.ID, "running")
	moved := container.LastOperation
	again := s.sent(s.a) - before - size
	s.t.Logf("copy of %s killed at a fifth and upgraded at its half: running %s after the upgrade; %s sent beyond its files, both times and all heads together; %s counted by the surviving records",
		mib(size), time.Since(began).Round(time.Millisecond), mib(again), mib(moved.BytesDone))
	if limit := int64(2 * (size/100 + 16<<20)); again > limit {
		s.t.Errorf("%s sent beyond the files, want at most %s for two interruptions", mib(again), mib(limit))
	}
	survivor := s.b.box(created.ID)
	s.equal("content", survivor.treeHash(s.ctx), s.source.treeHash(s.ctx))
	if left := s.b.run(s.ctx, "zfs list -H -o name -r "+pool+"/hoody/incoming | tail -n +2"); left != "" {
		s.t.Errorf("left in incoming: %s", left)
	}
	s.must(s.b.api.Delete(s.ctx, survivor.id))
	s.a.run(s.ctx, "rm", s.source.rootfs()+"/data/huge")
}

// sent is how many bytes of streams a host's agent has sent since it started. It waits for an agent that is just starting.
func (s *story) sent(n *node) (bytes int64) {
	s.t.Helper()
	n.eventually(s.ctx, "count of bytes sent", func() error {
		out, err := n.Run(s.ctx, "curl -sf http://"+n.Addr()+":6473/metrics | awk '/^hoody_agent_transfer_stream_bytes_total.direction=\"sent\"/ {printf \"%.0f\", $NF}'")
		if err != nil {
			return err
		}
		bytes, err = strconv.ParseInt(strings.TrimSpace(out), 10, 64)
		return err
	})
	return bytes
}

// sending waits until the first host's agent has sent so many bytes of a stream, when it had sent some before. What has been sent stays so,
// unlike what is in a dataset that moves when it is whole: a look that comes late finds it, too.
func (s *story) sending(before, bytes int64) {
	s.t.Helper()
	s.a.eventually(s.ctx, mib(bytes)+" of a stream", func() error {
		if sent := s.sent(s.a) - before; sent < bytes {
			return fmt.Errorf("%s sent", mib(sent))
		}
		return nil
	})
}

// powerCut: the target loses power after the swap of a first copy and before it was started. Whatever starts then has the
// copy's keys.
func (s *story) powerCut() {
	var created client.Created
	for attempt := 1; ; attempt++ {
		created = s.a.copy(s.ctx, s.source.id, map[string]any{"target_project_id": s.other.ID, "target_server_id": serverB, "name": "phoenix"})
		if s.phase(created, "start") {
			break
		}
		if attempt == 3 {
			s.t.Fatal("the start of a copy was over three times before it was seen")
		}
		s.b.settled(s.ctx, created.ID, "running")
		s.must(s.b.api.Delete(s.ctx, created.ID))
	}
	s.must(s.b.PowerCut())
	s.t.Log("power cut at the start of phase start")
	s.must(s.b.Boot(s.ctx))
	phoenix := s.b.box(created.ID)
	container := s.a.settled(s.ctx, created.ID, "running")
	keys := phoenix.file(s.ctx, "root/.ssh/authorized_keys")
	if !strings.Contains(keys, *container.SSHPublicKey) || strings.Contains(keys, s.sourceKey) {
		s.t.Errorf("authorized_keys after the power cut: %q", keys)
	}
	s.equal("content", phoenix.treeHash(s.ctx), s.source.treeHash(s.ctx))
	s.becomes(s.b, s.remote.id, "running") // the other copy came back by autostart
	s.must(s.a.api.Delete(s.ctx, created.ID))
}

// pollInterval keeps below the API's rate limit.
const pollInterval = 150 * time.Millisecond

// phase waits until a container's operation has journalled that it begins a phase, and tells whether it was seen before it was over.
func (s *story) phase(created client.Created, want string) bool {
	s.t.Helper()
	for {
		container, err := s.a.api.Container(s.ctx, created.ID)
		s.must(err)
		if container.Progress != nil && container.Progress.Phase == want {
			return true
		}
		if container.Status != "copying" {
			return false
		}
		time.Sleep(pollInterval)
	}
}

// deleteSource: copies outlive their source and cannot sync any more.
func (s *story) deleteSource() {
	local, remote := s.local.treeHash(s.ctx), s.remote.treeHash(s.ctx)
	s.must(s.a.api.Delete(s.ctx, s.source.id))
	if _, err := s.b.api.Container(s.ctx, s.source.id); client.StatusOf(err) != 404 {
		s.t.Errorf("the deleted source: %v, want 404", err)
	}
	s.equal("instances of the source", s.a.run(s.ctx, "incus list -f csv -c n "+s.source.instance()), "")
	s.settleGarbage()
	here, there, records := s.a.holdings(s.ctx), s.b.holdings(s.ctx), s.records()
	for _, b := range []box{s.local, s.remote} {
		s.equal("state", b.state(s.ctx), "RUNNING")
		s.equal("a file read inside", b.exec(s.ctx, "cat", "/data/small"), b.file(s.ctx, "data/small"))
		err := b.api.Sync(s.ctx, b.id)
		var answer *client.Error
		if !errors.As(err, &answer) || answer.Status != 400 || answer.Code != "SOURCE_CONTAINER_NOT_FOUND" {
			s.t.Errorf("sync after the source is gone: %v, want 400 SOURCE_CONTAINER_NOT_FOUND", err)
		}
	}
	s.equal("what the first host holds", s.a.holdings(s.ctx), here)
	s.equal("what the second host holds", s.b.holdings(s.ctx), there)
	s.equal("the records", s.records(), records)
	s.equal("content of the local copy", s.local.treeHash(s.ctx), local)
	s.equal("content of the remote copy", s.remote.treeHash(s.ctx), remote)
	s.a.run(s.ctx, "incus", "restart", s.local.instance())
	s.equal("content of the local copy after a restart", s.local.treeHash(s.ctx), local)
	for _, b := range []box{s.local, s.remote} {
		s.restoresAll(b)
	}
}
