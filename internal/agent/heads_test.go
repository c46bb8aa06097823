package agent_test

import (
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// What a restore displaced is kept as a snapshot that undoes it. Once that is gone, so is what only the displaced files held, though snapshots that are
// listed keep their dataset.
func TestDisplacedFilesGoWhereSnapshotsKeepTheirDataset(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.states(here)
	f.write(source, "data/large", random(1, 4<<20))
	f.restore(source, "one", store.StatusRunning)
	displaced := func() (bytes uint64) {
		written, err := here.pool.Activity(f.ctx, "hoody/generations")
		f.must(err)
		for _, of := range written {
			bytes += of.Written
		}
		return bytes
	}
	collect := func() {
		for range 2 { // what is beyond a snapshot shows once the one after it is gone
			f.must(second(here.agent.Collect(f.ctx, false)))
		}
	}
	collect()
	var undo store.Snapshot
	for _, snapshot := range f.listed(source) {
		if snapshot.Undo {
			undo = snapshot
		}
	}
	if got := f.holds(here, undo.GUID); !got {
		t.Fatal("the undo snapshot is gone")
	}
	f.must(second(here.agent.DeleteSnapshot(f.ctx, caller, source.ID, undo.Name)))
	f.must(second(here.agent.Collect(f.ctx, false)))
	if bytes := displaced(); bytes < 3<<20 {
		t.Fatalf("%d bytes beyond the snapshots: this shows nothing", bytes)
	}
	report, err := here.agent.Collect(f.ctx, true)
	f.must(err)
	explained := false
	for _, object := range report.Objects {
		for _, reason := range object.Reasons {
			explained = explained || strings.Contains(reason, "bytes that came after them")
		}
	}
	if !explained {
		t.Errorf("a dry run does not say that something of a dataset goes: %+v", report.Objects)
	}
	collect()
	if bytes := displaced(); bytes != 0 {
		t.Errorf("%d bytes are left beyond the snapshots", bytes)
	}
	for _, name := range []string{"three", "two", "one"} {
		f.holdsState(f.restore(source, name, store.StatusRunning), name)
	}
}
