package lineage

// Together parts steps into groups that one stream each can bring, in order and of at most so many: each step of a group after the
// first goes on where the one before it ended, all continue one dataset, and on the source their snapshots, with the base of the
// first, follow each other in one dataset with none between them (zfs-send(8), -I). A stream of several also names what it makes: who would
// get another name on the target travels alone. What lies between them but is listed in another place (see Ancestry) is not seen here: the
// receiver refuses it.
func Together(nodes []Node, steps []Step, most int) [][]Step {
	parents := make(map[GUID]GUID, len(nodes))
	for _, n := range nodes {
		if !n.Bookmark {
			parents[n.GUID] = n.Parent
		}
	}
	// follows tells whether a step's snapshot and its base are neighbours on the source, and both snapshots.
	follows := func(s Step) bool {
		from, _, whole := SplitSnapshot(s.From)
		dataset, _, _ := SplitSnapshot(s.Send)
		return whole && s.Continues() && from == dataset && parents[s.GUID] == s.Base
	}
	keepsName := func(s Step) bool {
		_, here, _ := SplitSnapshot(s.Send)
		_, there, _ := SplitSnapshot(s.Target)
		return here == there
	}
	joins := func(last, next Step) bool {
		into, _, _ := SplitSnapshot(last.Target)
		goesTo, _, _ := SplitSnapshot(next.Target)
		return follows(last) && follows(next) && next.Base == last.GUID && into == goesTo && keepsName(last) && keepsName(next)
	}
	var groups [][]Step
	for i, step := range steps {
		last := len(groups) - 1
		if i > 0 && len(groups[last]) < most && joins(steps[i-1], step) {
			groups[last] = append(groups[last], step)
			continue
		}
		groups = append(groups, []Step{step})
	}
	return groups
}
