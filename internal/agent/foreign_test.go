package agent_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

func TestForeignDatasets(t *testing.T) {
	marked := map[string]string{"hoody:role": "generation"}
	const job = "0123456789abcdef0123456789abcdef"
	got := agent.ForeignDatasets(lineage.Inventory{Datasets: []lineage.Dataset{
		{Name: "containers/x"},
		{Name: "hoody"},
		{Name: "hoody/backup"},
		{Name: "hoody/generations/" + job},
		{Name: "hoody/generations/" + job + "-0001"},
		{Name: "hoody/generations/mine"},
		{Name: "hoody/generations/theirs", Properties: marked},
		{Name: "hoodyx/y"},
	}})
	if diff := cmp.Diff([]string{"hoody/backup", "hoody/generations/mine"}, got); diff != "" {
		t.Error(diff)
	}
}

// A restore swaps a generation in that does not start, and somebody, a tool that snapshots everything, makes a snapshot of it. It is not the agent's to destroy.
func TestASnapshotOfWhatIsTakenBackSurvives(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	var made lineage.Snapshot
	initDies(here, func() {
		var err error
		if made, err = here.pool.Snapshot(f.ctx, agent.ContainerDataset(source.ID), "autosnap_1"); err != nil {
			t.Error(err)
		}
	})
	if err := second(here.agent.RestoreSnapshot(f.ctx, caller, source.ID, "two")); err == nil {
		t.Fatal("it starts")
	}
	f.holdsState(f.settled(source.ID, store.StatusRunning), "now")
	f.must(second(here.agent.Collect(f.ctx, false)))
	if !f.holds(here, made.GUID) {
		t.Error("somebody else's snapshot was destroyed")
	}
}

// A snapshot that somebody has moved into a dataset of his own, by promoting a clone of it, is not one that the container can use.
func TestASnapshotInSomebodyElsesDatasetIsMissing(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	here.reconciled = 10 * time.Millisecond
	here.restart()
	source := f.states(here)
	two := f.listed(source)[1]
	inventory, err := here.pool.Inventory(f.ctx)
	f.must(err)
	full := lineage.Locate(inventory)[two.GUID]
	f.must(here.pool.Clone(f.ctx, full, "mine", nil))
	f.must(here.pool.Promote(f.ctx, "mine"))
	f.until("the list says so", func() bool {
		listed := f.listed(source)
		return listed[0].Missing && listed[1].Missing && !listed[2].Missing
	})
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	if got := f.listed(copied); len(got) != 1 || got[0].Name != "three" {
		t.Errorf("a copy lists %+v", got)
	}
}
