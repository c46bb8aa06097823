package agent_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// etcd takes 128 operations in a transaction; a list of snapshots may change by more than that at once.

func TestASyncAdoptsManySnapshots(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	const many = 80
	for i := range many {
		f.must(here.runtime.AddSnapshot(f.ctx, agent.InstanceName(copied.ID), fmt.Sprint("snap", i)))
	}
	f.write(source, "data/new", []byte("new"))
	f.sync(copied, store.StatusRunning)
	if listed := f.listed(copied); len(listed) != many {
		t.Errorf("%d snapshots are listed, want %d", len(listed), many)
	}
	told := 0
	for _, event := range f.eventTypes(here, caller, agent.EventQuery{EventFilter: agent.EventFilter{ContainerID: copied.ID}}) {
		if event == "container.snapshot.created" {
			told++
		}
	}
	if told != 1 {
		t.Errorf("%d events tell of them, want one", told)
	}
}

func TestManySnapshotsExpireAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	const many = 300
	past := time.Now().Add(-time.Minute)
	_, err := f.records.Update(f.ctx, func(tx *store.Tx) error {
		history := store.History{ContainerID: source.ID}
		for i := range many {
			history.Snapshots = append(history.Snapshots, store.Snapshot{Name: fmt.Sprint("s", i), GUID: source.Generation.Marker.GUID, CreatedAt: past, ExpiresAt: &past})
		}
		return tx.PutHistory(history)
	})
	f.must(err)
	f.catchUp()
	if dropped, err := here.agent.DropExpiredSnapshots(f.ctx); dropped != many || err != nil {
		t.Errorf("%d snapshots dropped (%v), want %d", dropped, err, many)
	}
}

// Where all containers' snapshots expire in one minute, their lists are written a few at a time.
func TestManyContainersExpireAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	here := f.servers[0]
	past := time.Now().Add(-time.Minute)
	const many = 12
	for i := range many {
		source := f.create(here, fmt.Sprint("source", i))
		_, err := f.records.Update(f.ctx, func(tx *store.Tx) error {
			return tx.PutHistory(store.History{ContainerID: source.ID, Snapshots: []store.Snapshot{
				{Name: "s", GUID: source.Generation.Marker.GUID, CreatedAt: past, ExpiresAt: &past},
			}})
		})
		f.must(err)
	}
	f.catchUp()
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	dropped := make(chan int, 1)
	go func() {
		total, _ := here.agent.DropExpiredSnapshots(ctx)
		dropped <- total
	}()
	left := func() (n int) {
		for _, container := range here.store.Mirror().ContainersOnServer(here.id) {
			if history, ok := here.store.Mirror().History(container.ID); ok && len(history.Snapshots) > 0 {
				n++
			}
		}
		return n
	}
	f.until("ten lists are shorter", func() bool { return left() == many-10 })
	cancel() // in the pause
	if total := <-dropped; total != 10 {
		t.Errorf("%d snapshots dropped before the pause", total)
	}
	if total, err := here.agent.DropExpiredSnapshots(f.ctx); total != 2 || err != nil {
		t.Errorf("then %d snapshots dropped, %v", total, err)
	}
}
