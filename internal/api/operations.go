package api

import (
	"context"
	"iter"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Operations is what the contract does, done by the agent. Requests have been checked against the contract's formats;
// whether the caller may, and whether the state allows it, is decided here.
//
// An error is an *errdefs.Error where there is something to tell the caller. Of every other error the caller learns
// the class only.
type Operations interface {
	projectOperations
	containerOperations
	snapshotOperations
	eventOperations
	userOperations

	// Servers returns the servers that the caller may place containers on.
	Servers(ctx context.Context, caller agent.Caller) ([]agent.ServerView, error)
	Server(ctx context.Context, caller agent.Caller, id string) (agent.ServerView, error)
}

// eventOperations are those on what has happened.
type eventOperations interface {
	Events(ctx context.Context, caller agent.Caller, query agent.EventQuery) (agent.EventPage, error)
	// StreamEvents goes on until ctx ends, or with an error. An item without anything in it says that the stream lives.
	StreamEvents(ctx context.Context, caller agent.Caller, filter agent.EventFilter, after string) iter.Seq2[agent.StreamItem, error]
}

// userOperations are the control plane's. All that take a context are refused to everybody else.
type userOperations interface {
	// Admit refuses a caller who is banned, with ACCOUNT_BANNED.
	Admit(caller agent.Caller) error
	// NamesOf returns what a user is called; the zero value for one that is not registered.
	NamesOf(userID string) store.User

	Users(ctx context.Context, caller agent.Caller, query agent.ListQuery) (agent.UserPage, error)
	User(ctx context.Context, caller agent.Caller, id string) (store.User, error)
	PutUser(ctx context.Context, caller agent.Caller, id, username, alias string) (store.User, error)
	BanUser(ctx context.Context, caller agent.Caller, id, reason string) (store.User, error)
	UnbanUser(ctx context.Context, caller agent.Caller, id string) (store.User, error)
}

// projectOperations are those on projects.
type projectOperations interface {
	Projects(ctx context.Context, caller agent.Caller, query agent.ListQuery) (agent.ProjectPage, error)
	Project(ctx context.Context, caller agent.Caller, id string) (store.Project, error)
	CreateProject(ctx context.Context, caller agent.Caller, request agent.CreateProjectRequest) (store.Project, error)
	UpdateProject(ctx context.Context, caller agent.Caller, id string, request agent.UpdateProjectRequest) (store.Project, error)
	// DeleteProject returns the project as it was. One that has containers is refused with PROJECT_HAS_CONTAINERS.
	DeleteProject(ctx context.Context, caller agent.Caller, id string) (store.Project, error)

	Permissions(ctx context.Context, caller agent.Caller, projectID string, query agent.ListQuery) (agent.PermissionPage, error)
	AddPermission(ctx context.Context, caller agent.Caller, projectID string, request agent.AddPermissionRequest) (store.Permission, error)
	UpdatePermission(ctx context.Context, caller agent.Caller, projectID, id string, level store.PermissionLevel) (store.Permission, error)
	RemovePermission(ctx context.Context, caller agent.Caller, projectID, id string) error
}

// containerOperations are those on containers. Copy and Sync return when the work is accepted, Operate when it is done.
type containerOperations interface {
	Containers(ctx context.Context, caller agent.Caller, query agent.ContainerQuery) (agent.ContainerPage, error)
	Container(ctx context.Context, caller agent.Caller, id string) (agent.ContainerView, error)
	CreateContainer(ctx context.Context, caller agent.Caller, projectID string, request agent.CreateContainerRequest) (agent.CreateResult, error)
	UpdateContainer(ctx context.Context, caller agent.Caller, id string, request agent.UpdateContainerRequest) (agent.ContainerView, error)
	DeleteContainer(ctx context.Context, caller agent.Caller, id string) error
	ContainerStats(ctx context.Context, caller agent.Caller, id string) (agent.ContainerStats, error)
	ProjectStats(ctx context.Context, caller agent.Caller, projectID string) (agent.ProjectStats, error)
	StatusLogs(ctx context.Context, caller agent.Caller, id string, query agent.ListQuery) (agent.StatusLogPage, error)
	Environment(ctx context.Context, caller agent.Caller, id string) (store.Container, error)
	// ChangeEnvironment leaves the variables that it does not name as they are.
	ChangeEnvironment(ctx context.Context, caller agent.Caller, id string, set map[string]string, remove ...string) (store.Container, error)
	// Operate gives the operation up after timeout; 0 is the agent's default.
	Operate(ctx context.Context, caller agent.Caller, id string, op agent.Operation, timeout time.Duration) (agent.OperationResult, error)
	Copy(ctx context.Context, caller agent.Caller, id string, request agent.CopyRequest) (agent.CopyResult, error)
	// Sync takes the copy's id. A container that is no copy is refused with CONTAINER_NOT_COPIED, a copy whose source
	// is gone with SOURCE_CONTAINER_NOT_FOUND.
	Sync(ctx context.Context, caller agent.Caller, id string) (agent.SyncResult, error)
	CancelOperation(ctx context.Context, caller agent.Caller, id string) error
}

// snapshotOperations are those on a container's snapshots.
type snapshotOperations interface {
	Snapshots(ctx context.Context, caller agent.Caller, id string) (agent.SnapshotList, error)
	CreateSnapshot(ctx context.Context, caller agent.Caller, id string, request agent.CreateSnapshotRequest) (agent.SnapshotResult, error)
	// The following take a snapshot's name or alias. RestoreSnapshot returns when the container is as it was.
	RestoreSnapshot(ctx context.Context, caller agent.Caller, id, name string) (agent.SnapshotResult, error)
	// RenameSnapshot changes the alias; nil is none.
	RenameSnapshot(ctx context.Context, caller agent.Caller, id, name string, alias *string) (agent.SnapshotResult, error)
	// DeleteSnapshot returns the snapshot as it was.
	DeleteSnapshot(ctx context.Context, caller agent.Caller, id, name string) (agent.SnapshotResult, error)
}
