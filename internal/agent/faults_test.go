package agent_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// A fault happens at a moment of an operation: strike is called where the operation is then, in the target's agent, and what it
// returns is what the effect at hand fails with. mend follows, outside of the operation. Whatever happens, the operation ends
// complete and right or failed with one of the reasons, the copy being as it was, and nothing is left of it.
type fault struct {
	name    string
	strike  func(c *cell) error
	mend    func(c *cell)
	restore func(c *cell) // once the operation is over
	reasons []string      // that the operation may fail with; none: it has to complete
	during  []string      // the moments at which it means something; nil for all
}

// inTheStream are the moments at which bytes are on their way.
var inTheStream = []string{"first byte", "10 %", "50 %", "99 %"}

var (
	noRoom    = []string{"Not enough space on the target server", "ran out of space or quota"}
	faultList = []fault{
		{name: "none", strike: func(*cell) error { return nil }},
		{name: "kill source agent", strike: func(c *cell) error { c.here.die(); return nil }, mend: func(c *cell) { c.here.restart() }},
		{name: "kill target agent", strike: (*cell).killTarget, mend: (*cell).restartTarget},
		{name: "kill zfs send", during: inTheStream, strike: func(c *cell) error { c.f.network.killSender(); return nil }},
		{name: "kill zfs receive", during: append([]string{"last byte"}, inTheStream...), strike: func(*cell) error {
			return errdefs.New(errdefs.ErrAborted, "", "zfs receive was killed")
		}},
		{name: "cut connection", strike: func(c *cell) error { c.f.network.cut(); return nil }},
		{name: "freeze connection", strike: func(c *cell) error { c.giveUp = c.f.network.freeze(); return nil },
			mend: func(c *cell) { c.later(c.giveUp) }},
		{name: "corrupt a byte", strike: func(c *cell) error { c.f.network.corrupt(); return nil }},
		{name: "fill pool", strike: func(c *cell) error { c.there.pool.SetSize(1); return nil },
			restore: func(c *cell) { c.there.pool.SetSize(1 << 40) }, reasons: noRoom},
		{name: "set quota", during: inTheStream, strike: (*cell).setQuota, reasons: noRoom},
		{name: "destroy source snapshot", strike: func(c *cell) error { c.f.network.cut(); return nil }, mend: (*cell).destroySnapshot,
			reasons: []string{"is gone"}},
		{name: "snapshot while receiving", during: inTheStream, strike: (*cell).snapshotReceiving},
		{name: "etcd away", strike: func(c *cell) error { c.f.proxy.set(true); return nil },
			mend: func(c *cell) { c.later(func() { c.f.proxy.set(false) }) }},
		{name: "power off target", strike: (*cell).killTarget, mend: func(c *cell) { c.there.powerCut = true; c.restartTarget() }},
		{name: "power off source", strike: func(c *cell) error { c.here.die(); return nil },
			mend: func(c *cell) { c.here.powerCut = true; c.here.restart() }},
		{name: "cancel", strike: (*cell).cancel, reasons: []string{"cancelled"}},
	}
)

// moments are told by the effects on the target: what they are, and the share of a stream's frames.
var moments = []struct {
	name   string
	effect string
	object string // how the effect's object begins
	share  float64
}{
	{"first byte", "receive:before", "hoody/incoming/", 0},
	{"10 %", "receive:frame", "hoody/incoming/", 0.1},
	{"50 %", "receive:frame", "hoody/incoming/", 0.5},
	{"99 %", "receive:frame", "hoody/incoming/", 0.99},
	{"last byte", "receive:after", "hoody/incoming/", 1},
	{"in the swap", "rename:after", "containers/", 0},
	{"before start", "start:before", "", 0},
}

// cell is one fault at one moment of one operation.
type cell struct {
	f           *fleet
	here, there *server
	fault       fault
	giveUp      func()
	receiving   string // dataset, at the strike

	mu    sync.Mutex
	dead  bool
	tasks sync.WaitGroup
}

func (c *cell) killTarget() error {
	c.mu.Lock()
	c.dead = true
	c.mu.Unlock()
	c.there.die()
	return errDead
}

func (c *cell) restartTarget() {
	c.there.kill()
	c.mu.Lock()
	c.dead = false
	c.mu.Unlock()
	c.there.start()
}

// later does what ends a fault by itself, after some time.
func (c *cell) later(do func()) {
	c.tasks.Go(func() {
		time.Sleep(300 * time.Millisecond)
		do()
	})
}

func (c *cell) setQuota() error {
	return c.there.pool.SetProperties(c.f.ctx, c.receiving, agent.Properties{"refquota": "4K"})
}

// snapshotReceiving does what an admin or a schedule may do. The pool may refuse it.
func (c *cell) snapshotReceiving() error {
	_, _ = c.there.pool.Snapshot(c.f.ctx, c.receiving, "by-hand")
	return nil
}

// destroySnapshot destroys what the operation froze, as soon as nothing sends it.
func (c *cell) destroySnapshot() {
	inventory, err := c.here.pool.Inventory(c.f.ctx)
	c.f.must(err)
	for _, job := range c.f.records.Mirror().OpenJobs(c.there.id) {
		name, held := lineage.Locate(inventory)[job.Freeze.GUID]
		for held && job.Freeze.GUID != 0 {
			err := c.here.pool.DestroySnapshot(c.f.ctx, name)
			if err == nil || !errors.Is(err, errdefs.ErrBusy) {
				break
			}
			if now, err := c.f.records.GetJob(c.f.ctx, job.ID); err != nil || !now.Open() {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func (c *cell) cancel() error {
	for _, job := range c.there.store.Mirror().OpenJobs(c.there.id) {
		if job.Kind == store.JobCopy || job.Kind == store.JobSync {
			c.f.must(c.here.agent.CancelJob(c.f.ctx, job.ID))
		}
	}
	return nil
}

// arm makes the fault strike at the moment, the effect's count-th occurrence. The channel is closed when it has.
func (c *cell) arm(effect, object string, count int) (struck <-chan struct{}) {
	seen, done := 0, make(chan struct{})
	c.there.setFault(func(op, at string) error {
		c.mu.Lock()
		if c.dead {
			c.mu.Unlock()
			return errDead
		}
		if op == effect && strings.HasPrefix(at, object) {
			seen++
			if seen == count {
				c.receiving, _, _ = lineage.SplitSnapshot(at)
				c.mu.Unlock()
				defer close(done)
				return c.fault.strike(c)
			}
		}
		c.mu.Unlock()
		return nil
	})
	return done
}

// scene is what the faults of one operation happen in: a fleet, and the operation at the beginning of each cell.
type scene struct {
	f           *fleet
	here, there *server
	source      store.Container
	copied      store.Container // of a sync
	round       byte
	frames      int    // that a round moves
	streams     int    // that it takes
	bytes       uint64 // of stream
}

func newScene(t *testing.T, operation string) *scene {
	f := newFleet(t, 2, withNetwork, withProxy)
	s := &scene{f: f, here: f.servers[0], there: f.servers[1]}
	s.source = f.create(s.here, "source")
	f.write(s.source, "data/file", random(0, 100<<10))
	s.copied = f.settled(f.copy(s.source, s.there, agent.CopyRequest{Name: "copied"}).ID, store.StatusRunning) // the image is there from now on
	if operation == "sync" {                                                                                   // its first moves less than the others
		target, _ := s.begin(operation)
		f.settled(target.ID, store.StatusRunning)
	}
	// A round without a fault tells what the moments are.
	frames, streams := 0, 0
	var mu sync.Mutex
	s.there.setFault(func(op, _ string) error {
		mu.Lock()
		defer mu.Unlock()
		switch op {
		case "receive:frame":
			frames++
		case "receive:after":
			streams++
		}
		return nil
	})
	before := f.network.received.Load()
	target, _ := s.begin(operation)
	f.settled(target.ID, store.StatusRunning)
	s.there.setFault(nil)
	s.bytes = f.network.received.Load() - before
	s.end(operation, target)
	mu.Lock()
	defer mu.Unlock()
	s.frames, s.streams = frames, streams
	return s
}

// begin starts the operation on contents of its own. before is what the target holds meanwhile; empty for nothing.
func (s *scene) begin(operation string) (target store.Container, before string) {
	s.round++
	f := s.f
	if operation == "sync" {
		f.write(s.source, "data/file", random(s.round, 1500<<10))
		f.write(s.copied, "data/local", random(s.round, 1000))
		before = f.hash(s.copied)
		_, err := s.here.agent.Sync(f.ctx, caller, s.copied.ID)
		f.must(err)
		return s.copied, before
	}
	s.source = f.create(s.here, fmt.Sprintf("source-%d", s.round))
	for i := range 3 { // two snapshots and the state of now
		f.write(s.source, fmt.Sprintf("data/file-%d", i), random(s.round+byte(i), 500<<10))
		if i < 2 {
			f.must(second(s.here.agent.CreateSnapshot(f.ctx, caller, s.source.ID, agent.CreateSnapshotRequest{})))
		}
	}
	return f.copy(s.source, s.there, agent.CopyRequest{Name: fmt.Sprintf("copy-%d", s.round)}), ""
}

// end removes what begin made for one round.
func (s *scene) end(operation string, target store.Container) {
	if operation == "copy" {
		s.f.must(s.there.agent.DeleteContainer(s.f.ctx, caller, target.ID))
		s.f.must(s.here.agent.DeleteContainer(s.f.ctx, caller, s.source.ID))
	}
}

// play lets a fault strike at a moment and returns how that ended, for the table.
func (s *scene) play(operation string, what fault, at int) string {
	f, moment := s.f, moments[at]
	c := &cell{f: f, here: s.here, there: s.there, fault: what}
	count := max(1, int(float64(s.frames)*moment.share))
	if moment.effect != "receive:frame" {
		count = max(1, int(float64(s.streams)*moment.share))
	}
	struck := c.arm(moment.effect, moment.object, count)
	received := f.network.received.Load()
	target, before := s.begin(operation)
	over := make(chan struct{})
	go func() { defer close(over); f.over(target.ID) }()
	select {
	case <-struck:
	case <-over:
		f.t.Errorf("the operation ended before the fault struck")
	case <-f.ctx.Done():
		f.t.Fatal("the fault never struck")
	}
	if what.mend != nil {
		what.mend(c)
	}
	<-over
	c.tasks.Wait()
	s.there.setFault(nil)
	if what.restore != nil {
		what.restore(c)
	}
	ended := f.ended(target.ID)
	outcome := s.judge(operation, what, ended, before)
	s.nothingLeft()
	s.end(operation, target)
	if again := f.network.received.Load() - received; again > s.bytes {
		outcome += fmt.Sprintf(" +%.1fM", float64(again-s.bytes)/(1<<20))
	}
	return outcome
}

// over waits until no operation works on a container; whoever is dead meanwhile.
func (f *fleet) over(id string) {
	for {
		container, err := f.records.GetContainer(f.ctx, id)
		if err == nil && container.JobID == "" || errors.Is(err, errdefs.ErrNotFound) || f.ctx.Err() != nil {
			return
		}
		_ = sleepFor(f.ctx, 2*time.Millisecond)
	}
}

func sleepFor(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// judge requires that an operation ended in one of the ways that it may.
func (s *scene) judge(operation string, what fault, ended store.Container, before string) string {
	f, last := s.f, ended.LastOperation
	if last == nil {
		f.t.Errorf("the operation left no summary: %+v", ended)
		return "?"
	}
	if last.State == store.JobDone {
		if ended.Status != store.StatusRunning || f.hash(ended) != f.hash(s.source) {
			f.t.Errorf("done, but the copy is %s and not what its source is", ended.Status)
		}
		return "done"
	}
	if !slices.ContainsFunc(what.reasons, func(reason string) bool { return strings.Contains(last.Error, reason) }) {
		f.t.Errorf("%s for a reason that is not documented: %q", last.State, last.Error)
	}
	if operation == "sync" && (ended.Status != store.StatusRunning || f.hash(ended) != before) {
		f.t.Errorf("failed, but the copy is %s and not what it was", ended.Status)
	}
	if operation == "copy" {
		if ended.Status != store.StatusFailed || ended.FailureReason != last.Error {
			f.t.Errorf("failed, but the copy is %s for %q", ended.Status, ended.FailureReason)
		}
		if _, err := s.there.runtime.Instance(f.ctx, agent.InstanceName(ended.ID)); !errors.Is(err, errdefs.ErrNotFound) {
			f.t.Errorf("the failed copy has an instance: %v", err)
		}
	}
	return string(last.State)
}

// nothingLeft requires that no trace of an operation is left on either side.
func (s *scene) nothingLeft() {
	f := s.f
	_, err := f.records.Barrier(f.ctx)
	f.must(err)
	for _, server := range f.servers {
		if left := f.leftovers(server); len(left) > 0 {
			f.t.Errorf("left behind: %v", left)
		}
		for _, job := range f.records.Mirror().OpenJobs(server.id) {
			f.t.Errorf("open job %s of kind %s", job.ID, job.Kind)
		}
	}
	if source, err := f.records.GetContainer(f.ctx, s.source.ID); err != nil || source.JobID != "" || len(source.PendingFreezes) > 0 {
		f.t.Errorf("the source is still held: %+v, %v", source, err)
	}
}

// applies tells whether a fault is one at a moment.
func applies(what, when int) bool {
	during := faultList[what].during
	return during == nil || slices.Contains(during, moments[when].name)
}

// TestFaults plays every fault at every moment of a copy and of a sync when HOODY_FAULTS is "all" (make faults), else some of
// them, which differ from run to run. A cell can be named: -run 'TestFaults/sync/cut_connection/50'.
func TestFaults(t *testing.T) {
	t.Parallel()
	type choice struct {
		operation  string
		what, when int
	}
	var choices []choice
	for _, operation := range []string{"copy", "sync"} {
		for what := range faultList {
			for when := range moments {
				if applies(what, when) {
					choices = append(choices, choice{operation, what, when})
				}
			}
		}
	}
	if os.Getenv("HOODY_FAULTS") != "all" {
		const some = 12
		rand.Shuffle(len(choices), func(i, j int) { choices[i], choices[j] = choices[j], choices[i] })
		choices = choices[:some]
		slices.SortFunc(choices, func(x, y choice) int { return strings.Compare(x.operation, y.operation) })
	}
	outcomes := map[choice]string{}
	for scenes := 1; len(choices) > 0; scenes++ { // a fleet for each operation, and a new one now and then or after a failure
		operation, left := choices[0].operation, len(choices)
		// Not the same name twice: testing adds a #, which ends in a directory's name and from there in an address.
		t.Run(fmt.Sprintf("%s-%d", operation, scenes), func(t *testing.T) {
			s := newScene(t, operation)
			for played := 0; len(choices) > 0 && choices[0].operation == operation && played < 20; played++ {
				next := choices[0]
				choices = choices[1:]
				if !t.Run(faultList[next.what].name+"/"+moments[next.when].name, func(t *testing.T) {
					defer func(outer testing.TB) { s.f.t = outer }(s.f.t)
					s.f.t = t
					outcomes[next] = s.play(operation, faultList[next.what], next.when)
				}) {
					outcomes[next] += " WRONG"
					return
				}
			}
		})
		if len(choices) == left { // -run asks for another operation
			choices = slices.DeleteFunc(choices, func(c choice) bool { return c.operation == operation })
		}
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, operation := range []string{"copy", "sync"} {
		fmt.Fprintf(table, "%s\t", operation)
		for _, moment := range moments {
			fmt.Fprintf(table, "%s\t", moment.name)
		}
		fmt.Fprintln(table)
		for what := range faultList {
			fmt.Fprintf(table, "%s\t", faultList[what].name)
			for when := range moments {
				fmt.Fprintf(table, "%s\t", outcomes[choice{operation, what, when}])
			}
			fmt.Fprintln(table)
		}
	}
	_ = table.Flush()
	t.Logf("how each ended, and what was sent more than without a fault:\n%s", text.String())
}

// No goroutine is left of what faults interrupted. It runs beside no other test, whose goroutines would count.
func TestNoGoroutineOutlivesAFault(t *testing.T) {
	before := len(ourGoroutines())
	for _, operation := range []string{"copy", "sync"} {
		t.Run(operation, func(t *testing.T) {
			s := newScene(t, operation)
			for range 2 {
				what, when := rand.IntN(len(faultList)), rand.IntN(len(moments))
				for !applies(what, when) {
					what, when = rand.IntN(len(faultList)), rand.IntN(len(moments))
				}
				if !t.Run(faultList[what].name+"/"+moments[when].name, func(t *testing.T) {
					defer func(outer testing.TB) { s.f.t = outer }(s.f.t)
					s.f.t = t
					s.play(operation, faultList[what], when)
				}) {
					return
				}
			}
		})
	}
	noneLeakedSince(t, before)
}

// ourGoroutines are the stacks of those that run code of the project, or its sessions.
func ourGoroutines() (stacks []string) {
	buffer := make([]byte, 8<<20)
	for _, stack := range strings.Split(string(buffer[:runtime.Stack(buffer, true)]), "\n\n") {
		if strings.Contains(stack, "hoody-agent/internal/") && !strings.Contains(stack, "testing.(*T)") || strings.Contains(stack, "hashicorp/yamux") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// noneLeakedSince waits until no more goroutines run than before.
func noneLeakedSince(t *testing.T, before int) {
	t.Helper()
	var left []string
	for range 500 {
		if left = ourGoroutines(); len(left) <= before {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before:\n%s", len(left), before, strings.Join(left, "\n\n"))
}
