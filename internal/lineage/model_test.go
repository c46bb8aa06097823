package lineage_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// model is a ZFS pool as far as lineages go. It refuses what ZFS refuses and computes streams from content, so that a plan with
// a wrong base yields wrong files, not just wrong names.
type model struct {
	guids    *lineage.GUID // shared by all pools of a test
	txg      uint64
	datasets map[string]*modelDataset
}

type modelDataset struct {
	live      content
	origin    string
	snapshots []*modelSnapshot // oldest first
	bookmarks []*modelSnapshot
}

type modelSnapshot struct {
	name    string
	guid    lineage.GUID
	txg     uint64
	content content
}

// content is a file system: block number to version.
type content map[int]int

// stream is a difference between two contents; nil values of to remove.
type stream struct {
	guid, from lineage.GUID
	clone      bool
	changed    content
	removed    []int
}

func newModel(guids *lineage.GUID) *model {
	return &model{guids: guids, datasets: make(map[string]*modelDataset)}
}

func (m *model) create(name string) {
	m.datasets[name] = &modelDataset{live: content{}}
}

func (m *model) snapshot(name string) string {
	d := m.datasets[name]
	*m.guids++
	m.txg++
	// The pool numbers its names, so that no promotion clashes.
	s := &modelSnapshot{name: fmt.Sprintf("hoody-%d", *m.guids), guid: *m.guids, txg: m.txg, content: maps.Clone(d.live)}
	if s.guid%3 == 0 {
		s.name = fmt.Sprintf("daily-%d", *m.guids) // somebody else's
	}
	d.snapshots = append(d.snapshots, s)
	return name + "@" + s.name
}

// find returns the snapshot or bookmark of a full name and its dataset's name; nil for none.
func (m *model) find(full string) (*modelSnapshot, string) {
	cut := strings.IndexAny(full, "@#")
	if cut < 0 {
		return nil, ""
	}
	d, ok := m.datasets[full[:cut]]
	if !ok {
		return nil, ""
	}
	list := d.snapshots
	if full[cut] == '#' {
		list = d.bookmarks
	}
	for _, s := range list {
		if s.name == full[cut+1:] {
			return s, full[:cut]
		}
	}
	return nil, ""
}

func (m *model) clone(snapshot, name string) {
	s, _ := m.find(snapshot)
	m.datasets[name] = &modelDataset{live: maps.Clone(s.content), origin: snapshot}
}

func (m *model) rename(from, to string) {
	m.datasets[to] = m.datasets[from]
	delete(m.datasets, from)
	for _, d := range m.datasets {
		if dataset, name, _ := strings.Cut(d.origin, "@"); dataset == from {
			d.origin = to + "@" + name
		}
	}
}

// promote moves the origin's snapshots up to the origin into the clone.
func (m *model) promote(name string) {
	d := m.datasets[name]
	if d.origin == "" {
		return
	}
	old := d.origin
	s, parentName := m.find(old)
	parent := m.datasets[parentName]
	isOld := func(x *modelSnapshot) bool { return x.txg <= s.txg }
	var moved []*modelSnapshot
	for _, x := range parent.snapshots {
		if isOld(x) {
			moved = append(moved, x)
		}
	}
	d.snapshots = append(slices.Clone(moved), d.snapshots...)
	parent.snapshots = slices.DeleteFunc(parent.snapshots, isOld)
	for _, b := range parent.bookmarks {
		if isOld(b) {
			d.bookmarks = append(d.bookmarks, b)
		}
	}
	parent.bookmarks = slices.DeleteFunc(parent.bookmarks, isOld)
	d.origin = parent.origin
	for _, x := range moved {
		for _, other := range m.datasets {
			if other.origin == parentName+"@"+x.name {
				other.origin = name + "@" + x.name
			}
		}
	}
	parent.origin = name + "@" + s.name
}

// dependent tells whether some clone was made from the snapshot.
func (m *model) dependent(full string) bool {
	for _, d := range m.datasets {
		if d.origin == full {
			return true
		}
	}
	return false
}

// before tells whether a, a snapshot or bookmark of dataset aName, is an ancestor of b of bName (dsl_dataset_is_before).
func (m *model) before(a *modelSnapshot, aName string, b *modelSnapshot, bName string) bool {
	limit := b.txg - 1
	for {
		if aName == bName {
			return a.txg <= limit
		}
		origin, originDataset := m.find(m.datasets[bName].origin)
		if origin == nil {
			return false
		}
		bName, limit = originDataset, origin.txg
	}
}

// send makes a stream as `zfs send [-i from] to` does.
func (m *model) send(from, to string) (stream, error) {
	b, bName := m.find(to)
	if b == nil || strings.Contains(to, "#") {
		return stream{}, fmt.Errorf("send %s: no such snapshot", to)
	}
	out := stream{guid: b.guid, changed: content{}}
	base := content{}
	if from != "" {
		a, aName := m.find(from)
		if a == nil {
			return stream{}, fmt.Errorf("send -i %s: no such snapshot", from)
		}
		if !m.before(a, aName, b, bName) {
			return stream{}, fmt.Errorf("send -i %s %s: not an earlier snapshot of the same history", from, to)
		}
		base, out.from, out.clone = a.content, a.guid, aName != bName
	}
	for block, version := range b.content {
		if base[block] != version {
			out.changed[block] = version
		}
	}
	for block := range base {
		if _, ok := b.content[block]; !ok {
			out.removed = append(out.removed, block)
		}
	}
	return out, nil
}

// receive applies a stream as `zfs receive [-o origin=…] to` does.
func (m *model) receive(s stream, to, origin string) error {
	name, short, _ := strings.Cut(to, "@")
	d, exists := m.datasets[name]
	base := content{}
	switch {
	case exists && (origin != "" || s.clone || s.from == 0):
		return fmt.Errorf("receive %s: the dataset exists", to)
	case exists:
		if len(d.snapshots) == 0 || d.snapshots[len(d.snapshots)-1].guid != s.from {
			return fmt.Errorf("receive %s: newest snapshot is not %s", to, s.from)
		}
		base = d.snapshots[len(d.snapshots)-1].content
	case origin != "":
		o, _ := m.find(origin)
		if o == nil || o.guid != s.from {
			return fmt.Errorf("receive %s: origin %s is not %s", to, origin, s.from)
		}
		base = o.content
	case s.from != 0:
		return fmt.Errorf("receive %s: libzfs would choose the origin", to)
	}
	if !exists {
		d = &modelDataset{origin: origin}
		m.datasets[name] = d
	}
	if taken, _ := m.find(to); taken != nil {
		return fmt.Errorf("receive %s: exists", to)
	}
	arrived := maps.Clone(base)
	maps.Copy(arrived, s.changed)
	for _, block := range s.removed {
		delete(arrived, block)
	}
	m.txg++
	d.snapshots = append(d.snapshots, &modelSnapshot{name: short, guid: s.guid, txg: m.txg, content: arrived})
	d.live = maps.Clone(arrived)
	return nil
}

// inventory is what `zfs list` would say.
func (m *model) inventory() lineage.Inventory {
	var inv lineage.Inventory
	for _, name := range slices.Sorted(maps.Keys(m.datasets)) {
		d := m.datasets[name]
		out := lineage.Dataset{Name: name, Origin: d.origin}
		for _, s := range d.snapshots {
			out.Snapshots = append(out.Snapshots, lineage.Snapshot{Name: s.name, GUID: s.guid, CreateTXG: s.txg})
		}
		for _, b := range d.bookmarks {
			out.Bookmarks = append(out.Bookmarks, lineage.Bookmark{Name: b.name, GUID: b.guid, CreateTXG: b.txg})
		}
		inv.Datasets = append(inv.Datasets, out)
	}
	return inv
}
