package api_test

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Ids of the fixtures.
const (
	alice     = "64c1aa00b2d34e5f60718001"
	bob       = "64c1aa00b2d34e5f60718002"
	carol     = "64c1aa00b2d34e5f60718003"
	shop      = "64c1aa00b2d34e5f60718101"
	web       = "64c1aa00b2d34e5f60718201"
	webCopy   = "64c1aa00b2d34e5f60718209"
	grant     = "64c1aa00b2d34e5f60718301"
	nodeA     = "64c1aa00b2d34e5f60718402"
	nodeB     = "64c1aa00b2d34e5f60718403"
	realm     = "64c1aa00b2d34e5f60718501"
	jobID     = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
	publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti alice@laptop"
	pemKey    = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
)

// call is what an operation of the fake was called with.
type call struct {
	name   string
	caller agent.Caller
	args   []any
}

// fake answers with fixtures, or with fail, and remembers its last call.
type fake struct {
	fail  error
	panic any
	mu    sync.Mutex // for the next two, while calls overlap
	last  *call
	// requestID is the last caller's; it is another one each time and not part of what is compared.
	requestID string

	container  func(*agent.ContainerView) // changes the fixture
	containers int                        // how many the list has in total
	pageSize   int                        // how many a page shows
	sync       store.Status
	noKey      bool // no key pair was generated
	unlimited  bool // servers and containers have no limits
	repeats    bool // every request with a key is a repetition
	banned     string
	named      bool // users have names
	stream     []agent.StreamItem
	wait       chan struct{} // streams wait for it, or for their end, before they end
}

var _ api.Operations = (*fake)(nil)

func (f *fake) called(name string, caller agent.Caller, args ...any) error {
	if caller.Once != nil {
		caller.Once.Repeated = f.repeats
	}
	f.mu.Lock()
	f.requestID, caller.RequestID = caller.RequestID, ""
	f.last = &call{name: name, caller: caller, args: args}
	f.mu.Unlock()
	if f.panic != nil {
		panic(f.panic)
	}
	return f.fail
}

func (f *fake) Admit(caller agent.Caller) error {
	if caller.UserID == f.banned {
		return errdefs.New(errdefs.ErrPermissionDenied, "ACCOUNT_BANNED", "Your account is banned")
	}
	return nil
}

func (f *fake) NamesOf(id string) store.User {
	if !f.named {
		return store.User{}
	}
	return store.User{ID: id, Username: "bob", Alias: "Bob B"}
}

func (f *fake) Users(_ context.Context, caller agent.Caller, query agent.ListQuery) (agent.UserPage, error) {
	return agent.UserPage{Users: []store.User{user(), {ID: alice, CreatedAt: at(7), UpdatedAt: at(8)}}, Total: 12}, f.called("Users", caller, query)
}

func (f *fake) User(_ context.Context, caller agent.Caller, id string) (store.User, error) {
	return user(), f.called("User", caller, id)
}

func (f *fake) PutUser(_ context.Context, caller agent.Caller, id, username, alias string) (store.User, error) {
	return user(), f.called("PutUser", caller, id, username, alias)
}

func (f *fake) BanUser(_ context.Context, caller agent.Caller, id, reason string) (store.User, error) {
	return user(), f.called("BanUser", caller, id, reason)
}

func (f *fake) UnbanUser(_ context.Context, caller agent.Caller, id string) (store.User, error) {
	return user(), f.called("UnbanUser", caller, id)
}

func (f *fake) Events(_ context.Context, caller agent.Caller, query agent.EventQuery) (agent.EventPage, error) {
	return agent.EventPage{Events: []store.Event{event()}, Total: 12}, f.called("Events", caller, query)
}

func (f *fake) StreamEvents(ctx context.Context, caller agent.Caller, filter agent.EventFilter, after string) iter.Seq2[agent.StreamItem, error] {
	err := f.called("StreamEvents", caller, filter, after)
	return func(yield func(agent.StreamItem, error) bool) {
		for _, item := range f.stream {
			if !yield(item, nil) {
				return
			}
		}
		if f.wait != nil {
			select {
			case <-f.wait:
			case <-ctx.Done():
			}
		}
		yield(agent.StreamItem{}, errors.Join(err, context.Canceled))
	}
}

func user() store.User {
	return store.User{ID: bob, Username: "bob", Alias: "Bob B", BannedAt: new(at(9)), BanReason: "spam", CreatedAt: at(7), UpdatedAt: at(9)}
}

func event() store.Event {
	return store.Event{
		ID: "64c1aa00b2d34e5f60718601", Type: "container.running", ResourceType: "container", ResourceID: web, ProjectID: shop, ContainerID: web,
		OwnerID: alice, UserID: alice, RealmIDs: []string{realm}, CreatedAt: at(9), Position: "0000000000000011-64c1aa00b2d34e5f60718601",
		Payload: map[string]any{"container": map[string]any{"id": web, "status": "running"}, "previous_status": "copying"},
	}
}

func (f *fake) Projects(_ context.Context, caller agent.Caller, query agent.ListQuery) (agent.ProjectPage, error) {
	return agent.ProjectPage{Projects: []store.Project{project()}, Total: 11}, f.called("Projects", caller, query)
}

func (f *fake) Project(_ context.Context, caller agent.Caller, id string) (store.Project, error) {
	return project(), f.called("Project", caller, id)
}

func (f *fake) CreateProject(_ context.Context, caller agent.Caller, request agent.CreateProjectRequest) (store.Project, error) {
	return project(), f.called("CreateProject", caller, request)
}

func (f *fake) UpdateProject(_ context.Context, caller agent.Caller, id string, request agent.UpdateProjectRequest) (store.Project, error) {
	return project(), f.called("UpdateProject", caller, id, request)
}

func (f *fake) DeleteProject(_ context.Context, caller agent.Caller, id string) (store.Project, error) {
	return project(), f.called("DeleteProject", caller, id)
}

func (f *fake) Permissions(_ context.Context, caller agent.Caller, projectID string, query agent.ListQuery) (agent.PermissionPage, error) {
	return agent.PermissionPage{Permissions: project().Permissions, Total: 11}, f.called("Permissions", caller, projectID, query)
}

func (f *fake) AddPermission(_ context.Context, caller agent.Caller, projectID string, request agent.AddPermissionRequest) (store.Permission, error) {
	return project().Permissions[0], f.called("AddPermission", caller, projectID, request)
}

func (f *fake) UpdatePermission(_ context.Context, caller agent.Caller, projectID, id string, level store.PermissionLevel) (store.Permission, error) {
	return project().Permissions[0], f.called("UpdatePermission", caller, projectID, id, level)
}

func (f *fake) RemovePermission(_ context.Context, caller agent.Caller, projectID, id string) error {
	return f.called("RemovePermission", caller, projectID, id)
}

func (f *fake) Containers(_ context.Context, caller agent.Caller, query agent.ContainerQuery) (agent.ContainerPage, error) {
	page := agent.ContainerPage{Total: f.containers}
	for range min(f.pageSize, f.containers) {
		page.Containers = append(page.Containers, f.view())
	}
	return page, f.called("Containers", caller, query)
}

func (f *fake) Container(_ context.Context, caller agent.Caller, id string) (agent.ContainerView, error) {
	return f.view(), f.called("Container", caller, id)
}

func (f *fake) CreateContainer(_ context.Context, caller agent.Caller, projectID string, request agent.CreateContainerRequest) (agent.CreateResult, error) {
	result := agent.CreateResult{View: f.view(), PrivateKey: pemKey}
	result.View.Container.Status = store.StatusCreating
	if f.noKey {
		result.PrivateKey = ""
	}
	return result, f.called("CreateContainer", caller, projectID, request)
}

func (f *fake) UpdateContainer(_ context.Context, caller agent.Caller, id string, request agent.UpdateContainerRequest) (agent.ContainerView, error) {
	return f.view(), f.called("UpdateContainer", caller, id, request)
}

func (f *fake) ContainerStats(_ context.Context, caller agent.Caller, id string) (agent.ContainerStats, error) {
	return f.stats(), f.called("ContainerStats", caller, id)
}

func (f *fake) ProjectStats(_ context.Context, caller agent.Caller, id string) (agent.ProjectStats, error) {
	stopped := f.stats()
	stopped.Stats = agent.Stats{Status: agent.InstanceStopped, DiskUsage: 5}
	return agent.ProjectStats{Project: project(), Containers: []agent.ContainerStats{f.stats(), stopped}, Took: 12 * time.Millisecond}, f.called("ProjectStats", caller, id)
}

func (f *fake) stats() agent.ContainerStats {
	return agent.ContainerStats{View: f.view(), Measured: agent.Measured{ContainerID: web, Took: 4200 * time.Microsecond, Stats: agent.Stats{
		Status: agent.InstanceRunning, Processes: 87, StartedAt: time.Date(2026, 1, 6, 11, 30, 0, 0, time.UTC), DiskUsage: 5368709120,
		CPU:    &agent.CPUStats{Used: 9100 * time.Millisecond, Allocated: 20 * time.Second},
		Memory: &agent.MemoryStats{Usage: 805306368, Total: 34359738368},
		Network: []agent.NetworkStats{{
			Name: "eth0", State: "up", Type: "broadcast", BytesReceived: 1, BytesSent: 2, PacketsReceived: 3, PacketsSent: 4,
			Addresses: []agent.NetworkAddress{{Family: "inet", Address: "10.0.0.2", Netmask: "24", Scope: "global"}},
		}},
	}}}
}

func (f *fake) StatusLogs(_ context.Context, caller agent.Caller, id string, query agent.ListQuery) (agent.StatusLogPage, error) {
	return agent.StatusLogPage{ContainerID: id, Total: 2, Logs: []agent.StatusLog{
		{ID: grant, From: store.StatusStopped, To: store.StatusRunning, At: at(10), Lasted: new(90 * time.Second), Command: "start"},
		{ID: shop, To: store.StatusStopped, At: at(9)},
	}}, f.called("StatusLogs", caller, id, query)
}

func (f *fake) Server(_ context.Context, caller agent.Caller, id string) (agent.ServerView, error) {
	return agent.ServerView{Server: server(), Alive: true, LastSeen: at(11), Containers: 3}, f.called("Server", caller, id)
}

func (f *fake) Environment(_ context.Context, caller agent.Caller, id string) (store.Container, error) {
	return f.view().Container, f.called("Environment", caller, id)
}

func (f *fake) ChangeEnvironment(_ context.Context, caller agent.Caller, id string, set map[string]string, remove ...string) (store.Container, error) {
	return f.view().Container, f.called("ChangeEnvironment", caller, id, set, remove)
}

func (f *fake) DeleteContainer(_ context.Context, caller agent.Caller, id string) error {
	return f.called("DeleteContainer", caller, id)
}

func (f *fake) Operate(_ context.Context, caller agent.Caller, id string, op agent.Operation, timeout time.Duration) (agent.OperationResult, error) {
	return operationResult(op), f.called("Operate", caller, id, op, timeout)
}

func (f *fake) Snapshots(_ context.Context, caller agent.Caller, id string) (agent.SnapshotList, error) {
	list := agent.SnapshotList{Container: f.view().Container, Snapshots: snapshots(), MaxSnapshots: 1000}
	if f.unlimited {
		list.MaxSnapshots = 0
	}
	return list, f.called("Snapshots", caller, id)
}

func (f *fake) CreateSnapshot(_ context.Context, caller agent.Caller, id string, request agent.CreateSnapshotRequest) (agent.SnapshotResult, error) {
	return agent.SnapshotResult{Container: f.view().Container, Snapshot: snapshots()[0]}, f.called("CreateSnapshot", caller, id, request)
}

func (f *fake) RestoreSnapshot(_ context.Context, caller agent.Caller, id, name string) (agent.SnapshotResult, error) {
	return agent.SnapshotResult{Container: f.view().Container, Snapshot: snapshots()[0]}, f.called("RestoreSnapshot", caller, id, name)
}

func (f *fake) RenameSnapshot(_ context.Context, caller agent.Caller, id, name string, alias *string) (agent.SnapshotResult, error) {
	return agent.SnapshotResult{Container: f.view().Container, Snapshot: snapshots()[1]}, f.called("RenameSnapshot", caller, id, name, alias)
}

func (f *fake) DeleteSnapshot(_ context.Context, caller agent.Caller, id, name string) (agent.SnapshotResult, error) {
	return agent.SnapshotResult{Container: f.view().Container, Snapshot: snapshots()[0]}, f.called("DeleteSnapshot", caller, id, name)
}

func (f *fake) Copy(_ context.Context, caller agent.Caller, id string, request agent.CopyRequest) (agent.CopyResult, error) {
	result := agent.CopyResult{View: f.view(), PrivateKey: pemKey, JobID: jobID}
	result.View.Container.ID = webCopy
	result.View.Container.Name = "web-1-copy"
	result.View.Container.SourceContainerID = web
	result.View.Container.Status = store.StatusCopying
	result.View.Job = copyJob()
	if f.noKey {
		result.PrivateKey = ""
	}
	return result, f.called("Copy", caller, id, request)
}

func (f *fake) CancelOperation(_ context.Context, caller agent.Caller, id string) error {
	return f.called("CancelOperation", caller, id)
}

func (f *fake) Sync(_ context.Context, caller agent.Caller, id string) (agent.SyncResult, error) {
	return agent.SyncResult{ContainerID: webCopy, SourceID: web, Status: f.sync, JobID: jobID}, f.called("Sync", caller, id)
}

func (f *fake) Servers(_ context.Context, caller agent.Caller) ([]agent.ServerView, error) {
	views := []agent.ServerView{
		{Server: server(), Alive: true, LastSeen: at(11), Containers: 3},
		{Server: store.Server{ID: nodeB, Name: "node-b"}},
	}
	return views, f.called("Servers", caller)
}

func (f *fake) view() agent.ContainerView {
	view := agent.ContainerView{
		Container: store.Container{
			ID: web, ProjectID: shop, ServerID: nodeA, OwnerID: alice, Name: "web-1", Color: "#2F80ED", Image: "debian/13",
			AI: true, HoodyKit: true, DevKit: true, Autostart: true, Ramdisk: true,
			Env: map[string]string{"NODE_ENV": "production"}, SSHPublicKey: publicKey, Comment: new("front end"),
			Settings: store.Settings{Revision: 3, Applied: 2, AppliedAt: new(at(9)), AttemptedAt: new(at(10)), Error: "unavailable"},
			Status:   store.StatusRunning, SnapshotCount: 2, CreatedAt: at(9), UpdatedAt: at(10),
		},
		Project: project(),
		Server:  server(),
	}
	if f.container != nil {
		f.container(&view)
	}
	return view
}

// at is a time with microseconds, of which the contract shows none, on a clock that is not in UTC.
func at(hour int) time.Time {
	return time.Date(2026, 1, 5, hour+1, 0, 0, 123987000, time.FixedZone("CET", 3600))
}

func project() store.Project {
	return store.Project{
		ID: shop, UserID: alice, Alias: "shop", Color: "#2F80ED", MaxContainers: new(20), RealmIDs: []string{realm},
		Permissions: []store.Permission{{ID: grant, UserID: bob, Level: store.PermissionEdit, CreatedAt: at(8), UpdatedAt: at(8)}},
		CreatedAt:   at(7), UpdatedAt: at(8),
	}
}

func server() store.Server {
	return store.Server{
		ID: nodeA, Name: "node-a", Country: "NL", Region: "eu-west", City: "Amsterdam", Datacenter: "AMS-1",
		MaxContainers: 10, Cores: 8, MemoryBytes: 32<<30 - 5<<20, PoolSize: 400 << 30, PoolFree: 100 << 30,
	}
}

func snapshots() []store.Snapshot {
	return []store.Snapshot{
		{Name: "snap-20260105-091500", Alias: new("before-upgrade"), Size: 1610612736, CreatedAt: at(9), LastUsedAt: new(at(10)), ExpiresAt: new(at(11))},
		{Name: "snap-20260104-030000", Undo: true, Missing: true, Size: 805306368, CreatedAt: at(3)},
	}
}

func operationResult(op agent.Operation) agent.OperationResult {
	return agent.OperationResult{
		Operation: op, ContainerID: web, ProjectID: shop, Message: "Container started successfully",
		Status: store.StatusRunning, OperationID: jobID,
	}
}

func copyJob() *store.Job {
	return &store.Job{
		ID: jobID, Kind: store.JobCopy, State: store.JobRunning, Phase: "receive", Attempts: 2,
		Progress: store.Progress{BytesDone: 1 << 30, BytesTotal: 3 << 30},
	}
}

// fakeAuth knows callers by tokens that are their names.
type fakeAuth struct{}

func (fakeAuth) Authenticate(r *http.Request) (agent.Caller, error) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch token {
	case "alice":
		return agent.Caller{UserID: alice}, nil
	case "carol":
		return agent.Caller{UserID: carol}, nil
	case "operator":
		return agent.Caller{UserID: bob, Operator: true}, nil
	case "":
		return agent.Caller{}, errdefs.New(errdefs.ErrUnauthenticated, "MISSING_TOKEN", "Authentication token required")
	case "old":
		return agent.Caller{}, errdefs.New(errdefs.ErrUnauthenticated, "TOKEN_EXPIRED", "Token has expired")
	case "down":
		return agent.Caller{}, errdefs.New(errdefs.ErrUnavailable, "", "Tokens cannot be checked now")
	}
	return agent.Caller{}, errdefs.New(errdefs.ErrUnauthenticated, "INVALID_TOKEN", "Invalid authentication token")
}
