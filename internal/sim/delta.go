package sim

import (
	"fmt"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// change is how one path differs between two trees.
type change struct {
	Removed bool  `json:"removed,omitempty"`
	Entry   entry `json:"entry"` // of Blocks only those that differ; a zero sum takes a block away
}

// delta lists the changes that lead from one tree to another.
func delta(from, to *tree) []change {
	var changes []change
	old := from.byPath()
	for i := range to.Entries {
		e := &to.Entries[i]
		before := old[e.Path]
		delete(old, e.Path)
		if before == nil {
			changes = append(changes, change{Entry: *e})
			continue
		}
		if !e.sameAs(before) {
			c := change{Entry: *e}
			c.Entry.Blocks = before.Blocks.changedTo(e.Blocks)
			changes = append(changes, c)
		}
	}
	for i := range from.Entries {
		if path := from.Entries[i].Path; old[path] != nil {
			changes = append(changes, change{Removed: true, Entry: entry{Path: path}})
		}
	}
	return changes
}

// changedTo returns the blocks of b that differ from a's; those that b lacks have a zero sum.
func (a blocks) changedTo(b blocks) blocks {
	var changed blocks
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].At < b[0].At:
			changed = append(changed, block{At: a[0].At})
			a = a[1:]
		case len(a) == 0 || b[0].At < a[0].At:
			changed = append(changed, b[0])
			b = b[1:]
		default:
			if a[0].Sum != b[0].Sum {
				changed = append(changed, b[0])
			}
			a, b = a[1:], b[1:]
		}
	}
	return changed
}

// patched is the inverse of changedTo.
func (a blocks) patched(changed blocks) blocks {
	var out blocks
	for len(a) > 0 || len(changed) > 0 {
		if len(changed) == 0 || len(a) > 0 && a[0].At < changed[0].At {
			out = append(out, a[0])
			a = a[1:]
			continue
		}
		if len(a) > 0 && a[0].At == changed[0].At {
			a = a[1:]
		}
		if changed[0].Sum != (sum{}) {
			out = append(out, changed[0])
		}
		changed = changed[1:]
	}
	return out
}

// apply returns the tree that the changes make of t. Later changes of a path build on earlier ones, so that a change of
// many blocks can be cut into several.
func (t *tree) apply(changes []change) (*tree, error) {
	entries := make(map[string]entry, len(t.Entries))
	for _, e := range t.Entries {
		entries[e.Path] = e
	}
	for _, c := range changes {
		before, known := entries[c.Entry.Path]
		if c.Removed {
			if !known {
				return nil, fmt.Errorf("change removes unknown path %q: %w", c.Entry.Path, errdefs.ErrCorrupt)
			}
			delete(entries, c.Entry.Path)
			continue
		}
		after := c.Entry
		after.Blocks = before.Blocks.patched(c.Entry.Blocks)
		entries[after.Path] = after
	}
	out := &tree{Entries: make([]entry, 0, len(entries))}
	for _, e := range entries {
		out.Entries = append(out.Entries, e)
	}
	out.sort()
	return out, out.check()
}

// written is how many bytes separate two trees; zero only when they are equal.
func written(from, to *tree) uint64 {
	known := from.sums()
	var total int64
	for _, c := range delta(from, to) {
		total += metadataBytes
		for _, b := range c.Entry.Blocks {
			if b.Sum != (sum{}) && !known[b.Sum] {
				total += c.Entry.length(b.At)
			}
		}
	}
	return uint64(total)
}

// cut splits changes so that none has more than limit blocks.
func cut(changes []change, limit int) []change {
	out := make([]change, 0, len(changes))
	for _, c := range changes {
		if len(c.Entry.Blocks) <= limit {
			out = append(out, c)
			continue
		}
		for part := range slices.Chunk(c.Entry.Blocks, limit) {
			piece := c
			piece.Entry.Blocks = part
			out = append(out, piece)
		}
	}
	return out
}
