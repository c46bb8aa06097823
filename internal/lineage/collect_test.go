package lineage_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// named makes a dataset whose i-th snapshot has the i-th name, and a GUID and age that count on from the given one.
func named(name, origin string, first lineage.GUID, names ...string) lineage.Dataset {
	d := lineage.Dataset{Name: name, Origin: origin}
	for i, short := range names {
		guid := first + lineage.GUID(i)
		d.Snapshots = append(d.Snapshots, lineage.Snapshot{Name: short, GUID: guid, CreateTXG: uint64(guid)})
	}
	return d
}

func use(kind lineage.UseKind, container string) lineage.Use {
	return lineage.Use{Kind: kind, Container: container, Why: "a test says so"}
}

// doings prints actions short.
func doings(actions []lineage.Action) []string {
	var lines []string
	for _, a := range actions {
		line := string(a.Kind) + " " + a.Object
		if a.Kind == lineage.RenameSnapshot || a.Kind == lineage.MakeBookmark && !strings.HasSuffix(a.Object, "@"+a.Name) {
			line += " " + a.Name
		}
		lines = append(lines, line)
	}
	return lines
}

func TestCollect(t *testing.T) {
	const cur, other, dead, replica = "containers/a", "containers/b", "hoody/generations/1", "hoody/generations/2"
	type uses = map[string]lineage.Use
	type marks = map[lineage.GUID][]string
	why := []string{"wanted"}
	for _, test := range []struct {
		name     string
		datasets []lineage.Dataset
		refs     lineage.References
		want     []string
		verdicts map[string]lineage.Verdict // of some
	}{
		{
			name: "the agent's own snapshots go without a mark, a user's only when it was deleted",
			datasets: []lineage.Dataset{
				named(cur, "", 1, "hoody-1-freeze", "hoody-2-marker", "hoody-3", "hoody-4", "hoody-5-freeze", "snapshot-x", "hoody-6"),
			},
			refs: lineage.References{
				Datasets: uses{cur: use(lineage.Current, "a")},
				Wanted:   marks{7: why}, Deleted: map[lineage.GUID]bool{3: true, 7: true}, Names: map[string][]string{"hoody-5-freeze": why},
			},
			want: []string{"destroy-snapshot containers/a@hoody-1-freeze", "destroy-snapshot containers/a@hoody-2-marker", "destroy-snapshot containers/a@hoody-3"},
			verdicts: map[string]lineage.Verdict{
				cur + "@hoody-4": lineage.VerdictUnlisted, cur + "@hoody-5-freeze": lineage.VerdictKept, cur + "@snapshot-x": lineage.VerdictForeign, cur + "@hoody-6": lineage.VerdictKept,
			},
		},
		{
			name:     "bases become bookmarks, all but the newest of a present dataset",
			datasets: []lineage.Dataset{named(cur, "", 1, "hoody-1-freeze", "hoody-2-freeze", "hoody-3-freeze"), named(dead, "", 8, "hoody-8-freeze", "hoody-9")},
			refs: lineage.References{
				Datasets: uses{cur: use(lineage.Current, "a"), dead: use(lineage.Retired, "a")},
				Bases:    marks{1: why, 3: why, 8: why}, Wanted: marks{9: why},
			},
			want: []string{
				"bookmark hoody/generations/1@hoody-8-freeze", "destroy-snapshot hoody/generations/1@hoody-8-freeze",
				"bookmark containers/a@hoody-1-freeze", "destroy-snapshot containers/a@hoody-1-freeze", "destroy-snapshot containers/a@hoody-2-freeze",
			},
		},
		{
			name:     "the bookmark of a snapshot that the runtime named is the agent's",
			datasets: []lineage.Dataset{named(dead, "", 1, "snapshot-x")},
			refs: lineage.References{
				Datasets: uses{dead: use(lineage.Retired, "a")}, Bases: marks{1: why}, Deleted: map[lineage.GUID]bool{1: true},
			},
			want: []string{
				"bookmark hoody/generations/1@snapshot-x hoody-g0000000000000001", "destroy-snapshot hoody/generations/1@snapshot-x",
				"destroy-dataset hoody/generations/1",
			},
		},
		{
			name: "bookmarks go with their relation, and keep no dataset",
			datasets: []lineage.Dataset{
				{Name: cur, Bookmarks: []lineage.Bookmark{{Name: "hoody-1-freeze", GUID: 1}, {Name: "hoody-2-freeze", GUID: 2}, {Name: "admin", GUID: 3}}},
				{Name: dead, Bookmarks: []lineage.Bookmark{{Name: "hoody-1-freeze", GUID: 1}}},
			},
			refs: lineage.References{Datasets: uses{cur: use(lineage.Current, "a"), dead: use(lineage.Retired, "a")}, Bases: marks{1: why}},
			want: []string{"destroy-dataset hoody/generations/1", "destroy-bookmark containers/a#hoody-2-freeze"},
		},
		{
			name: "a synced copy takes over the replica and the generation before it, and both go",
			datasets: []lineage.Dataset{
				named(dead, "", 1, "hoody-1-freeze", "hoody-2", "hoody-3-marker"),
				named(replica, dead+"@hoody-1-freeze", 11, "hoody-11", "hoody-12-freeze"),
				named(cur, replica+"@hoody-12-freeze", 21, "hoody-21-marker"),
			},
			refs: lineage.References{
				Datasets: uses{cur: use(lineage.Current, "a"), dead: use(lineage.Retired, "a"), replica: use(lineage.Retired, "")},
				Wanted:   marks{11: why, 12: why, 21: why},
				Deleted:  map[lineage.GUID]bool{2: true},
			},
			want: []string{
				"destroy-snapshot hoody/generations/1@hoody-2", "destroy-snapshot hoody/generations/1@hoody-3-marker",
				"promote containers/a", "promote containers/a",
				"destroy-dataset hoody/generations/2", "destroy-dataset hoody/generations/1", "destroy-snapshot containers/a@hoody-1-freeze",
			},
		},
		{
			name: "the container's own generation is the heir, before one with a newer origin",
			datasets: []lineage.Dataset{
				named(dead, "", 1, "hoody-1", "hoody-2"),
				named(cur, dead+"@hoody-1", 11, "hoody-11-marker"), named(other, dead+"@hoody-2", 21, "hoody-21-marker"),
			},
			refs: lineage.References{
				Datasets: uses{cur: use(lineage.Current, "a"), other: use(lineage.Current, "b"), dead: use(lineage.Retired, "a")},
				Wanted:   marks{1: why, 2: why, 11: why, 21: why},
			},
			want: []string{"promote containers/a", "promote containers/b", "destroy-dataset hoody/generations/1"},
		},
		{
			name: "without it the one with the newest origin",
			datasets: []lineage.Dataset{
				named(dead, "", 1, "hoody-1", "hoody-2"),
				named(cur, dead+"@hoody-1", 11, "hoody-11-marker"), named(other, dead+"@hoody-2", 21, "hoody-21-marker"),
			},
			refs: lineage.References{
				Datasets: uses{cur: use(lineage.Current, "a"), other: use(lineage.Current, "b"), dead: use(lineage.Retired, "c")},
				Wanted:   marks{1: why, 2: why, 11: why, 21: why},
			},
			want: []string{"promote containers/b", "destroy-dataset hoody/generations/1"},
		},
		{
			name:     "names give way to a promotion",
			datasets: []lineage.Dataset{named(dead, "", 1, "snapshot-x", "hoody-2"), named(cur, dead+"@hoody-2", 11, "snapshot-x", "hoody-g0000000000000001")},
			refs: lineage.References{
				Datasets: uses{cur: use(lineage.Current, "a"), dead: use(lineage.Retired, "a")},
				Wanted:   marks{1: why, 2: why, 12: why},
			},
			want: []string{"rename-snapshot hoody/generations/1@snapshot-x hoody-g0000000000000001-2", "promote containers/a", "destroy-dataset hoody/generations/1"},
		},
		{
			name:     "what is foreign is not taken over, and keeps what it needs",
			datasets: []lineage.Dataset{named(dead, "", 1, "by-hand", "hoody-2-freeze"), named(cur, dead+"@hoody-2-freeze", 11, "hoody-11-marker")},
			refs:     lineage.References{Datasets: uses{cur: use(lineage.Current, "a"), dead: use(lineage.Retired, "a")}, Wanted: marks{11: why}},
			verdicts: map[string]lineage.Verdict{
				dead: lineage.VerdictKept, dead + "@by-hand": lineage.VerdictForeign, dead + "@hoody-2-freeze": lineage.VerdictKept, cur: lineage.VerdictKept,
			},
		},
		{
			name: "an image's replica is not taken over, and goes with the last that stands on it",
			datasets: []lineage.Dataset{
				named(replica, "", 1, "hoody-g0000000000000001"), named("hoody/generations/3", "", 2, "hoody-g0000000000000002"),
				named(cur, replica+"@hoody-g0000000000000001", 11, "hoody-11-marker"),
			},
			refs: lineage.References{
				Datasets: uses{cur: use(lineage.Current, "a"), replica: use(lineage.Image, ""), "hoody/generations/3": use(lineage.Image, "")},
				Wanted:   marks{11: why},
			},
			want: []string{"destroy-snapshot hoody/generations/3@hoody-g0000000000000002", "destroy-dataset hoody/generations/3"},
		},
		{
			name: "clones of anybody hold a snapshot, wherever they are",
			datasets: []lineage.Dataset{
				named(cur, "", 1, "hoody-1-freeze", "hoody-2-freeze", "hoody-3-freeze"),
				named("containers/admins", cur+"@hoody-1-freeze", 11, "hoody-11-marker"), named("hoody/incoming/j", cur+"@hoody-2-freeze", 21, "hoody-21-marker"),
			},
			refs: lineage.References{Datasets: uses{cur: use(lineage.Current, "a"), "hoody/incoming/j": use(lineage.Busy, "")}},
			want: []string{"destroy-snapshot containers/a@hoody-3-freeze"},
			verdicts: map[string]lineage.Verdict{
				cur + "@hoody-1-freeze": lineage.VerdictKept, cur + "@hoody-2-freeze": lineage.VerdictKept,
				"hoody/incoming/j": lineage.VerdictDeferred, "hoody/incoming/j@hoody-21-marker": lineage.VerdictDeferred,
			},
		},
		{
			name: "a stream that a finished job left half received is dropped, and what it held with it",
			datasets: []lineage.Dataset{
				named(dead, "", 1, "hoody-1-freeze"),
				{Name: replica, Origin: dead + "@hoody-1-freeze", ResumeToken: "1-abc"},
			},
			refs: lineage.References{Datasets: uses{dead: use(lineage.Retired, "a"), replica: use(lineage.Retired, "")}},
			want: []string{
				"abort-receive hoody/generations/2", "destroy-dataset hoody/generations/2",
				"destroy-snapshot hoody/generations/1@hoody-1-freeze", "destroy-dataset hoody/generations/1",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			slices.SortFunc(test.datasets, func(x, y lineage.Dataset) int { return strings.Compare(x.Name, y.Name) })
			inv := lineage.Inventory{Datasets: test.datasets}
			got := lineage.Collect(inv, test.refs)
			if diff := cmp.Diff(test.want, doings(got.Actions)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			for _, object := range got.Objects {
				if want, asked := test.verdicts[object.Name]; asked && object.Verdict != want {
					t.Errorf("%s is %s (%v), want %s", object.Name, object.Verdict, object.Reasons, want)
				}
				if object.Verdict != lineage.VerdictRemovable && len(object.Reasons) == 0 {
					t.Errorf("%s is %s without a reason", object.Name, object.Verdict)
				}
			}
		})
	}
}
