package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// basesAfterRecovery is how long after a recovery every state that a copy may have been made from counts as a base: records of copies on
// servers that have yet to recover do not say which do.
const basesAfterRecovery = 7 * 24 * time.Hour

// references says what the records, and the jobs at work, want of a server's pool at a time. building is what running jobs are about
// to build on, by job; left are datasets that one of them will take over; written is what retired generations hold beyond their snapshots. It is pure.
func references(serverID string, now time.Time, inventory lineage.Inventory, records store.References, building map[string][]lineage.GUID, left map[string]bool,
	written map[string]Activity,
) lineage.References {
	m := markPhase{
		serverID: serverID, records: records, left: left,
		containers: make(map[string]*store.Container), open: make(map[string]*store.Job),
		refs: lineage.References{
			Datasets: make(map[string]lineage.Use), Wanted: make(map[lineage.GUID][]string), Names: make(map[string][]string),
			Bases: make(map[lineage.GUID][]string), Deleted: make(map[lineage.GUID]bool), Heads: make(map[string]uint64),
		},
	}
	for _, container := range records.Containers {
		m.containers[container.ID] = container
	}
	for _, job := range records.Jobs {
		if job.Open() {
			m.open[job.ID] = job
		}
	}
	m.markContainers()
	m.markHistories()
	m.markJobs(building)
	for _, tombstone := range records.Tombstones {
		if tombstone.ServerID == serverID {
			for _, guid := range tombstone.Snapshots {
				m.refs.Deleted[guid] = true
			}
		}
	}
	m.sortDatasets(inventory)
	m.markAfterRecovery(now, inventory)
	m.markHeads(inventory, written)
	return m.refs
}

// worthRollback is how much a retired generation has to hold beyond its snapshots to be rolled back: mounting alone writes a little.
const worthRollback = 1 << 20

// markHeads marks what retired generations hold that is in no snapshot: files that were displaced and are kept no more, where other snapshots keep the
// dataset. One that a record still takes for the container's files, whatever is in their place, is left as it is.
func (m *markPhase) markHeads(inventory lineage.Inventory, written map[string]Activity) {
	present := make(map[lineage.GUID]bool)
	for _, container := range m.records.Containers {
		present[container.Generation.Marker.GUID] = true
	}
	for _, dataset := range inventory.Datasets {
		bytes := written[dataset.Name].Written
		retired := m.refs.Datasets[dataset.Name].Kind == lineage.Retired && dataset.Properties[propertyRole] == roleGeneration
		if retired && bytes > worthRollback && !slices.ContainsFunc(dataset.Snapshots, func(s lineage.Snapshot) bool { return present[s.GUID] }) {
			m.refs.Heads[dataset.Name] = bytes
		}
	}
}

// markPhase collects what is referred to, as the mark phase of a collector does.
type markPhase struct {
	serverID   string
	records    store.References
	containers map[string]*store.Container
	open       map[string]*store.Job
	left       map[string]bool
	refs       lineage.References
}

func (m *markPhase) want(guid lineage.GUID, format string, args ...any) {
	if guid != 0 {
		m.refs.Wanted[guid] = append(m.refs.Wanted[guid], fmt.Sprintf(format, args...))
	}
}

// markContainers marks what generations stand on: here as snapshots, and what copies elsewhere were made from here as bases.
func (m *markPhase) markContainers() {
	for _, container := range m.records.Containers {
		generation := container.Generation
		if container.ServerID == m.serverID {
			m.want(generation.Marker.GUID, "container %s: its files as they were checked out", container.Name)
			m.want(generation.Base, "container %s: what it was checked out from", container.Name)
			// Without its source it never syncs again, unless a recovery has not brought that back yet (markAfterRecovery).
			if base := syncBase(container); base != generation.Base && m.containers[container.SourceContainerID] != nil {
				m.want(base, "container %s: what it was last synced with", container.Name)
			}
			continue
		}
		source := m.containers[container.SourceContainerID]
		if base := syncBase(container); base != 0 && source != nil && source.ServerID == m.serverID {
			m.refs.Bases[base] = append(m.refs.Bases[base],
				fmt.Sprintf("base of container %s on server %s, a copy of %s", container.Name, container.ServerID, source.Name))
		}
	}
}

// markAfterRecovery marks as bases what copies elsewhere may stand on, for some time after this server's records were recovered.
func (m *markPhase) markAfterRecovery(now time.Time, inventory lineage.Inventory) {
	recovered, noted := recoveredAt(inventory, now)
	if !noted || now.Sub(recovered) > basesAfterRecovery {
		return
	}
	why := fmt.Sprintf("perhaps the base of a copy: the records were recovered on %s, and other servers may have yet to", recovered.Format(time.DateOnly))
	for _, container := range m.records.Containers {
		if container.ServerID == m.serverID {
			m.want(syncBase(container), "container %s: what it was last synced with, %s", container.Name, why)
		}
	}
	for _, dataset := range inventory.Datasets {
		if kind := m.refs.Datasets[dataset.Name].Kind; kind != lineage.Current && kind != lineage.Retired {
			continue
		}
		for _, snapshot := range dataset.Snapshots {
			if lineage.OwnSnapshot(snapshot.Name) || m.refs.Deleted[snapshot.GUID] {
				m.refs.Bases[snapshot.GUID] = append(m.refs.Bases[snapshot.GUID], why)
			}
		}
		for _, bookmark := range dataset.Bookmarks {
			m.refs.Bases[bookmark.GUID] = append(m.refs.Bases[bookmark.GUID], why)
		}
	}
}

// markHistories marks listed snapshots. A list without a container is a puzzle, and not for this one to solve: it counts.
func (m *markPhase) markHistories() {
	for _, history := range m.records.Histories {
		name, container := history.ContainerID, m.containers[history.ContainerID]
		if container != nil {
			if name = container.Name; container.ServerID != m.serverID {
				continue
			}
		}
		for _, snapshot := range history.Snapshots {
			m.want(snapshot.GUID, "container %s lists it as %s", name, snapshot.Name)
		}
	}
}

// markJobs marks what open jobs of this server, and those that read from it, have written down or build on.
func (m *markPhase) markJobs(building map[string][]lineage.GUID) {
	for _, job := range m.open {
		if job.ServerID != m.serverID && job.SourceServerID != m.serverID {
			continue
		}
		why := fmt.Sprintf("%s %s is not finished", job.Kind, job.ID)
		if job.ServerID != m.serverID && job.CancelledAt != nil {
			// It may be past what can be cancelled, and then needs its base. Whatever else it has not read by now, it does not read
			// any more; its server may be gone for good, and nobody else ends it.
			if job.Freeze.GUID != 0 {
				m.refs.Bases[job.Freeze.GUID] = append(m.refs.Bases[job.Freeze.GUID], why)
			}
			continue
		}
		for _, guid := range []lineage.GUID{job.Freeze.GUID, job.SourceSnapshot, job.Generation.Base, job.Generation.Marker.GUID} {
			m.want(guid, "%s", why)
		}
		for _, name := range []string{job.Freeze.Name, job.Generation.Marker.Name, job.UndoName} {
			if name != "" {
				m.refs.Names[name] = append(m.refs.Names[name], why)
			}
		}
		for _, snapshots := range [][]store.Snapshot{job.History, job.Adopted} {
			for _, snapshot := range snapshots {
				m.want(snapshot.GUID, "%s", why)
			}
		}
		for _, snapshot := range []*store.Snapshot{job.Snapshot, job.Undo} {
			if snapshot != nil {
				m.want(snapshot.GUID, "%s", why)
			}
		}
	}
	for jobID, guids := range building {
		for _, guid := range guids {
			m.want(guid, "job %s receives onto it", jobID)
		}
	}
}

// sortDatasets tells the agent's datasets from others', and those that are somebody's files from those that nobody runs on.
func (m *markPhase) sortDatasets(inventory lineage.Inventory) {
	present := make(map[string]bool) // containers whose files are where they belong
	for _, dataset := range inventory.Datasets {
		if container := m.residentOf(dataset); container != nil {
			present[container.ID] = true
		}
	}
	for _, dataset := range inventory.Datasets {
		if use, known := m.useOf(dataset, present); known {
			m.refs.Datasets[dataset.Name] = use
		}
	}
}

// residentOf returns the container of this server whose present files a dataset holds, or nil.
func (m *markPhase) residentOf(dataset lineage.Dataset) *store.Container {
	id, ok := strings.CutPrefix(dataset.Name, ContainerDataset(""))
	if !ok || dataset.Properties[propertyContainer] != id {
		return nil
	}
	if container := m.containers[id]; container != nil && container.ServerID == m.serverID {
		return container
	}
	return nil
}

// useOf says what a dataset is; known is false for what is none of the agent's business.
func (m *markPhase) useOf(dataset lineage.Dataset, present map[string]bool) (use lineage.Use, known bool) {
	role, owner := dataset.Properties[propertyRole], dataset.Properties[propertyContainer]
	if container := m.residentOf(dataset); container != nil {
		if job := m.jobOn(container, dataset); job != nil {
			return lineage.Use{Kind: lineage.Busy, Container: container.ID, Why: busyReason(job)}, true
		}
		return lineage.Use{Kind: lineage.Current, Container: container.ID, Why: "the files of container " + container.Name}, true
	}
	name, place := strings.CutPrefix(dataset.Name, incomingPrefix)
	if !place {
		name, place = strings.CutPrefix(dataset.Name, generationsPrefix)
	}
	switch {
	case !place:
		return m.elsewhere(dataset, role, owner)
	case strings.Contains(name, "/"):
		return lineage.Use{Kind: lineage.Foreign, Why: "inside a dataset of the agent's, which makes none there"}, true
	}
	for _, id := range []string{jobIn(name), dataset.Properties[propertyJob]} {
		if job := m.open[id]; job != nil && job.ServerID == m.serverID {
			return lineage.Use{Kind: lineage.Busy, Container: owner, Why: busyReason(job)}, true
		}
	}
	if m.left[dataset.Name] {
		return lineage.Use{Kind: lineage.Busy, Container: owner, Why: "an operation will go on with what has arrived"}, true
	}
	switch role {
	case roleImage:
		return lineage.Use{Kind: lineage.Image}, true
	case roleReplica:
		return lineage.Use{Kind: lineage.Retired}, true
	case roleGeneration:
		container := m.containers[owner]
		if container != nil && container.ServerID == m.serverID && container.Generation != (store.Generation{}) && !present[owner] {
			return lineage.Use{Kind: lineage.Fixed, Container: owner, Why: fmt.Sprintf("container %s has no files where they belong; these may be them", container.Name)}, true
		}
		return lineage.Use{Kind: lineage.Retired, Container: owner}, true
	default:
		return lineage.Use{Kind: lineage.Foreign, Why: "among the agent's datasets, without its mark"}, true
	}
}

// elsewhere is useOf outside the places for generations.
func (m *markPhase) elsewhere(dataset lineage.Dataset, role, owner string) (use lineage.Use, known bool) {
	switch {
	case role == roleParent:
		return lineage.Use{Kind: lineage.Fixed, Why: "the agent keeps its own here"}, true
	case role != "" || owner != "":
		return lineage.Use{Kind: lineage.Fixed, Why: "carries the agent's mark, but no record of this server knows it"}, true
	case strings.HasPrefix(dataset.Name, poolParent+"/"):
		return lineage.Use{Kind: lineage.Foreign, Why: "among the agent's datasets, without its mark"}, true
	}
	// Below a container's files there is nothing of the runtime's or the agent's.
	for parent := dataset.Name; ; {
		slash := strings.LastIndexByte(parent, '/')
		if slash < 0 {
			return lineage.Use{}, false
		}
		parent = parent[:slash]
		if id, ok := strings.CutPrefix(parent, ContainerDataset("")); ok && m.containers[id] != nil {
			return lineage.Use{Kind: lineage.Foreign, Why: "inside the files of a container"}, true
		}
	}
}

// jobOn returns the open job that may be about to swap a container's files.
func (m *markPhase) jobOn(container *store.Container, dataset lineage.Dataset) *store.Job {
	if job := m.open[container.JobID]; job != nil {
		return job
	}
	return m.open[dataset.Properties[propertyJob]]
}

func busyReason(job *store.Job) string { return fmt.Sprintf("%s %s works on it", job.Kind, job.ID) }

// jobIn cuts the job's id out of the name of what it received or displaced.
func jobIn(name string) string {
	id, _, _ := strings.Cut(name, "-")
	return id
}
