// Package lineage plans: from what two pools hold it derives which snapshots have to travel, from which base, into
// which dataset. It is pure; it runs no command, reads no clock and keeps no state.
//
// The model is git's: a snapshot is an immutable object whose GUID survives send and receive, a dataset is a worktree,
// an origin is the commit a branch started from.
package lineage

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// GUID identifies a snapshot in every pool that holds it: it survives send, receive, rename and promote
// (zfs-send(8); tried on OpenZFS 2.3.9). Zero means none.
type GUID uint64

// ParseGUID reads the decimal form that `zfs get guid` prints.
func ParseGUID(s string) (GUID, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("snapshot guid %q: %w", s, err)
	}
	return GUID(n), nil
}

func (g GUID) String() string { return strconv.FormatUint(uint64(g), 10) }

// MarshalText keeps GUIDs exact in JSON, whose numbers end at 2^53 for most readers.
func (g GUID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (g *GUID) UnmarshalText(text []byte) error {
	parsed, err := ParseGUID(string(text))
	if err != nil {
		return err
	}
	*g = parsed
	return nil
}

// Snapshot is one snapshot as a pool reports it.
type Snapshot struct {
	Name         string    `json:"name"` // the part after '@'
	GUID         GUID      `json:"guid"`
	CreateTXG    uint64    `json:"create_txg"` // orders snapshots within one pool only
	Creation     time.Time `json:"creation"`   // the pool's clock, whole seconds
	Referenced   uint64    `json:"referenced"` // bytes reachable from it
	Used         uint64    `json:"used"`       // bytes that only this snapshot holds
	DeferDestroy bool      `json:"defer_destroy"`
}

// Bookmark is a snapshot's identity without its data: a base to send from, never one to receive onto.
type Bookmark struct {
	Name      string `json:"name"` // the part after '#'
	GUID      GUID   `json:"guid"` // of the snapshot it was made from
	CreateTXG uint64 `json:"create_txg"`
}

// Dataset is one filesystem or volume with its snapshots and bookmarks, oldest first.
// All names are relative to the pool's root ("containers/x", "hoody/incoming/y").
type Dataset struct {
	Name        string            `json:"name"`
	Volume      bool              `json:"volume"` // a zvol, not a filesystem
	Origin      string            `json:"origin"` // "dataset@snapshot" it was cloned from, or empty
	Snapshots   []Snapshot        `json:"snapshots"`
	Bookmarks   []Bookmark        `json:"bookmarks"`
	ResumeToken string            `json:"resume_token"` // non-empty while a receive runs, too (tried)
	Used        uint64            `json:"used"`
	Referenced  uint64            `json:"referenced"`
	Properties  map[string]string `json:"properties"` // "hoody:…" set locally on this dataset; inherited ones are not listed
}

// Newest returns the dataset's newest snapshot, and false when it has none.
func (d Dataset) Newest() (Snapshot, bool) {
	if len(d.Snapshots) == 0 {
		return Snapshot{}, false
	}
	return d.Snapshots[len(d.Snapshots)-1], true
}

// Snapshot returns the snapshot of that short name.
func (d Dataset) Snapshot(name string) (Snapshot, bool) {
	for _, s := range d.Snapshots {
		if s.Name == name {
			return s, true
		}
	}
	return Snapshot{}, false
}

// Inventory is everything a pool holds below its root, at one moment.
type Inventory struct {
	Datasets []Dataset `json:"datasets"` // sorted by name
}

// Clone returns a copy that has nothing in common with inv.
func (inv Inventory) Clone() Inventory {
	datasets := slices.Clone(inv.Datasets)
	for i := range datasets {
		datasets[i].Snapshots = slices.Clone(datasets[i].Snapshots)
		datasets[i].Bookmarks = slices.Clone(datasets[i].Bookmarks)
		datasets[i].Properties = maps.Clone(datasets[i].Properties)
	}
	return Inventory{Datasets: datasets}
}

// Dataset returns the dataset of that name.
func (inv Inventory) Dataset(name string) (Dataset, bool) {
	for _, d := range inv.Datasets {
		if d.Name == name {
			return d, true
		}
	}
	return Dataset{}, false
}

// SplitSnapshot cuts "dataset@snapshot" in two; ok is false when there is no '@'.
func SplitSnapshot(name string) (dataset, snapshot string, ok bool) {
	return strings.Cut(name, "@")
}
