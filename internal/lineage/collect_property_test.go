package lineage_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// hoard is one pool that grew at random, with what is said about it.
type hoard struct {
	*model
	refs  lineage.References
	count int
}

// TestCollectLosesNothingAndLeavesNothing carries out collections of random pools, whole and in part: nothing that is referred to is
// lost, nothing foreign touched, every step is one that ZFS accepts, and in the end nothing is left that could go.
func TestCollectLosesNothingAndLeavesNothing(t *testing.T) {
	destroyed, promoted, rolledBack := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		h := grow(t)
		before := h.survey()
		reachable := h.reachable()
		if rapid.Bool().Draw(t, "interrupted") { // some steps are refused, and then it ends somewhere
			actions := h.collect().Actions
			refused := make(map[string]bool)
			for _, action := range actions[:rapid.IntRange(0, len(actions)).Draw(t, "steps")] {
				if !refused[action.Object] && rapid.IntRange(0, 4).Draw(t, "refused") > 0 {
					_ = h.perform(action) // what stands on a refused step is refused, too
				} else {
					refused[action.Object] = true
				}
			}
			h.check(t, before, reachable)
		}
		plan := h.collect()
		for _, action := range plan.Actions {
			if err := h.perform(action); err != nil {
				t.Fatalf("%+v: %v", action, err)
			}
			switch action.Kind {
			case lineage.DestroySnapshot, lineage.DestroyDataset:
				destroyed++
			case lineage.Promote:
				promoted++
			case lineage.Rollback:
				rolledBack++
			}
		}
		h.check(t, before, reachable)
		h.checkNothingLeft(t)
		// What is beyond a snapshot shows only once the one after it is gone.
		for _, action := range h.collect().Actions {
			if action.Kind != lineage.Rollback {
				t.Fatalf("a second collection finds %+v", action)
			}
			if err := h.perform(action); err != nil {
				t.Fatalf("%+v: %v", action, err)
			}
		}
		h.check(t, before, reachable)
		h.checkNoHeads(t)
		if again := h.collect(); len(again.Actions) > 0 {
			t.Fatalf("a third collection finds %v", doings(again.Actions))
		}
	})
	t.Logf("%d destroyed, %d promoted, %d rolled back", destroyed, promoted, rolledBack)
	if destroyed == 0 || promoted == 0 || rolledBack == 0 {
		t.Error("the pools are too poor to show anything")
	}
}

// grow makes a pool and decides who wants what of it.
func grow(t *rapid.T) *hoard {
	h := &hoard{model: newModel(new(lineage.GUID))}
	h.create(h.fresh("containers/n"))
	acts := map[string]func(*rapid.T){
		"write": h.write, "take": h.take, "copy": h.copy, "checkout": h.checkout, "delete": h.delete, "bookmark": h.mark, "replica": h.replica,
	}
	often := append(slices.Sorted(maps.Keys(acts)), "take", "take", "copy", "checkout")
	for _, act := range rapid.SliceOfN(rapid.SampledFrom(often), 5, 60).Draw(t, "acts") {
		acts[act](t)
	}
	h.refer(t)
	return h
}

func (h *hoard) fresh(prefix string) string {
	h.count++
	return fmt.Sprintf("%s%03d", prefix, h.count)
}

func (h *hoard) any(t *rapid.T) string {
	return rapid.SampledFrom(slices.Sorted(maps.Keys(h.datasets))).Draw(t, "dataset")
}

func (h *hoard) anySnapshot(t *rapid.T) string {
	var all []string
	for name, d := range h.datasets {
		for _, s := range d.snapshots {
			all = append(all, name+"@"+s.name)
		}
	}
	if len(all) == 0 {
		return h.takeOf(t, h.any(t))
	}
	slices.Sort(all)
	return rapid.SampledFrom(all).Draw(t, "snapshot")
}

func (h *hoard) write(t *rapid.T) {
	h.datasets[h.any(t)].live[rapid.IntRange(0, 5).Draw(t, "block")] = rapid.IntRange(1, 1<<30).Draw(t, "version")
}

func (h *hoard) take(t *rapid.T) { h.takeOf(t, h.any(t)) }

// takeOf makes a snapshot under a name of each sort; a runtime counts anew in each dataset, so its names clash.
func (h *hoard) takeOf(t *rapid.T, dataset string) string {
	full := h.snapshot(dataset)
	s, _ := h.find(full)
	switch rapid.IntRange(0, 9).Draw(t, "sort") {
	case 0:
		for n := 0; ; n++ {
			if name := fmt.Sprintf("snapshot-snap%d", n); !h.takenName(dataset, name) {
				s.name = name
				break
			}
		}
	case 1, 2, 3:
		s.name = fmt.Sprintf("hoody-%d", s.guid)
	case 4, 5:
		s.name = fmt.Sprintf("hoody-%d%s", s.guid, lineage.MarkerSuffix)
	default:
		s.name = fmt.Sprintf("hoody-%d%s", s.guid, lineage.FreezeSuffix)
	}
	return dataset + "@" + s.name
}

func (h *hoard) takenName(dataset, name string) bool {
	s, _ := h.find(dataset + "@" + name)
	return s != nil
}

func (h *hoard) copy(t *rapid.T) { h.clone(h.anySnapshot(t), h.fresh("containers/n")) }

func (h *hoard) checkout(t *rapid.T) {
	current := h.any(t)
	if !strings.HasPrefix(current, "containers/") {
		return
	}
	next := h.fresh("hoody/incoming/")
	h.clone(h.anySnapshot(t), next)
	h.rename(current, h.fresh("hoody/generations/"))
	h.rename(next, current)
}

func (h *hoard) delete(t *rapid.T) {
	if current := h.any(t); strings.HasPrefix(current, "containers/") {
		h.rename(current, h.fresh("hoody/generations/"))
	}
}

func (h *hoard) mark(t *rapid.T) {
	s, name := h.find(h.anySnapshot(t))
	h.datasets[name].bookmarks = append(h.datasets[name].bookmarks, &modelSnapshot{name: s.name, guid: s.guid, txg: s.txg})
	slices.SortFunc(h.datasets[name].bookmarks, func(x, y *modelSnapshot) int { return int(x.txg) - int(y.txg) })
	h.datasets[name].bookmarks = slices.CompactFunc(h.datasets[name].bookmarks, func(x, y *modelSnapshot) bool { return x.name == y.name })
}

// replica brings a GUID that is there already a second time, as a copy for another owner does.
func (h *hoard) replica(t *rapid.T) {
	full := h.anySnapshot(t)
	stream, err := h.send("", full)
	if err != nil {
		t.Fatal(err)
	}
	_, short, _ := lineage.SplitSnapshot(full)
	if err := h.receive(stream, h.fresh("hoody/generations/")+"@"+lineage.TargetName(lineage.Node{GUID: stream.guid, Name: short}), ""); err != nil {
		t.Fatal(err)
	}
}

// refer decides what the datasets are and who wants what.
func (h *hoard) refer(t *rapid.T) {
	h.refs = lineage.References{
		Datasets: make(map[string]lineage.Use), Wanted: make(map[lineage.GUID][]string), Bases: make(map[lineage.GUID][]string),
		Names: make(map[string][]string), Deleted: make(map[lineage.GUID]bool),
	}
	for _, name := range slices.Sorted(maps.Keys(h.datasets)) {
		kinds := []lineage.UseKind{lineage.Retired, lineage.Retired, lineage.Retired, lineage.Retired, lineage.Image, lineage.Busy, lineage.Foreign}
		if strings.HasPrefix(name, "containers/") {
			kinds = []lineage.UseKind{lineage.Current, lineage.Current, lineage.Current, lineage.Current, lineage.Busy, lineage.Foreign}
		}
		kind := rapid.SampledFrom(kinds).Draw(t, "use of "+name)
		owner := rapid.SampledFrom(append(slices.Sorted(maps.Keys(h.datasets)), "")).Draw(t, "owner of "+name)
		if kind == lineage.Current {
			owner = name
		}
		h.refs.Datasets[name] = use(kind, owner)
		for _, s := range h.datasets[name].snapshots {
			switch rapid.IntRange(0, 9).Draw(t, "mark") {
			case 0, 1:
				h.refs.Wanted[s.guid] = []string{"wanted"}
			case 2:
				h.refs.Names[s.name] = []string{"journalled"}
			case 3, 4, 5:
				h.refs.Bases[s.guid] = []string{"a base"}
			case 6, 7:
				h.refs.Deleted[s.guid] = true
			}
		}
	}
}

// perform carries one action out as the agent does, and refuses what ZFS or the agent's last look refuses.
func (h *hoard) perform(a lineage.Action) error {
	s, name := h.find(a.Object)
	if d := h.datasets[a.Object]; a.Kind == lineage.Promote && d != nil {
		s, _ = h.find(d.origin)
	}
	if a.GUID != 0 && s == nil {
		return fmt.Errorf("no %s", a.Object)
	}
	if a.GUID != 0 && s.guid != a.GUID {
		return fmt.Errorf("%s is %s", a.Object, s.guid)
	}
	switch a.Kind {
	case lineage.DestroySnapshot:
		if h.dependent(a.Object) {
			return fmt.Errorf("%s has clones", a.Object)
		}
		h.datasets[name].snapshots = slices.DeleteFunc(h.datasets[name].snapshots, func(x *modelSnapshot) bool { return x == s })
	case lineage.DestroyBookmark:
		h.datasets[name].bookmarks = slices.DeleteFunc(h.datasets[name].bookmarks, func(x *modelSnapshot) bool { return x == s })
	case lineage.MakeBookmark:
		if taken, _ := h.find(name + "#" + a.Name); taken != nil && taken.guid != s.guid {
			return fmt.Errorf("%s#%s exists", name, a.Name)
		}
		bookmarks := append(h.datasets[name].bookmarks, &modelSnapshot{name: a.Name, guid: s.guid, txg: s.txg})
		slices.SortFunc(bookmarks, func(x, y *modelSnapshot) int { return int(x.txg) - int(y.txg) })
		h.datasets[name].bookmarks = bookmarks
	case lineage.RenameSnapshot:
		if h.takenName(name, a.Name) {
			return fmt.Errorf("%s@%s exists", name, a.Name)
		}
		for _, d := range h.datasets {
			if d.origin == a.Object {
				d.origin = name + "@" + a.Name
			}
		}
		s.name = a.Name
	case lineage.Promote:
		d := h.datasets[a.Object]
		if d == nil || d.origin == "" {
			return fmt.Errorf("%s is no clone", a.Object)
		}
		origin, parent := h.find(d.origin)
		for _, moved := range h.datasets[parent].snapshots {
			if moved.txg <= origin.txg && h.takenName(a.Object, moved.name) {
				return fmt.Errorf("promote %s: %s clashes", a.Object, moved.name)
			}
		}
		for _, moved := range h.datasets[parent].bookmarks {
			if taken, _ := h.find(a.Object + "#" + moved.name); moved.txg <= origin.txg && taken != nil {
				return fmt.Errorf("promote %s: bookmark %s clashes", a.Object, moved.name)
			}
		}
		h.promote(a.Object)
	case lineage.Rollback:
		d := h.datasets[name]
		if d.snapshots[len(d.snapshots)-1] != s || slices.ContainsFunc(d.bookmarks, func(b *modelSnapshot) bool { return b.txg > s.txg }) {
			return fmt.Errorf("%s: something is newer", a.Object)
		}
		d.live = maps.Clone(s.content)
	case lineage.DestroyDataset:
		if d := h.datasets[a.Object]; d == nil || len(d.snapshots) > 0 {
			return fmt.Errorf("%s is not empty", a.Object)
		}
		delete(h.datasets, a.Object)
	default:
		return fmt.Errorf("unknown action")
	}
	return nil
}

// collect plans a collection of the pool as it is now.
func (h *hoard) collect() lineage.Collection {
	h.refs.Heads = make(map[string]uint64)
	for name, d := range h.datasets {
		if n := len(d.snapshots); n > 0 && !maps.Equal(d.live, d.snapshots[n-1].content) {
			h.refs.Heads[name] = 1
		}
	}
	return lineage.Collect(h.inventory(), h.refs)
}

// checkNoHeads looks for what retired datasets hold that is in no snapshot of theirs.
func (h *hoard) checkNoHeads(t *rapid.T) {
	for name, d := range h.datasets {
		if h.refs.Datasets[name].Kind != lineage.Retired || len(d.snapshots) == 0 {
			continue
		}
		newest := d.snapshots[len(d.snapshots)-1]
		newer := slices.ContainsFunc(d.bookmarks, func(b *modelSnapshot) bool { return b.txg > newest.txg })
		if !newer && !maps.Equal(d.live, newest.content) {
			t.Fatalf("%s holds more than its snapshots", name)
		}
	}
}

// holding is a snapshot, or a dataset as such when it has no GUID, that has to be there after a collection.
type holding struct {
	place string // dataset@name where it must not move, else empty
	guid  lineage.GUID
}

// survey lists what a collection must not lose, with contents.
func (h *hoard) survey() map[holding][]content {
	kept := make(map[holding][]content)
	for name, d := range h.datasets {
		kind := h.refs.Datasets[name].Kind
		if kind != lineage.Retired && kind != lineage.Image {
			kept[holding{place: name}] = []content{d.live}
		}
		for _, s := range d.snapshots {
			own := lineage.OwnSnapshot(s.name) || kind == lineage.Image && strings.HasPrefix(s.name, "hoody-")
			marked := len(h.refs.Wanted[s.guid]) > 0 || len(h.refs.Names[s.name]) > 0
			switch {
			case kind == lineage.Foreign || kind == lineage.Busy, !marked && !h.refs.Deleted[s.guid] && !strings.HasPrefix(s.name, "hoody-"):
				kept[holding{place: name + "@" + s.name, guid: s.guid}] = []content{s.content}
			case marked, !own && !h.refs.Deleted[s.guid]:
				kept[holding{guid: s.guid}] = append(kept[holding{guid: s.guid}], s.content)
			}
		}
	}
	return kept
}

func (h *hoard) check(t *rapid.T, before map[holding][]content, reachable map[string][]lineage.GUID) {
	after := h.survey()
	for held, contents := range before {
		// There may be more of one GUID than there was: what a promotion makes way for can take a name that is journalled.
		left := slices.Clone(after[held])
		for _, wanted := range contents {
			at := slices.IndexFunc(left, func(c content) bool { return maps.Equal(c, wanted) })
			if at < 0 {
				t.Fatalf("lost or changed: %+v (-want +got):\n%s", held, cmp.Diff(contents, after[held]))
			}
			left = slices.Delete(left, at, at+1)
		}
	}
	now := h.reachable()
	for dataset, bases := range reachable {
		for _, base := range bases {
			if !slices.Contains(now[dataset], base) {
				t.Fatalf("base %s of %s is gone", base, dataset)
			}
		}
	}
}

// reachable lists, for each present dataset, the bases from which its next state could be sent.
func (h *hoard) reachable() map[string][]lineage.GUID {
	reachable := make(map[string][]lineage.GUID)
	for name := range h.datasets {
		if h.refs.Datasets[name].Kind != lineage.Current {
			continue
		}
		next := &modelSnapshot{txg: h.txg + 1}
		for other, d := range h.datasets {
			if kind := h.refs.Datasets[other].Kind; kind == lineage.Foreign {
				continue
			}
			for _, v := range slices.Concat(d.snapshots, d.bookmarks) {
				if len(h.refs.Bases[v.guid]) > 0 && h.before(v, other, next, name) {
					reachable[name] = append(reachable[name], v.guid)
				}
			}
		}
	}
	return reachable
}

// checkNothingLeft looks for what could have gone.
func (h *hoard) checkNothingLeft(t *rapid.T) {
	for name, d := range h.datasets {
		kind := h.refs.Datasets[name].Kind
		if kind == lineage.Foreign || kind == lineage.Busy {
			continue
		}
		bases, snapshots := 0, 0
		for _, s := range d.snapshots {
			marked := len(h.refs.Wanted[s.guid]) > 0 || len(h.refs.Names[s.name]) > 0
			own := lineage.OwnSnapshot(s.name) || kind == lineage.Image && strings.HasPrefix(s.name, "hoody-")
			free := !marked && (own || h.refs.Deleted[s.guid]) && !h.dependent(name+"@"+s.name)
			if free && len(h.refs.Bases[s.guid]) > 0 && kind == lineage.Current {
				bases++
				free = false
			}
			if free {
				t.Fatalf("%s@%s is left", name, s.name)
			}
			snapshots++
		}
		if bases > 1 {
			t.Fatalf("%s holds %d bases as snapshots", name, bases)
		}
		if kind == lineage.Retired && snapshots == 0 && !slices.ContainsFunc(d.bookmarks, func(b *modelSnapshot) bool { return !strings.HasPrefix(b.name, "hoody-") }) {
			t.Fatalf("%s is left with nothing in it", name)
		}
	}
}
