// Package agent performs the operations on containers: it accepts a request in one transaction, and works on the jobs
// of its own server, phase by phase, each phase idempotent and journalled in the job's record before it starts.
//
// An operation reads top to bottom in its file: copy.go, sync.go, create.go, delete.go, power.go, snapshot.go,
// restore.go. What they share is freeze.go (the state that a copy or sync wants), replicate.go (bring missing snapshots into
// the pool), checkout.go (make a generation from a snapshot and swap it in) and replace.go (the end of a checkout into a
// container that had a generation).
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Options is what an agent works with. Server.ID, Store, Pool, Runtime and Peers are required.
type Options struct {
	Server  store.Server // as registered; sizes are filled in by the agent, MaxSnapshots is 1,000 by default
	Store   *store.Store
	Pool    Pool
	Runtime Runtime
	Peers   Peers
	Logger  *zap.Logger
	Observe Observer
	Now     func() time.Time // for tests; time.Now by default

	UndoSnapshots    int           // kept of what syncs and restores displace, per container; 3 by default, negative for none
	UndoExpiry       time.Duration // after which those go; 7 days by default
	ExpiryInterval   time.Duration // how often expired snapshots are looked for; 1 min by default
	ExpiryPause      time.Duration // after the snapshots of ten containers were dropped; 20 s by default
	ClockTrial       time.Duration // how long the clock must run without a step before snapshots expire by it; 10 min by default, negative skips the trial
	DiffLimit        int           // changed paths looked at before a container counts as changed; 1,000 by default
	StopTimeout      time.Duration // for a clean stop before a swap; 30 s by default
	UnexplainedPause time.Duration // before a costly step that failed for a reason nobody knows is tried again; 5 s by default
	LimitSlack       uint64        // bytes by which a snapshot may exceed its limit and still be checked out: with a limit of its size and a quarter of this; 64 MiB by default
	NoForceStop      bool          // a container that does not stop in time fails the operation instead of being stopped by force
	OperationTimeout time.Duration // of a start, stop and their kind whose request has none, either half of a restart; 60 s by default
	AnswerGrace      time.Duration // how long a request waits for a server that is gone, and for an operation beyond its own time; 1 min by default
	MaxOpenJobs      int           // accepted and unfinished jobs per server, twice that with power operations and deletions; 1,000 by default
	MaxHeavyPhases   int           // phases at a time that keep the host busy, and as many starts of what is new; twice the processors and at least 4 by default
	AcceptDecrypted  bool          // containers of encrypted pools are received into one that is not
	Transfers        Gate          // what replications from other servers wait for; nil for nothing
	SpaceReserve     uint64        // bytes of the pool that transfers leave free; by default a twentieth and at least 1 GiB, at most a tenth
	ReportInterval   time.Duration // how often the server's sizes are refreshed; 30 s by default
	InspectInterval  time.Duration // how often instances and datasets are compared with the records; 5 min by default
	RecordInterval   time.Duration // least time between two writes of the records into the pool; 5 s by default
	CollectInterval  time.Duration // between two collections of garbage that nobody asked for; 10 min by default, negative for none at all but Collect
	CollectDelay     time.Duration // from the end of an operation to the collection that follows it; 5 s by default
	ActivityInterval time.Duration // between looks for changed files; 30 s by default
	ActivityPace     time.Duration // between records of what they saw that nobody waits for; 10 minutes by default
	SettingsWait     time.Duration // how long a change of a container waits for its instance to have it; 5 s by default
	SettingsRetry    time.Duration // before a change that did not reach its instance is tried again; 15 s by default
}

// Observer learns what the agent does, for metrics. Any of its functions may be nil.
type Observer struct {
	Phase func(kind store.JobKind, phase string, took time.Duration, err error)
	// Finished gets a job that will not run again, and what the generation that it made amounts to, in bytes; 0 for none made.
	Finished func(job store.Job, size uint64)
	Received func(stream, wire uint64, compression string)
	// Resumed tells how it went to complete a stream that was cut off before: nil when it is whole.
	Resumed func(err error)
	// Collected gets every collection of garbage that was no dry run, and how it ended.
	Collected func(report Report, err error)
}

// Agent serves requests and performs the jobs of one server. Its methods may be called concurrently.
type Agent struct {
	options  Options
	serverID string
	store    *store.Store
	pool     Pool
	runtime  Runtime
	peers    Peers
	log      *zap.Logger
	now      func() time.Time

	freezes        *freezeRounds
	manifests      *manifestCache
	inFlight       *inFlight
	underWay       transfersUnderWay
	promises       promises
	heavy          *semaphore.Weighted // a slot per heavy phase
	lastFirstStart atomic.Int64        // when a start of what is new ended, in ns
	starts         *semaphore.Weighted // a slot per start of what is new
	settingsTurns  *turns              // by container

	sampling  sync.Mutex    // held while files are looked at
	looked    sighting      // guarded by sampling
	measuring chan struct{} // a slot per instance being measured
	verifying chan struct{} // a slot per snapshot being read for a comparison

	pins       *pins
	unseen     *unseen
	collecting chan struct{} // held by the collection at work
	collectDue chan struct{}

	clockSteady atomic.Bool // the clock goes as time does

	degraded degradation
	findings findings

	registered chan struct{} // closed by Run
}

// New prepares an agent; Run starts its work.
func New(options Options) (*Agent, error) {
	for name, missing := range map[string]bool{
		"server id": options.Server.ID == "", "store": options.Store == nil, "pool": options.Pool == nil,
		"runtime": options.Runtime == nil, "peers": options.Peers == nil,
	} {
		if missing {
			return nil, fmt.Errorf("new agent: no %s: %w", name, errdefs.ErrInvalid)
		}
	}
	options.Server.MaxSnapshots = cmp.Or(options.Server.MaxSnapshots, 1000)
	options.UndoSnapshots = cmp.Or(options.UndoSnapshots, 3)
	options.UndoExpiry = cmp.Or(options.UndoExpiry, 7*24*time.Hour)
	options.ExpiryInterval = cmp.Or(options.ExpiryInterval, time.Minute)
	options.ExpiryPause = cmp.Or(options.ExpiryPause, 20*time.Second)
	options.ClockTrial = cmp.Or(options.ClockTrial, 10*time.Minute)
	options.DiffLimit = cmp.Or(options.DiffLimit, 1000)
	options.StopTimeout = cmp.Or(options.StopTimeout, 30*time.Second)
	options.LimitSlack = cmp.Or(options.LimitSlack, 64<<20)
	options.UnexplainedPause = cmp.Or(options.UnexplainedPause, 5*time.Second)
	options.OperationTimeout = cmp.Or(options.OperationTimeout, 60*time.Second)
	options.AnswerGrace = cmp.Or(options.AnswerGrace, time.Minute)
	options.MaxOpenJobs = cmp.Or(options.MaxOpenJobs, 1000)
	options.MaxHeavyPhases = cmp.Or(options.MaxHeavyPhases, max(4, 2*runtime.GOMAXPROCS(0)))
	options.ReportInterval = cmp.Or(options.ReportInterval, 30*time.Second)
	options.RecordInterval = cmp.Or(options.RecordInterval, 5*time.Second)
	options.InspectInterval = cmp.Or(options.InspectInterval, 5*time.Minute)
	options.CollectInterval = cmp.Or(options.CollectInterval, 10*time.Minute)
	options.CollectDelay = cmp.Or(options.CollectDelay, 5*time.Second)
	options.ActivityInterval = cmp.Or(options.ActivityInterval, 30*time.Second)
	options.ActivityPace = cmp.Or(options.ActivityPace, 10*time.Minute)
	options.SettingsWait = cmp.Or(options.SettingsWait, 5*time.Second)
	options.SettingsRetry = cmp.Or(options.SettingsRetry, 15*time.Second)
	if options.Logger == nil {
		options.Logger = zap.NewNop()
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	a := &Agent{
		options:   options,
		serverID:  options.Server.ID,
		store:     options.Store,
		pool:      options.Pool,
		runtime:   options.Runtime,
		peers:     options.Peers,
		log:       options.Logger,
		now:       func() time.Time { return options.Now().UTC() },
		freezes:   newFreezeRounds(),
		manifests: newManifestCache(),
		inFlight:  newInFlight(),
		heavy:     semaphore.NewWeighted(int64(options.MaxHeavyPhases)),
		starts:    semaphore.NewWeighted(int64(options.MaxHeavyPhases)),

		degraded:      degradation{over: make(chan struct{}, 1)},
		pins:          newPins(),
		unseen:        newUnseen(),
		collecting:    make(chan struct{}, 1),
		collectDue:    make(chan struct{}, 1),
		settingsTurns: newTurns(),
		findings:      findings{soon: make(chan struct{}, 1)},
		measuring:     make(chan struct{}, maxMeasuring),
		verifying:     make(chan struct{}, maxVerifying),
		registered:    make(chan struct{}),
	}
	a.clockSteady.Store(options.ClockTrial < 0)
	return a, nil
}

// register waits out a store that is absent or full: an agent that ends for it is no nearer to its work.
func (a *Agent) register(ctx context.Context) (*store.Lease, error) {
	delay := newBackoff(firstPause, longestPause)
	for {
		lease, err := a.store.Register(ctx, a.options.Server)
		if err == nil || !storeAway(err) || ctx.Err() != nil {
			return lease, err
		}
		a.log.Warn("not registered yet", zap.Error(err))
		if err := sleep(ctx, delay.NextBackOff()); err != nil {
			return nil, err
		}
	}
}

// Registered is closed once Run has registered the server: requests may name it from then on.
func (a *Agent) Registered() <-chan struct{} { return a.registered }

// Run, called once, registers the server, performs its jobs and keeps its records true until ctx ends; then it leaves every job where
// its journal says, for the next start to continue. It returns nil after such a hand-over.
func (a *Agent) Run(ctx context.Context) error {
	if err := prepareLayout(ctx, a.pool); err != nil {
		return fmt.Errorf("prepare pool: %w", err)
	}
	loads := a.store.Mirror().Loads()
	if err := a.checkStamp(ctx); err != nil {
		return fmt.Errorf("compare pool and records: %w", err)
	}
	a.suspendOpenJobs(nil)
	a.refreshSizes(ctx)
	lease, err := a.register(ctx)
	if err != nil {
		return fmt.Errorf("register server %s: %w", a.serverID, err)
	}
	close(a.registered)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.performJobs(ctx, loads) })
	group.Go(func() error { return a.followRuntime(ctx) })
	group.Go(func() error { return a.followSettings(ctx) })
	group.Go(func() error { return a.followActivity(ctx) })
	group.Go(func() error { return a.reportServer(ctx) })
	group.Go(func() error { return a.keepRecords(ctx) })
	group.Go(func() error { return a.reconcile(ctx) })
	group.Go(func() error { return a.expireSnapshots(ctx) })
	group.Go(func() error { return a.collectNowAndThen(ctx) })
	group.Go(func() error { return a.noticeReleases(ctx) })
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-lease.Lost():
			return errdefs.New(errdefs.ErrBusy, "", "somebody else took over server %s", a.serverID).WithCause(lease.Cause())
		}
	})
	err = group.Wait()
	// The lease ends with the work: others see at once that nobody serves this server.
	if closed := lease.Close(); closed != nil {
		a.log.Warn("server lease not given back; it runs out by itself", zap.Error(closed))
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
