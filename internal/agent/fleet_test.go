package agent_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/sim"
	"github.com/hoodynetwork/hoody-agent/internal/store"
	"github.com/hoodynetwork/hoody-agent/internal/store/embedded"
	"github.com/hoodynetwork/hoody-agent/internal/transfer"
)

const owner = "64c1aa00b2d34e5f60718001"

var caller = agent.Caller{UserID: owner}

// fleet is a few servers on the stand-ins, with one real etcd. What is between them is a function call: the network has
// tests of its own.
type fleet struct {
	t       testing.TB
	ctx     context.Context
	etcd    *embedded.Server
	etcdDir string
	records *store.Store // the test's own view, whoever dies
	servers []*server
	project store.Project
	clock   clock // of every agent

	// A peer that lies, and what was asked of it. Set before anything uses them.
	tamper   func(*agent.Manifest)
	freezing func() // before a source on another server is asked to freeze
	asked    func(agent.StreamRequest)

	digests  func(request *agent.DigestRequest, answer *agent.Digests) // changes what is asked for, and what is answered (nil before)
	measured func([]agent.Measured, error) ([]agent.Measured, error)   // what becomes of a peer's answer
	// substitute changes what the source is asked for, given the last manifest's nodes.
	substitute func(*agent.StreamRequest, []lineage.Node)
	nodes      []lineage.Node

	network *network // nil: what is between the servers is a function call
	// activityPace is agent.Options.ActivityPace.
	activityPace time.Duration
	// recordEvery is agent.Options.RecordInterval of servers that have none of their own.
	recordEvery time.Duration
	watch       func(server string, pool agent.Pool) agent.Pool // sees what the agents do with their pools
	drive       func(agent.Runtime) agent.Runtime               // stands between the agents and their runtimes
	proxy       *etcdProxy                                      // nil: the store is reached directly
	log         *zap.Logger                                     // of the agents; nil for none
}

// server is one host. Its directory outlives its agent, as a host's disks do.
type server struct {
	fleet *fleet
	id    string
	dir   string

	noForce    bool          // agent.Options.NoForceStop, from the next start on
	recorded   time.Duration // agent.Options.RecordInterval, from the next start on
	collects   time.Duration // agent.Options.CollectInterval, likewise; 0 for never
	reconciled time.Duration // agent.Options.InspectInterval, from the next start on
	maxOpen    int           // agent.Options.MaxOpenJobs, likewise; 0 for its default

	grace time.Duration // agent.Options.AnswerGrace, likewise; 0 for its default
	slack uint64        // agent.Options.LimitSlack, likewise; 0 for its default

	acceptDecrypted bool // agent.Options.AcceptDecrypted, likewise

	mu      sync.Mutex
	fault   func(op, object string) error
	pool    *sim.Pool
	runtime *sim.Runtime
	store   *store.Store
	agent   *agent.Agent
	gate    *transfer.Gate // of what it receives
	stop    context.CancelFunc
	ended   chan struct{}

	powerCut bool // the next start finds the host after a loss of power
}

// clock is the time of day, or as much later as a test says.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func newFleet(t testing.TB, size int, with ...func(*fleet)) *fleet {
	t.Helper()
	limit := 15 * time.Minute
	if _, measured := t.(*testing.B); measured {
		limit = time.Hour // as long as it takes
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	f := &fleet{t: t, ctx: ctx, etcdDir: t.TempDir()}
	f.openStore()
	for _, set := range with {
		set(f)
	}
	t.Cleanup(func() { // agents first: without a store they wait for it
		for _, s := range f.servers {
			s.kill()
		}
		f.closeStore()
	})
	for i := range size {
		s := &server{fleet: f, id: fmt.Sprintf("64c1aa00b2d34e5f6071840%d", i), dir: t.TempDir()}
		f.servers = append(f.servers, s)
		s.start()
	}
	project, err := f.servers[0].agent.CreateProject(ctx, caller, agent.CreateProjectRequest{Alias: "project"})
	f.must(err)
	f.project = project
	return f
}

// openStore starts the etcd in its directory and the test's view of it.
func (f *fleet) openStore() {
	f.t.Helper()
	etcd, err := embedded.Start(f.ctx, embedded.Options{Dir: f.etcdDir, Unsynced: true}, zap.NewNop())
	f.must(err)
	f.etcd = etcd
	f.records, err = store.Open(f.ctx, store.Options{Endpoints: []string{etcd.Endpoint()}})
	f.must(err)
}

func (f *fleet) closeStore() {
	if f.records != nil {
		_ = f.records.Close()
	}
	if f.etcd != nil {
		f.etcd.Close()
	}
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// start opens what is in the server's directory and runs an agent on it.
func (s *server) start() {
	f := s.fleet
	f.t.Helper()
	pool, runtime := s.openDisks()
	records, err := store.Open(f.ctx, store.Options{Endpoints: []string{f.endpoint()}, ServerID: s.id, Instance: s.id})
	f.must(err)
	peers, closePeers := s.peers()
	var watched agent.Pool = pool
	if f.watch != nil {
		watched = f.watch(s.id, pool)
	}
	var driven agent.Runtime = runtime
	if f.drive != nil {
		driven = f.drive(runtime)
	}
	gate := transfer.NewGate(4, 2)
	work, err := agent.New(agent.Options{
		Server: store.Server{ID: s.id, Name: s.id}, Store: records, Pool: watched, Runtime: driven, Peers: peers, StopTimeout: time.Second, NoForceStop: s.noForce, MaxOpenJobs: s.maxOpen,
		RecordInterval: cmp.Or(s.recorded, f.recordEvery), InspectInterval: s.reconciled, AcceptDecrypted: s.acceptDecrypted, AnswerGrace: s.grace, LimitSlack: s.slack,
		Transfers:      gate,
		ExpiryInterval: time.Hour, // the tests that are about it look themselves
		ClockTrial:     -1, UnexplainedPause: time.Millisecond,
		CollectInterval: cmp.Or(s.collects, -1), CollectDelay: time.Millisecond,
		SettingsRetry: 50 * time.Millisecond,
		Now:           f.clock.now, ActivityInterval: time.Hour, ActivityPace: f.activityPace, Logger: f.log,
	})
	f.must(err)
	running, stop := context.WithCancel(f.ctx)
	ended := make(chan struct{})
	s.mu.Lock()
	s.pool, s.runtime, s.store, s.agent, s.gate, s.stop, s.ended = pool, runtime, records, work, gate, stop, ended
	s.mu.Unlock()
	if s.powerCut {
		s.powerCut = false
		f.must(runtime.PowerCut())
		f.must(runtime.Boot(f.ctx))
	}
	stopServing := s.serve(work)
	go func() {
		defer close(ended)
		defer closePeers()
		defer stopServing()
		// An agent whose pool was killed under it may well end with an error; whether that matters is what the tests look at.
		_ = work.Run(running)
	}()
	for {
		if alive, _ := records.Mirror().Alive(s.id); alive {
			return
		}
		select {
		case <-ended:
			f.t.Fatalf("agent of %s ended before it was alive", s.id)
		case <-f.ctx.Done():
			f.t.Fatal(f.ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// openDisks opens what is in the server's directory.
func (s *server) openDisks() (*sim.Pool, *sim.Runtime) {
	f := s.fleet
	f.t.Helper()
	pool, err := sim.NewPool(filepath.Join(s.dir, "pool"), sim.Options{Fault: s.injected})
	f.must(err)
	runtime, err := sim.NewRuntime(pool, filepath.Join(s.dir, "runtime"), sim.RuntimeOptions{})
	f.must(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool, s.runtime = pool, runtime
	return pool, runtime
}

// closeDisks ends the use of what openDisks opened, where no agent runs.
func (s *server) closeDisks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.runtime.Close()
	_ = s.pool.Close()
}

// injected is the pool's fault hook. What the agent writes at its own pace is left out: it would come anywhere in between.
func (s *server) injected(op, object string) error {
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault == nil || object == "hoody" || object == "hoody/records" {
		return nil
	}
	return fault(op, object)
}

// kill ends the server's agent the way a crash does: nothing more reaches its disks.
func (s *server) kill() {
	s.mu.Lock()
	pool, runtime, stop, ended, records := s.pool, s.runtime, s.stop, s.ended, s.store
	s.mu.Unlock()
	if stop == nil {
		return // it never started
	}
	_ = pool.Kill()
	_ = runtime.Close()
	stop()
	<-ended
	_ = records.Close()
}

// die is the moment of a crash, seen from inside: from here on the process neither works on its disks nor writes its journal.
func (s *server) die() {
	s.mu.Lock()
	pool, stop := s.pool, s.stop
	s.mu.Unlock()
	stop()
	_ = pool.Kill()
}

// restart is what systemd does after a crash.
func (s *server) restart() {
	s.kill()
	s.start()
}

func (s *server) setFault(fault func(op, object string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Peer implements agent.Peers: the present agent of a server, whoever that is when it is called.
func (f *fleet) Peer(serverID string) agent.Source { return remote{f, serverID} }

func (f *fleet) Measure(ctx context.Context, serverID string, containers []string) ([]agent.Measured, error) {
	a, err := remote{f, serverID}.agent()
	if err != nil {
		return nil, err
	}
	if f.measured != nil {
		return f.measured(a.Measure(ctx, containers))
	}
	return a.Measure(ctx, containers)
}

func (f *fleet) Digests(ctx context.Context, serverID string, request agent.DigestRequest) (agent.Digests, error) {
	a, err := remote{f, serverID}.agent()
	if err != nil {
		return agent.Digests{}, err
	}
	copied, err := f.records.GetContainer(ctx, request.ContainerID)
	if err != nil {
		return agent.Digests{}, err
	}
	if f.digests != nil {
		f.digests(&request, nil)
	}
	digests, err := a.OpenDigests(ctx, copied.ServerID, request)
	if err == nil && f.digests != nil {
		f.digests(&request, &digests)
	}
	return digests, err
}

type remote struct {
	fleet  *fleet
	server string
}

func (r remote) agent() (*agent.Agent, error) {
	for _, s := range r.fleet.servers {
		if s.id == r.server {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.agent, nil
		}
	}
	return nil, errdefs.New(errdefs.ErrUnavailable, "", "no server %s", r.server)
}

// The asking server's id is what its certificate would say; a fleet's tests ask for the only other one that has the job.
func (r remote) Freeze(ctx context.Context, jobID string) (agent.Manifest, error) {
	a, err := r.agent()
	if err != nil {
		return agent.Manifest{}, err
	}
	if r.fleet.freezing != nil {
		r.fleet.freezing()
	}
	manifest, err := a.Freeze(ctx, r.asker(jobID), jobID)
	if r.fleet.tamper != nil {
		r.fleet.tamper(&manifest)
	}
	if r.fleet.substitute != nil {
		r.fleet.nodes = manifest.Nodes
	}
	return manifest, cutOff(err)
}

// cutOff is what a peer sees of another's death: no answer, whatever the dying process would have said.
func cutOff(err error) error {
	if errors.Is(err, errDead) {
		return errdefs.New(errdefs.ErrUnavailable, "", "connection lost")
	}
	return err
}

func (r remote) Estimate(ctx context.Context, request agent.EstimateRequest) (agent.Estimate, error) {
	a, err := r.agent()
	if err != nil {
		return agent.Estimate{}, err
	}
	estimate, err := a.EstimateStreams(ctx, r.asker(request.JobID), request)
	return estimate, cutOff(err)
}

func (r remote) Stream(ctx context.Context, request agent.StreamRequest) (agent.Stream, error) {
	a, err := r.agent()
	if err != nil {
		return nil, err
	}
	if r.fleet.asked != nil {
		r.fleet.asked(request)
	}
	if r.fleet.substitute != nil {
		r.fleet.substitute(&request, r.fleet.nodes)
	}
	stream, err := a.OpenStream(ctx, r.asker(request.JobID), request)
	if err != nil {
		return nil, cutOff(err)
	}
	return plain{stream}, nil
}

func (r remote) asker(jobID string) string {
	job, err := r.fleet.records.GetJob(r.fleet.ctx, jobID)
	if err != nil {
		return ""
	}
	return job.ServerID
}

type plain struct{ io.ReadCloser }

func (p plain) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	return n, cutOff(err)
}

func (plain) Wire() (uint64, string) { return 0, "none" }

// create makes a running container from the small image.
func (f *fleet) create(s *server, name string) store.Container {
	f.t.Helper()
	made, err := s.agent.CreateContainer(f.ctx, caller, f.project.ID, agent.CreateContainerRequest{ServerID: s.id, Name: name, Image: "busybox"})
	f.must(err)
	return f.settled(made.View.Container.ID, store.StatusRunning)
}

// copy asks for a copy and does not wait.
func (f *fleet) copy(source store.Container, to *server, request agent.CopyRequest) store.Container {
	f.t.Helper()
	request.TargetProjectID, request.TargetServerID = f.project.ID, to.id
	made, err := f.servers[0].agent.Copy(f.ctx, caller, source.ID, request)
	f.must(err)
	return made.View.Container
}

// settled waits until no operation works on a container and requires its state.
func (f *fleet) settled(id string, want store.Status) store.Container {
	f.t.Helper()
	container := f.ended(id)
	if container.Status != want {
		f.t.Fatalf("container %s is %s (%s), want %s", container.Name, container.Status, container.FailureReason, want)
	}
	return container
}

func (f *fleet) ended(id string) store.Container {
	f.t.Helper()
	for {
		container, err := f.records.GetContainer(f.ctx, id)
		f.must(err)
		if container.JobID == "" {
			f.catchUp()
			return container
		}
		select {
		case <-f.ctx.Done():
			f.t.Fatalf("container %s is still %s", id, container.Status)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// catchUp waits until every agent reads what the records say by now: their mirrors follow a moment behind. An agent that
// is dead at the time has nothing to catch up.
func (f *fleet) catchUp() {
	for _, s := range f.servers {
		s.mu.Lock()
		records := s.store
		s.mu.Unlock()
		_, _ = records.Barrier(f.ctx)
	}
}

func (f *fleet) serverOf(container store.Container) *server {
	for _, s := range f.servers {
		if s.id == container.ServerID {
			return s
		}
	}
	f.t.Fatalf("no server %s", container.ServerID)
	return nil
}

// write changes a file of a container, the way its programs do.
func (f *fleet) write(container store.Container, path string, content []byte) {
	f.t.Helper()
	f.withRootfs(container, func(mount agent.Mount) {
		path = filepath.Join("rootfs", path)
		f.must(mount.Root().MkdirAll(filepath.Dir(path), 0o755))
		f.must(mount.Root().WriteFile(path, content, 0o644))
	})
}

func (f *fleet) read(container store.Container, path string) string {
	f.t.Helper()
	var content []byte
	f.withRootfs(container, func(mount agent.Mount) {
		read, err := mount.Root().ReadFile(filepath.Join("rootfs", path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.t.Fatal(err)
		}
		content = read
	})
	return string(content)
}

func (f *fleet) withRootfs(container store.Container, use func(agent.Mount)) {
	f.t.Helper()
	mount, err := f.serverOf(container).pool.Mount(f.ctx, agent.ContainerDataset(container.ID))
	f.must(err)
	defer func() { f.must(mount.Unmount(f.ctx)) }()
	use(mount)
}

// hash sums up a container's files apart from its identity.
func (f *fleet) hash(container store.Container) string {
	f.t.Helper()
	sum := sha256.New()
	f.withRootfs(container, func(mount agent.Mount) {
		f.must(fs.WalkDir(mount.Root().FS(), "rootfs", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || own(path) {
				return err
			}
			fmt.Fprintln(sum, path, entry.Type())
			if entry.Type().IsRegular() {
				content, err := mount.Root().ReadFile(path)
				if err != nil {
					return err
				}
				sum.Write(content)
			}
			return nil
		}))
	})
	return hex.EncodeToString(sum.Sum(nil))
}

func own(path string) bool {
	return slices.Contains([]string{"rootfs/etc/hostname", "rootfs/etc/machine-id", "rootfs/var/lib/dbus/machine-id"}, path) ||
		strings.HasPrefix(path, "rootfs/etc/ssh/ssh_host_") || strings.HasPrefix(path, "rootfs/root/.ssh")
}

// random is reproducible noise.
func random(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// leftovers are what no finished operation may leave in a server's pool.
func (f *fleet) leftovers(s *server) []string {
	f.t.Helper()
	inventory, err := s.pool.Inventory(f.ctx)
	f.must(err)
	var found []string
	for _, dataset := range inventory.Datasets {
		if strings.HasPrefix(dataset.Name, "hoody/incoming/") || dataset.ResumeToken != "" {
			found = append(found, dataset.Name)
		}
	}
	return found
}

// holds tells whether a pool holds a snapshot.
func (f *fleet) holds(s *server, guid lineage.GUID) bool {
	f.t.Helper()
	inventory, err := s.pool.Inventory(f.ctx)
	f.must(err)
	_, held := lineage.Locate(inventory)[guid]
	return held
}
