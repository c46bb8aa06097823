package agent

import (
	"fmt"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// How a recovery makes a record where none was kept.

// rebuild makes a record from what the pool and the runtime say without one.
func (p *recoveryPlanner) rebuild(result *RecoveredContainer, current lineage.Dataset) {
	owner := current.Properties[propertyOwner]
	instance := p.instances[result.ID]
	created := createdAt(result.ID, p.now)
	project := p.foundlings(owner)
	name := instance.Description
	if name == "" {
		name = "recovered-" + result.ID
	}
	result.container = store.Container{
		ID: result.ID, ProjectID: project.ID, ServerID: p.serverID, OwnerID: owner, Name: name, Color: "#808080", Status: store.StatusStopped,
		Autostart: instance.Autostart, Env: instance.Env, Config: instance.Config, IDMap: instance.IDMap, RealmIDs: project.RealmIDs,
		CreatedAt: created, UpdatedAt: created,
	}
	result.history.ContainerID = result.ID
	for _, dataset := range p.lineageOf(current, owner) {
		for _, snapshot := range dataset.Snapshots {
			p.list(result, snapshot)
		}
	}
	sortByAge(result.history.Snapshots)
	result.Unknown = []string{"project and grants (it is put into project " + project.Alias + ")", "SSH key", "image", "colour", "comment", "whether it is a copy"}
	if len(result.history.Snapshots) > 0 {
		result.Unknown = append(result.Unknown, "names, aliases and expiry of its snapshots, and which of them it listed")
	}
	if instance.Description == "" {
		result.Unknown = append(result.Unknown, "name")
	}
}

// lineageOf are the owner's datasets that a generation stands on, and the other generations of its container.
func (p *recoveryPlanner) lineageOf(current lineage.Dataset, owner string) []lineage.Dataset {
	found := map[string]bool{}
	var all []lineage.Dataset
	add := func(d lineage.Dataset) {
		if !found[d.Name] && d.Properties[propertyOwner] == owner && d.Properties[propertyRole] != roleImage {
			found[d.Name] = true
			all = append(all, d)
		}
	}
	for d, ok := current, true; ok && !found[d.Name]; {
		add(d)
		origin, _, _ := lineage.SplitSnapshot(d.Origin)
		d, ok = p.inventory.Dataset(origin)
	}
	for _, d := range p.inventory.Datasets {
		if d.Properties[propertyContainer] == current.Properties[propertyContainer] {
			add(d)
		}
	}
	return all
}

// createdAt reads the time of an id, see newID.
func createdAt(id string, otherwise time.Time) time.Time {
	var seconds int64
	if _, err := fmt.Sscanf(id, "%8x", &seconds); err != nil || len(id) != 24 {
		return otherwise
	}
	return time.Unix(seconds, 0).UTC()
}

// foundlings is the owner's project for containers whose own project is not known.
func (p *recoveryPlanner) foundlings(owner string) store.Project {
	const alias = "recovered"
	for _, projects := range []map[string]store.Project{p.result.projects, p.projects} {
		for _, project := range projects {
			if project.UserID == owner && project.Alias == alias {
				return project
			}
		}
	}
	project := store.Project{ID: newID(p.now), UserID: owner, Alias: alias, Color: "#808080", CreatedAt: p.now, UpdatedAt: p.now}
	p.wantProject(project)
	return p.result.projects[project.ID]
}
