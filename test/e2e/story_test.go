//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/client"
)

// story is told in order, on one fleet: booting costs time, and what comes later needs what came before.
type story struct {
	*fleet
	t       *testing.T
	begun   time.Time
	project contract.Project // the source's
	other   contract.Project

	source        box
	sourceKey     string
	first, second contract.Snapshot // of the source
	local         box               // a copy on the same server
	remote        box               // a copy on the other server, in the other project
}

// storyTime is what a story may take: the gate's share, or as long as it is.
func storyTime() time.Duration {
	if full() {
		return 3 * time.Hour
	}
	return 70 * time.Minute
}

// How long after its beginning a story in the gate begins chapters that can wait, and the one of them that is long. On two quiet cores
// all of them have begun by then; a machine that is several times slower tells the others, and says which it left out.
const (
	untilMore = 30 * time.Minute
	untilLong = 20 * time.Minute
)

type chapter struct {
	name  string
	tell  func(*story)
	until time.Duration // how late it may begin: it can wait for a machine, or a full run, that has the time; zero for one that cannot
}

// TestStory is what users and admins do, from the first container to the package's removal.
func TestStory(t *testing.T) {
	tell(t, []chapter{
		{name: "create, fill, snapshot", tell: (*story).create},
		{name: "copy on the same server", tell: (*story).copyHere},
		{name: "copy to the other server and project", tell: (*story).copyThere},
		{name: "second copy of the same state moves nothing", tell: (*story).copyAgain},
		{name: "five copies at once", tell: (*story).copyFive},
		{name: "copy of a named snapshot", tell: (*story).copySnapshot},
		{name: "sync what changed", tell: (*story).syncChanged},
		{name: "sync on the same server", tell: (*story).syncHere},
		{name: "refusals leave nothing behind", tell: (*story).refusals},
		{name: "restore and undo", tell: (*story).restoreAndUndo, until: untilMore},
		{name: "unsupported sources are refused visibly", tell: (*story).unsupported},
		{name: "the runtime's own view", tell: (*story).runtimeView},
		{name: "the store and the state directories are destroyed", tell: (*story).disaster, until: untilMore},
		{name: "the commands of the users' page", tell: (*story).userPage, until: untilMore},
		{name: "what Prometheus sees", tell: (*story).prometheus, until: untilMore},
		{name: "alerts", tell: (*story).alerts, until: untilMore},
		{name: "doctor finds what is planted", tell: (*story).doctor, until: untilMore},
		{name: "delete the source", tell: (*story).deleteSource},
		{name: "figures", tell: (*story).figures},
		{name: "remove and purge the package", tell: (*story).removePackage},
	})
}

// TestSurvival is what hosts, networks and whole systems do to copies and syncs, and what they cost. It has a fleet of
// its own, so that it can run beside the story.
func TestSurvival(t *testing.T) {
	tell(t, []chapter{
		{name: "create, fill, snapshot", tell: (*story).create},
		{name: "copy to the other server and project", tell: (*story).copyThere},
		{name: "killed and upgraded in the middle of a copy", tell: (*story).killed},
		{name: "power cut between swap and start", tell: (*story).powerCut},
		{name: "the drivers hold to the conformance suite", tell: (*story).drivers, until: untilLong},
		{name: "faults", tell: (*story).faultMatrix, until: untilMore},
		{name: "a debian container", tell: (*story).debian},
		{name: "random programs on a real pool", tell: (*story).programs, until: untilMore},
		{name: "throughput", tell: (*story).throughput, until: untilMore},
		{name: "lineage at size", tell: (*story).lineageAtSize, until: untilMore},
		{name: "figures", tell: (*story).figures},
	})
}

// tell tells chapters in order, until one fails: what follows would fail for the same reasons.
func tell(t *testing.T, chapters []chapter) {
	// Not the test's own context, which ends before the cleanups that tell what happened.
	ctx, cancel := context.WithTimeout(context.Background(), storyTime())
	t.Cleanup(cancel)
	s := &story{begun: time.Now()}
	s.fleet = newFleet(ctx, t)
	for _, chapter := range chapters {
		began := time.Now()
		ok := t.Run(chapter.name, func(t *testing.T) {
			if chapter.until > 0 && s.later(chapter.until) {
				t.Skipf("left out: this machine is slow, and the story is %s old", time.Since(s.begun).Round(time.Minute))
			}
			s.t, s.fleet.t, s.a.t, s.b.t = t, t, t, t
			chapter.tell(s)
		})
		t.Logf("%s: %s", chapter.name, time.Since(began).Round(time.Millisecond))
		if !ok {
			s.fleet.t, s.a.t, s.b.t = t, t, t
			t.FailNow()
		}
	}
}

// later tells whether a story in the gate is older than that.
func (s *story) later(than time.Duration) bool { return !full() && time.Since(s.begun) > than }

func (s *story) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) create() {
	var err error
	s.project, err = s.a.api.CreateProject(s.ctx, "production")
	s.must(err)
	s.other, err = s.b.api.CreateProject(s.ctx, "staging")
	s.must(err)
	created, err := s.a.api.CreateContainer(s.ctx, s.project.ID, map[string]any{
		"server_id": serverA, "name": "web", "container_image": "busybox", "environment_vars": map[string]string{"STAGE": "production"},
	})
	s.must(err)
	if created.PrivateKey == "" {
		s.t.Fatal("no private key in the answer to create")
	}
	container := s.a.settled(s.ctx, created.ID, "running")
	s.source, s.sourceKey = s.a.box(created.ID), *container.SSHPublicKey
	s.a.run(s.ctx, "incus", "config", "set", s.source.instance(), "limits.memory=200MiB", "limits.processes=150")
	if keys := s.source.file(s.ctx, "root/.ssh/authorized_keys"); !strings.Contains(keys, s.sourceKey) {
		s.t.Fatalf("authorized_keys of the source: %q", keys)
	}
	s.source.fill(s.ctx, "data/big", 256<<20, 1)
	s.source.put(s.ctx, "data/small", "version 1\n")
	// The image has no identity of a host; this one has, for copies not to inherit.
	s.source.put(s.ctx, "etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	s.a.run(s.ctx, "mkdir -p "+s.source.rootfs()+"/etc/ssh && ssh-keygen -q -t ed25519 -N '' -C web -f "+s.source.rootfs()+"/etc/ssh/ssh_host_ed25519_key")
	s.first, err = s.a.api.Snapshot(s.ctx, s.source.id, "v1")
	s.must(err)
	s.source.put(s.ctx, "data/small", "version 2\n")
	s.source.fill(s.ctx, "data/second", 4<<20, 2)
	s.second, err = s.a.api.Snapshot(s.ctx, s.source.id, "")
	s.must(err)
	s.source.put(s.ctx, "data/small", "version 3\n")
}

func (s *story) copyHere() {
	before, pid := s.a.allocated(s.ctx), s.source.pid(s.ctx)
	began := time.Now()
	created := s.a.copy(s.ctx, s.source.id, map[string]any{"target_project_id": s.project.ID, "name": "web-here"})
	container := s.a.settled(s.ctx, created.ID, "running")
	took := time.Since(began)
	s.local = s.a.box(created.ID)
	grew := s.a.allocated(s.ctx) - before
	s.t.Logf("same-server copy of %s: running after %s, pool grew by %s", mib(256<<20), took.Round(time.Millisecond), mib(grew))
	if grew > 4<<20 {
		s.t.Errorf("pool grew by %s, want at most 4 MiB", mib(grew))
	}
	s.equal("content", s.local.treeHash(s.ctx), s.source.treeHash(s.ctx))
	s.equal("source's init (it must not stop)", s.source.pid(s.ctx), pid)
	s.checkSnapshots(s.a, s.local.id)
	s.checkKeys(s.local, created, *container.SSHPublicKey)
	s.checkHost(s.local, s.source, "machine id", "ed25519 key", "host name")
	s.carried(s.local, container)
}

// hostIdentity is what tells one system from another, by name; empty where the system has no such thing.
func (s *story) hostIdentity(b box) map[string]string {
	s.t.Helper()
	return map[string]string{
		"machine id":  b.file(s.ctx, "etc/machine-id"),
		"ed25519 key": b.file(s.ctx, "etc/ssh/ssh_host_ed25519_key.pub"),
		"rsa key":     b.file(s.ctx, "etc/ssh/ssh_host_rsa_key.pub"),
		"host name":   b.file(s.ctx, "etc/hostname"),
	}
}

// checkHost requires that source and copy both have these parts of an identity, and not the same.
func (s *story) checkHost(copied, source box, parts ...string) {
	s.t.Helper()
	mine, theirs := s.hostIdentity(copied), s.hostIdentity(source)
	for _, what := range parts {
		if mine[what] == "" || theirs[what] == "" || mine[what] == theirs[what] {
			s.t.Errorf("%s of copy and source: %q and %q; want both and different", what, mine[what], theirs[what])
		}
	}
}

// checkSnapshots requires both of the source's snapshots on a copy.
func (s *story) checkSnapshots(n *node, id string) {
	s.t.Helper()
	listed, err := n.api.Snapshots(s.ctx, id)
	s.must(err)
	if len(listed) != 2 || listed[0].Name != s.second.Name || listed[1].Name != s.first.Name {
		s.t.Fatalf("snapshots of the copy: %+v, want %s and %s", listed, s.second.Name, s.first.Name)
	}
}

// checkKeys requires that a copy lets its own key in and not its source's, and that the private key fits.
func (s *story) checkKeys(b box, created client.Created, public string) {
	s.t.Helper()
	if public == s.sourceKey {
		s.t.Error("the copy has the source's key")
	}
	keys := b.file(s.ctx, "root/.ssh/authorized_keys")
	if !strings.Contains(keys, public) || strings.Contains(keys, s.sourceKey) {
		s.t.Errorf("authorized_keys of the copy: %q", keys)
	}
	signer, err := ssh.ParsePrivateKey([]byte(created.PrivateKey))
	s.must(err)
	if got := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))); !strings.HasPrefix(public, got) {
		s.t.Errorf("the private key handed out belongs to %q, the container has %q", got, public)
	}
}

// carried requires environment and limits of the source on a copy.
func (s *story) carried(b box, container contract.Container) {
	s.t.Helper()
	s.equal("environment of the record", container.EnvironmentVars["STAGE"], "production")
	s.equal("environment of the instance", b.run(s.ctx, "incus", "config", "get", b.instance(), "environment.STAGE"), "production")
	s.equal("memory limit", b.run(s.ctx, "incus", "config", "get", b.instance(), "limits.memory"), "200MiB")
	s.equal("process limit", b.run(s.ctx, "incus", "config", "get", b.instance(), "limits.processes"), "150")
}

func (s *story) copyThere() {
	began := time.Now()
	// Asked on the agent that does neither the freezing nor, for the source, the reading: any agent answers.
	created := s.b.copy(s.ctx, s.source.id, map[string]any{"target_project_id": s.other.ID, "target_server_id": serverB, "name": "web-there"})
	container := s.b.settled(s.ctx, created.ID, "running")
	s.remote = s.b.box(created.ID)
	moved := container.LastOperation
	s.t.Logf("copy to the other server: running after %s, %d snapshots, %s of stream, %s on the wire (%s)",
		time.Since(began).Round(time.Millisecond), moved.Snapshots, mib(moved.BytesDone), mib(moved.BytesWire), moved.Compression)
	s.equal("project", container.ProjectID, s.other.ID)
	s.equal("content", s.remote.treeHash(s.ctx), s.source.treeHash(s.ctx))
	s.checkSnapshots(s.b, s.remote.id)
	s.checkKeys(s.remote, created, *container.SSHPublicKey)
	s.checkHost(s.remote, s.source, "machine id", "ed25519 key", "host name")
	s.carried(s.remote, container)
	here, there := s.source.guids(s.ctx), s.remote.guids(s.ctx)
	shared := 0
	for name, guid := range here {
		if got, ok := there[name]; ok && got == guid {
			shared++
		} else if ok {
			s.t.Errorf("snapshot %s has GUID %s there, %s here", name, got, guid)
		}
	}
	s.t.Logf("%d snapshot GUIDs are equal on both servers", shared)
	if shared < 3 {
		s.t.Errorf("%d snapshots shared, want the two of the user and the frozen state\nhere: %v\nthere: %v", shared, here, there)
	}
}

func (s *story) copyAgain() {
	for what, body := range map[string]map[string]any{
		"a quiet source":    {"target_project_id": s.other.ID, "target_server_id": serverB, "name": "again"},
		"the same snapshot": {"target_project_id": s.other.ID, "target_server_id": serverB, "name": "again-snapshot", "source_snapshot": s.second.Name},
	} {
		created := s.a.copy(s.ctx, s.source.id, body)
		container := s.a.settled(s.ctx, created.ID, "running")
		s.t.Logf("second copy of %s: %d stream bytes", what, container.LastOperation.BytesDone)
		if moved := container.LastOperation.BytesDone; moved != 0 {
			s.t.Errorf("second copy of %s moved %d bytes, want 0", what, moved)
		}
		if what == "a quiet source" {
			s.equal("content", s.b.box(created.ID).treeHash(s.ctx), s.source.treeHash(s.ctx))
		} else {
			s.equal("content", s.b.box(created.ID).file(s.ctx, "data/small"), "version 2")
		}
		s.must(s.a.api.Delete(s.ctx, created.ID))
	}
}

func (s *story) copyFive() {
	const changed = 8 << 20
	s.source.fill(s.ctx, "data/five", changed, 5)
	freezes := s.freezes()
	var group sync.WaitGroup
	created := make([]client.Created, 5)
	failed := make([]error, 5)
	for i := range created {
		group.Go(func() {
			created[i], failed[i] = s.a.api.Copy(s.ctx, s.source.id, map[string]any{
				"target_project_id": s.other.ID, "target_server_id": serverB, "name": fmt.Sprintf("five-%d", i)})
		})
	}
	group.Wait()
	want := s.source.treeHash(s.ctx)
	transfers := 0
	var moved int64
	for i := range created {
		s.must(failed[i])
		container := s.b.settled(s.ctx, created[i].ID, "running")
		s.equal("content", s.b.box(created[i].ID).treeHash(s.ctx), want)
		if bytes := int64(container.LastOperation.BytesDone); bytes > 0 {
			transfers++
			moved += bytes
		}
	}
	made := len(slices.DeleteFunc(s.freezes(), func(name string) bool { return slices.Contains(freezes, name) }))
	s.t.Logf("five copies at once: %d freezes, %d of them moved bytes, %s together", made, transfers, mib(moved))
	// A follower may finish what its leader began: what counts is that nothing moves twice.
	if made != 1 || transfers == 0 || moved > changed*11/10+1<<20 {
		s.t.Errorf("%d freezes and %s moved for %s changed, want one freeze and one transfer", made, mib(moved), mib(changed))
	}
	s.a.run(s.ctx, "rm", s.source.rootfs()+"/data/five")
	for i := range created {
		s.must(s.b.api.Delete(s.ctx, created[i].ID))
	}
}

// freezes are the snapshots of the source's dataset that the agent made.
func (s *story) freezes() []string {
	return strings.Fields(s.a.run(s.ctx, "zfs list -H -t snapshot -o name -d 1 "+s.source.dataset()+" | cut -d@ -f2 | grep '^hoody-' || true"))
}

func (s *story) copySnapshot() {
	for reference, want := range map[string]string{"v1": "version 1", s.first.Name: "version 1", s.second.Name: "version 2"} {
		created := s.a.copy(s.ctx, s.source.id, map[string]any{"target_project_id": s.project.ID, "source_snapshot": reference})
		s.a.settled(s.ctx, created.ID, "running")
		s.equal("content of a copy of "+reference, s.a.box(created.ID).file(s.ctx, "data/small"), want)
		listed, err := s.a.api.Snapshots(s.ctx, created.ID)
		s.must(err)
		if want := map[string]int{"version 1": 1, "version 2": 2}[want]; len(listed) != want {
			s.t.Errorf("copy of %s lists %d snapshots, want that one and its ancestors: %d", reference, len(listed), want)
		}
		s.must(s.a.api.Delete(s.ctx, created.ID))
	}
}

func (s *story) syncChanged() {
	before, err := s.b.api.Container(s.ctx, s.remote.id)
	s.must(err)
	s.must(s.a.tryRun(s.ctx, "true"))
	s.sync0Bytes("to begin with, what the five added", s.remote, false)

	const changed = 8 << 20
	s.source.fill(s.ctx, "data/second", changed, 3)
	s.source.put(s.ctx, "data/small", "version 4\n")
	s.remote.put(s.ctx, "data/local", "a local change\n")
	s.remote.put(s.ctx, "data/small", "changed locally\n")
	last := s.b.sync(s.ctx, s.remote.id, "running")
	moved := int64(last.BytesDone)
	s.t.Logf("sync of %s: %s of stream, down for %d ms", mib(changed), mib(moved), last.DownMillis)
	if limit := int64(changed)*11/10 + 1<<20; moved > limit {
		s.t.Errorf("stream of %s, want at most %s", mib(moved), mib(limit))
	}
	s.equal("content", s.remote.treeHash(s.ctx), s.source.treeHash(s.ctx))
	s.equal("the copy's local file", s.remote.file(s.ctx, "data/local"), "")
	after, err := s.b.api.Container(s.ctx, s.remote.id)
	s.must(err)
	if after.Name != before.Name || *after.SSHPublicKey != *before.SSHPublicKey || after.ProjectID != before.ProjectID || after.EnvironmentVars["STAGE"] != "production" {
		s.t.Errorf("the copy was\n%+v\nand is\n%+v", before, after)
	}
	if keys := s.remote.file(s.ctx, "root/.ssh/authorized_keys"); !strings.Contains(keys, *before.SSHPublicKey) || strings.Contains(keys, s.sourceKey) {
		s.t.Errorf("authorized_keys after sync: %q", keys)
	}
	s.equal("state", s.remote.state(s.ctx), "RUNNING")
	s.unchangedSyncs(s.remote)
}

// sync0Bytes syncs and only reports.
func (s *story) sync0Bytes(what string, b box, none bool) {
	s.t.Helper()
	last := b.sync(s.ctx, b.id, "running")
	s.t.Logf("sync (%s): %d stream bytes, no-op %v", what, last.BytesDone, last.NoOp)
	if none && last.BytesDone != 0 {
		s.t.Errorf("sync (%s) moved %d bytes, want 0", what, last.BytesDone)
	}
}

// unchangedSyncs: neither side changed, then only the copy.
func (s *story) unchangedSyncs(b box) {
	s.t.Helper()
	pid := b.pid(s.ctx)
	last := b.sync(s.ctx, b.id, "running")
	if last.BytesDone != 0 || !last.NoOp || b.pid(s.ctx) != pid {
		s.t.Errorf("sync with neither side changed: %+v, init %s then %s; want 0 bytes and no restart", last, pid, b.pid(s.ctx))
	}
	b.put(s.ctx, "data/local", "a local change\n")
	last = b.sync(s.ctx, b.id, "running")
	if last.BytesDone != 0 || last.NoOp {
		s.t.Errorf("sync with only the copy changed: %+v; want 0 bytes and a checkout", last)
	}
	s.equal("the copy's local file", b.file(s.ctx, "data/local"), "")
	s.t.Logf("neither changed: no-op, same init %s; only the copy changed: 0 bytes, down for %d ms", pid, last.DownMillis)
}

func (s *story) syncHere() {
	s.source.fill(s.ctx, "data/second", 8<<20, 4)
	before := s.a.allocated(s.ctx)
	last := s.a.sync(s.ctx, s.local.id, "running")
	s.t.Logf("same-server sync: %d stream bytes, pool grew by %s, down for %d ms", last.BytesDone, mib(s.a.allocated(s.ctx)-before), last.DownMillis)
	if last.BytesDone != 0 {
		s.t.Errorf("same-server sync moved %d bytes", last.BytesDone)
	}
	s.equal("content", s.local.treeHash(s.ctx), s.source.treeHash(s.ctx))
	s.unchangedSyncs(s.local)
}

func (s *story) refusals() {
	s.settleGarbage()
	here, there, records := s.a.holdings(s.ctx), s.b.holdings(s.ctx), s.records()
	unknown := "64c1aa00b2d34e5f6071ffff"
	project := map[string]any{"target_project_id": s.project.ID}
	with := func(more map[string]any) map[string]any {
		body := map[string]any{"target_project_id": s.project.ID}
		for key, value := range more {
			body[key] = value
		}
		return body
	}
	copyPath, syncPath := "/api/v1/containers/"+s.source.id+"/copy", "/api/v1/containers/"+s.source.id+"/sync"
	for _, refusal := range []struct {
		what, path string
		body       any
		status     int
		code       string
	}{
		{"sync of a container that is no copy", syncPath, nil, 400, "CONTAINER_NOT_COPIED"},
		{"copy of an unknown container", "/api/v1/containers/" + unknown + "/copy", project, 404, "SOURCE_CONTAINER_NOT_FOUND"},
		{"copy with a malformed id", "/api/v1/containers/nonsense/copy", project, 400, "INVALID_ID_FORMAT"},
		{"copy to an unknown project", copyPath, map[string]any{"target_project_id": unknown}, 404, "RESOURCE_NOT_FOUND"},
		{"copy to an unknown server", copyPath, with(map[string]any{"target_server_id": unknown}), 404, "RESOURCE_NOT_FOUND"},
		{"copy of an unknown snapshot", copyPath, with(map[string]any{"source_snapshot": "nothing"}), 404, "RESOURCE_NOT_FOUND"},
		{"copy with a name in use", copyPath, with(map[string]any{"name": "web"}), 409, "CONTAINER_NAME_IN_USE"},
		{"copy with the source's key", copyPath, with(map[string]any{"ssh_public_key": s.sourceKey}), 409, "SSH_PUBLIC_KEY_IN_USE"},
		{"copy without a project", copyPath, map[string]any{}, 400, ""},
		{"copy with an unknown field", copyPath, with(map[string]any{"colour": "red"}), 400, "VALIDATION_ERROR"},
		{"copy with a wrong type", copyPath, with(map[string]any{"copy_network_rules": 7}), 400, "VALIDATION_ERROR"},
		{"copy with broken JSON", copyPath, `{"target_project_id":`, 400, ""},
		{"copy with an oversized body", copyPath, `{"target_project_id":"` + strings.Repeat("x", 2<<20) + `"}`, 413, ""},
	} {
		err := s.a.api.Do(s.ctx, http.MethodPost, refusal.path, refusal.body, nil)
		answer, ok := err.(*client.Error)
		if !ok || answer.Status != refusal.status || refusal.code != "" && answer.Code != refusal.code {
			s.t.Errorf("%s: %v, want %d %s", refusal.what, err, refusal.status, refusal.code)
		}
	}
	stranger := *s.a.api
	stranger.Token = "not.a.token"
	if err := stranger.Do(s.ctx, http.MethodPost, copyPath, project, nil); client.StatusOf(err) != 401 {
		s.t.Errorf("copy with a bad token: %v, want 401", err)
	}
	s.equal("what the first host holds", s.a.holdings(s.ctx), here)
	s.equal("what the second host holds", s.b.holdings(s.ctx), there)
	s.equal("the records", s.records(), records)
}

// records is what the API lists: every container and project with what an operation could have changed.
func (s *story) records() string {
	s.t.Helper()
	var containers contract.ContainerPage
	s.must(s.a.api.Do(s.ctx, http.MethodGet, "/api/v1/containers?limit=100&sort_by=id", nil, &containers))
	var projects contract.ProjectPage
	s.must(s.a.api.Do(s.ctx, http.MethodGet, "/api/v1/projects/?limit=100&sort_by=id", nil, &projects))
	var all strings.Builder
	for _, c := range containers.Containers {
		fmt.Fprintln(&all, c.ID, c.Name, c.Status, c.SnapshotCount, c.UpdatedAt)
	}
	for _, p := range projects.Projects {
		fmt.Fprintln(&all, p.ID, p.Alias, p.UpdatedAt)
	}
	return all.String()
}
