package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// state is everything a pool knows beside contents. It is replaced as a whole, in memory and on disk.
type state struct {
	TXG      uint64              `json:"txg"`
	Datasets map[string]*dataset `json:"datasets"` // by name
}

// dataset is one dataset of the state. Datasets in a state are not changed; a transaction edits copies.
type dataset struct {
	ID         string            `json:"id"`         // stays through renames
	Data       string            `json:"data"`       // names the directory of live files, which exists once somebody mounted them
	Base       sum               `json:"base"`       // the tree that the live files started from, or that their last snapshot holds
	Referenced uint64            `json:"referenced"` // of Base
	Origin     origin            `json:"origin,omitzero"`
	Snapshots  []snapshot        `json:"snapshots,omitempty"`
	Bookmarks  []bookmark        `json:"bookmarks,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
	Partial    *partial          `json:"partial,omitempty"`
	Hollow     bool              `json:"hollow,omitempty"` // a first receive into it has not ended
}

// origin is the snapshot a dataset was cloned from. Its name follows renames and promotions, so it is not kept.
type origin struct {
	Dataset string       `json:"dataset"` // ID
	GUID    lineage.GUID `json:"guid"`
}

type snapshot struct {
	Name       string       `json:"name"`
	GUID       lineage.GUID `json:"guid"`
	TXG        uint64       `json:"txg"`
	Creation   time.Time    `json:"creation"`
	Tree       sum          `json:"tree"`
	Referenced uint64       `json:"referenced"`
}

// bookmark keeps the tree of its snapshot, but not the blocks: enough to tell what changed since.
type bookmark struct {
	Name string       `json:"name"`
	GUID lineage.GUID `json:"guid"`
	TXG  uint64       `json:"txg"`
	Tree sum          `json:"tree"`
}

// partial is a receive that has begun.
type partial struct {
	Log    string       `json:"log"`  // file with what has arrived
	Name   string       `json:"name"` // of the snapshot to be
	Stream streamHeader `json:"stream"`
	Base   sum          `json:"base"` // the tree that the stream changes
}

func (d *dataset) clone() *dataset {
	c := *d
	c.Snapshots, c.Bookmarks, c.Properties = slices.Clone(d.Snapshots), slices.Clone(d.Bookmarks), maps.Clone(d.Properties)
	return &c
}

func (d *dataset) snapshot(name string) (snapshot, bool) {
	for _, s := range d.Snapshots {
		if s.Name == name {
			return s, true
		}
	}
	return snapshot{}, false
}

func (d *dataset) byGUID(guid lineage.GUID) (snapshot, bool) {
	for _, s := range d.Snapshots {
		if s.GUID == guid {
			return s, true
		}
	}
	return snapshot{}, false
}

func (d *dataset) newest() (snapshot, bool) {
	if len(d.Snapshots) == 0 {
		return snapshot{}, false
	}
	return d.Snapshots[len(d.Snapshots)-1], true
}

// trees lists the trees that d needs with all blocks, and those of which it needs only the paths.
func (d *dataset) trees() (whole, paths []sum) {
	whole = append(whole, d.Base)
	for _, s := range d.Snapshots {
		whole = append(whole, s.Tree)
	}
	if d.Partial != nil {
		whole = append(whole, d.Partial.Base)
	}
	for _, b := range d.Bookmarks {
		paths = append(paths, b.Tree)
	}
	return whole, paths
}

// dataset returns the dataset of a name.
func (s *state) dataset(name string) (*dataset, error) {
	if d, ok := s.Datasets[name]; ok {
		return d, nil
	}
	return nil, fmt.Errorf("no such dataset: %w", errdefs.ErrNotFound)
}

// byID returns the dataset of an ID and its name.
func (s *state) byID(id string) (*dataset, string, bool) {
	for name, d := range s.Datasets {
		if d.ID == id {
			return d, name, true
		}
	}
	return nil, "", false
}

// snapshot returns the snapshot of a full name, and its dataset.
func (s *state) snapshot(full string) (*dataset, snapshot, error) {
	name, short, ok := lineage.SplitSnapshot(full)
	if !ok {
		return nil, snapshot{}, fmt.Errorf("not a dataset@snapshot: %w", errdefs.ErrInvalid)
	}
	d, err := s.dataset(name)
	if err != nil {
		return nil, snapshot{}, err
	}
	snap, ok := d.snapshot(short)
	if !ok {
		return nil, snapshot{}, fmt.Errorf("no such snapshot: %w", errdefs.ErrNotFound)
	}
	return d, snap, nil
}

// clonesOf lists the datasets that were cloned from a snapshot, and those that receive onto it.
func (s *state) clonesOf(d *dataset, guid lineage.GUID) []string {
	var names []string
	for name, other := range s.Datasets {
		onto := other == d && other.Partial != nil && !other.Hollow && other.Partial.Stream.From == guid
		if other.Origin == (origin{d.ID, guid}) || onto {
			names = append(names, name)
		}
	}
	return names
}

// before tells whether a point of dataset a at a txg is an ancestor of a snapshot of dataset b.
func (s *state) before(a *dataset, txg uint64, b *dataset, snap snapshot) bool {
	limit := snap.TXG - 1
	for a != b {
		from, _, ok := s.byID(b.Origin.Dataset)
		if !ok {
			return false
		}
		at, ok := from.byGUID(b.Origin.GUID)
		if !ok {
			return false
		}
		b, limit = from, at.TXG
	}
	return txg <= limit
}

// edit returns a copy of the dataset for a transaction to change.
func (s *state) edit(name string) *dataset {
	d := s.Datasets[name].clone()
	s.Datasets[name] = d
	return d
}

// children tells whether other datasets lie below a name.
func (s *state) children(name string) bool {
	for other := range s.Datasets {
		if strings.HasPrefix(other, name+"/") {
			return true
		}
	}
	return false
}

const stateFile = "pool.json"

func loadState(dir string) (*state, error) {
	s := &state{Datasets: make(map[string]*dataset)}
	err := loadJSON(filepath.Join(dir, stateFile), s)
	return s, err
}

// loadJSON reads a file that saveJSON wrote; a missing one leaves the value as it is.
func loadJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w: %w", path, errdefs.ErrCorrupt, err)
	}
	return nil
}

// saveJSON replaces a file. A process that dies on the way leaves the old one; for a power loss it is synced before it
// takes the name, though the blocks it speaks of are not: the stand-ins play a pool, they are none.
func saveJSON(path string, value any, sync bool) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if sync {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
