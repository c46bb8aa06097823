package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// How a recovery brings what records say and what is there together.

// merge brings a record that the store has, and one that the pool kept, together: the later one counts, and no snapshot that
// either lists is dropped unless it was deleted on purpose.
func (p *recoveryPlanner) merge(result *RecoveredContainer, file recordFile) {
	record, history := result.container, result.history
	kept := store.History{ContainerID: result.ID, Snapshots: file.Snapshots}
	if lastChange(file.Container, kept).After(lastChange(record, history)) {
		result.container = file.Container
		// Where a container belongs is settled by the store: other records go by it.
		result.container.ServerID, result.container.ProjectID, result.container.OwnerID = record.ServerID, record.ProjectID, record.OwnerID
		result.container.JobID, result.container.PendingFreezes = record.JobID, record.PendingFreezes
		history, kept = kept, history
	}
	p.takeGeneration(result, file.Container)
	if file.Project.ID == record.ProjectID {
		p.wantProject(file.Project) // grants and limits change without the container
	}
	history.Snapshots = slices.Clone(history.Snapshots)
	deleted := p.tombstones[result.ID].Snapshots
	for _, snapshot := range kept.Snapshots {
		_, there := p.held[snapshot.GUID]
		if lists(history, snapshot.GUID) || !there || slices.Contains(deleted, snapshot.GUID) {
			continue
		}
		name := snapshot.Name
		if snapshot.Name = snapshotName(history, &name, snapshot.CreatedAt); snapshot.Name != name {
			result.Conflicts = append(result.Conflicts, fmt.Sprintf("two snapshots are called %s: one becomes %s", name, snapshot.Name))
		}
		if snapshot.Alias != nil && snapshotNamed(history, *snapshot.Alias) {
			snapshot.Alias = nil
		}
		history.Snapshots = append(history.Snapshots, snapshot)
	}
	sortByAge(history.Snapshots)
	result.history = history
}

// takeGeneration takes from a record what it says of the generation in place, if it knows that one and the chosen record does not: an old
// store that went on for a while after it was put back may have the later record, and know nothing of the last checkouts.
func (p *recoveryPlanner) takeGeneration(result *RecoveredContainer, other store.Container) {
	current, exists := p.current(result.ID)
	if _, known := markerOf(current, result.container.Generation); !exists || known {
		return
	}
	if _, knows := markerOf(current, other.Generation); !knows {
		return
	}
	container := &result.container
	container.Generation, container.SyncBase, container.SyncedAt, container.IDMap = other.Generation, other.SyncBase, other.SyncedAt, other.IDMap
	for _, key := range inheritedKeys(other) {
		if key != container.SSHPublicKey && !slices.Contains(container.InheritedKeys, key) {
			container.InheritedKeys = append(slices.Clip(container.InheritedKeys), key)
		}
	}
}

// lastChange is the latest that a record tells of.
func lastChange(container store.Container, history store.History) time.Time {
	latest := container.UpdatedAt
	later := func(at time.Time) {
		if at.After(latest) {
			latest = at
		}
	}
	later(container.EditedAt)
	later(container.SyncedAt)
	if container.LastOperation != nil {
		later(container.LastOperation.FinishedAt)
	}
	for _, snapshot := range history.Snapshots {
		if later(snapshot.CreatedAt); snapshot.LastUsedAt != nil {
			later(*snapshot.LastUsedAt)
		}
	}
	return latest
}

func lists(history store.History, guid lineage.GUID) bool {
	return slices.ContainsFunc(history.Snapshots, func(s store.Snapshot) bool { return s.GUID == guid })
}

// settle makes the record say what is there: the present generation, its snapshots and what the instance is doing.
func (p *recoveryPlanner) settle(result *RecoveredContainer) {
	container := &result.container
	container.ServerID = p.serverID
	if p.ended[container.JobID] || container.JobID != "" && !p.open(container.JobID) {
		container.JobID = ""
	}
	container.PendingFreezes = slices.DeleteFunc(slices.Clone(container.PendingFreezes), func(id string) bool { return p.ended[id] })
	if container.JobID != "" {
		return // its job goes on and knows better
	}
	instance, instanceExists := p.instances[result.ID]
	current, filesExist := p.current(result.ID)
	if !filesExist && instanceExists {
		if aside, ok := p.displaced(result.ID, container.Generation); ok {
			current, filesExist, result.PutBack = aside, true, aside.Name
		}
	}
	complete := false
	if filesExist {
		complete = p.describeGeneration(result, current)
		p.listUnlisted(result, current)
	}
	for _, snapshot := range result.history.Snapshots {
		if _, there := p.held[snapshot.GUID]; !there {
			result.Conflicts = append(result.Conflicts, fmt.Sprintf("snapshot %s is gone from the pool", snapshot.Name))
		}
	}
	container.SnapshotCount = countUserSnapshots(result.history)
	failed := func(reason string) { container.Status, container.FailureReason = store.StatusFailed, reason }
	switch {
	case !instanceExists || !filesExist:
		failed(lossReason(instanceExists, filesExist))
	case !complete:
		failed("It was not finished when its records were lost")
	case container.Status != store.StatusFailed || isLossReason(container.FailureReason):
		if container.Status, container.FailureReason = statusOf(instance), ""; !settled(container.Status) {
			failed("The runtime reports an error")
		}
		if instance.IDMap != "" {
			container.IDMap = instance.IDMap
		}
		if instance.Autostart != container.Autostart {
			container.Settings.Revision++ // a swap that was cut off has turned it off: the instance gets its settings again
		}
	}
}

func (p *recoveryPlanner) open(jobID string) bool {
	return slices.ContainsFunc(p.jobs, func(j store.Job) bool { return j.ID == jobID })
}

// displaced finds the generation that an operation moved aside and never replaced. A stub of the runtime is in its place at most.
func (p *recoveryPlanner) displaced(id string, generation store.Generation) (lineage.Dataset, bool) {
	if _, taken := p.inventory.Dataset(ContainerDataset(id)); taken {
		return lineage.Dataset{}, false
	}
	for _, dataset := range p.inventory.Datasets {
		if _, marked := markerOf(dataset, generation); marked && dataset.Properties[propertyContainer] == id && strings.HasPrefix(dataset.Name, generationsPrefix) {
			return dataset, true
		}
	}
	return lineage.Dataset{}, false
}

// describeGeneration makes the record's generation the one that is there. It returns false for one that was never finished.
func (p *recoveryPlanner) describeGeneration(result *RecoveredContainer, current lineage.Dataset) bool {
	if _, ok := markerOf(current, result.container.Generation); ok {
		return true
	}
	for _, snapshot := range slices.Backward(current.Snapshots) {
		if strings.HasSuffix(snapshot.Name, lineage.MarkerSuffix) {
			result.container.Generation = store.Generation{
				Marker: store.SnapshotRef{GUID: snapshot.GUID, Name: snapshot.Name}, Base: p.baseOf(current, snapshot),
			}
			return true
		}
	}
	return false
}

// baseOf is the snapshot that a generation was checked out from; 0 for one that was made from an image. Once promoted, the generation has it itself,
// right before its marker.
func (p *recoveryPlanner) baseOf(current lineage.Dataset, marker lineage.Snapshot) lineage.GUID {
	var base lineage.Snapshot
	for _, snapshot := range current.Snapshots {
		if snapshot.CreateTXG < marker.CreateTXG && snapshot.CreateTXG >= base.CreateTXG {
			base = snapshot
		}
	}
	if base.GUID != 0 {
		return base.GUID
	}
	dataset, short, ok := lineage.SplitSnapshot(current.Origin)
	if !ok {
		return 0
	}
	origin, ok := p.inventory.Dataset(dataset)
	if !ok || origin.Properties[propertyOwner] != current.Properties[propertyOwner] {
		return 0
	}
	snapshot, _ := origin.Snapshot(short)
	return snapshot.GUID
}

// listUnlisted lists what was taken of the present generation after the record was last written.
func (p *recoveryPlanner) listUnlisted(result *RecoveredContainer, current lineage.Dataset) {
	marker, ok := markerOf(current, result.container.Generation)
	if !ok || p.sameTimeline() {
		return
	}
	for _, snapshot := range current.Snapshots {
		if snapshot.CreateTXG > marker.CreateTXG {
			p.list(result, snapshot)
		}
	}
	sortByAge(result.history.Snapshots)
}

// list adds a snapshot that a user may have made, under a name that says where it comes from.
func (p *recoveryPlanner) list(result *RecoveredContainer, snapshot lineage.Snapshot) {
	if !agentMade(snapshot.Name) || lineage.OwnSnapshot(snapshot.Name) || snapshot.DeferDestroy ||
		lists(result.history, snapshot.GUID) || slices.Contains(p.tombstones[result.ID].Snapshots, snapshot.GUID) {
		return
	}
	at := snapshot.Creation.UTC()
	name := at.Format("recovered-20060102-150405")
	result.history.Snapshots = append(slices.Clip(result.history.Snapshots), store.Snapshot{
		Name: snapshotName(result.history, &name, at), GUID: snapshot.GUID, IDMap: result.container.IDMap, Size: snapshot.Referenced, CreatedAt: at,
	})
}
