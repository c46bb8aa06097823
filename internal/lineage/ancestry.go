package lineage

import (
	"fmt"
	"slices"
	"sort"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Ancestry returns the history of the given "dataset@snapshot" heads: they and all their ancestors, through origins, each
// GUID once, parents before children. Nodes of one dataset keep their order.
//
// A snapshot marked for deferred destruction is not offered, since it can vanish under a running send. A bookmark is offered
// only where the history has no snapshot of its GUID; nothing has it as Parent. An origin outside the inventory ends the
// chain. Where two datasets hold the same GUID, the node is the place that the earlier head leads to, and the history
// of the other place goes on without it: a clone of that place cannot start from the bookmarks right before it either.
func Ancestry(inv Inventory, heads ...string) ([]Node, error) {
	a := ancestry{
		datasets:  make(map[string]*Dataset, len(inv.Datasets)),
		histories: make(map[string]*history),
		snapshots: make(map[GUID]bool),
	}
	for i := range inv.Datasets {
		a.datasets[inv.Datasets[i].Name] = &inv.Datasets[i]
	}
	for _, head := range heads {
		if err := a.head(head); err != nil {
			return nil, fmt.Errorf("ancestry of %s: %w", head, err)
		}
	}
	return a.nodes(), nil
}

// ancestry collects, per dataset, how much of it is history of some head. Segments are in the order in which their nodes
// may be listed: an origin's segment before the segment of its clone.
type ancestry struct {
	datasets  map[string]*Dataset
	histories map[string]*history
	segments  []segment
	snapshots map[GUID]bool // GUIDs that the segments hold as snapshots
}

// history is one dataset's offer, oldest first.
type history struct {
	offers  []offer
	origin  *history // nil at the end of the chain
	upTo    int      // how many of origin's offers are ancestors
	taken   int      // how many offers belong to segments
	visited bool     // the histories behind it are taken as far as this one needs
	newest  []GUID   // newest[i]: the newest snapshot listed in its own place, among the first i offers or behind them
}

// offer is a node to be, with its place in the pool's time.
type offer struct {
	node Node
	txg  uint64
}

// segment is the part [from, to) of a history.
type segment struct {
	history  *history
	from, to int
}

// head adds one head and its ancestors.
func (a *ancestry) head(name string) error {
	dataset, short, ok := SplitSnapshot(name)
	if !ok {
		return fmt.Errorf("not a dataset@snapshot: %w", errdefs.ErrInvalid)
	}
	d, ok := a.datasets[dataset]
	if !ok {
		return fmt.Errorf("dataset: %w", errdefs.ErrNotFound)
	}
	if d.Volume {
		return fmt.Errorf("a volume: %w", errdefs.ErrUnsupported)
	}
	snapshot, ok := d.Snapshot(short)
	if !ok || snapshot.DeferDestroy {
		return fmt.Errorf("snapshot: %w", errdefs.ErrNotFound)
	}
	h, err := a.history(d)
	if err != nil {
		return err
	}
	a.take(h, h.countUpTo(snapshot.CreateTXG))
	return nil
}

// history returns a dataset's offers and those of the origins behind it. It walks instead of recursing: chains of clones can
// be long.
func (a *ancestry) history(d *Dataset) (*history, error) {
	if h, ok := a.histories[d.Name]; ok {
		return h, nil
	}
	first := newHistory(d)
	a.histories[d.Name] = first
	walked := map[string]bool{d.Name: true}
	for h := first; ; {
		originDataset, originName, ok := SplitSnapshot(d.Origin)
		if !ok {
			return first, nil
		}
		origin, ok := a.datasets[originDataset]
		if !ok {
			return first, nil
		}
		snapshot, ok := origin.Snapshot(originName)
		if !ok {
			return first, nil
		}
		if walked[originDataset] {
			return nil, fmt.Errorf("origins of %s go in a circle: %w", d.Name, errdefs.ErrInvalid)
		}
		walked[originDataset] = true
		known, ok := a.histories[originDataset]
		if !ok {
			known = newHistory(origin)
			a.histories[originDataset] = known
		}
		h.origin, h.upTo = known, known.countUpTo(snapshot.CreateTXG)
		if ok {
			return first, nil
		}
		h, d = known, origin
	}
}

// newHistory merges a dataset's snapshots and bookmarks by age.
func newHistory(d *Dataset) *history {
	h := &history{offers: make([]offer, 0, len(d.Snapshots)+len(d.Bookmarks))}
	for _, s := range d.Snapshots {
		if !s.DeferDestroy {
			h.offers = append(h.offers, offer{Node{GUID: s.GUID, Dataset: d.Name, Name: s.Name}, s.CreateTXG})
		}
	}
	for _, b := range d.Bookmarks {
		h.offers = append(h.offers, offer{Node{GUID: b.GUID, Dataset: d.Name, Name: b.Name, Bookmark: true}, b.CreateTXG})
	}
	slices.SortStableFunc(h.offers, func(x, y offer) int {
		switch {
		case x.txg < y.txg:
			return -1
		case x.txg > y.txg:
			return 1
		}
		return 0
	})
	return h
}

// countUpTo returns how many offers are as old as txg or older.
func (h *history) countUpTo(txg uint64) int {
	return sort.Search(len(h.offers), func(i int) bool { return h.offers[i].txg > txg })
}

// take makes the first n offers of h, and what is behind them, part of the result.
func (a *ancestry) take(h *history, n int) {
	var fresh []segment // newest first
	for h != nil && (h.taken < n || !h.visited) {
		if h.taken < n {
			fresh = append(fresh, segment{h, h.taken, n})
			for _, o := range h.offers[h.taken:n] {
				if !o.node.Bookmark {
					a.snapshots[o.node.GUID] = true
				}
			}
			h.taken = n
		}
		h.visited = true
		h, n = h.origin, h.upTo
	}
	slices.Reverse(fresh)
	a.segments = append(a.segments, fresh...)
}

// nodes lists the segments' offers and links them. A parent is the newest older snapshot that is listed where it lies: the
// same GUID elsewhere cannot be a base, zfs send wants an ancestor by place.
func (a *ancestry) nodes() []Node {
	var nodes []Node
	listed := make(map[GUID]bool)
	for _, s := range a.segments {
		h := s.history
		for _, o := range h.offers[s.from:s.to] {
			node := o.node
			node.Parent = h.newestListed(len(h.newest) - 1)
			skip := listed[node.GUID] || node.Bookmark && a.snapshots[node.GUID]
			if !skip {
				listed[node.GUID] = true
				nodes = append(nodes, node)
			}
			if skip || node.Bookmark {
				h.newest = append(h.newest, node.Parent)
			} else {
				h.newest = append(h.newest, node.GUID)
			}
		}
	}
	return nodes
}

// newestListed returns newest[i], filling in what is behind the first offer: an origin's segments are listed before those
// of its clones, so its answer is final. A negative i means the same as 0.
func (h *history) newestListed(i int) GUID {
	var empty []*history // histories without an answer yet, clones before origins
	for len(h.newest) == 0 && h.origin != nil {
		empty = append(empty, h)
		h, i = h.origin, h.upTo
	}
	if len(h.newest) == 0 {
		h.newest = []GUID{0}
	}
	guid := h.newest[max(i, 0)]
	for _, clone := range empty {
		clone.newest = []GUID{guid}
	}
	return guid
}
