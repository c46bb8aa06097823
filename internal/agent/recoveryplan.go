package agent

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/identity"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// planRecovery works out what to do from what is known. It has no effects.
func planRecovery(facts recoveryFacts) Recovery {
	p := &recoveryPlanner{
		recoveryFacts: facts, held: lineage.Locate(facts.inventory),
		claims: make(map[string]string), ended: make(map[string]bool),
		result: Recovery{
			ServerID: facts.serverID, StoreID: facts.storeID, Stamp: facts.stamp, Distrust: facts.distrust, projects: make(map[string]store.Project),
		},
	}
	p.obstacles()
	p.endJobs()
	for _, id := range p.candidates() {
		p.result.Containers = append(p.result.Containers, p.container(id))
	}
	p.leftovers()
	return p.result
}

type recoveryPlanner struct {
	recoveryFacts
	held   map[lineage.GUID]string
	claims map[string]string // unique values that this plan takes, and for whom
	ended  map[string]bool   // jobs that this plan ends
	result Recovery
}

func (p *recoveryPlanner) note(format string, args ...any) {
	p.result.Notes = append(p.result.Notes, fmt.Sprintf(format, args...))
}

// obstacles finds what must be cleared before anything is written: what cannot be read would be taken for not there.
func (p *recoveryPlanner) obstacles() {
	for _, name := range slices.Sorted(maps.Keys(p.damaged)) {
		if errors.Is(p.damaged[name], errdefs.ErrUnsupported) {
			p.result.Obstacles = append(p.result.Obstacles, fmt.Sprintf("%v: use the version of the agent that wrote it, or a later one", p.damaged[name]))
			continue
		}
		p.result.damaged = append(p.result.damaged, name)
		p.note("%v; the file is put aside", p.damaged[name])
	}
	for _, key := range p.unreadable {
		p.result.Obstacles = append(p.result.Obstacles, fmt.Sprintf("the store's record %s cannot be read", key))
	}
}

// sameTimeline tells whether the store's records are those that the pool was last used with.
func (p *recoveryPlanner) sameTimeline() bool {
	return p.distrust == nil || p.distrust.Code == FindingOtherServer
}

// endJobs gives up the open operations of a store that was put back: they may have been done long ago.
func (p *recoveryPlanner) endJobs() {
	for _, job := range p.jobs {
		if p.sameTimeline() && job.ServerID == p.serverID {
			continue // it goes on; one of the former id nobody would perform
		}
		p.ended[job.ID] = true
		p.result.Jobs = append(p.result.Jobs, EndedJob{ID: job.ID, Kind: job.Kind, ContainerID: job.ContainerID, job: job})
	}
}

// candidates are the ids of all containers that this server has, or had, or may have.
func (p *recoveryPlanner) candidates() []string {
	found := make(map[string]bool)
	for id := range p.files {
		found[id] = true
	}
	for id := range p.instances {
		found[id] = true
	}
	for _, dataset := range p.inventory.Datasets {
		if id := dataset.Properties[propertyContainer]; id != "" && dataset.Name == ContainerDataset(id) {
			found[id] = true
		}
	}
	for id, container := range p.containers {
		if container.ServerID == p.serverID || p.formerID != "" && container.ServerID == p.formerID {
			found[id] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// container decides about one.
func (p *recoveryPlanner) container(id string) RecoveredContainer {
	result := RecoveredContainer{ID: id}
	record, recorded := p.containers[id]
	file, filed := p.files[id]
	current, filesExist := p.current(id)
	_, instanceExists := p.instances[id]
	buried := p.tombstones[id].Container
	if recorded {
		result.Name, result.ProjectID, result.before = record.Name, record.ProjectID, &record
	} else if filed {
		result.Name, result.ProjectID = file.Container.Name, file.Project.ID
	}
	leave := func(format string, args ...any) RecoveredContainer {
		result.Verdict = VerdictNotTouched
		result.Conflicts = append(result.Conflicts, fmt.Sprintf(format, args...))
		return result
	}
	switch {
	case recorded && record.ServerID != p.serverID && (p.formerID == "" || record.ServerID != p.formerID):
		return leave("the store has it on server %s", record.ServerID)
	case !recorded && buried:
		result.Verdict = VerdictDeleted
		return result
	case !recorded && p.sameTimeline() && !filesExist && !instanceExists:
		result.Verdict = VerdictDeleted // the store is right that it does not exist; its file is about to go
		return result
	case !recorded && filed && !filesExist && !instanceExists && !p.remains(id):
		p.result.damaged = append(p.result.damaged, recordFileName(id))
		return leave("nothing of it is in the pool or the runtime: only its record file says that it was there, and is put aside in %s, as .damaged", recordsDataset)
	case !recorded && !filed && !filesExist:
		return leave("it has an instance, but neither files of the agent's making nor a record")
	case !recorded && !filed && current.Properties[propertyOwner] == "":
		return leave("dataset %s does not say whose it is", current.Name)
	}
	switch {
	case !recorded && filed:
		result.Verdict = VerdictRestored
		result.container, result.history = file.Container, store.History{ContainerID: id, Snapshots: file.Snapshots}
		p.wantProject(file.Project)
	case !recorded:
		result.Verdict = VerdictRebuilt
		p.rebuild(&result, current)
	default:
		result.Verdict = VerdictInOrder
		result.container, result.history = record, p.histories[id]
		result.history.ContainerID = id
		if filed && !p.sameTimeline() {
			p.merge(&result, file)
		}
	}
	p.settle(&result)
	p.claim(&result)
	p.compare(&result)
	result.Name, result.ProjectID, result.Status = result.container.Name, result.container.ProjectID, result.container.Status
	result.Snapshots = len(result.history.Snapshots)
	return result
}

// current is the dataset where the container's instance has its files, if it is the container's.
func (p *recoveryPlanner) current(id string) (lineage.Dataset, bool) {
	dataset, ok := p.inventory.Dataset(ContainerDataset(id))
	return dataset, ok && dataset.Properties[propertyContainer] == id
}

// remains tells whether any generation of the container is in the pool.
func (p *recoveryPlanner) remains(id string) bool {
	return slices.ContainsFunc(p.inventory.Datasets, func(d lineage.Dataset) bool { return d.Properties[propertyContainer] == id })
}

// wantProject has the file's project in the result, in the newest state that is known of it.
func (p *recoveryPlanner) wantProject(project store.Project) {
	known, exists := p.result.projects[project.ID]
	if !exists {
		known, exists = p.projects[project.ID]
	}
	if exists && (p.sameTimeline() || !project.UpdatedAt.After(known.UpdatedAt)) {
		return
	}
	if exists {
		project.Containers = known.Containers
	}
	project.Alias = p.free(project.Alias, func(alias string) (store.UniqueKind, string, string) {
		return store.UniqueProjectAlias, project.UserID, alias
	}, project.ID)
	p.result.projects[project.ID] = project
}

// free returns the value, or one made from it, that nobody else holds, and takes it.
func (p *recoveryPlanner) free(value string, key func(value string) (store.UniqueKind, string, string), id string) string {
	candidate := value
	for n := 1; ; n++ {
		kind, scope, text := key(candidate)
		holder, planned := p.claims[string(kind)+"/"+scope+"/"+text]
		if !planned {
			holder = p.claimed(kind, scope, text)
		}
		if holder == "" || holder == id {
			p.claims[string(kind)+"/"+scope+"/"+text] = id
			return candidate
		}
		if candidate = value + "-recovered"; n > 1 {
			candidate = fmt.Sprintf("%s-recovered-%d", value, n)
		}
	}
}

// claim finds a name and a key for the container that nobody else has.
func (p *recoveryPlanner) claim(result *RecoveredContainer) {
	container := &result.container
	wanted := container.Name
	container.Name = p.free(wanted, func(name string) (store.UniqueKind, string, string) {
		return store.UniqueContainerName, container.ProjectID, name
	}, container.ID)
	if container.Name != wanted {
		result.Conflicts = append(result.Conflicts, fmt.Sprintf("the name %s is another container's by now: it becomes %s", wanted, container.Name))
	}
	fingerprint, err := identity.Fingerprint(container.SSHPublicKey)
	if container.SSHPublicKey == "" || err != nil {
		return
	}
	if holder := p.claimed(store.UniqueSSHKey, "", fingerprint); holder != "" && holder != container.ID {
		result.Conflicts = append(result.Conflicts, fmt.Sprintf("its SSH key is container %s's by now: the record goes without", holder))
		container.SSHPublicKey = ""
	}
}

// compare tells an unchanged record from a corrected one.
func (p *recoveryPlanner) compare(result *RecoveredContainer) {
	if result.before == nil {
		return
	}
	before, history := *result.before, p.histories[result.ID]
	changed := func(what string, differs bool) {
		if differs {
			result.Changes = append(result.Changes, what)
		}
	}
	after := result.container
	changed("server", before.ServerID != after.ServerID)
	changed("name", before.Name != after.Name)
	changed("status", before.Status != after.Status || before.FailureReason != after.FailureReason)
	changed("generation", before.Generation != after.Generation)
	changed("operation under way", before.JobID != after.JobID || len(before.PendingFreezes) != len(after.PendingFreezes))
	changed("snapshots", !slices.EqualFunc(history.Snapshots, result.history.Snapshots, func(x, y store.Snapshot) bool { return x.GUID == y.GUID && x.Name == y.Name }))
	if len(result.Changes) == 0 && !sameRecord(before, after) {
		result.Changes = append(result.Changes, "settings")
	}
	if len(result.Changes) > 0 || result.PutBack != "" {
		result.Verdict = VerdictCorrected
	}
}

// sameRecord compares two records as they would be written.
func sameRecord(x, y store.Container) bool {
	one, err1 := encodeRecordFile(recordFile{Container: x})
	other, err2 := encodeRecordFile(recordFile{Container: y})
	return err1 == nil && err2 == nil && slices.Equal(one, other)
}

// leftovers notes what is in the pool of containers that nobody knows.
func (p *recoveryPlanner) leftovers() {
	known := make(map[string]bool)
	for _, container := range p.result.Containers {
		known[container.ID] = container.Verdict != VerdictNotTouched && container.Verdict != VerdictDeleted
	}
	for _, dataset := range p.inventory.Datasets {
		id := dataset.Properties[propertyContainer]
		if id == "" || known[id] {
			continue
		}
		if !p.tombstones[id].Container {
			p.note("dataset %s is of container %s, of which there is no record: snapshots that a user may have made in it stay", dataset.Name, id)
		}
	}
}
