package lineage

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// collector is a pool on paper: what the actions so far would make of it.
type collector struct {
	refs     References
	datasets map[string]*paperDataset
	versions map[string]*paperVersion // snapshots and bookmarks by the name they had in the inventory
	blocked  map[*paperDataset]string // why a retired dataset could not be taken over
	actions  []Action
}

type paperDataset struct {
	name      string
	use       Use
	listed    bool // has a use: an object of the report
	children  []string
	origin    *paperVersion // nil for none, and for one outside the inventory
	snapshots []*paperVersion
	bookmarks []*paperVersion
	partial   bool // holds a partly received stream
	used      uint64
	head      uint64 // bytes beyond the newest snapshot that go
	gone      bool
}

// paperVersion is a snapshot or bookmark.
type paperVersion struct {
	name     string // short
	guid     GUID
	txg      uint64
	used     uint64
	deferred bool
	in       *paperDataset
	clones   []*paperDataset
	gone     bool
}

func (v *paperVersion) full() string { return v.in.name + "@" + v.name }

func newCollector(inv Inventory, refs References) *collector {
	c := &collector{
		refs: refs, datasets: make(map[string]*paperDataset, len(inv.Datasets)),
		versions: make(map[string]*paperVersion), blocked: make(map[*paperDataset]string),
	}
	for _, d := range inv.Datasets {
		use, listed := refs.Datasets[d.Name]
		if d.Volume {
			use = Use{Kind: Foreign, Why: "a volume"}
		}
		paper := &paperDataset{name: d.Name, use: use, listed: listed, partial: d.ResumeToken != "", used: d.Used}
		for _, s := range d.Snapshots {
			v := &paperVersion{name: s.Name, guid: s.GUID, txg: s.CreateTXG, used: s.Used, deferred: s.DeferDestroy, in: paper}
			paper.snapshots = append(paper.snapshots, v)
			c.versions[d.Name+"@"+s.Name] = v
		}
		for _, b := range d.Bookmarks {
			v := &paperVersion{name: b.Name, guid: b.GUID, txg: b.CreateTXG, in: paper}
			paper.bookmarks = append(paper.bookmarks, v)
			c.versions[d.Name+"#"+b.Name] = v
		}
		c.datasets[d.Name] = paper
	}
	for _, d := range inv.Datasets {
		paper := c.datasets[d.Name]
		if origin := c.versions[d.Origin]; origin != nil {
			paper.origin = origin
			origin.clones = append(origin.clones, paper)
		}
		if slash := strings.LastIndexByte(d.Name, '/'); slash > 0 {
			if parent := c.datasets[d.Name[:slash]]; parent != nil {
				parent.children = append(parent.children, d.Name)
			}
		}
	}
	return c
}

// names lists the datasets that are left, the youngest by name first: it is likely a clone of older ones, and goes first.
func (c *collector) names() []string {
	names := slices.Sorted(maps.Keys(c.datasets))
	slices.Reverse(names)
	return names
}

func (c *collector) act(kind ActionKind, object string, guid GUID, name string) {
	c.actions = append(c.actions, Action{Kind: kind, Object: object, GUID: guid, Name: name})
}

// sweep lets go of what nobody refers to, and tells whether there was anything.
func (c *collector) sweep() bool {
	before := len(c.actions)
	for _, name := range c.names() {
		d := c.datasets[name]
		if d.use.Kind != Current && d.use.Kind != Retired && d.use.Kind != Image {
			continue
		}
		if d.partial && d.use.Kind != Current {
			c.act(AbortReceive, d.name, 0, "") // whose job is over; it would hold its base
			d.partial = false
		}
		for _, s := range slices.Clone(d.snapshots) {
			if verdict, _ := c.judge(s); verdict == VerdictRemovable {
				c.destroySnapshot(s)
			}
		}
		for _, b := range slices.Clone(d.bookmarks) {
			if verdict, _ := c.judgeBookmark(b); verdict == VerdictRemovable {
				c.act(DestroyBookmark, d.name+"#"+b.name, b.guid, "")
				c.drop(&d.bookmarks, b)
			}
		}
		if verdict, _ := c.judgeDataset(d); verdict == VerdictRemovable {
			c.destroyDataset(d)
		}
	}
	return len(c.actions) > before
}

// judge says what becomes of a snapshot, and why.
func (c *collector) judge(s *paperVersion) (Verdict, []string) {
	switch s.in.use.Kind {
	case Busy:
		return VerdictDeferred, []string{s.in.use.Why}
	case Foreign, Fixed:
		return VerdictForeign, []string{"in a dataset that is not the agent's"}
	}
	if s.deferred {
		return VerdictDeferred, []string{"marked for destruction by somebody else"}
	}
	if reasons := slices.Concat(c.refs.Wanted[s.guid], c.refs.Names[s.name]); len(reasons) > 0 {
		return VerdictKept, reasons
	}
	switch {
	case c.refs.Deleted[s.guid], OwnSnapshot(s.name):
	case s.in.use.Kind == Image && strings.HasPrefix(s.name, agentPrefix): // received for the agent's own sake
	case strings.HasPrefix(s.name, agentPrefix):
		return VerdictUnlisted, []string{"no container lists it, and nobody deleted it"}
	default:
		return VerdictForeign, []string{"not made by the agent"}
	}
	if s == c.newestBase(s.in) {
		return VerdictKept, append(slices.Clone(c.refs.Bases[s.guid]), "the newest base: tells whether the container has changed since")
	}
	if len(s.clones) > 0 {
		return VerdictKept, []string{dependants(s.clones)}
	}
	return VerdictRemovable, nil
}

// newestBase is the base that stays a snapshot.
func (c *collector) newestBase(d *paperDataset) *paperVersion {
	if d.use.Kind != Current {
		return nil
	}
	for _, s := range slices.Backward(d.snapshots) {
		if len(c.refs.Bases[s.guid]) > 0 && !s.deferred {
			return s
		}
	}
	return nil
}

func dependants(clones []*paperDataset) string {
	names := make([]string, 0, len(clones))
	for _, clone := range clones {
		names = append(names, clone.name)
	}
	slices.Sort(names)
	if more := len(names) - 3; more > 0 {
		return fmt.Sprintf("%s and %d more are clones of it", strings.Join(names[:3], ", "), more)
	}
	if len(names) == 1 {
		return names[0] + " is a clone of it"
	}
	return strings.Join(names, ", ") + " are clones of it"
}

func (c *collector) judgeBookmark(b *paperVersion) (Verdict, []string) {
	switch {
	case b.in.use.Kind == Busy:
		return VerdictDeferred, []string{b.in.use.Why}
	case b.in.use.Kind == Foreign, b.in.use.Kind == Fixed, !strings.HasPrefix(b.name, agentPrefix):
		return VerdictForeign, []string{"not made by the agent"}
	case len(c.refs.Bases[b.guid]) == 0, slices.ContainsFunc(b.in.snapshots, func(s *paperVersion) bool { return s.guid == b.guid }):
		return VerdictRemovable, nil
	default:
		return VerdictKept, c.refs.Bases[b.guid]
	}
}

// judgeDataset says what becomes of a dataset as such. Bookmarks do not keep it: what could still be sent from one is
// a descendant, and that keeps the dataset.
func (c *collector) judgeDataset(d *paperDataset) (Verdict, []string) {
	switch d.use.Kind {
	case Foreign:
		return VerdictForeign, []string{d.use.Why}
	case Fixed, Current:
		return VerdictKept, []string{d.use.Why}
	case Busy:
		return VerdictDeferred, []string{d.use.Why}
	}
	var reasons []string
	if len(d.snapshots) > 0 {
		reasons = append(reasons, fmt.Sprintf("holds %d snapshots that stay", len(d.snapshots)))
	}
	if len(d.children) > 0 {
		reasons = append(reasons, "has the child "+d.children[0])
	}
	for _, b := range d.bookmarks {
		if verdict, _ := c.judgeBookmark(b); verdict == VerdictForeign {
			reasons = append(reasons, "has the foreign bookmark "+b.name)
		}
	}
	if why := c.blocked[d]; why != "" {
		reasons = append(reasons, why)
	}
	if len(reasons) > 0 {
		return VerdictKept, reasons
	}
	return VerdictRemovable, nil
}

// destroySnapshot lets a snapshot go; a base leaves its bookmark.
func (c *collector) destroySnapshot(s *paperVersion) {
	d := s.in
	if len(c.refs.Bases[s.guid]) > 0 && !slices.ContainsFunc(d.bookmarks, func(b *paperVersion) bool { return b.guid == s.guid }) {
		name := TargetName(Node{GUID: s.guid, Name: s.name}) // one of the agent's, whoever named the snapshot
		c.act(MakeBookmark, s.full(), s.guid, name)
		d.bookmarks = append(d.bookmarks, &paperVersion{name: name, guid: s.guid, txg: s.txg, in: d})
	}
	c.act(DestroySnapshot, s.full(), s.guid, "")
	c.drop(&d.snapshots, s)
}

func (c *collector) drop(from *[]*paperVersion, v *paperVersion) {
	*from = slices.DeleteFunc(*from, func(x *paperVersion) bool { return x == v })
	v.gone = true
}

func (c *collector) destroyDataset(d *paperDataset) {
	c.act(DestroyDataset, d.name, 0, "")
	for _, b := range d.bookmarks {
		b.gone = true
	}
	if d.origin != nil {
		d.origin.clones = slices.DeleteFunc(d.origin.clones, func(x *paperDataset) bool { return x == d })
	}
	d.gone = true
	delete(c.datasets, d.name)
}

// rollBack takes what retired datasets hold beyond the snapshots that keep them.
func (c *collector) rollBack() {
	for _, name := range c.names() {
		d := c.datasets[name]
		if d.use.Kind != Retired || c.refs.Heads[name] == 0 || d.partial || len(d.snapshots) == 0 {
			continue
		}
		newest := d.snapshots[len(d.snapshots)-1]
		if slices.ContainsFunc(d.bookmarks, func(b *paperVersion) bool { return b.txg > newest.txg }) {
			continue // ZFS would not
		}
		c.act(Rollback, newest.full(), newest.guid, "")
		d.head = c.refs.Heads[name]
	}
}

// promote lets present datasets take over from the retired ones that they stand on, and tells whether any did.
func (c *collector) promote() bool {
	before := len(c.actions)
	for _, name := range c.names() {
		if d := c.datasets[name]; d.use.Kind == Retired {
			if heir := heirOf(d); heir != nil {
				c.takeOver(heir, d)
			}
		}
	}
	return len(c.actions) > before
}

// heirOf chooses who takes a retired dataset over: the same container's present one, else the one with the newest origin.
// Snapshots only ever move from retired datasets to present ones, so this comes to an end.
func heirOf(d *paperDataset) *paperDataset {
	var heir *paperDataset
	for _, s := range d.snapshots {
		for _, clone := range s.clones {
			if clone.use.Kind != Current {
				continue
			}
			if d.use.Container != "" && clone.use.Container == d.use.Container {
				return clone
			}
			if heir == nil || cmp.Or(cmp.Compare(clone.origin.txg, heir.origin.txg), cmp.Compare(heir.name, clone.name)) > 0 {
				heir = clone
			}
		}
	}
	return heir
}

// takeOver moves the heir's origin, and what is older, from the retired dataset to the heir. Where both have a snapshot of
// one name the mover gets another, and so does one that the runtime named: among a container's present files its names are
// for the runtime to give. What is foreign is not moved.
func (c *collector) takeOver(heir, d *paperDataset) {
	origin := heir.origin
	older := func(v *paperVersion) bool { return v.txg <= origin.txg }
	taken := make(map[string]bool)
	for _, s := range slices.Concat(heir.snapshots, d.snapshots) {
		taken[s.name] = true
	}
	names := make(map[*paperVersion]string)
	for _, s := range d.snapshots {
		if !older(s) {
			continue
		}
		if verdict, _ := c.judge(s); verdict == VerdictForeign || verdict == VerdictDeferred {
			c.blocked[d] = fmt.Sprintf("%s cannot take it over: snapshot %s is %s", heir.name, s.name, verdict)
			return
		}
		if !has(heir.snapshots, s.name) && strings.HasPrefix(s.name, agentPrefix) {
			continue
		}
		if len(c.refs.Names[s.name]) > 0 {
			c.blocked[d] = fmt.Sprintf("%s cannot take it over yet: somebody looks for snapshot %s by its name", heir.name, s.name)
			return
		}
		names[s] = freeName(s, taken)
	}
	for _, b := range d.bookmarks {
		if older(b) && has(heir.bookmarks, b.name) {
			c.blocked[d] = fmt.Sprintf("%s cannot take it over: both have a bookmark %s", heir.name, b.name)
			return
		}
	}
	for _, s := range d.snapshots {
		if name := names[s]; name != "" {
			c.act(RenameSnapshot, s.full(), s.guid, name)
			s.name = name
		}
	}
	c.act(Promote, heir.name, origin.guid, "")
	delete(c.blocked, d)
	split := func(versions []*paperVersion, own []*paperVersion) (moved, left []*paperVersion) {
		for _, v := range versions {
			if older(v) {
				v.in = heir
				moved = append(moved, v)
			} else {
				left = append(left, v)
			}
		}
		return append(moved, own...), left
	}
	heir.snapshots, d.snapshots = split(d.snapshots, heir.snapshots)
	heir.bookmarks, d.bookmarks = split(d.bookmarks, heir.bookmarks)
	origin.clones = append(slices.DeleteFunc(origin.clones, func(x *paperDataset) bool { return x == heir }), d)
	if d.origin != nil {
		d.origin.clones = append(slices.DeleteFunc(d.origin.clones, func(x *paperDataset) bool { return x == d }), heir)
	}
	heir.origin, d.origin = d.origin, origin
}

func has(versions []*paperVersion, name string) bool {
	return slices.ContainsFunc(versions, func(v *paperVersion) bool { return v.name == name })
}

// freeName makes the name that a snapshot would get on another pool, or one like it. What is the agent's own stays it.
func freeName(s *paperVersion, taken map[string]bool) string {
	base, suffix := TargetName(Node{GUID: s.guid}), ownSuffix(s.name)
	name := base + suffix
	for n := 2; taken[name]; n++ {
		name = fmt.Sprintf("%s-%d%s", base, n, suffix)
	}
	taken[name] = true
	return name
}

// objects reports on what the inventory held.
func (c *collector) objects(inv Inventory) []Object {
	var objects []Object
	add := func(name string, guid GUID, used uint64, verdict Verdict, reasons []string) {
		objects = append(objects, Object{Name: name, GUID: guid, Used: used, Verdict: verdict, Reasons: reasons})
	}
	for i := range inv.Datasets {
		name := inv.Datasets[i].Name
		use, listed := c.refs.Datasets[name]
		if !listed {
			continue
		}
		d, left := c.datasets[name]
		if left {
			verdict, reasons := c.judgeDataset(d)
			if d.head > 0 {
				reasons = append(reasons, fmt.Sprintf("but for %d bytes that came after them", d.head))
			}
			add(name, 0, inv.Datasets[i].Used, verdict, reasons)
		} else {
			add(name, 0, inv.Datasets[i].Used, VerdictRemovable, nil)
		}
		if use.Kind == Foreign || use.Kind == Fixed {
			continue
		}
		for _, s := range inv.Datasets[i].Snapshots {
			v := c.versions[name+"@"+s.Name]
			verdict, reasons := VerdictRemovable, []string(nil)
			if !v.gone {
				verdict, reasons = c.judge(v)
			}
			add(name+"@"+s.Name, s.GUID, s.Used, verdict, reasons)
		}
		for _, b := range inv.Datasets[i].Bookmarks {
			v := c.versions[name+"#"+b.Name]
			verdict, reasons := VerdictRemovable, []string(nil)
			if !v.gone {
				verdict, reasons = c.judgeBookmark(v)
			}
			add(name+"#"+b.Name, b.GUID, 0, verdict, reasons)
		}
	}
	return objects
}
