package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// ErrOccupied is an instance that somebody else works on for so long that it was not waited for.
var ErrOccupied = fmt.Errorf("another operation on the instance does not end: %w", errdefs.ErrUnavailable)

// Runtime runs the containers of one server. Instance names derive from container ids (InstanceName); an instance's
// files are the pool's dataset InstanceDataset(name).
//
// All methods may be called concurrently, for one instance one at a time. Errors belong to the classes of package errdefs.
type Runtime interface {
	// CreateEmpty makes a stopped instance whose dataset is an empty stub.
	CreateEmpty(ctx context.Context, spec InstanceSpec) error
	// CreateFromImage makes a stopped instance from a local image.
	CreateFromImage(ctx context.Context, spec InstanceSpec, image string) error
	// Delete removes the instance's record and, when it still has one, its dataset. A missing instance is success.
	Delete(ctx context.Context, instance string) error

	// Start boots the instance; running already is success.
	Start(ctx context.Context, instance string) error
	// Stop asks the instance to shut down and waits; after timeout it is ErrBusy. Stopped already is success. It is ErrOccupied when the instance
	// was never asked, since somebody else's operation on it does not end.
	Stop(ctx context.Context, instance string, timeout time.Duration) error
	// ForceStop ends it at once. Stopped already is success.
	ForceStop(ctx context.Context, instance string) error
	// Pause freezes a running instance; paused already is success, stopped ErrFailedPrecondition.
	Pause(ctx context.Context, instance string) error
	// Resume lets a paused one go on; running already is success, stopped ErrFailedPrecondition.
	Resume(ctx context.Context, instance string) error

	// Instance reads one instance's state and configuration.
	Instance(ctx context.Context, instance string) (Instance, error)
	// Instances lists all instances that carry a hoody container id.
	Instances(ctx context.Context) ([]Instance, error)
	// Stats measures one instance. It may take half a second.
	Stats(ctx context.Context, instance string) (Stats, error)
	// Configure changes configuration keys; an empty value removes one. What the agent does not manage stays.
	Configure(ctx context.Context, instance string, config map[string]string) error
	// Describe changes the description that people see.
	Describe(ctx context.Context, instance, description string) error
	// Protect turns deletion protection on or off.
	Protect(ctx context.Context, instance string, on bool) error
	// DeleteSnapshot removes the runtime's record of a snapshot of its own, and the pool's snapshot if it is still in the
	// instance's dataset. A missing one is success.
	DeleteSnapshot(ctx context.Context, instance, snapshot string) error

	// Events reports changes that anybody makes to instances, until ctx ends; the channel is closed then.
	// Events may be lost when the connection breaks: an event of kind EventResync says so.
	Events(ctx context.Context) (<-chan RuntimeEvent, error)
	// Check answers whether the runtime works and uses the given pool.
	Check(ctx context.Context) error
}

// InstanceSpec is what an instance is made with. It is always made with autostart off, and protected against deletion
// behind the agent's back (see Protect).
type InstanceSpec struct {
	Name        string
	ContainerID string
	Description string
	Env         map[string]string
	Config      map[string]string // keys that travel with a container, see PortableConfig
	RootSize    string            // size limit of its root disk, see Instance.RootSize; empty for the runtime's default
	IDMap       string            // on-disk id map of the files it will get; empty for the runtime's default
}

// InstanceStatus is what an instance is doing.
type InstanceStatus string

// The states.
const (
	InstanceRunning InstanceStatus = "running"
	InstanceStopped InstanceStatus = "stopped"
	InstancePaused  InstanceStatus = "paused"
	InstanceError   InstanceStatus = "error"
)

// Instance is a runtime's view of a container.
type Instance struct {
	Name        string
	ContainerID string
	Description string
	Status      InstanceStatus
	Config      map[string]string // portable part: limits and the like
	Env         map[string]string
	IDMap       string
	Autostart   bool
	Snapshots   []string // the runtime's own snapshots of it, by name, oldest first
	// Unsupported lists, for people, what keeps this instance from being a source:
	// a virtual machine, an attached custom volume, another storage pool. Empty for none.
	Unsupported []string
	// RootSize is the size limit of its root disk as the runtime writes it, such as 10GiB, its own or one of its profiles'.
	// Empty for none. It travels with a container as Config does.
	RootSize string
	// RootLimits are the properties the runtime wants on the instance's dataset, such as refquota.
	RootLimits Properties
}

// RuntimeEvent says that an instance changed.
type RuntimeEvent struct {
	Kind     EventKind
	Instance string // empty for EventResync
}

// EventKind is what happened to an instance.
type EventKind string

// The kinds.
const (
	EventStarted EventKind = "started"
	EventStopped EventKind = "stopped"
	EventPaused  EventKind = "paused"
	EventResumed EventKind = "resumed"
	EventCreated EventKind = "created"
	EventDeleted EventKind = "deleted"
	EventUpdated EventKind = "updated"
	EventResync  EventKind = "resync" // events may have been missed; look at everything again
)

// Configuration keys by which Configure changes what Instance shows. They are part of the contract of Runtime, with the
// names that Incus gives them.
const (
	ConfigAutostart = "boot.autostart"            // Instance.Autostart: "true" or "false"
	ConfigIDMap     = "volatile.last_state.idmap" // Instance.IDMap
)

// InstanceName derives the runtime's name of a container.
func InstanceName(containerID string) string { return "hoody-" + containerID }

// RuntimeSnapshotPrefix is in front of the names that the runtime's own snapshots have in the pool: Incus calls the
// snapshot x of an instance "snapshot-x" there.
const RuntimeSnapshotPrefix = "snapshot-"

// InstanceDataset is where the runtime keeps an instance's files.
func InstanceDataset(instance string) string { return containersPrefix + instance }

// ContainerDataset is where the runtime keeps a container's files.
func ContainerDataset(containerID string) string { return InstanceDataset(InstanceName(containerID)) }
