package agent

import (
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Caller is who asks, as authentication established it.
type Caller struct {
	UserID   string
	Operator bool      // the control plane: may act on everybody's projects
	RealmID  string    // the realm that the request is made in; empty for none
	Expires  time.Time // when the credentials end
	Once     *Once     // what makes the request count once; nil for nothing
	// RequestID goes into the job that the request makes, and with it into the log of every server that has part in it.
	RequestID string

	// ActingOperator is the operator who acts as the user; empty for the user himself.
	ActingOperator string
}

// Once makes a request count once, however often it is sent within a day: a repetition does nothing and is answered with
// what the first made.
type Once struct {
	Scope, Key, Digest string // see store.Request
	// Repeated is set by the operation: this was a repetition.
	Repeated bool
}

// ListQuery is paging and sorting as the contract has it; zero values mean the route's defaults.
type ListQuery struct {
	Page, Limit int
	SortBy      string
	Ascending   bool
	RealmID     string
}

// ContainerQuery selects containers; ProjectID empty means all that the caller may see.
type ContainerQuery struct {
	ListQuery
	ProjectID       string
	IncludeDeleting bool
}

// CreateProjectRequest is checked against the contract's formats already.
type CreateProjectRequest struct {
	Alias         string
	Color         string // any accepted form; empty for a random one
	MaxContainers *int
	RealmIDs      []string
}

// UpdateProjectRequest is checked against the contract's formats already; nil means unchanged.
type UpdateProjectRequest struct {
	Alias            string
	Color            *string
	RealmIDs         *[]string
	SetMaxContainers bool // whether MaxContainers is to be taken over, be it nil for no limit
	MaxContainers    *int
}

// AddPermissionRequest is checked against the contract's formats already.
type AddPermissionRequest struct {
	UserID string
	Level  store.PermissionLevel
}

// CreateContainerRequest is checked against the contract's formats already; nil means the documented default.
type CreateContainerRequest struct {
	ServerID     string
	Name         string // empty or "rand" for a generated one
	Color        string
	Image        string
	AI           *bool
	HoodyKit     *bool
	DevKit       *bool
	Autostart    *bool
	Ramdisk      *bool
	Env          map[string]string
	SSHPublicKey string
	Comment      *string
	RealmIDs     []string
}

// UpdateContainerRequest is checked against the contract's formats already; nil means unchanged.
type UpdateContainerRequest struct {
	Name            *string
	Color           *string
	AI              *bool
	Autostart       *bool
	Ramdisk         *bool
	RamdiskScope    *string
	Env             map[string]string // takes the place of all variables, when it is there
	SetSSHPublicKey bool              // whether SSHPublicKey is to be taken over, be it empty for none
	SSHPublicKey    string
	SetComment      bool // whether Comment is to be taken over, be it nil for none
	Comment         *string
	RealmIDs        *[]string
}

// CopyRequest is checked against the contract's formats already.
type CopyRequest struct {
	TargetProjectID   string
	TargetServerID    string // empty for the source's server
	Name              string // empty for a generated one
	SSHPublicKey      string // empty for a fresh key pair
	SourceSnapshot    string // name or alias; empty for the state of now
	CopyFirewallRules bool
	CopyNetworkRules  bool
}

// ContainerView is a container with what else its API object shows.
type ContainerView struct {
	Container store.Container
	Project   store.Project
	Server    store.Server
	Job       *store.Job // the operation under way, for its progress; nil for none
}

// ContainerPage is one page of containers.
type ContainerPage struct {
	Containers []ContainerView
	Total      int
}

// ProjectPage is one page of projects.
type ProjectPage struct {
	Projects []store.Project
	Total    int
}

// PermissionPage is one page of a project's grants.
type PermissionPage struct {
	Permissions []store.Permission
	Total       int
}

// CreateResult is an accepted create; PrivateKey is empty unless a key pair was generated.
type CreateResult struct {
	View       ContainerView
	PrivateKey string // OpenSSH PEM; handed out once, never stored
}

// CopyResult is an accepted copy.
type CopyResult struct {
	View       ContainerView
	PrivateKey string // OpenSSH PEM of the generated key; empty when the caller brought a key; never stored
	JobID      string
}

// SyncResult is an accepted sync.
type SyncResult struct {
	ContainerID string
	SourceID    string
	Status      store.Status
	JobID       string
}

// Operation is what can be asked of a container's runtime.
type Operation string

// The contract's operations.
const (
	OperationStart     Operation = "start"
	OperationStop      Operation = "stop"
	OperationForceStop Operation = "force-stop"
	OperationRestart   Operation = "restart"
	OperationPause     Operation = "pause"
	OperationResume    Operation = "resume"
)

// OperationResult is how an operation ended. It is the errdefs.Error's Data, too, when the operation was refused or failed.
type OperationResult struct {
	Error       bool         `json:"error"`
	Operation   Operation    `json:"operation"`
	ContainerID string       `json:"container_id"`
	ProjectID   string       `json:"project_id"`
	Message     string       `json:"message"`
	Status      store.Status `json:"status"`
	OperationID string       `json:"operation_id,omitempty"`
}

// SnapshotList is a container's snapshots, newest first.
type SnapshotList struct {
	Container    store.Container
	Snapshots    []store.Snapshot
	MaxSnapshots int
}

// CreateSnapshotRequest is checked against the contract's formats already.
type CreateSnapshotRequest struct {
	Alias      *string
	ExpiryDays *int
}

// SnapshotResult is a snapshot just made.
type SnapshotResult struct {
	Container store.Container
	Snapshot  store.Snapshot
}

// ServerView is a server with what is counted and measured about it.
type ServerView struct {
	Server     store.Server
	Alive      bool
	LastSeen   time.Time
	Containers int
}
