package lineage

import "strings"

// Locate tells where a pool holds each GUID, as "dataset@snapshot". Snapshots marked for deferred destruction and those of
// volumes do not count. Of several places it names one that stays: a container's generation before one that is
// still in somebody's hands, then the first by name.
func Locate(inv Inventory) map[GUID]string {
	type place struct {
		dataset, name string
		rank          int
	}
	places := make(map[GUID]place)
	for _, d := range inv.Datasets {
		if d.Volume {
			continue
		}
		rank := placeRank(d.Name)
		for _, s := range d.Snapshots {
			if s.DeferDestroy {
				continue
			}
			known, ok := places[s.GUID]
			if !ok || rank < known.rank || rank == known.rank && d.Name < known.dataset {
				places[s.GUID] = place{d.Name, s.Name, rank}
			}
		}
	}
	located := make(map[GUID]string, len(places))
	for guid, p := range places {
		located[guid] = p.dataset + "@" + p.name
	}
	return located
}

// placeRank is lower for datasets that live longer.
func placeRank(dataset string) int {
	if strings.HasPrefix(dataset, "containers/") || strings.HasPrefix(dataset, "hoody/generations/") {
		return 0
	}
	return 1
}
