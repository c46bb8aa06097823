package agent

import (
	"fmt"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// TestReferences goes through everything that can refer to a pool: each must mark, on its own server and no other.
func TestReferences(t *testing.T) {
	const here, there = "s1", "s2"
	listed := func(guids ...lineage.GUID) (snapshots []store.Snapshot) {
		for _, guid := range guids {
			snapshots = append(snapshots, store.Snapshot{Name: "s", GUID: guid})
		}
		return snapshots
	}
	generation := func(marker, base lineage.GUID) store.Generation {
		return store.Generation{Marker: store.SnapshotRef{GUID: marker}, Base: base}
	}
	open := func(job store.Job) *store.Job {
		job.State = store.JobRunning
		return &job
	}
	records := store.References{
		Containers: []*store.Container{
			{ID: "source", ServerID: here, Generation: generation(1, 2)},
			{ID: "far", ServerID: there, SourceContainerID: "source", Generation: generation(10, 11), SyncBase: 12},
			{ID: "older", ServerID: there, SourceContainerID: "source", Generation: generation(13, 14)},
			{ID: "near", ServerID: here, SourceContainerID: "source", Generation: generation(20, 21), SyncBase: 22},
			{ID: "orphan", ServerID: there, SourceContainerID: "gone", Generation: generation(30, 31), SyncBase: 32},
			{ID: "orphan-here", ServerID: here, SourceContainerID: "gone", Generation: generation(33, 34), SyncBase: 35},
			{ID: "lost", ServerID: here, Generation: generation(40, 41)},
			{ID: "worked-on", ServerID: here, Generation: generation(50, 51), JobID: "j1"},
		},
		Histories: []*store.History{
			{ContainerID: "source", Snapshots: listed(60)}, {ContainerID: "far", Snapshots: listed(61)}, {ContainerID: "puzzle", Snapshots: listed(62)},
		},
		Jobs: []*store.Job{
			open(store.Job{
				ID: "j1", ServerID: here, Freeze: store.Freeze{GUID: 70}, SourceSnapshot: 71, History: listed(72), Adopted: listed(73),
				Generation: generation(74, 75), Snapshot: &listed(76)[0], Undo: &listed(77)[0], UndoName: "hoody-undo",
			}),
			open(store.Job{ID: "j2", ServerID: there, SourceServerID: here, Freeze: store.Freeze{Name: "hoody-freeze"}, SourceSnapshot: 80, History: listed(81)}),
			open(store.Job{ID: "j3", ServerID: there, SourceServerID: there, Freeze: store.Freeze{GUID: 90}}),
			open(store.Job{
				ID: "j6", ServerID: there, SourceServerID: here, Freeze: store.Freeze{GUID: 120, Name: "hoody-cancelled"}, SourceSnapshot: 121, History: listed(122),
				CancelledAt: new(time.Time),
			}),
			{ID: "j4", ServerID: here, State: store.JobDone, Freeze: store.Freeze{GUID: 91}},
		},
		Tombstones: []store.Tombstone{
			{ServerID: here, Snapshots: []lineage.GUID{100}}, {ServerID: there, Snapshots: []lineage.GUID{101}},
		},
	}
	dataset := func(name, role, container, job string) lineage.Dataset {
		return lineage.Dataset{Name: name, Properties: map[string]string{propertyRole: role, propertyContainer: container, propertyJob: job}}
	}
	inventory := lineage.Inventory{Datasets: []lineage.Dataset{
		dataset("containers/admins", "", "", ""),
		dataset("containers/hoody-near", roleGeneration, "near", "j4"),
		dataset("containers/hoody-near/nested", "", "", ""),
		dataset("containers/hoody-nobodys", roleGeneration, "nobodys", "j4"),
		dataset("containers/hoody-source", roleGeneration, "source", "j4"),
		dataset("containers/hoody-worked-on", roleGeneration, "worked-on", "j4"),
		dataset("hoody", roleParent, "", ""),
		dataset("hoody/generations/by-hand", "", "", ""),
		dataset("hoody/generations/j1-0000", roleReplica, "source", "j1"),
		dataset("hoody/generations/j4", roleGeneration, "near", "j0"),
		dataset("hoody/generations/j4-0000", roleReplica, "source", "j4"),
		dataset("hoody/generations/j4-0001", roleImage, "source", "j4"),
		dataset("hoody/generations/j5", roleGeneration, "lost", "j0"),
		dataset("hoody/incoming/j1", roleGeneration, "worked-on", "j1"),
		dataset("hoody/incoming/j4-0002", roleReplica, "source", "j4"),
		dataset("hoody/incoming/j4-0003", roleReplica, "source", "j4"),
		dataset("hoody/strange", "", "", ""),
		dataset("images/debian", "", "", ""),
	}}
	refs := references(here, time.Now(), inventory, records, map[string][]lineage.GUID{"j1": {110}}, map[string]bool{"hoody/incoming/j4-0003": true}, nil)

	for _, guid := range []lineage.GUID{1, 2, 20, 21, 22, 33, 34, 40, 41, 50, 51, 60, 62, 70, 71, 72, 73, 74, 75, 76, 77, 80, 81, 110} {
		if len(refs.Wanted[guid]) == 0 {
			t.Errorf("%d is not wanted", guid)
		}
	}
	for _, guid := range []lineage.GUID{0, 10, 11, 12, 30, 31, 32, 35, 61, 90, 91, 100, 101, 120, 121, 122} {
		if len(refs.Wanted[guid]) > 0 {
			t.Errorf("%d is wanted: %v", guid, refs.Wanted[guid])
		}
	}
	if len(refs.Bases) != 3 || len(refs.Bases[12]) != 1 || len(refs.Bases[14]) != 1 || len(refs.Bases[120]) != 1 {
		t.Errorf("bases %v", refs.Bases)
	}
	if len(refs.Names["hoody-freeze"]) == 0 || len(refs.Names["hoody-undo"]) == 0 || len(refs.Names[""]) > 0 || len(refs.Names["hoody-cancelled"]) > 0 {
		t.Errorf("names %v", refs.Names)
	}
	if len(refs.Deleted) != 1 || !refs.Deleted[100] {
		t.Errorf("deleted %v", refs.Deleted)
	}
	uses := map[string]lineage.UseKind{
		"containers/hoody-near": lineage.Current, "containers/hoody-near/nested": lineage.Foreign, "containers/hoody-nobodys": lineage.Fixed,
		"containers/hoody-source": lineage.Current, "containers/hoody-worked-on": lineage.Busy, "hoody": lineage.Fixed,
		"hoody/generations/by-hand": lineage.Foreign, "hoody/generations/j1-0000": lineage.Busy, "hoody/generations/j4": lineage.Retired,
		"hoody/generations/j4-0000": lineage.Retired, "hoody/generations/j4-0001": lineage.Image, "hoody/generations/j5": lineage.Fixed,
		"hoody/incoming/j1": lineage.Busy, "hoody/incoming/j4-0002": lineage.Retired, "hoody/incoming/j4-0003": lineage.Busy, "hoody/strange": lineage.Foreign,
	}
	for _, d := range inventory.Datasets {
		got, known := refs.Datasets[d.Name]
		want, wanted := uses[d.Name]
		if known != wanted || got.Kind != want {
			t.Errorf("%s: use %+v (known %v), want %v", d.Name, got, known, want)
		}
	}
}

// Only what is retired is rolled back, not what a record takes for a container's files, wherever an operation that was given up has left them.
func TestHeads(t *testing.T) {
	generation := func(name, container string, guids ...lineage.GUID) lineage.Dataset {
		d := lineage.Dataset{Name: name, Properties: map[string]string{propertyRole: roleGeneration, propertyContainer: container}}
		for _, guid := range guids {
			d.Snapshots = append(d.Snapshots, lineage.Snapshot{Name: "hoody-" + guid.String(), GUID: guid})
		}
		return d
	}
	replica := generation("hoody/generations/replica", "c1", 4)
	replica.Properties[propertyRole] = roleReplica
	inventory := lineage.Inventory{Datasets: []lineage.Dataset{
		generation("containers/hoody-c1", "c1", 1), generation("containers/hoody-c2", "c2", 2),
		generation("hoody/generations/j1", "c1", 3), generation("hoody/generations/little", "c1", 5), generation("hoody/generations/abandoned", "c2", 6, 7), replica,
	}}
	records := store.References{Containers: []*store.Container{
		{ID: "c1", ServerID: "s1", Generation: store.Generation{Marker: store.SnapshotRef{GUID: 1}}},
		{ID: "c2", ServerID: "s1", Generation: store.Generation{Marker: store.SnapshotRef{GUID: 6}}},
	}}
	written := make(map[string]Activity)
	for _, dataset := range inventory.Datasets {
		written[dataset.Name] = Activity{Written: 2 << 20}
	}
	written["hoody/generations/little"] = Activity{Written: 1 << 20}
	heads := references("s1", time.Now(), inventory, records, nil, nil, written).Heads
	if len(heads) != 1 || heads["hoody/generations/j1"] != 2<<20 {
		t.Errorf("heads %v", heads)
	}
}

// A source with fifty copies elsewhere and a state frozen for each of them, and then some, holds one base as a snapshot and no
// more bookmarks than there are other bases; what two copies share it holds once.
func TestFiftyCopiesHoldNoMoreThanTheirBases(t *testing.T) {
	const copies, shared = 50, 10
	source := &store.Container{ID: "source", ServerID: "s1", Generation: store.Generation{Marker: store.SnapshotRef{GUID: 1000}}}
	records := store.References{Containers: []*store.Container{source}}
	dataset := lineage.Dataset{
		Name: "containers/hoody-source", Properties: map[string]string{propertyRole: roleGeneration, propertyContainer: "source"},
		Snapshots: []lineage.Snapshot{{Name: "hoody-0-marker", GUID: 1000, CreateTXG: 1}},
	}
	for i := range copies + shared { // the copies' bases, and those of syncs before
		name := fmt.Sprintf("hoody-%02d-freeze", i)
		dataset.Snapshots = append(dataset.Snapshots, lineage.Snapshot{Name: name, GUID: lineage.GUID(i + 1), CreateTXG: uint64(i + 2)})
	}
	for i := range copies {
		base := lineage.GUID(max(i, shared) + 1) // some share one
		records.Containers = append(records.Containers, &store.Container{
			ID: fmt.Sprintf("copy-%d", i), ServerID: "s2", SourceContainerID: "source", SyncBase: base, Generation: store.Generation{Base: base},
		})
	}
	inventory := lineage.Inventory{Datasets: []lineage.Dataset{dataset}}
	snapshots, bookmarks := len(dataset.Snapshots), 0
	for _, action := range lineage.Collect(inventory, references("s1", time.Now(), inventory, records, nil, nil, nil)).Actions {
		switch action.Kind {
		case lineage.MakeBookmark:
			bookmarks++
		case lineage.DestroySnapshot:
			snapshots--
		default:
			t.Errorf("unexpected: %+v", action)
		}
	}
	if snapshots != 2 || bookmarks != copies-shared-1 { // its marker and the newest base; the others
		t.Errorf("the source is left with %d snapshots and %d bookmarks, want 2 and %d", snapshots, bookmarks, copies-shared-1)
	}
}
