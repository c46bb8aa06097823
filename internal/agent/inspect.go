package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// What may have happened to instances and datasets behind the agent's back.
const (
	FindingInstanceGone    = "instance-gone"    // a container has no instance
	FindingInstanceRenamed = "instance-renamed" // a container's instance has another name now
	FindingInstanceCopied  = "instance-copied"  // a second instance carries a container's mark
	FindingInstanceUnknown = "instance-unknown" // an instance carries the mark of a container that has no record
	FindingFilesGone       = "files-gone"       // a container's dataset is not where it belongs
	FindingFilesUnknown    = "files-unknown"    // a dataset where instances have theirs, of a container that has no record
	FindingFilesDeleted    = "files-deleted"    // the runtime put a container's dataset where it keeps what it may not destroy yet
	FindingSnapshotGone    = "snapshot-gone"    // a listed snapshot is not in the pool
	FindingJobLeftover     = "job-leftover"     // a dataset of a job that is over
)

// Reasons of containers that fail because something of theirs is gone. They pass when it is back.
const (
	reasonAllGone      = "Its instance and its files are gone"
	reasonInstanceGone = "Its instance is gone"
	reasonFilesGone    = "Its files are gone"
)

// isLossReason tells these reasons from those of operations.
func isLossReason(reason string) bool {
	return slices.Contains([]string{reasonAllGone, reasonInstanceGone, reasonFilesGone}, reason)
}

// deletedPrefix is where the runtime puts datasets of deleted instances that clones depend on.
const deletedPrefix = "deleted/"

// scene is what a look at pool, runtime and records shows.
type scene struct {
	inventory  lineage.Inventory
	instances  []Instance
	containers []*store.Container // of this server
	histories  map[string]*store.History
	jobs       map[string]*store.Job // open, or over a moment ago
	// The pool was looked at later than that: what was made, or has come, since then may not be in the inventory yet.
	settledBefore time.Time
}

// inspection is what does not agree in a scene, and what can be done about it without destroying anything.
type inspection struct {
	findings []Finding
	failed   map[string]string // containers that have lost something, and what
	found    []string          // containers that have it back
	takeBack []string          // datasets that the runtime put aside

	missing map[string][]lineage.GUID // what is not in the pool, by containers whose lists say otherwise
}

// inspect compares what there is with what the records say. Containers that an operation works on are the operation's. It is pure.
func inspect(s scene) inspection {
	i := inspection{failed: make(map[string]string), missing: make(map[string][]lineage.GUID)}
	known := make(map[string]bool)
	byContainer := make(map[string][]Instance)
	for _, instance := range s.instances {
		byContainer[instance.ContainerID] = append(byContainer[instance.ContainerID], instance)
	}
	held := make(map[string]map[lineage.GUID]string) // by owners: what lies in somebody else's dataset nobody can use
	for _, container := range s.containers {
		known[container.ID] = true
		if container.JobID == "" && (settled(container.Status) || container.Status == store.StatusFailed) {
			i.container(s, *container, byContainer[container.ID])
		}
		if history := s.histories[container.ID]; history != nil {
			if held[container.OwnerID] == nil {
				held[container.OwnerID] = lineage.Locate(ownedBy(s.inventory, container.OwnerID))
			}
			i.snapshots(s, *container, *history, held[container.OwnerID])
		}
	}
	for _, instance := range s.instances {
		if !known[instance.ContainerID] {
			i.add(FindingInstanceUnknown, instance.Name, "With the agent stopped, `hoody-agent recover --apply` makes a record from what is there; or delete the instance.",
				"instance %s is marked as container %s, of which there is no record", instance.Name, instance.ContainerID)
		}
	}
	for _, dataset := range s.inventory.Datasets {
		i.dataset(s, dataset, known)
	}
	return i
}

func (i *inspection) add(code, object, hint, format string, args ...any) {
	i.findings = append(i.findings, Finding{Code: code, Object: object, Hint: hint, Text: fmt.Sprintf(format, args...)})
}

// container looks at one container's instance and files.
func (i *inspection) container(s scene, container store.Container, instances []Instance) {
	if container.Status == store.StatusFailed && !isLossReason(container.FailureReason) && container.Generation == (store.Generation{}) {
		return // it failed for another reason, and has never had either
	}
	name := InstanceName(container.ID)
	instanceExists := false
	for _, instance := range instances {
		if instance.Name == name {
			instanceExists = true
		}
	}
	for _, instance := range instances {
		switch {
		case instance.Name == name:
		case instanceExists:
			i.add(FindingInstanceCopied, instance.Name, "Take user.hoody.container off it, or delete it; copies are made through the API.",
				"instance %s carries the mark of container %s, which has one of its own", instance.Name, container.ID)
		default:
			i.add(FindingInstanceRenamed, container.ID, fmt.Sprintf("Stop it and rename it back: incus rename %s %s", instance.Name, name),
				"the instance of container %s (%s) is called %s now", container.ID, container.Name, instance.Name)
		}
	}
	dataset, filesExist := s.inventory.Dataset(InstanceDataset(name))
	filesExist = filesExist && dataset.Properties[propertyContainer] == container.ID
	if !instanceExists {
		i.add(FindingInstanceGone, container.ID, "If it was deleted on purpose, delete the container, too; copies of it are not affected. If not: with its files back in place, incus admin recover makes it anew.",
			"container %s (%s) has no instance %s", container.ID, container.Name, name)
	}
	if !filesExist {
		i.add(FindingFilesGone, container.ID, filesHint(s.inventory, container),
			"the files of container %s (%s) are not in %s", container.ID, container.Name, InstanceDataset(name))
	}
	reason := lossReason(instanceExists, filesExist)
	switch {
	case reason != "" && container.Status == store.StatusFailed && !isLossReason(container.FailureReason):
		// Why it failed says more. What it lacks is among the findings.
	case reason != "" && (container.Status != store.StatusFailed || container.FailureReason != reason):
		i.failed[container.ID] = reason
	case reason == "" && container.Status == store.StatusFailed && recoverable(container, dataset):
		i.found = append(i.found, container.ID)
	}
}

// recoverable tells whether a failed container of which nothing is gone works again: one whose operation could not be undone does if the
// generation in place is the recorded one.
func recoverable(container store.Container, current lineage.Dataset) bool {
	_, inPlace := markerOf(current, container.Generation)
	return isLossReason(container.FailureReason) || inPlace
}

// lossReason is why a container fails of which the instance or the files are not there; empty when both are.
func lossReason(instanceExists, filesExist bool) string {
	switch {
	case !instanceExists && !filesExist:
		return reasonAllGone
	case !instanceExists:
		return reasonInstanceGone
	case !filesExist:
		return reasonFilesGone
	}
	return ""
}

// filesHint tells where a container's files went, if they are still in the pool: generations that were displaced are its, too, but
// only one has the marker of the current one.
func filesHint(inventory lineage.Inventory, container store.Container) string {
	for _, dataset := range inventory.Datasets {
		if _, marked := markerOf(dataset, container.Generation); marked && dataset.Properties[propertyContainer] == container.ID {
			return fmt.Sprintf("They are in %s: rename that back, below the agent's dataset, and the container works again.", dataset.Name)
		}
	}
	return "Look for a dataset with the snapshot " + container.Generation.Marker.Name + " and hoody:container=" + container.ID + "; renamed back, the container works again."
}

func (i *inspection) snapshots(s scene, container store.Container, history store.History, held map[lineage.GUID]string) {
	var missing []lineage.GUID
	differs := false
	for _, snapshot := range history.Snapshots {
		_, there := held[snapshot.GUID]
		differs = differs || there == snapshot.Missing
		if !there {
			missing = append(missing, snapshot.GUID)
			last := container.LastOperation
			unsettled := snapshot.CreatedAt.After(s.settledBefore) || container.JobID != "" || last != nil && last.FinishedAt.After(s.settledBefore)
			if unsettled && !snapshot.Missing {
				continue // it may have been made, or have come, since the pool was looked at; who marks it as missing looks again
			}
			i.add(FindingSnapshotGone, container.ID+"/"+snapshot.Name, "Delete it from the list; it cannot be restored.",
				"snapshot %s of container %s (%s) is not in the pool", snapshot.Name, container.ID, container.Name)
		}
	}
	if differs {
		i.missing[container.ID] = missing
	}
}

// dataset looks at one dataset that carries the agent's mark.
func (i *inspection) dataset(s scene, dataset lineage.Dataset, known map[string]bool) {
	id := dataset.Properties[propertyContainer]
	job := jobIn(strings.TrimPrefix(dataset.Name, incomingPrefix))
	switch {
	case strings.HasPrefix(dataset.Name, incomingPrefix) && s.jobs[job] == nil:
		hint := "Garbage collection removes it."
		if dataset.Name == incomingDataset(job) && slices.ContainsFunc(dataset.Snapshots, func(s lineage.Snapshot) bool { return !agentMade(s.Name) }) {
			hint = "It holds a snapshot of somebody else: once that is destroyed, garbage collection removes it."
		}
		i.add(FindingJobLeftover, dataset.Name, hint, "%s is of job %s, which is over", dataset.Name, job)
	case id == "":
	case strings.HasPrefix(dataset.Name, deletedPrefix):
		i.add(FindingFilesDeleted, dataset.Name, "The agent takes it back among its generations.",
			"the runtime deleted the instance of container %s; its files are in %s", id, dataset.Name)
		i.takeBack = append(i.takeBack, dataset.Name)
	case !known[id] && dataset.Name == ContainerDataset(id):
		i.add(FindingFilesUnknown, dataset.Name, "With the agent stopped, `hoody-agent recover --apply` makes a record from what is there.",
			"%s has the files of container %s, of which there is no record", dataset.Name, id)
	}
}
