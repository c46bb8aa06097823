package store

import (
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// Server is one container host of the fleet. It is alive while its lease is (Mirror.Alive).
type Server struct {
	ID            string    `json:"id"`
	Name          string    `json:"name"`
	PeerAddress   string    `json:"peer_address"` // host:port other agents dial
	APIAddress    string    `json:"api_address"`
	Country       string    `json:"country,omitempty"`
	Region        string    `json:"region,omitempty"`
	City          string    `json:"city,omitempty"`
	Datacenter    string    `json:"datacenter,omitempty"`
	MaxContainers int       `json:"max_containers"`     // 0 = no limit
	Draining      bool      `json:"draining,omitempty"` // takes no new containers
	MaxSnapshots  int       `json:"max_snapshots"`      // of a user's, per container
	Cores         int       `json:"cores"`
	MemoryBytes   uint64    `json:"memory_bytes"`
	PoolSize      uint64    `json:"pool_size"`
	PoolFree      uint64    `json:"pool_free"`
	Version       string    `json:"version"`
	CreatedAt     time.Time `json:"created_at"`
	UpdatedAt     time.Time `json:"updated_at"`
}

// PermissionLevel is what a grant allows; each level includes the ones before it.
type PermissionLevel string

// The levels, in rising order.
const (
	PermissionRead   PermissionLevel = "read"
	PermissionEdit   PermissionLevel = "edit"
	PermissionDelete PermissionLevel = "delete"
)

// Permission is one user's grant on a project that somebody else owns.
type Permission struct {
	ID        string          `json:"id"`
	UserID    string          `json:"user_id"`
	Level     PermissionLevel `json:"level"`
	CreatedAt time.Time       `json:"created_at"`
	UpdatedAt time.Time       `json:"updated_at"`
}

// Project groups containers of one owner.
type Project struct {
	ID            string       `json:"id"`
	UserID        string       `json:"user_id"`
	Alias         string       `json:"alias"`
	Color         string       `json:"color"`
	MaxContainers *int         `json:"max_containers"` // nil = no limit
	IsDefault     bool         `json:"is_default"`
	RealmIDs      []string     `json:"realm_ids"`
	Permissions   []Permission `json:"permissions"`
	Containers    int          `json:"containers"` // live containers; kept in the transactions that add and remove them, so the limit holds
	CreatedAt     time.Time    `json:"created_at"`
	UpdatedAt     time.Time    `json:"updated_at"`
}

// Status is a container's state as the contract names it.
type Status string

// The contract's states.
const (
	StatusCreating Status = "creating"
	StatusRunning  Status = "running"
	StatusPaused   Status = "paused"
	StatusStopped  Status = "stopped"
	StatusFailed   Status = "failed"
	StatusDeleted  Status = "deleted"
	StatusCopying  Status = "copying"
	StatusDeleting Status = "deleting"
)

// SnapshotRef names one snapshot: GUID is its identity, Name its short name in the pool when it was recorded.
type SnapshotRef struct {
	GUID lineage.GUID `json:"guid"`
	Name string       `json:"name"`
}

// Generation describes the dataset that a container runs on now.
type Generation struct {
	Marker SnapshotRef  `json:"marker"` // taken after checkout: what differs from it was changed by the container
	Base   lineage.GUID `json:"base"`   // the snapshot it was checked out from; 0 for one made from an image
}

// Container is a reference to its current generation, with what the contract shows of it.
type Container struct {
	ID                string            `json:"id"`
	ProjectID         string            `json:"project_id"`
	ServerID          string            `json:"server_id"`
	OwnerID           string            `json:"owner_id"` // the project's user; lineage never crosses owners
	Name              string            `json:"name"`
	Color             string            `json:"color"`
	Image             string            `json:"image"`
	AI                bool              `json:"ai"`
	HoodyKit          bool              `json:"hoody_kit"`
	DevKit            bool              `json:"dev_kit"`
	Autostart         bool              `json:"autostart"`
	Ramdisk           bool              `json:"ramdisk"`
	RamdiskScope      string            `json:"ramdisk_scope,omitempty"` // empty for "container"
	Env               map[string]string `json:"env"`
	Config            map[string]string `json:"config"` // runtime configuration that travels: limits.*, security.* of the allow list
	SSHPublicKey      string            `json:"ssh_public_key"`
	InheritedKeys     []string          `json:"inherited_keys"` // recorded keys of all ancestors: removed from authorized_keys at checkout
	Comment           *string           `json:"comment"`
	RealmIDs          []string          `json:"realm_ids"`
	SourceContainerID string            `json:"source_container_id"` // empty unless a copy
	SyncedAt          time.Time         `json:"synced_at,omitzero"`  // of a copy: when the state of its source that it got last was frozen
	Follows           bool              `json:"follows,omitempty"`   // of a copy: somebody has asked for a sync since it was made, and so means it to follow its source
	CopyFirewallRules bool              `json:"copy_firewall_rules"`
	CopyNetworkRules  bool              `json:"copy_network_rules"`
	Status            Status            `json:"status"`
	FailureReason     string            `json:"failure_reason,omitempty"`
	Generation        Generation        `json:"generation"`
	SyncBase          lineage.GUID      `json:"sync_base"`       // of a copy: the source's state that it last took over, which the next sync starts from; a restore leaves it
	IDMap             string            `json:"idmap"`           // on-disk id map of the generation (volatile.last_state.idmap)
	JobID             string            `json:"job_id"`          // the one operation that works on it; empty for none
	PendingFreezes    []string          `json:"pending_freezes"` // jobs that still have to freeze this container
	SnapshotCount     int               `json:"snapshot_count"`
	LastUsedSnapshot  string            `json:"last_used_snapshot"`
	LastOperation     *OperationSummary `json:"last_operation"` // nil before the first has finished
	Settings          Settings          `json:"settings"`
	CreatedAt         time.Time         `json:"created_at"`
	UpdatedAt         time.Time         `json:"updated_at"`
	EditedAt          time.Time         `json:"edited_at,omitzero"` // when somebody last changed the record; of a copy UpdatedAt may be earlier
}

// Settings tells how far changes of the record's environment, autostart, name and key have reached the instance. The
// record is what is wanted; the container's server carries it to the instance when no operation works on it.
type Settings struct {
	Revision    int64      `json:"revision"`              // counts the changes
	Applied     int64      `json:"applied"`               // the revision that the instance has
	DroppedEnv  []string   `json:"dropped_env,omitempty"` // variables taken out since Applied: the instance may still have them
	KeyChanged  bool       `json:"key_changed,omitempty"` // since Applied
	AppliedAt   *time.Time `json:"applied_at"`
	AttemptedAt *time.Time `json:"attempted_at"`
	Error       string     `json:"error,omitempty"` // of the newest attempt, for the caller
}

// Pending tells whether the instance does not have yet what the record says.
func (s Settings) Pending() bool { return s.Applied < s.Revision }

// OperationSummary is what the newest finished operation on a container did.
type OperationSummary struct {
	ID         string    `json:"id"`
	Kind       JobKind   `json:"kind"`
	State      JobState  `json:"state"`
	Error      string    `json:"error,omitempty"` // why it failed
	Progress   Progress  `json:"progress"`
	FinishedAt time.Time `json:"finished_at"`
}

// Snapshot is one named state of a container: a user's snapshot, or an automatic one kept to undo.
type Snapshot struct {
	Name       string       `json:"name"` // canonical name in the API
	Alias      *string      `json:"alias"`
	GUID       lineage.GUID `json:"guid"`
	Undo       bool         `json:"undo"` // automatic; outside the user's limit
	IDMap      string       `json:"idmap"`
	Size       uint64       `json:"size"` // bytes referenced when taken
	CreatedAt  time.Time    `json:"created_at"`
	LastUsedAt *time.Time   `json:"last_used_at"`
	ExpiresAt  *time.Time   `json:"expires_at"`
	Missing    bool         `json:"missing,omitempty"` // not in its server's pool, when that was last looked at: destroyed by hand
}

// History is a container's snapshot list, oldest first. One value per container: at most 1,000 entries, about 350 bytes each.
type History struct {
	ContainerID string     `json:"container_id"`
	Snapshots   []Snapshot `json:"snapshots"`
}

// Tombstone says that a container's snapshots were deleted on purpose: without one, nothing that a user named is ever swept.
type Tombstone struct {
	ContainerID string         `json:"container_id"`
	ServerID    string         `json:"server_id"`
	Snapshots   []lineage.GUID `json:"snapshots"`
	Container   bool           `json:"container"` // the container itself was deleted, not only some of its snapshots
	DeletedAt   time.Time      `json:"deleted_at"`
}

// JobKind is the operation a job performs.
type JobKind string

// The operations.
const (
	JobCreate    JobKind = "create"
	JobDelete    JobKind = "delete"
	JobStart     JobKind = "start"
	JobStop      JobKind = "stop"
	JobForceStop JobKind = "force-stop"
	JobRestart   JobKind = "restart"
	JobPause     JobKind = "pause"
	JobResume    JobKind = "resume"
	JobSnapshot  JobKind = "snapshot"
	JobCopy      JobKind = "copy"
	JobSync      JobKind = "sync"
	JobRestore   JobKind = "restore"
)

// JobKinds are all of them.
func JobKinds() []JobKind {
	return []JobKind{
		JobCreate, JobDelete, JobStart, JobStop, JobForceStop, JobRestart, JobPause, JobResume, JobSnapshot, JobCopy, JobSync, JobRestore,
	}
}

// JobState is where a job stands.
type JobState string

// A job is open while queued or running.
const (
	JobQueued    JobState = "queued"
	JobRunning   JobState = "running"
	JobDone      JobState = "done"
	JobFailed    JobState = "failed"
	JobCancelled JobState = "cancelled"
)

// Freeze is the journal of the snapshot of the source that a copy or sync wants.
// Name is written before the snapshot is made, GUID after.
type Freeze struct {
	Name   string       `json:"name"`
	GUID   lineage.GUID `json:"guid"` // 0 until the snapshot is known to exist
	At     time.Time    `json:"at"`
	Reused bool         `json:"reused"` // an unchanged source lent its last snapshot, or the request shared another's
}

// Progress is what a job has moved so far; written every few seconds at most.
type Progress struct {
	BytesDone      uint64 `json:"bytes_done"`       // stream bytes received (uncompressed)
	BytesTotal     uint64 `json:"bytes_total"`      // estimate
	BytesWire      uint64 `json:"bytes_wire"`       // bytes on the wire after compression
	BytesPerSecond uint64 `json:"bytes_per_second"` // of BytesDone, lately; 0 when nothing moves
	Snapshots      int    `json:"snapshots"`        // received by this job
	Compression    string `json:"compression"`      // zstd if any stream was compressed, none if none was
	DownMillis     int64  `json:"down_millis"`      // how long the container was down for the swap
	NoOp           bool   `json:"no_op"`            // nothing had changed; nothing was touched
}

// JobError is why a job failed, in the terms of package errdefs.
type JobError struct {
	Class   string `json:"class"`
	Code    string `json:"code"`
	Message string `json:"message"` // for the caller
	Detail  string `json:"detail"`  // the whole chain, for operators: may name datasets and commands
}

// Job is one operation on one container, and its journal: an intent is written here before it is acted on.
type Job struct {
	ID          string    `json:"id"` // 32 lower-case hex digits, sortable by creation
	Kind        JobKind   `json:"kind"`
	ServerID    string    `json:"server_id"`    // the server that does the work: the one of ContainerID
	ContainerID string    `json:"container_id"` // the container worked on; a copy's or sync's target
	ProjectID   string    `json:"project_id"`
	UserID      string    `json:"user_id"`              // who asked
	RequestID   string    `json:"request_id,omitempty"` // of the request that made the job, for the logs
	State       JobState  `json:"state"`
	Phase       string    `json:"phase"`
	Attempts    int       `json:"attempts"` // of the current phase
	Error       *JobError `json:"error,omitempty"`
	Progress    Progress  `json:"progress"`

	CancelledAt *time.Time `json:"cancelled_at,omitempty"` // when somebody asked for it to be given up
	After       string     `json:"after,omitempty"`        // job that has to end before this one begins

	TimeoutSeconds int    `json:"timeout_seconds,omitempty"` // of a start, stop and friends; 0 = default
	PriorStatus    Status `json:"prior_status,omitempty"`    // of the container when the job was accepted; what a failed job goes back to

	// Copy and sync.
	SourceID       string            `json:"source_id,omitempty"`
	SourceServerID string            `json:"source_server_id,omitempty"`
	SourceSnapshot lineage.GUID      `json:"source_snapshot,omitempty"` // 0 = a fresh freeze
	Freeze         Freeze            `json:"freeze"`
	KnownKeys      int               `json:"known_keys,omitempty"` // length of the source's list of keys, inherited ones included, when the job was accepted
	LateKeys       []string          `json:"late_keys,omitempty"`  // those at its end that were added from then until the freeze
	History        []Snapshot        `json:"history,omitempty"`    // what the copy will list
	Generation     Generation        `json:"generation"`           // being checked out
	IDMap          string            `json:"idmap,omitempty"`
	Config         map[string]string `json:"config,omitempty"`      // the source's runtime configuration at freeze time
	RootSize       string            `json:"root_size,omitempty"`   // size limit of the source's root disk then, as its runtime writes it
	Adopted        []Snapshot        `json:"adopted,omitempty"`     // the runtime's own snapshots of the displaced generation, now the container's
	StoppedAt      *time.Time        `json:"stopped_at,omitempty"`  // when the container went down for the swap
	PriorIDMap     string            `json:"prior_idmap,omitempty"` // on-disk id map of the generation that the swap displaces

	// Sync and restore.
	UndoName string    `json:"undo_name,omitempty"` // of the snapshot of what is displaced, in the pool; written before it is made
	Undo     *Snapshot `json:"undo,omitempty"`      // what the container will list of it; nil when nothing had changed

	// Snapshot and restore.
	Snapshot *Snapshot `json:"snapshot,omitempty"`

	CreatedAt  time.Time  `json:"created_at"`
	StartedAt  *time.Time `json:"started_at"`
	UpdatedAt  time.Time  `json:"updated_at"`
	FinishedAt *time.Time `json:"finished_at"`
}

// Open tells whether the job still has work to do.
func (j Job) Open() bool { return j.State == JobQueued || j.State == JobRunning }

// User is what the control plane has told the fleet about a user. Users without a record are nobody special: they are known
// by their ids, and are not banned.
type User struct {
	ID        string     `json:"id"`
	Username  string     `json:"username,omitempty"`
	Alias     string     `json:"alias,omitempty"` // how the user is shown
	BannedAt  *time.Time `json:"banned_at"`       // nil = not banned
	BanReason string     `json:"ban_reason,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	UpdatedAt time.Time  `json:"updated_at"`
}

// Event is something that happened to a project or a container, for those who may see it. Events are written in the
// transaction that they tell of and never changed.
type Event struct {
	ID           string         `json:"id"` // begins with the seconds of its time, see sweepEvents
	Type         string         `json:"type"`
	ResourceType string         `json:"resource_type"`
	ResourceID   string         `json:"resource_id"`
	ProjectID    string         `json:"project_id"`
	ContainerID  string         `json:"container_id,omitempty"`
	OwnerID      string         `json:"owner_id"` // whose project it is: he sees events of what is gone, too
	UserID       string         `json:"user_id"`  // who caused it; the owner where nobody did
	RealmIDs     []string       `json:"realm_ids,omitempty"`
	Payload      map[string]any `json:"payload"`
	CreatedAt    time.Time      `json:"created_at"`

	// Position orders all events of the store, the same at every agent: the revision that wrote it, and its id. Set by the mirror.
	Position string `json:"-"`
}

// Receipt is what became of a request that must count once: what its answer is made of when it is sent again.
type Receipt struct {
	Digest       string    `json:"digest"` // of what was asked
	ProjectID    string    `json:"project_id,omitempty"`
	PermissionID string    `json:"permission_id,omitempty"`
	ContainerID  string    `json:"container_id,omitempty"`
	JobID        string    `json:"job_id,omitempty"`
	ServerID     string    `json:"server_id,omitempty"` // of the job
	At           time.Time `json:"at"`
}
