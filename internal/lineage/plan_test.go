package lineage_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

func incoming(i int) string { return fmt.Sprintf("hoody/incoming/j-%d", i) }

// snaps makes a dataset whose snapshot "s<n>" has the GUID n and that creation order.
func snaps(name, origin string, guids ...lineage.GUID) lineage.Dataset {
	d := lineage.Dataset{Name: name, Origin: origin}
	for _, g := range guids {
		d.Snapshots = append(d.Snapshots, lineage.Snapshot{Name: fmt.Sprintf("s%d", g), GUID: g, CreateTXG: uint64(g)})
	}
	return d
}

// forked is a template with a copy (made at 2), a copy of the copy (made at 11) and a snapshot that only a bookmark remembers.
func forked() lineage.Inventory {
	template := snaps("containers/t", "", 1, 2, 4)
	template.Bookmarks = []lineage.Bookmark{{Name: "b2", GUID: 2, CreateTXG: 2}, {Name: "b3", GUID: 3, CreateTXG: 3}}
	return lineage.Inventory{Datasets: []lineage.Dataset{
		snaps("containers/c", "containers/t@s2", 10, 11),
		snaps("containers/d", "containers/c@s11", 20),
		template,
	}}
}

func TestAncestryFollowsOrigins(t *testing.T) {
	got, err := lineage.Ancestry(forked(), "containers/d@s20", "containers/t@s4")
	if err != nil {
		t.Fatal(err)
	}
	want := []lineage.Node{
		{GUID: 1, Dataset: "containers/t", Name: "s1"},
		{GUID: 2, Parent: 1, Dataset: "containers/t", Name: "s2"},
		{GUID: 10, Parent: 2, Dataset: "containers/c", Name: "s10"},
		{GUID: 11, Parent: 10, Dataset: "containers/c", Name: "s11"},
		{GUID: 20, Parent: 11, Dataset: "containers/d", Name: "s20"},
		{GUID: 3, Parent: 2, Dataset: "containers/t", Name: "b3", Bookmark: true},
		{GUID: 4, Parent: 2, Dataset: "containers/t", Name: "s4"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ancestry (-want +got):\n%s", diff)
	}
}

func TestAncestryOfOddPools(t *testing.T) {
	deferred := snaps("containers/x", "", 1, 2, 3)
	deferred.Snapshots[1].DeferDestroy = true
	fading := snaps("containers/fading", "containers/x@s1", 51)
	fading.Snapshots[0].DeferDestroy = true
	volume := snaps("containers/v", "", 7)
	volume.Volume = true
	inv := lineage.Inventory{Datasets: []lineage.Dataset{
		deferred, volume,
		snaps("containers/clone", "containers/x@s2", 8), // of a snapshot that is going away
		snaps("containers/hollow", "containers/x@s1"),   // nothing of its own
		fading, snaps("containers/deep", "containers/fading@s51", 52), // behind a dataset that has nothing to offer
		snaps("containers/far", "containers/hollow@s1", 9), // of a snapshot that the hollow one lacks
		snaps("containers/l1", "containers/l2@s31", 30),    // a circle
		snaps("containers/l2", "containers/l1@s30", 31),
		snaps("containers/out", "elsewhere/y@s1", 40), // from outside the inventory
	}}
	for _, test := range []struct {
		head    string
		want    []lineage.GUID
		parents []lineage.GUID
		err     error
	}{
		{head: "containers/x@s3", want: []lineage.GUID{1, 3}, parents: []lineage.GUID{0, 1}},
		{head: "containers/clone@s8", want: []lineage.GUID{1, 8}, parents: []lineage.GUID{0, 1}},
		{head: "containers/far@s9", want: []lineage.GUID{9}, parents: []lineage.GUID{0}},
		{head: "containers/deep@s52", want: []lineage.GUID{1, 52}, parents: []lineage.GUID{0, 1}},
		{head: "containers/out@s40", want: []lineage.GUID{40}, parents: []lineage.GUID{0}},
		{head: "containers/x@s2", err: errdefs.ErrNotFound},
		{head: "containers/x@none", err: errdefs.ErrNotFound},
		{head: "containers/none@s1", err: errdefs.ErrNotFound},
		{head: "containers/v@s7", err: errdefs.ErrUnsupported},
		{head: "containers/x", err: errdefs.ErrInvalid},
		{head: "containers/l1@s30", err: errdefs.ErrInvalid},
	} {
		nodes, err := lineage.Ancestry(inv, test.head)
		if !errors.Is(err, test.err) {
			t.Errorf("Ancestry(%s): error %v, want %v", test.head, err, test.err)
			continue
		}
		var guids, parents []lineage.GUID
		for _, n := range nodes {
			guids, parents = append(guids, n.GUID), append(parents, n.Parent)
		}
		if diff := cmp.Diff(test.want, guids); diff != "" {
			t.Errorf("Ancestry(%s) (-want +got):\n%s", test.head, diff)
		}
		if diff := cmp.Diff(test.parents, parents); diff != "" {
			t.Errorf("Ancestry(%s), parents (-want +got):\n%s", test.head, diff)
		}
	}
}

func TestAncestryListsAGUIDOnceAndLinksByPlace(t *testing.T) {
	// 5 lies in both datasets. From the source's place nothing leads to 6, so 6 must hang on what both share by place.
	inv := lineage.Inventory{Datasets: []lineage.Dataset{
		snaps("containers/copy", "containers/src@s4", 5, 6),
		snaps("containers/src", "", 4, 5),
	}}
	nodes, err := lineage.Ancestry(inv, "containers/src@s5", "containers/copy@s6")
	if err != nil {
		t.Fatal(err)
	}
	want := []lineage.Node{
		{GUID: 4, Dataset: "containers/src", Name: "s4"},
		{GUID: 5, Parent: 4, Dataset: "containers/src", Name: "s5"},
		{GUID: 6, Parent: 4, Dataset: "containers/copy", Name: "s6"},
	}
	if diff := cmp.Diff(want, nodes); diff != "" {
		t.Errorf("ancestry (-want +got):\n%s", diff)
	}
}

func TestLocate(t *testing.T) {
	deferred := snaps("containers/going", "", 3)
	deferred.Snapshots[0].DeferDestroy = true
	volume := snaps("containers/volume", "", 4)
	volume.Volume = true
	inv := lineage.Inventory{Datasets: []lineage.Dataset{
		snaps("a", "", 1, 2), snaps("containers/b", "", 1), deferred, volume,
		snaps("hoody/generations/a", "", 1, 5), snaps("hoody/incoming/z", "", 2, 5), snaps("images/i", "", 6),
	}}
	want := map[lineage.GUID]string{
		1: "containers/b@s1", 2: "a@s2", 5: "hoody/generations/a@s5", 6: "images/i@s6",
	}
	for range 2 {
		if diff := cmp.Diff(want, lineage.Locate(inv)); diff != "" {
			t.Errorf("Locate (-want +got):\n%s", diff)
		}
		for i, j := 0, len(inv.Datasets)-1; i < j; i, j = i+1, j-1 {
			inv.Datasets[i], inv.Datasets[j] = inv.Datasets[j], inv.Datasets[i]
		}
	}
}

func TestPlan(t *testing.T) {
	nodes, err := lineage.Ancestry(forked(), "containers/d@s20", "containers/t@s4")
	if err != nil {
		t.Fatal(err)
	}
	hoody := func(n int) string { return fmt.Sprintf("hoody-g%016x", n) }
	type guids = []lineage.GUID
	for _, test := range []struct {
		name   string
		wanted guids
		have   map[lineage.GUID]string
		want   []lineage.Step
	}{
		{
			name:   "an empty target gets full streams and starts datasets where the source does",
			wanted: guids{20, 1, 11, 2, 20},
			want: []lineage.Step{
				{GUID: 1, Send: "containers/t@s1", Target: "hoody/incoming/j-0@" + hoody(1)},
				{GUID: 2, Send: "containers/t@s2", Base: 1, From: "containers/t@s1", Target: "hoody/incoming/j-0@" + hoody(2)},
				{GUID: 11, Send: "containers/c@s11", Base: 2, From: "containers/t@s2", Target: "hoody/incoming/j-1@" + hoody(11), Origin: "hoody/incoming/j-0@" + hoody(2)},
				{GUID: 20, Send: "containers/d@s20", Base: 11, From: "containers/c@s11", Target: "hoody/incoming/j-2@" + hoody(20), Origin: "hoody/incoming/j-1@" + hoody(11)},
			},
		},
		{
			name:   "what is not wanted does not travel",
			wanted: guids{20},
			want:   []lineage.Step{{GUID: 20, Send: "containers/d@s20", Target: "hoody/incoming/j-0@" + hoody(20)}},
		},
		{
			name:   "a held ancestor is the origin, the nearest one",
			wanted: guids{20, 4},
			have:   map[lineage.GUID]string{1: "containers/q@x", 2: "containers/q@y"},
			want: []lineage.Step{
				{GUID: 20, Send: "containers/d@s20", Base: 2, From: "containers/t@s2", Target: "hoody/incoming/j-0@" + hoody(20), Origin: "containers/q@y"},
				{GUID: 4, Send: "containers/t@s4", Base: 2, From: "containers/t@s2", Target: "hoody/incoming/j-1@" + hoody(4), Origin: "containers/q@y"},
			},
		},
		{
			name:   "a held bookmark is nearer than the snapshot before it",
			wanted: guids{4, 3},
			have:   map[lineage.GUID]string{2: "containers/q@y", 3: "containers/q@z"},
			want: []lineage.Step{
				{GUID: 4, Send: "containers/t@s4", Base: 3, From: "containers/t#b3", Target: "hoody/incoming/j-0@" + hoody(4), Origin: "containers/q@z"},
			},
		},
		{
			name:   "a held descendant brings nothing",
			wanted: guids{2, 4},
			have:   map[lineage.GUID]string{4: "containers/q@z"},
			want: []lineage.Step{
				{GUID: 2, Send: "containers/t@s2", Target: "hoody/incoming/j-0@" + hoody(2)},
			},
		},
		{
			name:   "two branches from one dataset of the source",
			wanted: guids{2, 4, 10},
			want: []lineage.Step{
				{GUID: 2, Send: "containers/t@s2", Target: "hoody/incoming/j-0@" + hoody(2)},
				{GUID: 10, Send: "containers/c@s10", Base: 2, From: "containers/t@s2", Target: "hoody/incoming/j-1@" + hoody(10), Origin: "hoody/incoming/j-0@" + hoody(2)},
				{GUID: 4, Send: "containers/t@s4", Base: 2, From: "containers/t@s2", Target: "hoody/incoming/j-0@" + hoody(4)},
			},
		},
		{name: "nothing wanted", want: []lineage.Step{}},
		{name: "all held", wanted: guids{2, 99}, have: map[lineage.GUID]string{2: "a@b", 99: "a@c"}, want: []lineage.Step{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := lineage.Plan(nodes, test.wanted, test.have, incoming)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	ok := lineage.Node{GUID: 1, Dataset: "containers/a", Name: "s1"}
	bookmark := lineage.Node{GUID: 2, Parent: 1, Dataset: "containers/a", Name: "b", Bookmark: true}
	with := func(change func(n *lineage.Node)) []lineage.Node {
		n := lineage.Node{GUID: 9, Parent: 1, Dataset: "containers/a", Name: "s9"}
		change(&n)
		return []lineage.Node{ok, bookmark, n}
	}
	unchanged := with(func(*lineage.Node) {})
	for _, test := range []struct {
		name   string
		nodes  []lineage.Node
		wanted lineage.GUID
		want   error
		text   string
	}{
		{"wanted unknown", unchanged, 77, errdefs.ErrNotFound, "77"},
		{"wanted bookmark", unchanged, 2, errdefs.ErrNotFound, "2"},
		{"wanted nothing", unchanged, 0, errdefs.ErrInvalid, ""},
		{"no guid", with(func(n *lineage.Node) { n.GUID = 0 }), 1, errdefs.ErrInvalid, ""},
		{"guid twice", with(func(n *lineage.Node) { n.GUID = 1 }), 1, errdefs.ErrInvalid, ""},
		{"its own parent", with(func(n *lineage.Node) { n.Parent = 9 }), 1, errdefs.ErrInvalid, ""},
		{"unlisted parent", with(func(n *lineage.Node) { n.Parent = 5 }), 1, errdefs.ErrInvalid, ""},
		{"bookmark as parent", with(func(n *lineage.Node) { n.Parent = 2 }), 1, errdefs.ErrInvalid, ""},
		{"bookmark as origin", with(func(n *lineage.Node) { n.Parent, n.Dataset = 2, "containers/b" }), 1, errdefs.ErrInvalid, ""},
		{"root in the middle", with(func(n *lineage.Node) { n.Parent = 0 }), 1, errdefs.ErrInvalid, ""},
		{"name twice", with(func(n *lineage.Node) { n.Name = "s1" }), 1, errdefs.ErrInvalid, ""},
		{"name on the target twice", with(func(n *lineage.Node) { n.Name = "hoody-g0000000000000001" }), 1, errdefs.ErrInvalid, ""},
		{"snapshot in the name", with(func(n *lineage.Node) { n.Name = "a@b" }), 1, errdefs.ErrInvalid, ""},
		{"option as name", with(func(n *lineage.Node) { n.Name = "-R" }), 1, errdefs.ErrInvalid, ""},
		{"slash in the name", with(func(n *lineage.Node) { n.Name = "hoody-../x" }), 1, errdefs.ErrInvalid, ""},
		{"no name", with(func(n *lineage.Node) { n.Name = "" }), 1, errdefs.ErrInvalid, ""},
		{"parent directory", with(func(n *lineage.Node) { n.Dataset = "containers/.." }), 1, errdefs.ErrInvalid, ""},
		{"absolute dataset", with(func(n *lineage.Node) { n.Dataset = "/containers/a" }), 1, errdefs.ErrInvalid, ""},
		{"long name", with(func(n *lineage.Node) { n.Name = strings.Repeat("x", 255) }), 1, errdefs.ErrInvalid, ""},
	} {
		steps, err := lineage.Plan(test.nodes, []lineage.GUID{test.wanted}, nil, incoming)
		if !errors.Is(err, test.want) || !strings.Contains(fmt.Sprint(err), test.text) {
			t.Errorf("%s: %v, %v; want %v", test.name, steps, err, test.want)
		}
	}
	if _, err := lineage.Plan(unchanged, []lineage.GUID{1}, nil, incoming); err != nil {
		t.Errorf("the history that the others spoil: %v", err)
	}
	if _, err := lineage.Plan(unchanged, []lineage.GUID{1}, nil, func(int) string { return "a@b" }); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("bad dataset name: %v", err)
	}
}

func TestPlanOfALongHistory(t *testing.T) {
	const length = 100_000
	nodes := make([]lineage.Node, length)
	wanted := make([]lineage.GUID, length)
	for i := range nodes {
		guid := lineage.GUID(i + 1)
		// Every snapshot in a dataset of its own: the longest chain of clones.
		nodes[i] = lineage.Node{GUID: guid, Parent: guid - 1, Dataset: fmt.Sprintf("d%d", i), Name: "s"}
		wanted[length-1-i] = guid
	}
	steps, err := lineage.Plan(nodes, wanted, nil, incoming)
	if err != nil || len(steps) != length {
		t.Fatalf("%d steps, %v", len(steps), err)
	}
	if last := steps[length-1]; last.Base != length-1 || last.Origin == "" {
		t.Errorf("last step: %+v", last)
	}
	// One ancestor at the far end: the way back must not be walked again for every wanted snapshot.
	steps, err = lineage.Plan(nodes, wanted[:length/2], map[lineage.GUID]string{1: "containers/a@b"}, incoming)
	if err != nil || len(steps) != length/2 || steps[0].Base != 1 {
		t.Fatalf("%d steps, %v", len(steps), err)
	}
}

// FuzzPlan feeds histories that nobody checked. Whatever is accepted must be a plan that can be carried out.
func FuzzPlan(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, 1, 0, 1, 3, 2, 1, 1}, []byte{3, 1})
	f.Add([]byte{1, 0, 0, 0, 2, 1, 0, 2, 3, 1, 0, 1}, []byte{3, 130})
	f.Add([]byte{1, 2, 0, 0, 2, 1, 0, 1}, []byte{2})
	f.Fuzz(func(t *testing.T, history, wishes []byte) {
		var nodes []lineage.Node
		for len(history) >= 4 {
			nodes = append(nodes, lineage.Node{
				GUID: lineage.GUID(history[0]), Parent: lineage.GUID(history[1]),
				Dataset: fmt.Sprintf("d%d", history[2]%8), Name: string(rune('a' + history[3]>>1)), Bookmark: history[3]&1 == 1,
			})
			history = history[4:]
		}
		if len(history) >= 2 && len(nodes) > 0 {
			nodes[0].Name = string(history)
			nodes[0].GUID = lineage.GUID(binary.LittleEndian.Uint16(history))
		}
		have := make(map[lineage.GUID]string)
		var wanted []lineage.GUID
		for i, w := range wishes {
			if i%2 == 1 {
				have[lineage.GUID(w)] = fmt.Sprintf("containers/h@%d", w)
			} else {
				wanted = append(wanted, lineage.GUID(w))
			}
		}
		steps, err := lineage.Plan(nodes, wanted, have, incoming)
		if err != nil {
			if !errors.Is(err, errdefs.ErrInvalid) && !errors.Is(err, errdefs.ErrNotFound) {
				t.Fatalf("class of %v", err)
			}
			return
		}
		arrived := make(map[lineage.GUID]string)
		for _, s := range steps {
			if have[s.GUID] != "" || arrived[s.GUID] != "" {
				t.Fatalf("%+v sends what is there", s)
			}
			if base := have[s.Base] + arrived[s.Base]; s.Base != 0 && base == "" || s.Origin != "" && s.Origin != base {
				t.Fatalf("%+v: base is at %q", s, base)
			}
			arrived[s.GUID] = s.Target
		}
		for _, w := range wanted {
			if have[w]+arrived[w] == "" {
				t.Fatalf("%s never arrives", w)
			}
		}
	})
}
