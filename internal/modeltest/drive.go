package modeltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// driver performs a program on a fleet and on the model alike.
type driver struct {
	*fleet
	model *Model
	ids   map[string]string        // container ids by the program's names
	guids map[*commit]lineage.GUID // identities of the snapshots that somebody listed

	foreign map[string]lineage.GUID // and of those that were made by hand

	remembered []*mvccpb.KeyValue // an older state of the store
	visits     int                // to other stores
}

func newDriver(f *fleet) *driver {
	return &driver{fleet: f, model: NewModel(), ids: make(map[string]string), guids: make(map[*commit]lineage.GUID), foreign: make(map[string]lineage.GUID)}
}

// step performs one step, waits until all of it has settled, and takes the model as far.
func (d *driver) step(ctx context.Context, step Step) error {
	ctx, cancel := context.WithTimeout(ctx, d.base.Patience)
	defer cancel()
	if d.base.Stuck != nil {
		defer time.AfterFunc(d.base.Patience/2, d.base.Stuck).Stop()
	}
	actions := slices.DeleteFunc(slices.Clone(step.Actions), func(a Action) bool { return !d.meaningful(a, step.Actions) })
	if len(actions) == 0 {
		return nil
	}
	permitted := make([][]string, len(actions))
	for i, action := range actions {
		permitted[i] = append(permitted[i], d.outcome(action, actions))
		permitted[i] = append(permitted[i], d.collisions(action, actions)...)
		if step.Fault.Kind == faultCrash && d.involves(action, actions, step.Fault.Server) {
			permitted[i] = append(permitted[i], unavailable)
		}
	}
	disarm, err := d.arm(step.Fault)
	if err != nil {
		return err
	}
	outcomes, err := d.perform(ctx, step.Fault, actions)
	if err == nil {
		err = d.settle(ctx)
	}
	disarm()
	if err == nil {
		err = d.settle(ctx) // what the fault may have hit at the last moment
	}
	if err != nil {
		return err
	}
	for i, action := range actions {
		if action.Op == opExpire && step.Fault.Kind == faultCrash && code(outcomes[i]) == unavailable {
			outcomes[i] = d.sweep(ctx) // as the agent that came back does by itself, some time
		}
	}
	for i, action := range actions {
		if !slices.Contains(permitted[i], code(outcomes[i])) {
			return fmt.Errorf("%s: answered %q (%v), want %q", action, code(outcomes[i]), outcomes[i], permitted[i])
		}
	}
	for i, action := range actions {
		if outcomes[i] == nil {
			d.model.Apply(action, d.seen(action, actions))
		}
	}
	return nil
}

// seen reads what a settled action did.
func (d *driver) seen(a Action, all []Action) (seen Seen) {
	record, ok := d.records.Mirror().Container(d.ids[a.worksOn()])
	if !ok || record.LastOperation == nil {
		return seen
	}
	if interrupted(a, all) && record.LastOperation.State == store.JobCancelled {
		seen.Cancelled = true
		return seen
	}
	switch a.Op {
	case opSync:
		seen.NoOp = record.LastOperation.Progress.NoOp
	}
	switch a.Op {
	case opSync, opRestore:
		if job, ok := d.records.Mirror().Job(record.LastOperation.ID); ok {
			seen.Kept = job.Undo != nil
		}
	}
	return seen
}

// collisions are the answers that an action may get because of what happens beside it.
func (d *driver) collisions(a Action, all []Action) (codes []string) {
	freezes := slices.ContainsFunc(all, func(other Action) bool {
		c := d.model.containers[other.Container]
		reads := other.Op == opCopy || other.Op == opCopySnapshot
		return reads && other.Container == a.Container || other.Op == opSync && c != nil && c.source == a.Container
	})
	switch {
	case freezes && (a.Op == opDelete || a.Op == opDeleteMidway):
		return []string{inUse}
	case freezes && a.Op == opDropSnapshot:
		return []string{snapshotBusy}
	case a.Op == opHandDestroy:
		return []string{code(errHeld)}
	default:
		return nil
	}
}

// involves tells whether an action is refused while a server is down.
func (d *driver) involves(a Action, all []Action, server int) bool {
	if made, ok := d.made(a, all); ok {
		return made.Server == server
	}
	if a.Op == opCollect && a.Server == server {
		return true
	}
	if a.Op == opCreate || a.Op == opCopy || a.Op == opCopySnapshot {
		if a.Server == server {
			return true
		}
	}
	c := d.model.containers[a.Container]
	if c == nil {
		return false
	}
	source := d.model.containers[c.source]
	return c.server == server || a.Op == opSync && source != nil && source.server == server
}

// arm sets what goes wrong during a step.
func (d *driver) arm(fault Fault) (disarm func(), err error) {
	switch fault.Kind {
	case faultCrash:
		victim := d.servers[fault.Server]
		victim.effects.set(fault.At, victim.die)
		return func() { victim.effects.clear() }, nil
	case faultCut:
		d.network.set(fault.At, connectionLost)
		return func() { d.network.clear() }, nil
	default:
		return func() {}, nil
	}
}

// perform starts the actions, those that are only accepted first, and returns their answers. Crashed servers come back meanwhile.
func (d *driver) perform(ctx context.Context, fault Fault, actions []Action) ([]error, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	front := d.servers[(fault.Server+1)%servers] // any agent takes any request; this one does not crash
	outcomes := make([]error, len(actions))
	var waiting sync.WaitGroup
	for i, action := range actions {
		switch action.Op {
		case opCreate, opCopy, opCopySnapshot, opSync:
			made, err := d.request(ctx, front.agent, action)
			if outcomes[i] = err; err == nil && action.Op != opSync {
				d.ids[action.worksOn()] = made
			}
		default:
			if !action.behind() {
				continue
			}
			err := d.behind(ctx, action)
			if err != nil && !errors.Is(err, errHeld) {
				return nil, fmt.Errorf("%s: %w", action, err)
			}
			outcomes[i] = err
		}
	}
	for i, action := range actions {
		switch action.Op {
		case opCreate, opCopy, opCopySnapshot, opSync:
		case opExpire:
			waiting.Go(func() { outcomes[i] = d.expire(ctx) })
		case opCollect:
			collector := d.servers[action.Server].agent
			waiting.Go(func() { _, outcomes[i] = collector.Collect(ctx, false) })
		case opCancel, opDeleteMidway:
			server := d.serverOf(action, actions)
			waiting.Go(func() { outcomes[i] = d.interrupt(ctx, front.agent, action, server) })
		default:
			if action.behind() {
				continue
			}
			waiting.Go(func() { _, outcomes[i] = d.request(ctx, front.agent, action) })
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); waiting.Wait() }()
	if fault.Kind == faultStore {
		if err := d.loseStore(ctx, time.Duration(fault.At)*time.Millisecond); err != nil {
			return nil, err
		}
	}
	err := d.revive(ctx, done)
	if err != nil {
		cancel() // who waits for the agent that did not come up waits in vain
	}
	<-done
	return outcomes, err
}

// behind tells whether no agent is asked for the action.
func (a Action) behind() bool {
	return slices.Contains([]string{opWrite, opRuntimeSnapshot, opHandSnapshot, opHandDestroy, opRemember, opOldStore, opWrongStore, opRecover}, a.Op)
}

// request asks an agent for an operation and returns the id of the container that it makes, if it makes one.
func (d *driver) request(ctx context.Context, front *agent.Agent, a Action) (made string, err error) {
	id := d.ids[a.Container]
	switch a.Op {
	case opCreate:
		result, err := front.CreateContainer(ctx, caller, d.project.ID, agent.CreateContainerRequest{
			ServerID: d.servers[a.Server].id, Name: a.Container, Image: Image,
		})
		return result.View.Container.ID, err
	case opCopy, opCopySnapshot:
		result, err := front.Copy(ctx, caller, id, agent.CopyRequest{
			TargetProjectID: d.project.ID, TargetServerID: d.servers[a.Server].id, Name: a.To, SourceSnapshot: d.listedName(a),
		})
		return result.View.Container.ID, err
	case opSync:
		_, err = front.Sync(ctx, caller, id)
	case opSnapshot:
		_, err = front.CreateSnapshot(ctx, caller, id, agent.CreateSnapshotRequest{Alias: &a.Name})
	case opExpiring:
		days := 1
		_, err = front.CreateSnapshot(ctx, caller, id, agent.CreateSnapshotRequest{Alias: &a.Name, ExpiryDays: &days})
	case opRestore:
		_, err = front.RestoreSnapshot(ctx, caller, id, d.listedName(a))
	case opAlias:
		_, err = front.RenameSnapshot(ctx, caller, id, d.listedName(a), &a.Value)
	case opNoAlias:
		_, err = front.RenameSnapshot(ctx, caller, id, d.listedName(a), nil)
	case opDropSnapshot:
		_, err = front.DeleteSnapshot(ctx, caller, id, d.listedName(a))
	case opDelete:
		err = front.DeleteContainer(ctx, caller, id)
	case opStart, opStop, opPause, opResume:
		_, err = front.Operate(ctx, caller, id, agent.Operation(a.Op), time.Second)
	default:
		err = fmt.Errorf("no such operation: %s", a.Op)
	}
	return "", err
}

// listedName is what finds the snapshot of an action in its container's list: the alias, if it has one, or its name.
func (d *driver) listedName(a Action) string {
	c := d.model.containers[a.Container]
	if c == nil {
		return a.Name
	}
	at, _ := c.snapshot(a.Name)
	history, ok := d.records.Mirror().History(d.ids[a.Container])
	if at == nil || !ok {
		return a.Name
	}
	for _, s := range history.Snapshots {
		if s.GUID == d.guids[at] && s.Alias != nil {
			return *s.Alias
		}
		if s.GUID == d.guids[at] {
			return s.Name
		}
	}
	return a.Name
}

// expire lets as much time pass as anything takes to expire.
func (d *driver) expire(ctx context.Context) error {
	d.later.Add(int64(30 * 24 * time.Hour))
	return d.sweep(ctx)
}

// sweep lets every agent drop what has expired. A server that is down has none.
func (d *driver) sweep(ctx context.Context) error {
	for _, s := range d.servers {
		living, err := s.living()
		if err != nil {
			return err
		}
		if _, err := living.DropExpiredSnapshots(ctx); err != nil {
			return err
		}
	}
	return nil
}

// behind does what no agent is asked for: a container's programs write, an admin uses the runtime, the store is replaced.
func (d *driver) behind(ctx context.Context, a Action) (err error) {
	switch a.Op {
	case opRemember:
		d.remembered, err = d.dump(ctx)
		return err
	case opOldStore, opWrongStore:
		return d.visit(ctx, a.Op)
	case opRecover:
		return d.recover(ctx)
	case opHandDestroy:
		return d.destroyByHand(ctx, a)
	}
	s := d.servers[d.model.containers[a.Container].server]
	instance := agent.InstanceName(d.ids[a.Container])
	if a.Op == opRuntimeSnapshot {
		return s.runtime.AddSnapshot(ctx, instance, a.Name)
	}
	if a.Op == opHandSnapshot {
		made, err := s.pool.Snapshot(ctx, agent.InstanceDataset(instance), a.Name)
		d.foreign[a.Name] = made.GUID
		return err
	}
	mount, err := s.pool.Mount(ctx, agent.InstanceDataset(instance))
	if err != nil {
		return err
	}
	file := path.Join(filesDir, a.Name)
	err = errors.Join(mount.Root().MkdirAll(filesDir, 0o755), mount.Root().WriteFile(file, content(a.Name, a.Value), 0o644))
	return errors.Join(err, mount.Unmount(ctx))
}

// filesDir is where containers keep what the model knows of.
const filesDir = "rootfs/data"

// content is what a value looks like in a file: lines of it, one unless the file has a "big" name; those take several blocks.
func content(name, value string) []byte {
	return bytes.Repeat([]byte(value+"\n"), lines(name, value))
}

func lines(name, value string) int {
	if !strings.HasPrefix(name, "big") {
		return 1
	}
	return 300 << 10 / (len(value) + 1)
}

// holds tells whether data is the content of a value, without making that: there is a lot to compare.
func holds(data, name, value string) bool {
	line := value + "\n"
	return len(data) == lines(name, value)*len(line) && strings.HasPrefix(data, line) && data[len(line):] == data[:len(data)-len(line)]
}

// loseStore takes the store away for a while.
func (d *driver) loseStore(ctx context.Context, away time.Duration) error {
	d.base.stopStore()
	time.Sleep(away) // not awaited for anything: it is how long it lasts
	return d.base.startStore(ctx)
}

// revive starts crashed servers again until all is done.
func (d *driver) revive(ctx context.Context, done <-chan struct{}) error {
	for {
		for _, s := range d.servers {
			switch {
			case closed(s.died):
				d.log.Info("restart", zap.Int("server", s.number))
				if err := s.restart(ctx); err != nil {
					return err
				}
			case closed(s.ended) && !closed(s.died):
				return fmt.Errorf("agent of server %d ended by itself: %w", s.number, s.failed)
			}
		}
		select {
		case <-done:
			return nil
		case <-d.ended:
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// settle waits until no operation is under way anywhere.
func (d *driver) settle(ctx context.Context) error {
	jobs := d.records.Mirror().Subscribe(store.KindJob)
	defer jobs.Close()
	done := make(chan struct{})
	close(done)
	for {
		if err := d.revive(ctx, done); err != nil {
			return err
		}
		if !d.working() {
			if _, err := d.records.Barrier(ctx); err != nil {
				return fmt.Errorf("does not settle: %w", err)
			}
			if !d.working() {
				return d.catchUp(ctx)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("does not settle: %s", d.openJobs())
		case <-jobs.Changes():
		case <-d.ended:
		}
	}
}

// working tells whether an operation is under way, as far as the records are known.
func (d *driver) working() bool {
	return slices.ContainsFunc(d.servers, func(s *server) bool { return len(d.records.Mirror().OpenJobs(s.id)) > 0 })
}

// openJobs describes what is under way.
func (d *driver) openJobs() string {
	var text strings.Builder
	for _, s := range d.servers {
		for _, job := range d.records.Mirror().OpenJobs(s.id) {
			fmt.Fprintf(&text, "%s of %s on server %d in phase %s", job.Kind, d.nameOf(job.ContainerID), s.number, job.Phase)
			if job.Error != nil {
				fmt.Fprintf(&text, " (%s)", job.Error.Detail)
			}
			text.WriteString("; ")
		}
	}
	return text.String()
}

// nameOf is the program's name of a container.
func (d *driver) nameOf(id string) string {
	for name, known := range d.ids {
		if known == id {
			return name
		}
	}
	return id
}

// readFiles reads what the model knows of in a dataset.
func readFiles(ctx context.Context, pool agent.Pool, dataset string) (map[string]string, error) {
	mount, err := pool.Mount(ctx, dataset)
	if err != nil {
		return nil, err
	}
	found, err := readDir(mount)
	return found, errors.Join(err, mount.Unmount(ctx))
}

func readDir(mount agent.Mount) (map[string]string, error) {
	found := make(map[string]string)
	entries, err := fs.ReadDir(mount.Root().FS(), filesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	for _, entry := range entries {
		data, err := mount.Root().ReadFile(path.Join(filesDir, entry.Name()))
		if err != nil {
			return nil, err
		}
		found[entry.Name()] = string(data)
	}
	return found, err
}
