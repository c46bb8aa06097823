package agent

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Types of events; those of a container's status are "container." and the status.
const (
	eventProjectCreated    = "project.created"
	eventProjectUpdated    = "project.updated"
	eventProjectDeleted    = "project.deleted"
	eventPermissionAdded   = "project.permission.added"
	eventPermissionUpdated = "project.permission.updated"
	eventPermissionRemoved = "project.permission.removed"

	eventContainerDeleted  = "container.deleted"
	eventContainerRenamed  = "container.renamed"
	eventContainerUpdated  = "container.resource_updated"
	eventAutostartEnabled  = "container.autostart_enabled"
	eventAutostartDisabled = "container.autostart_disabled"
	eventKeyAdded          = "container.ssh_key.added"
	eventKeyRemoved        = "container.ssh_key.removed"

	eventSnapshotCreated  = "container.snapshot.created"
	eventSnapshotDeleted  = "container.snapshot.deleted"
	eventSnapshotRenamed  = "container.snapshot.renamed"
	eventSnapshotRestored = "container.snapshot.restored"

	eventOperationAccepted  = "container.operation.accepted"
	eventOperationProgress  = "container.operation.progress" // in streams only, never recorded
	eventOperationCompleted = "container.operation.completed"
	eventOperationFailed    = "container.operation.failed"
)

// maxSnapshotEvents is how many snapshots of one change have an event each. An event is two of the 128 operations that etcd allows a transaction.
const maxSnapshotEvents = 20

// withEvents makes a transaction record the events that its changes amount to. Operations need not think of them, and no state
// changes without its event. actor is who asked; empty for nobody in particular.
func (a *Agent) withEvents(actor string, change func(*store.Tx) error) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		if err := change(tx); err != nil {
			return err
		}
		changes, err := tx.Changes()
		if err != nil {
			return err
		}
		events, err := eventsOf(changes, actor, tx.Container)
		if err != nil {
			return err
		}
		now := a.now()
		for i, event := range events {
			event.ID, event.CreatedAt = newEventID(now, i), now
			if err := tx.PutEvent(event); err != nil {
				return err
			}
		}
		return nil
	}
}

// newEventID makes an id as all records have one; the events of one transaction sort in their order.
func newEventID(now time.Time, n int) string {
	id := newIDBytes(now)
	binary.BigEndian.PutUint16(id[4:], uint16(n))
	return hex.EncodeToString(id[:])
}

// eventsOf says what a transaction's changes mean to those who may see the projects and containers in it. container finds
// those that the transaction did not change.
func eventsOf(changes []store.Change, actor string, container func(id string) (store.Container, error)) ([]store.Event, error) {
	e := &eventWriter{actor: actor, container: container, seen: make(map[string]*store.Container)}
	for _, change := range changes {
		if old, new := store.Records[store.Container](change); old != nil || new != nil {
			e.seen[change.ID] = either(new, old)
		}
		if old, new := store.Records[store.Job](change); e.actor == "" && (old != nil || new != nil) {
			e.actor = either(new, old).UserID
		}
	}
	// In the order in which a reader expects them: what was asked for, what became of it, that it is done.
	forEach(changes, e.project)
	forEach(changes, e.jobAccepted)
	forEach(changes, e.containerChanged)
	forEach(changes, func(old, new *store.History) { e.history(old, new, changes) })
	forEach(changes, e.jobEnded)
	return e.events, e.err
}

func forEach[T store.Record](changes []store.Change, tell func(old, new *T)) {
	for _, change := range changes {
		if old, new := store.Records[T](change); old != nil || new != nil {
			tell(old, new)
		}
	}
}

func either[T any](first, second *T) *T {
	if first != nil {
		return first
	}
	return second
}

// eventWriter collects the events of one transaction.
type eventWriter struct {
	actor     string
	container func(id string) (store.Container, error)
	seen      map[string]*store.Container // containers that the transaction changed, and those looked up
	events    []store.Event
	err       error
}

func (e *eventWriter) ofProject(kind string, project *store.Project, more map[string]any) {
	payload := map[string]any{"project": map[string]any{"id": project.ID, "alias": project.Alias}}
	maps.Copy(payload, more)
	e.add(store.Event{
		Type: kind, ResourceType: "project", ResourceID: project.ID, ProjectID: project.ID,
		OwnerID: project.UserID, RealmIDs: project.RealmIDs, Payload: payload,
	})
}

func (e *eventWriter) ofContainer(kind string, container *store.Container, more map[string]any) {
	described := map[string]any{
		"id": container.ID, "name": container.Name, "status": container.Status, "server_id": container.ServerID, "project_id": container.ProjectID,
	}
	if container.SourceContainerID != "" {
		described["source_container_id"] = container.SourceContainerID
	}
	payload := map[string]any{"container": described}
	maps.Copy(payload, more)
	e.add(store.Event{
		Type: kind, ResourceType: "container", ResourceID: container.ID, ContainerID: container.ID, ProjectID: container.ProjectID,
		OwnerID: container.OwnerID, RealmIDs: container.RealmIDs, Payload: payload,
	})
}

func (e *eventWriter) add(event store.Event) {
	event.UserID = e.actor
	if event.UserID == "" {
		event.UserID = event.OwnerID
	}
	e.events = append(e.events, event)
}

// find returns the container that a change is about, nil for one that is gone.
func (e *eventWriter) find(id string) *store.Container {
	if known, ok := e.seen[id]; ok {
		return known
	}
	found, err := e.container(id)
	switch {
	case err == nil:
		e.seen[id] = &found
	case errors.Is(err, errdefs.ErrNotFound):
		e.seen[id] = nil
	default:
		e.err = errors.Join(e.err, fmt.Errorf("event of container %s: %w", id, err))
	}
	return e.seen[id]
}

func (e *eventWriter) project(old, new *store.Project) {
	switch {
	case old == nil:
		e.ofProject(eventProjectCreated, new, nil)
		return
	case new == nil:
		e.ofProject(eventProjectDeleted, old, nil)
		return
	}
	if old.Alias != new.Alias || old.Color != new.Color || !slices.Equal(old.RealmIDs, new.RealmIDs) || !reflect.DeepEqual(old.MaxContainers, new.MaxContainers) {
		e.ofProject(eventProjectUpdated, new, nil)
	}
	tell := func(kind string, grant *store.Permission) {
		e.ofProject(kind, new, map[string]any{"permission": map[string]any{
			"id": grant.ID, "user_id": grant.UserID, "permission_level": grant.Level,
		}})
	}
	compareLists(old.Permissions, new.Permissions, func(p store.Permission) string { return p.ID }, func(was, is *store.Permission) {
		switch {
		case was == nil:
			tell(eventPermissionAdded, is)
		case is == nil:
			tell(eventPermissionRemoved, was)
		case was.Level != is.Level:
			tell(eventPermissionUpdated, is)
		}
	})
}

// compareLists hands out what two lists hold under each key: in the order of the new one, nil for what the old one had not,
// and then, by key, what only the old one had.
func compareLists[T any](old, new []T, key func(T) string, tell func(was, is *T)) {
	before := make(map[string]*T)
	for i := range old {
		before[key(old[i])] = &old[i]
	}
	for i := range new {
		id := key(new[i])
		tell(before[id], &new[i])
		delete(before, id)
	}
	for _, id := range slices.Sorted(maps.Keys(before)) {
		tell(before[id], nil)
	}
}

func (e *eventWriter) containerChanged(old, new *store.Container) {
	if new == nil {
		gone := *old
		gone.Status = store.StatusDeleted
		e.ofContainer(eventContainerDeleted, &gone, nil)
		return
	}
	if old == nil {
		e.ofContainer("container."+string(new.Status), new, nil)
		return
	}
	if old.Status != new.Status {
		more := map[string]any{"previous_status": old.Status}
		if new.Status == store.StatusFailed {
			more["reason"] = new.FailureReason
		}
		e.ofContainer("container."+string(new.Status), new, more)
	}
	if old.Name != new.Name {
		e.ofContainer(eventContainerRenamed, new, map[string]any{"previous_name": old.Name})
	}
	if old.Autostart != new.Autostart {
		kind := eventAutostartDisabled
		if new.Autostart {
			kind = eventAutostartEnabled
		}
		e.ofContainer(kind, new, nil)
	}
	if old.SSHPublicKey != new.SSHPublicKey {
		if old.SSHPublicKey != "" {
			e.ofContainer(eventKeyRemoved, new, nil)
		}
		if new.SSHPublicKey != "" {
			e.ofContainer(eventKeyAdded, new, nil)
		}
	}
	if fields := changedFields(old, new); len(fields) > 0 {
		e.ofContainer(eventContainerUpdated, new, map[string]any{"fields": fields})
	}
}

// changedFields names what a user has changed of a container that has no event of its own. Values are not told: they may be secrets.
func changedFields(old, new *store.Container) []string {
	var fields []string
	for name, same := range map[string]bool{
		"ai":               old.AI == new.AI,
		"color":            old.Color == new.Color,
		"comment":          reflect.DeepEqual(old.Comment, new.Comment),
		"dev_kit":          old.DevKit == new.DevKit,
		"environment_vars": maps.Equal(old.Env, new.Env),
		"hoody_kit":        old.HoodyKit == new.HoodyKit,
		"ramdisk":          old.Ramdisk == new.Ramdisk,
		"ramdisk_scope":    old.RamdiskScope == new.RamdiskScope,
		"realm_ids":        slices.Equal(old.RealmIDs, new.RealmIDs),
	} {
		if !same {
			fields = append(fields, name)
		}
	}
	slices.Sort(fields)
	return fields
}

// history tells which snapshots came, went and were renamed. What a copy brought along is part of the copy, and what a
// deleted container had is gone with it.
func (e *eventWriter) history(old, new *store.History, changes []store.Change) {
	if new == nil {
		return
	}
	container := e.find(new.ContainerID)
	if container == nil || broughtAlong(changes, new.ContainerID) {
		return
	}
	if old == nil {
		old = &store.History{}
	}
	told := make(map[string][]map[string]any) // by type of event
	changed := 0
	tell := func(kind string, snapshot *store.Snapshot) {
		told[kind] = append(told[kind], map[string]any{"name": snapshot.Name, "alias": snapshot.Alias, "undo": snapshot.Undo})
		changed++
	}
	compareLists(old.Snapshots, new.Snapshots, func(s store.Snapshot) string { return s.Name }, func(was, is *store.Snapshot) {
		switch {
		case was == nil:
			tell(eventSnapshotCreated, is)
		case is == nil:
			tell(eventSnapshotDeleted, was)
		case !reflect.DeepEqual(was.Alias, is.Alias):
			tell(eventSnapshotRenamed, is)
		}
	})
	for _, kind := range []string{eventSnapshotCreated, eventSnapshotDeleted, eventSnapshotRenamed} {
		snapshots := told[kind]
		if changed > maxSnapshotEvents && len(snapshots) > 0 {
			e.ofContainer(kind, container, map[string]any{"snapshots": snapshots})
			continue
		}
		for _, snapshot := range snapshots {
			e.ofContainer(kind, container, map[string]any{"snapshot": snapshot})
		}
	}
}

func broughtAlong(changes []store.Change, containerID string) bool {
	return slices.ContainsFunc(changes, func(change store.Change) bool {
		_, job := store.Records[store.Job](change)
		return job != nil && job.Kind == store.JobCopy && job.ContainerID == containerID
	})
}

func (e *eventWriter) jobAccepted(old, new *store.Job) {
	if old != nil || new == nil {
		return
	}
	if container := e.find(new.ContainerID); container != nil {
		e.ofContainer(eventOperationAccepted, container, operationPayload(new))
	}
}

func (e *eventWriter) jobEnded(old, new *store.Job) {
	if old == nil || new == nil || !old.Open() || new.Open() {
		return
	}
	container := e.find(new.ContainerID)
	if container == nil {
		return
	}
	payload := operationPayload(new)
	if new.State != store.JobDone {
		if new.Error != nil {
			payload["error"] = new.Error.Message
		}
		e.ofContainer(eventOperationFailed, container, payload)
		return
	}
	if new.Kind == store.JobRestore {
		restored := map[string]any{"operation_id": new.ID}
		if new.Snapshot != nil {
			restored["snapshot"] = map[string]any{"name": new.Snapshot.Name, "alias": new.Snapshot.Alias, "undo": new.Snapshot.Undo}
		}
		e.ofContainer(eventSnapshotRestored, container, restored)
	}
	if new.Kind == store.JobCopy || new.Kind == store.JobSync || new.Kind == store.JobRestore {
		payload["bytes_received"], payload["no_op"], payload["down_millis"] = new.Progress.BytesDone, new.Progress.NoOp, new.Progress.DownMillis
	}
	e.ofContainer(eventOperationCompleted, container, payload)
}

func operationPayload(job *store.Job) map[string]any {
	return map[string]any{"operation_id": job.ID, "kind": job.Kind, "state": job.State}
}
