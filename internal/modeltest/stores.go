package modeltest

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// What happens to the store that no agent may believe: it is put back to an older state, or another one is in its place.
// Both are visits: the agents live with the store for a while, then they get the right one back, and not a byte is missing.

// dump reads all records of the fleet, at one moment. Who is alive is not among them.
func (f *fleet) dump(ctx context.Context) ([]*mvccpb.KeyValue, error) {
	response, err := f.base.client.Get(ctx, f.prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("dump store: %w", err)
	}
	return slices.DeleteFunc(response.Kvs, func(kv *mvccpb.KeyValue) bool {
		return strings.HasPrefix(string(kv.Key), f.prefix+"alive/")
	}), nil
}

// putBack makes the fleet's records what they were. No agent may be running.
func (f *fleet) putBack(ctx context.Context, kvs []*mvccpb.KeyValue) error {
	if _, err := f.base.client.Delete(ctx, f.prefix, clientv3.WithPrefix()); err != nil {
		return fmt.Errorf("empty store: %w", err)
	}
	for some := range slices.Chunk(kvs, 100) {
		var puts []clientv3.Op
		for _, kv := range some {
			puts = append(puts, clientv3.OpPut(string(kv.Key), string(kv.Value)))
		}
		if _, err := f.base.client.Txn(ctx).Then(puts...).Commit(); err != nil {
			return fmt.Errorf("put store back: %w", err)
		}
	}
	return nil
}

// offline ends all agents, lets change do what disasters do, and starts them again.
func (d *driver) offline(ctx context.Context, change func() error) error {
	for _, s := range d.servers {
		s.kill()
	}
	_ = d.records.Close()
	if err := change(); err != nil {
		return err
	}
	var err error
	if d.records, err = openRecords(ctx, d.fleet); err != nil {
		return err
	}
	return d.start(ctx)
}

// visit lets the agents live with another store for a while: one that was put back, or an empty one.
func (d *driver) visit(ctx context.Context, op string) error {
	right, prefix := []*mvccpb.KeyValue(nil), d.prefix
	if err := d.stamped(ctx); err != nil {
		return err
	}
	if err := d.collect(ctx); err != nil { // so that what goes meanwhile is not what was to go anyway
		return err
	}
	before, err := d.inventories(ctx)
	if err != nil {
		return err
	}
	if err := d.offline(ctx, func() (err error) {
		if op == opWrongStore {
			d.prefix = fmt.Sprintf("%swrong/%d/", strings.Replace(prefix, "/model/", "/elsewhere/", 1), d.visits)
			return nil
		}
		if right, err = d.dump(ctx); err != nil {
			return err
		}
		return d.putBack(ctx, d.remembered)
	}); err != nil {
		return err
	}
	d.visits++
	if err := d.collect(ctx); err != nil {
		return err
	}
	after, err := d.inventories(ctx)
	if err != nil {
		return err
	}
	for i, s := range d.servers {
		if s.agent.Degraded() == nil { // an old store may be all that a server wants to know; the next check looks at that one's pool
			after[i] = before[i]
		}
	}
	if err := d.offline(ctx, func() error {
		d.prefix = prefix
		if op == opWrongStore {
			return nil
		}
		return errors.Join(d.putBack(ctx, right), d.restamp(ctx, before))
	}); err != nil {
		return err
	}
	return lost(before, after)
}

// stamped waits until the agents have noted in their pools how far the records have come: what happens to the store before is
// not theirs to notice. A change of the project is one of all containers; a server without any has nothing to lose.
func (d *driver) stamped(ctx context.Context) error {
	revision, err := d.records.Update(ctx, func(tx *store.Tx) error {
		project, err := tx.Project(d.project.ID)
		if err != nil {
			return err
		}
		project.UpdatedAt = d.now()
		return tx.PutProject(project)
	})
	if err != nil {
		return err
	}
	for _, s := range d.servers {
		for len(d.records.Mirror().ContainersOnServer(s.id)) > 0 {
			parent, err := s.pool.Dataset(ctx, "hoody")
			if err != nil {
				return err
			}
			if stampRevision(parent.Properties["hoody:stamp"]) >= revision {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("server %d does not stamp its pool: %w", s.number, ctx.Err())
			case <-time.After(d.base.RecordPace / 5):
			}
		}
	}
	return nil
}

// stampRevision is how far the store had come that a stamp is of.
func stampRevision(stamp string) int64 {
	revision, _ := strconv.ParseInt(path.Base(stamp), 10, 64)
	return revision
}

// recover leaves the fleet with an empty store, for good, and has every server recover its records from its pool.
func (d *driver) recover(ctx context.Context) error {
	if err := errors.Join(d.stamped(ctx), d.collect(ctx)); err != nil {
		return err
	}
	d.remembered = nil
	return d.offline(ctx, func() error {
		d.visits++
		d.prefix = fmt.Sprintf("/recovered/%d/%d/", d.base.programs, d.visits)
		for _, s := range d.servers {
			if err := d.recoverServer(ctx, s); err != nil {
				return fmt.Errorf("recover records of server %d: %w", s.number, err)
			}
		}
		return nil
	})
}

func (d *driver) recoverServer(ctx context.Context, s *server) error {
	defer s.host.Kill()
	pool, runtime, err := s.host.Open(ctx, func(string, string) error { return nil })
	if err != nil {
		return err
	}
	records, err := store.Open(ctx, d.storeOptions(s.id))
	if err != nil {
		return err
	}
	defer func() { _ = records.Close() }()
	recoverer := &agent.Recoverer{Server: store.Server{ID: s.id, Name: s.id}, Store: records, Pool: pool, Runtime: runtime, Logger: d.log, Now: d.now}
	plan, err := recoverer.Plan(ctx)
	if err != nil {
		return err
	}
	return recoverer.Apply(ctx, plan)
}

// restamp gives the pools the stamps back that they had. A server that the old store knew all of has believed it, rightly,
// and its pool is the old store's by now: an admin would run recover.
func (d *driver) restamp(ctx context.Context, before []lineage.Inventory) error {
	for i, s := range d.servers {
		pool, _, err := s.host.Open(ctx, func(string, string) error { return nil })
		if err != nil {
			return err
		}
		had, _ := before[i].Dataset("hoody")
		err = pool.SetProperties(ctx, "hoody", agent.Properties{"hoody:stamp": had.Properties["hoody:stamp"]})
		s.host.Kill()
		if err != nil {
			return err
		}
	}
	return nil
}

// lost tells which snapshots are in no pool's list any more that were there before.
func lost(before, after []lineage.Inventory) error {
	var missing []error
	for i := range before {
		held := lineage.Locate(after[i])
		for guid, name := range lineage.Locate(before[i]) {
			if _, there := held[guid]; !there {
				missing = append(missing, fmt.Errorf("server %d: %s was destroyed under a store that is not to be believed", i, name))
			}
		}
	}
	return errors.Join(missing...)
}

// collect collects garbage on every server.
func (d *driver) collect(ctx context.Context) error {
	for _, s := range d.servers {
		report, err := s.agent.Collect(ctx, false)
		if err != nil {
			return fmt.Errorf("collect garbage on server %d: %w", s.number, err)
		}
		d.log.Info("collected", zap.Int("server", s.number), zap.Int("removed", report.Removed), zap.String("read-only", report.ReadOnly))
	}
	return nil
}
