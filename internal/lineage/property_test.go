package lineage_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// fleet is some pools with containers whose histories grow at random.
type fleet struct {
	pools  []*model
	truth  map[lineage.GUID]content // what every snapshot ever made contained
	steps  int                      // streams so far
	series int                      // of them several in one
	named  int                      // datasets so far
}

// TestPlansArriveWhole lets pools live and replicate at random. Every replication has to yield exactly the wanted snapshots with the
// right content, by streams that ZFS would accept, none of which carries what is there, each from the nearest listed
// ancestor that the target holds.
func TestPlansArriveWhole(t *testing.T) {
	streams, series := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		f := &fleet{truth: make(map[lineage.GUID]content)}
		guids := new(lineage.GUID)
		for range 3 {
			pool := newModel(guids)
			pool.create(f.name("containers"))
			f.pools = append(f.pools, pool)
		}
		acts := map[string]func(*rapid.T){
			"write": f.write, "snapshot": f.snapshot, "copy": f.copy, "restore": f.restore, "promote": f.promote, "bookmark": f.bookmark,
			"destroy snapshot": f.destroySnapshot, "duplicate": f.duplicate, "replicate": f.replicate,
		}
		often := append(slices.Sorted(maps.Keys(acts)), "write", "write", "snapshot", "snapshot", "snapshot", "replicate", "replicate", "replicate")
		for _, act := range rapid.SliceOfN(rapid.SampledFrom(often), 40, 120).Draw(t, "acts") {
			acts[act](t)
		}
		streams, series = streams+f.steps, series+f.series
	})
	t.Logf("%d streams, %d series among them", streams, series)
	if streams == 0 || series == 0 {
		t.Error("no plan had a step, or no series: the histories are too poor to show anything")
	}
}

func (f *fleet) name(parent string) string {
	f.named++
	return fmt.Sprintf("%s/n%d", parent, f.named)
}

func (f *fleet) pool(t *rapid.T) *model { return rapid.SampledFrom(f.pools).Draw(t, "pool") }

// dataset draws a dataset of the pool.
func dataset(t *rapid.T, m *model) string {
	return rapid.SampledFrom(slices.Sorted(maps.Keys(m.datasets))).Draw(t, "dataset")
}

// some draws a snapshot of the pool, and makes one when there is none.
func (f *fleet) some(t *rapid.T, m *model) string {
	var all []string
	for name, d := range m.datasets {
		for _, s := range d.snapshots {
			all = append(all, name+"@"+s.name)
		}
	}
	if len(all) == 0 {
		return f.snap(m, dataset(t, m))
	}
	slices.Sort(all)
	return rapid.SampledFrom(all).Draw(t, "snapshot")
}

func (f *fleet) write(t *rapid.T) {
	m := f.pool(t)
	live := m.datasets[dataset(t, m)].live
	block := rapid.IntRange(0, 9).Draw(t, "block")
	if rapid.Bool().Draw(t, "remove") {
		delete(live, block)
	} else {
		live[block] = rapid.IntRange(1, 1<<30).Draw(t, "version")
	}
}

func (f *fleet) snapshot(t *rapid.T) {
	m := f.pool(t)
	d := dataset(t, m)
	for i := range rapid.IntRange(1, 4).Draw(t, "in a row") {
		if i > 0 {
			m.datasets[d].live[i] = rapid.IntRange(1, 1<<30).Draw(t, "version")
		}
		f.snap(m, d)
	}
}

func (f *fleet) snap(m *model, dataset string) string {
	full := m.snapshot(dataset)
	s, _ := m.find(full)
	f.truth[s.guid] = maps.Clone(s.content)
	return full
}

func (f *fleet) copy(t *rapid.T) {
	m := f.pool(t)
	m.clone(f.some(t, m), f.name("containers"))
}

// restore swaps a clone of a snapshot in and keeps the displaced generation.
func (f *fleet) restore(t *rapid.T) {
	m := f.pool(t)
	snapshot := f.some(t, m)
	name, _, _ := lineage.SplitSnapshot(snapshot)
	fresh := f.name("hoody/incoming")
	m.clone(snapshot, fresh)
	m.rename(name, f.name("hoody/generations"))
	m.rename(fresh, name)
}

func (f *fleet) promote(t *rapid.T) {
	m := f.pool(t)
	m.promote(dataset(t, m))
}

func (f *fleet) bookmark(t *rapid.T) {
	m := f.pool(t)
	s, name := m.find(f.some(t, m))
	d := m.datasets[name]
	if !slices.ContainsFunc(d.bookmarks, func(b *modelSnapshot) bool { return b.guid == s.guid }) {
		d.bookmarks = append(d.bookmarks, s)
	}
}

func (f *fleet) destroySnapshot(t *rapid.T) {
	m := f.pool(t)
	full := f.some(t, m)
	if m.dependent(full) {
		return
	}
	s, name := m.find(full)
	d := m.datasets[name]
	d.snapshots = slices.DeleteFunc(d.snapshots, func(x *modelSnapshot) bool { return x == s })
}

// duplicate makes a second dataset of the pool hold a GUID, as a send to oneself does.
func (f *fleet) duplicate(t *rapid.T) {
	m := f.pool(t)
	full := f.some(t, m)
	arrived, err := m.send("", full)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.receive(arrived, f.name("containers")+"@hoody-twin", ""); err != nil {
		t.Fatal(err)
	}
}

// replicate plans and executes: heads and wishes at random from one pool to another.
func (f *fleet) replicate(t *rapid.T) {
	source, target := f.pool(t), f.pool(t)
	if source == target {
		return
	}
	heads := []string{f.some(t, source)}
	if rapid.Bool().Draw(t, "second head") {
		heads = append(heads, f.some(t, source))
	}
	nodes, err := lineage.Ancestry(source.inventory(), heads...)
	if err != nil {
		t.Fatal(err)
	}
	var wanted []lineage.GUID
	all := rapid.Bool().Draw(t, "all wanted")
	for _, n := range nodes {
		if !n.Bookmark && (all || rapid.Bool().Draw(t, "wanted")) {
			wanted = append(wanted, n.GUID)
		}
	}
	before := lineage.Locate(target.inventory())
	steps, err := lineage.Plan(nodes, wanted, before, func(int) string { return f.name("hoody/incoming") })
	if err != nil {
		t.Fatal(err)
	}
	lacking := make(map[lineage.GUID]bool)
	for _, g := range wanted {
		lacking[g] = before[g] == ""
	}
	maps.DeleteFunc(lacking, func(_ lineage.GUID, lacks bool) bool { return !lacks })
	f.checkSeries(t, source, nodes, lineage.Together(nodes, steps, rapid.IntRange(1, 4).Draw(t, "most")), steps)
	for _, s := range steps {
		f.steps++
		if !lacking[s.GUID] {
			t.Fatalf("%+v sends what is there, unwanted, or sent before", s)
		}
		delete(lacking, s.GUID)
		if nearest := nearestHeld(source, target, nodes, s.Send); nearest != s.Base {
			t.Fatalf("%+v: nearest ancestor held is %s", s, nearest)
		}
		arriving, err := source.send(s.From, s.Send)
		if err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		if arriving.guid != s.GUID || arriving.from != s.Base {
			t.Fatalf("%+v sends %s from %s", s, arriving.guid, arriving.from)
		}
		if err := target.receive(arriving, s.Target, s.Origin); err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
	}
	if len(lacking) > 0 {
		t.Fatalf("never arrived: %v", lacking)
	}
	after := lineage.Locate(target.inventory())
	for _, g := range wanted {
		s, _ := target.find(after[g])
		if s == nil || s.guid != g {
			t.Fatalf("%s is not at %q", g, after[g])
		}
		if diff := cmp.Diff(f.truth[g], s.content); diff != "" {
			t.Fatalf("content of %s (-want +got):\n%s", g, diff)
		}
	}
	if grown := len(after) - len(before); grown != len(steps) {
		t.Fatalf("%d steps brought %d snapshots", len(steps), grown)
	}
	if again, err := lineage.Plan(nodes, wanted, after, incoming); err != nil || len(again) != 0 {
		t.Fatalf("planned again: %v, %v", again, err)
	}
}

// checkSeries: a group of several steps is exactly what zfs send -I would send, but for what the history lists in another place, and its
// snapshots go by their names.
func (f *fleet) checkSeries(t *rapid.T, source *model, nodes []lineage.Node, groups [][]lineage.Step, steps []lineage.Step) {
	elsewhere := func(dataset string, guid lineage.GUID) bool {
		return slices.ContainsFunc(nodes, func(n lineage.Node) bool { return n.GUID == guid && n.Dataset != dataset })
	}
	if !slices.Equal(slices.Concat(groups...), steps) {
		t.Fatalf("groups %v of steps %v", groups, steps)
	}
	for _, group := range groups {
		if len(group) == 1 {
			continue
		}
		f.series++
		dataset, _, _ := lineage.SplitSnapshot(group[0].Send)
		var sent []string
		begun := false
		for _, s := range source.datasets[dataset].snapshots {
			if begun && !elsewhere(dataset, s.guid) {
				sent = append(sent, s.name)
			}
			begun = begun || dataset+"@"+s.name == group[0].From
			if dataset+"@"+s.name == group[len(group)-1].Send {
				break
			}
		}
		into, _, _ := lineage.SplitSnapshot(group[0].Target)
		for i, step := range group {
			if len(sent) != len(group) || step.Send != dataset+"@"+sent[i] || step.Target != into+"@"+sent[i] || !step.Continues() {
				t.Fatalf("step %d of %+v: zfs send -I sends %v", i, group, sent)
			}
		}
	}
}

// nearestHeld finds the base by the pool's clock, not by links: along a history createtxg only grows. A bookmark of an origin's
// dataset counts only before a listed snapshot of it: links lead to snapshots.
func nearestHeld(source, target *model, nodes []lineage.Node, to string) lineage.GUID {
	held := lineage.Locate(target.inventory())
	b, bName := source.find(to)
	var nearest lineage.GUID
	var newest uint64
	for _, n := range nodes {
		sign := "@"
		if n.Bookmark {
			sign = "#"
		}
		a, aName := source.find(n.Dataset + sign + n.Name)
		linked := !n.Bookmark || aName == bName || slices.ContainsFunc(nodes, func(x lineage.Node) bool {
			s, _ := source.find(x.Dataset + "@" + x.Name)
			return !x.Bookmark && x.Dataset == aName && s.txg >= a.txg && source.before(s, aName, b, bName)
		})
		if held[n.GUID] != "" && linked && source.before(a, aName, b, bName) && a.txg > newest {
			nearest, newest = a.guid, a.txg
		}
	}
	return nearest
}
