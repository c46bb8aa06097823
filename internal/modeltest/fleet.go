package modeltest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
	"github.com/hoodynetwork/hoody-agent/internal/store/embedded"
	"github.com/hoodynetwork/hoody-agent/internal/transfer"
)

// servers is how many servers a fleet has.
const servers = 3

const owner = "64c1aa00b2d34e5f60718001"

var caller = agent.Caller{UserID: owner}

// Base is what programs run on, one after the other: hosts and a store that outlive each of them.
type Base struct {
	Dir  string // for the store
	Host func(dir string) (Host, error)
	// RecordPace is how soon an agent notes in its pool what has changed in the store, CollectPace how soon it collects
	// garbage after an operation.
	RecordPace, CollectPace time.Duration
	// Sparing leaves most files unread between the steps after which all are read: each mount of a real pool takes its time.
	Sparing bool
	// Patience bounds a step on the slowest machine; nothing waits for it in a good run.
	Patience time.Duration
	// Stuck is called while a step has taken half of that: what everybody is doing then tells why. nil for nobody.
	Stuck func()

	etcd     *embedded.Server
	client   *clientv3.Client // for what is done to the store behind everybody's back
	programs int
}

// Open starts the store.
func (b *Base) Open(ctx context.Context) error {
	if err := b.startStore(ctx); err != nil {
		return err
	}
	var err error
	b.client, err = clientv3.New(clientv3.Config{Endpoints: []string{b.etcd.Endpoint()}, Logger: zap.NewNop()})
	return err
}

// Close stops it.
func (b *Base) Close() {
	if b.client != nil {
		_ = b.client.Close()
	}
	b.stopStore()
}

func (b *Base) startStore(ctx context.Context) (err error) {
	b.etcd, err = embedded.Start(ctx, embedded.Options{Dir: filepath.Join(b.Dir, "etcd"), Unsynced: true}, zap.NewNop())
	return err
}

func (b *Base) stopStore() {
	if b.etcd != nil {
		b.etcd.Close()
		b.etcd = nil
	}
}

// fleet is three servers and their store while one program runs. What is between them is a function call.
type fleet struct {
	base    *Base
	dir     string
	prefix  string
	records *store.Store // the test's own view, whoever dies
	servers []*server
	network *tripwire
	ended   chan struct{} // a value says that some agent has ended
	project store.Project
	later   atomic.Int64 // nanoseconds by which the fleet's clock is ahead
	log     *zap.Logger
}

// now is the time on all servers.
func (f *fleet) now() time.Time { return time.Now().Add(time.Duration(f.later.Load())) }

// server is one host.
type server struct {
	fleet   *fleet
	number  int
	id      string
	host    Host
	effects *tripwire
	meter   meter // of the same

	mu      sync.Mutex
	pool    agent.Pool
	runtime Runtime
	store   *store.Store
	agent   *agent.Agent
	life    context.Context // of the agent
	stop    context.CancelFunc
	ended   chan struct{} // closed when the agent's work has ended
	failed  error         // what it ended with, once it has
	died    chan struct{} // closed at the moment of a crash
	dead    bool
}

// newFleet starts a fleet that holds nothing.
func (b *Base) newFleet(ctx context.Context, log *zap.Logger) (_ *fleet, err error) {
	b.programs++
	f := &fleet{base: b, prefix: fmt.Sprintf("/model/%d/", b.programs), network: newTripwire(), ended: make(chan struct{}, 1), log: log}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	f.dir = filepath.Join(b.Dir, fmt.Sprintf("program-%d", b.programs))
	if f.records, err = openRecords(ctx, f); err != nil {
		return nil, err
	}
	for i := range servers {
		host, err := b.Host(filepath.Join(f.dir, fmt.Sprint(i)))
		if err != nil {
			return nil, err
		}
		s := &server{fleet: f, number: i, id: fmt.Sprintf("64c1aa00b2d34e5f6071840%d", i), host: host, effects: newTripwire()}
		f.servers = append(f.servers, s)
	}
	if err := f.start(ctx); err != nil {
		return nil, err
	}
	f.project, err = f.servers[0].agent.CreateProject(ctx, caller, agent.CreateProjectRequest{Alias: "project"})
	return f, err
}

func openRecords(ctx context.Context, f *fleet) (*store.Store, error) {
	return store.Open(ctx, f.storeOptions(""))
}

func (f *fleet) storeOptions(server string) store.Options {
	return store.Options{
		Endpoints: []string{f.base.etcd.Endpoint()}, Prefix: f.prefix, ServerID: server, Instance: server,
		Heartbeat: 500 * time.Millisecond,
		// A machine that is busy with other things may leave everything here standing for longer than the defaults bear. A crash
		// gives its lease back, so nothing waits for one.
		LeaseTTL: 2 * time.Minute, UpdateTimeout: 30 * time.Second,
	}
}

func (f *fleet) close() {
	for _, s := range f.servers {
		s.kill()
	}
	if f.records != nil {
		_ = f.records.Close()
	}
	_ = os.RemoveAll(f.dir)
	f.base.forget()
}

// forget empties the store: what thousands of programs leave would fill it.
func (b *Base) forget() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	deleted, err := b.client.Delete(ctx, "/", clientv3.WithPrefix())
	if err == nil {
		_, _ = b.client.Compact(ctx, deleted.Header.Revision) // a store that is full says so to the next program
	}
}

// start starts the agents of all servers.
func (f *fleet) start(ctx context.Context) error {
	var starting errgroup.Group
	for _, s := range f.servers {
		starting.Go(func() error { return s.start(ctx) })
	}
	if err := starting.Wait(); err != nil {
		return err
	}
	return f.catchUp(ctx)
}

// start opens the host and runs an agent on it.
func (s *server) start(ctx context.Context) error {
	f := s.fleet
	s.mu.Lock()
	s.dead = false
	s.mu.Unlock()
	pool, runtime, err := s.host.Open(ctx, s.effect)
	if err != nil {
		return fmt.Errorf("open host %d: %w", s.number, err)
	}
	records, err := store.Open(ctx, f.storeOptions(s.id))
	if err != nil {
		return err
	}
	work, err := agent.New(agent.Options{
		Server: store.Server{ID: s.id, Name: s.id}, Store: records, Pool: pool, Runtime: runtime, Peers: f, Transfers: transfer.NewGate(4, 2),
		StopTimeout: time.Second, RecordInterval: f.base.RecordPace, CollectDelay: f.base.CollectPace, Now: f.now, Logger: f.log.Named(fmt.Sprint("server ", s.number)),
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	s.mu.Lock()
	s.pool, s.runtime, s.store, s.agent, s.life, s.stop, s.ended = pool, runtime, records, work, running, stop, ended
	s.died = make(chan struct{})
	s.mu.Unlock()
	go func() {
		defer f.tellEnded()
		defer close(ended)
		s.failed = work.Run(running)
	}()
	select {
	case <-work.Registered():
		return nil
	case <-ended:
		return fmt.Errorf("agent of server %d ended at its start: %w", s.number, s.failed)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tellEnded wakes who waits for agents that end.
func (f *fleet) tellEnded() {
	select {
	case f.ended <- struct{}{}:
	default:
	}
}

// effect is the fault hook of the server's disks.
func (s *server) effect(op, object string) error {
	s.mu.Lock()
	dead := s.dead
	s.mu.Unlock()
	if dead {
		return errDead
	}
	s.meter.touch()
	return s.effects.touch()
}

// die is the moment of a crash, seen from inside: from here on the process neither works on its disks nor writes its journal.
func (s *server) die() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dead {
		s.dead = true
		close(s.died)
		s.stop()
		s.host.Kill()
		s.fleet.tellEnded()
	}
	return errDead
}

// kill ends what die left, or an agent that lives, the way a crash does.
func (s *server) kill() {
	s.mu.Lock()
	running := s.agent != nil
	s.mu.Unlock()
	if !running {
		return
	}
	_ = s.die()
	<-s.ended
	_ = s.store.Close()
	s.mu.Lock()
	s.agent = nil
	s.mu.Unlock()
}

// living is the server's agent, while it has one.
func (s *server) living() (*agent.Agent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.agent == nil || s.dead {
		return nil, errDead
	}
	return s.agent, nil
}

// restart is what systemd does after a crash.
func (s *server) restart(ctx context.Context) error {
	s.kill()
	return s.start(ctx)
}

// Peer implements agent.Peers: the present agent of a server, whoever that is when it is called.
func (f *fleet) Peer(serverID string) agent.Source { return remote{f, serverID} }

// Measure implements agent.Peers.
func (f *fleet) Measure(ctx context.Context, serverID string, containers []string) ([]agent.Measured, error) {
	var measured []agent.Measured
	err := remote{f, serverID}.call(ctx, func(ctx context.Context, a *agent.Agent) (err error) {
		measured, err = a.Measure(ctx, containers)
		return err
	})
	return measured, err
}

// Digests implements agent.Peers. No program verifies.
func (f *fleet) Digests(context.Context, string, agent.DigestRequest) (agent.Digests, error) {
	return agent.Digests{}, errdefs.ErrUnsupported
}

type remote struct {
	fleet  *fleet
	server string
}

// reach returns the server's agent, and a context that ends with that agent's life, as a connection to it does.
func (r remote) reach(ctx context.Context) (*agent.Agent, context.Context, context.CancelFunc, error) {
	if err := r.fleet.network.touch(); err != nil {
		return nil, nil, nil, err
	}
	for _, s := range r.fleet.servers {
		if s.id == r.server {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.agent == nil || s.dead {
				break
			}
			ctx, cancel := context.WithCancel(ctx)
			parted := context.AfterFunc(s.life, cancel)
			return s.agent, ctx, func() { parted(); cancel() }, nil
		}
	}
	return nil, nil, nil, connectionLost()
}

// call makes a request of the server's agent; it is cut off where the network or that agent is.
func (r remote) call(ctx context.Context, do func(context.Context, *agent.Agent) error) error {
	a, ctx, part, err := r.reach(ctx)
	if err != nil {
		return err
	}
	defer part()
	err = do(ctx, a)
	if lost := r.fleet.network.touch(); lost != nil { // the answer, this time
		return lost
	}
	return cutOff(err)
}

// Freeze implements agent.Source.
func (r remote) Freeze(ctx context.Context, jobID string) (manifest agent.Manifest, err error) {
	err = r.call(ctx, func(ctx context.Context, a *agent.Agent) (err error) {
		manifest, err = a.Freeze(ctx, r.asker(ctx, jobID), jobID)
		return err
	})
	return manifest, err
}

// Estimate implements agent.Source.
func (r remote) Estimate(ctx context.Context, request agent.EstimateRequest) (estimate agent.Estimate, err error) {
	err = r.call(ctx, func(ctx context.Context, a *agent.Agent) (err error) {
		estimate, err = a.EstimateStreams(ctx, r.asker(ctx, request.JobID), request)
		return err
	})
	return estimate, err
}

// Stream implements agent.Source.
func (r remote) Stream(ctx context.Context, request agent.StreamRequest) (agent.Stream, error) {
	a, ctx, part, err := r.reach(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := a.OpenStream(ctx, r.asker(ctx, request.JobID), request)
	if err != nil {
		part()
		return nil, cutOff(err)
	}
	return line{stream, part, r.fleet.network}, nil
}

// asker is what the asking server's certificate would say; it is the one whose job it is.
func (r remote) asker(ctx context.Context, jobID string) string {
	job, err := r.fleet.records.GetJob(ctx, jobID)
	if err != nil {
		return ""
	}
	return job.ServerID
}

// catchUp waits until every agent reads what the records say by now.
func (f *fleet) catchUp(ctx context.Context) error {
	for _, s := range f.servers {
		if _, err := s.store.Barrier(ctx); err != nil {
			return err
		}
	}
	_, err := f.records.Barrier(ctx)
	return err
}

// code is an error as the model speaks of it.
func code(err error) string {
	if err == nil {
		return success
	}
	if class := errdefs.ClassOf(err); class == errdefs.ErrUnavailable {
		return class.Error() // whatever the contract calls it on the route
	}
	if errors.Is(err, errDead) {
		return unavailable // nobody hears what a dying process says
	}
	var told *errdefs.Error
	if errors.As(err, &told) && told.Code != "" {
		return told.Code
	}
	return errdefs.ClassOf(err).Error()
}
