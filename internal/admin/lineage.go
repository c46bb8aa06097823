package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Relative is a container among those that it descends from and that descend from it.
type Relative struct {
	Container Named  `json:"container"`
	Server    Named  `json:"server"`
	Status    string `json:"status"`
	Asked     bool   `json:"asked,omitempty"` // it is the one that was asked for
	// Gone: it was deleted; its copies run on, but cannot sync.
	Gone bool         `json:"gone,omitempty"`
	Base lineage.GUID `json:"base,omitempty"` // the snapshot that its generation was checked out from

	// Of a container of this server.
	Here    bool     `json:"here"`
	Dataset string   `json:"dataset,omitempty"`
	Unique  uint64   `json:"unique"` // bytes that only its generation holds
	Shared  uint64   `json:"shared"` // bytes that it has in common with others
	Origins []Origin `json:"origins,omitempty"`

	Copies []Relative `json:"copies,omitempty"`
}

// Origin is a dataset that a generation is built on, in this pool.
type Origin struct {
	Snapshot string       `json:"snapshot"` // dataset@snapshot, relative to the pool's root
	GUID     lineage.GUID `json:"guid"`
	Size     uint64       `json:"size"`   // bytes reachable from the snapshot
	Unique   uint64       `json:"unique"` // bytes that only the dataset holds
}

// lineage returns the family of a container, from the oldest known ancestor down.
func (s *server) lineage(ctx context.Context, name string) (Relative, error) {
	asked, err := s.find(name)
	if err != nil {
		return Relative{}, err
	}
	inventory, err := s.Storage.Inventory(ctx)
	if err != nil {
		return Relative{}, fmt.Errorf("lineage of container %s: %w", asked.ID, err)
	}
	f := family{server: s, asked: asked.ID, datasets: make(map[string]lineage.Dataset, len(inventory.Datasets)), seen: make(map[string]bool)}
	for _, dataset := range inventory.Datasets {
		f.datasets[dataset.Name] = dataset
	}
	return f.relative(s.eldest(asked)), nil
}

// find returns the container of that id, or the only one of that name.
func (s *server) find(name string) (*store.Container, error) {
	if container, ok := s.mirror.Container(name); ok {
		return container, nil
	}
	var found []*store.Container
	var ids []string
	for _, container := range s.mirror.Containers() {
		if container.Name == name {
			found, ids = append(found, container), append(ids, container.ID)
		}
	}
	switch len(found) {
	case 0:
		return nil, errdefs.New(errdefs.ErrNotFound, "", "no container has the id or name %q", name)
	case 1:
		return found[0], nil
	default:
		return nil, errdefs.New(errdefs.ErrInvalid, "", "several containers are called %q, give the id: %s", name, strings.Join(ids, ", "))
	}
}

// eldest returns the id of the first known ancestor; it may be gone itself. Records that go in a circle end the search.
func (s *server) eldest(container *store.Container) string {
	seen := map[string]bool{container.ID: true}
	for container.SourceContainerID != "" && !seen[container.SourceContainerID] {
		seen[container.SourceContainerID] = true
		source, ok := s.mirror.Container(container.SourceContainerID)
		if !ok {
			return container.SourceContainerID
		}
		container = source
	}
	return container.ID
}

// family puts a tree of relatives together.
type family struct {
	*server
	asked    string
	datasets map[string]lineage.Dataset
	seen     map[string]bool
}

func (f *family) relative(id string) Relative {
	f.seen[id] = true
	relative := Relative{Container: Named{ID: id}, Gone: true, Asked: id == f.asked}
	if container, ok := f.mirror.Container(id); ok {
		relative.describe(f, container)
	}
	copies := slices.Clone(f.mirror.CopiesOf(id))
	slices.SortFunc(copies, func(x, y *store.Container) int {
		return cmp.Or(x.CreatedAt.Compare(y.CreatedAt), cmp.Compare(x.ID, y.ID))
	})
	for _, derived := range copies {
		if !f.seen[derived.ID] {
			relative.Copies = append(relative.Copies, f.relative(derived.ID))
		}
	}
	return relative
}

func (r *Relative) describe(f *family, container *store.Container) {
	r.Gone, r.Container.Name, r.Status, r.Base = false, container.Name, string(container.Status), container.Generation.Base
	r.Server.ID = container.ServerID
	if server, ok := f.mirror.Server(container.ServerID); ok {
		r.Server.Name = server.Name
	}
	if r.Here = container.ServerID == f.ServerID; !r.Here {
		return
	}
	dataset, ok := f.datasets[agent.ContainerDataset(container.ID)]
	if !ok {
		return
	}
	r.Dataset, r.Unique = dataset.Name, dataset.Used
	r.Shared = dataset.Referenced - min(dataset.Used, dataset.Referenced)
	r.Origins = f.origins(dataset)
}

// origins lists what a dataset is built on, the nearest first.
func (f *family) origins(dataset lineage.Dataset) []Origin {
	var origins []Origin
	for len(origins) < len(f.datasets) {
		name, short, ok := lineage.SplitSnapshot(dataset.Origin)
		if !ok {
			break
		}
		origin := Origin{Snapshot: dataset.Origin}
		if dataset, ok = f.datasets[name]; ok {
			snapshot, _ := dataset.Snapshot(short)
			origin.GUID, origin.Size, origin.Unique = snapshot.GUID, snapshot.Referenced, dataset.Used
		}
		origins = append(origins, origin)
		if !ok {
			break // outside of what the agent sees, such as an image of Incus's
		}
	}
	return origins
}
