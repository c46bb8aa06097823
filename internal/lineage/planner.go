package lineage

import (
	"fmt"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Plan returns the steps that bring the wanted snapshots into a target: one snapshot per stream, each as the difference from
// the nearest ancestor that the target holds by then, in full when there is none. What the target has is not sent,
// nothing is sent twice, and nothing that is not wanted travels.
//
// nodes is the source's history as Ancestry returns it; since it may come from a peer, it is checked before it is used
// and anything else is ErrInvalid. have is where the target holds what it has, as Locate returns it. dataset names the
// i-th new dataset of the target. A wanted GUID that neither side can provide is ErrNotFound.
//
// A stream continues a dataset of the plan when the plan brings its base there and both lie in one dataset on the
// source. Everything else starts a new dataset: ZFS receives onto an older snapshot, and across datasets, only by making
// a clone (tried on OpenZFS 2.3.9). Datasets that the target has are never written to.
func Plan(nodes []Node, wanted []GUID, have map[GUID]string, dataset func(i int) string) ([]Step, error) {
	c, err := newChain(nodes)
	if err != nil {
		return nil, err
	}
	missing, err := c.missing(wanted, have)
	if err != nil {
		return nil, err
	}
	return c.steps(missing, have, dataset)
}

// chain is a history that passed the checks.
type chain struct {
	nodes    []Node
	index    map[GUID]int
	previous []int // per node: the next older node, be it a bookmark; -1 for none
}

// newChain checks a history and links it. That parents stand before their children rules out cycles.
func newChain(nodes []Node) (chain, error) {
	c := chain{nodes: nodes, index: make(map[GUID]int, len(nodes)), previous: make([]int, len(nodes))}
	names := newNameCheck(len(nodes))
	tips := make(map[string]tip)
	for i, n := range nodes {
		err := c.checkNode(n)
		if err == nil {
			err = names.add(n)
		}
		if err != nil {
			return chain{}, fmt.Errorf("history, node %d: %w: %w", i, err, errdefs.ErrInvalid)
		}
		t, begun := tips[n.Dataset]
		switch {
		case begun && n.Parent != t.snapshot:
			return chain{}, fmt.Errorf("history, node %d: %s stands after snapshot %s, not after its parent %s: %w",
				i, sourceName(n), t.snapshot, n.Parent, errdefs.ErrInvalid)
		case begun:
			c.previous[i] = t.node
		case n.Parent != 0:
			c.previous[i] = c.index[n.Parent]
		default:
			c.previous[i] = -1
		}
		c.index[n.GUID] = i
		t = tip{node: i, snapshot: n.GUID}
		if n.Bookmark {
			t.snapshot = n.Parent
		}
		tips[n.Dataset] = t
	}
	return c, nil
}

// tip is the youngest of a source's dataset, while its nodes are read.
type tip struct {
	node     int  // the youngest node
	snapshot GUID // the youngest that is no bookmark, or what the dataset started from
}

// checkNode checks what one node says by itself and about nodes before it.
func (c chain) checkNode(n Node) error {
	if n.GUID == 0 {
		return fmt.Errorf("%q has no guid", n.Name)
	}
	if _, ok := c.index[n.GUID]; ok {
		return fmt.Errorf("guid %s is listed twice", n.GUID)
	}
	if n.Parent == 0 {
		return nil
	}
	parent, ok := c.index[n.Parent]
	if !ok {
		return fmt.Errorf("parent %s of %s is not listed before it", n.Parent, n.GUID)
	}
	if c.nodes[parent].Bookmark {
		return fmt.Errorf("parent %s of %s is a bookmark", n.Parent, n.GUID)
	}
	return nil
}

// missing marks the nodes that have to travel.
func (c chain) missing(wanted []GUID, have map[GUID]string) (map[int]bool, error) {
	missing := make(map[int]bool)
	for _, guid := range wanted {
		if guid == 0 {
			return nil, fmt.Errorf("wanted snapshot has no guid: %w", errdefs.ErrInvalid)
		}
		if _, ok := have[guid]; ok {
			continue
		}
		i, ok := c.index[guid]
		if !ok {
			return nil, fmt.Errorf("wanted snapshot %s is unknown: %w", guid, errdefs.ErrNotFound)
		}
		if c.nodes[i].Bookmark {
			return nil, fmt.Errorf("wanted snapshot %s: only its bookmark is left: %w", guid, errdefs.ErrNotFound)
		}
		missing[i] = true
	}
	return missing, nil
}

// steps plans the missing nodes, oldest first.
func (c chain) steps(missing map[int]bool, have map[GUID]string, dataset func(i int) string) ([]Step, error) {
	steps := make([]Step, 0, len(missing))
	nearest := make([]int, len(c.nodes)) // per node: the youngest one the target will hold, itself included; -1 for none
	made := make(map[int]string)         // node: the dataset of the plan that it goes to
	datasets := make(map[string]bool)    // those of the plan
	for i, n := range c.nodes {
		base := -1
		if c.previous[i] >= 0 {
			base = nearest[c.previous[i]]
		}
		nearest[i] = base
		if _, held := have[n.GUID]; held {
			nearest[i] = i
			continue
		}
		if !missing[i] {
			continue
		}
		nearest[i] = i
		step := Step{GUID: n.GUID, Send: sourceName(n)}
		into := ""
		if base >= 0 {
			from := c.nodes[base]
			step.Base, step.From = from.GUID, sourceName(from)
			planned, ours := made[base]
			switch {
			case !ours:
				step.Origin = have[from.GUID]
			case from.Dataset == n.Dataset:
				into = planned // as its newest: anything newer there would have been nearer
			default:
				step.Origin = planned + "@" + TargetName(from)
			}
		}
		if into == "" {
			into = dataset(len(datasets))
			if datasets[into] || !validDataset(into) {
				return nil, fmt.Errorf("dataset name %q for snapshot %s: %w", into, n.GUID, errdefs.ErrInvalid)
			}
		}
		made[i], datasets[into] = into, true
		step.Target = into + "@" + TargetName(n)
		steps = append(steps, step)
	}
	return steps, nil
}

// sourceName is a node's full name on the source.
func sourceName(n Node) string {
	if n.Bookmark {
		return n.Dataset + "#" + n.Name
	}
	return n.Dataset + "@" + n.Name
}
