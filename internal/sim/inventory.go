package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// Inventory implements agent.Pool.
func (p *Pool) Inventory(ctx context.Context) (lineage.Inventory, error) {
	s, err := p.view(ctx)
	if err != nil {
		return lineage.Inventory{}, fmt.Errorf("inventory: %w", err)
	}
	names := make(map[string]string, len(s.Datasets))
	for name, d := range s.Datasets {
		names[d.ID] = name
	}
	var inv lineage.Inventory
	for _, name := range slices.Sorted(maps.Keys(s.Datasets)) {
		inv.Datasets = append(inv.Datasets, p.public(s, name, names))
	}
	return inv, nil
}

// Dataset implements agent.Pool.
func (p *Pool) Dataset(ctx context.Context, name string) (lineage.Dataset, error) {
	s, err := p.view(ctx)
	if err != nil {
		return lineage.Dataset{}, fmt.Errorf("dataset %s: %w", name, err)
	}
	d, err := s.dataset(name)
	if err != nil {
		return lineage.Dataset{}, fmt.Errorf("dataset %s: %w", name, err)
	}
	names := make(map[string]string)
	if _, originName, ok := s.byID(d.Origin.Dataset); ok {
		names[d.Origin.Dataset] = originName
	}
	return p.public(s, name, names), nil
}

// public shows a dataset as ZFS would. names tells datasets by ID, as far as origins need it.
func (p *Pool) public(s *state, name string, names map[string]string) lineage.Dataset {
	d := s.Datasets[name]
	out := lineage.Dataset{Name: name}
	if from := s.Datasets[names[d.Origin.Dataset]]; from != nil {
		if snap, ok := from.byGUID(d.Origin.GUID); ok {
			out.Origin = names[d.Origin.Dataset] + "@" + snap.Name
		}
	}
	for _, snap := range d.Snapshots {
		out.Snapshots = append(out.Snapshots, snap.public())
	}
	for _, b := range d.Bookmarks {
		out.Bookmarks = append(out.Bookmarks, lineage.Bookmark{Name: b.Name, GUID: b.GUID, CreateTXG: b.TXG})
	}
	for property, value := range d.Properties {
		if strings.HasPrefix(property, "hoody:") {
			if out.Properties == nil {
				out.Properties = make(map[string]string)
			}
			out.Properties[property] = value
		}
	}
	// As of the last snapshot; and what a dataset alone uses cannot be told where equal blocks are shared wherever they lie.
	out.Referenced, out.Used = d.Referenced, d.Referenced
	out.ResumeToken = p.tokenOf(d)
	return out
}

// Space implements agent.Pool.
func (p *Pool) Space(ctx context.Context) (agent.Space, error) {
	if _, err := p.view(ctx); err != nil {
		return agent.Space{}, fmt.Errorf("space: %w", err)
	}
	size := p.size.Load()
	return agent.Space{Size: size, Free: size - min(size, uint64(p.blocks.stored.Load()))}, nil
}

// Encrypted is false: a directory is what its filesystem makes of it.
func (p *Pool) Encrypted(ctx context.Context) (bool, error) {
	if _, err := p.view(ctx); err != nil {
		return false, fmt.Errorf("encryption: %w", err)
	}
	return false, nil
}
