package api_test

import (
	"net/http"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api"
	"github.com/hoodynetwork/hoody-agent/internal/auth"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

var _ api.Authenticator = (*auth.Verifier)(nil)

// success is a request that succeeds, with what the agent is to be called with.
type success struct {
	request
	status int
	calls  string
	args   []any
}

// successes has one entry per operation of the document, by its operationId.
func successes() map[string]success {
	return map[string]success{
		"getContract": {request{method: "GET", path: "/api/v1/openapi.json", token: "-"}, http.StatusOK, "", nil},
		"listProjects": {
			request{method: "GET", path: "/api/v1/projects?page=2&limit=5&sort_by=alias&sort_order=asc&realm_id=" + realm},
			http.StatusOK, "Projects",
			[]any{agent.ListQuery{Page: 2, Limit: 5, SortBy: "alias", Ascending: true, RealmID: realm}},
		},
		"createProject": {
			request{method: "POST", path: "/api/v1/projects", body: `{"alias":"shop","color":"2f80ed","max_containers":20,"realm_ids":["` + realm + `"]}`},
			http.StatusCreated, "CreateProject",
			[]any{agent.CreateProjectRequest{Alias: "shop", Color: "2f80ed", MaxContainers: new(20), RealmIDs: []string{realm}}},
		},
		"getProject": {
			request{method: "GET", path: "/api/v1/projects/" + shop + "?include_permissions=true"},
			http.StatusOK, "Project", []any{shop},
		},
		"updateProject": {
			request{method: "PATCH", path: "/api/v1/projects/" + shop, body: `{"alias":"shop","color":"2f80ed","max_containers":20,"realm_ids":["` + realm + `"]}`},
			http.StatusOK, "UpdateProject",
			[]any{shop, agent.UpdateProjectRequest{
				Alias: "shop", Color: new("2f80ed"), RealmIDs: new([]string{realm}), SetMaxContainers: true, MaxContainers: new(20),
			}},
		},
		"putProject": {
			request{method: "PUT", path: "/api/v1/projects/" + shop, body: `{"alias":"shop","color":"2f80ed","max_containers":20,"realm_ids":["` + realm + `"]}`},
			http.StatusOK, "UpdateProject",
			[]any{shop, agent.UpdateProjectRequest{
				Alias: "shop", Color: new("2f80ed"), RealmIDs: new([]string{realm}), SetMaxContainers: true, MaxContainers: new(20),
			}},
		},
		"deleteProject": {
			request{method: "DELETE", path: "/api/v1/projects/" + shop + "?include_deleted_items=true"},
			http.StatusOK, "DeleteProject", []any{shop},
		},
		"listProjectPermissions": {
			request{method: "GET", path: "/api/v1/projects/" + shop + "/permissions?page=2&limit=5&sort_by=permission_level&sort_order=asc"},
			http.StatusOK, "Permissions",
			[]any{shop, agent.ListQuery{Page: 2, Limit: 5, SortBy: "permission_level", Ascending: true}},
		},
		"addProjectPermission": {
			request{method: "POST", path: "/api/v1/projects/" + shop + "/permissions", body: `{"user_id":"` + bob + `","permission_level":"edit"}`},
			http.StatusCreated, "AddPermission",
			[]any{shop, agent.AddPermissionRequest{UserID: bob, Level: store.PermissionEdit}},
		},
		"updateProjectPermission": {
			request{method: "PATCH", path: "/api/v1/projects/" + shop + "/permissions/" + grant, body: `{"permission_level":"edit"}`},
			http.StatusOK, "UpdatePermission", []any{shop, grant, store.PermissionEdit},
		},
		"putProjectPermission": {
			request{method: "PUT", path: "/api/v1/projects/" + shop + "/permissions/" + grant, body: `{"permission_level":"edit"}`},
			http.StatusOK, "UpdatePermission", []any{shop, grant, store.PermissionEdit},
		},
		"removeProjectPermission": {
			request{method: "DELETE", path: "/api/v1/projects/" + shop + "/permissions/" + grant},
			http.StatusOK, "RemovePermission", []any{shop, grant},
		},
		"listContainers": {
			request{method: "GET", path: "/api/v1/containers?include_deleting=true"},
			http.StatusOK, "Containers",
			[]any{agent.ContainerQuery{ListQuery: agent.ListQuery{Page: 1, Limit: 50, SortBy: "created_at"}, IncludeDeleting: true}},
		},
		"listProjectContainers": {
			request{method: "GET", path: "/api/v1/projects/" + shop + "/containers?limit=7&sort_by=status&runtime=true"},
			http.StatusOK, "Containers",
			[]any{agent.ContainerQuery{ListQuery: agent.ListQuery{Page: 1, Limit: 7, SortBy: "status"}, ProjectID: shop}},
		},
		"createContainer": {
			request{method: "POST", path: "/api/v1/projects/" + shop + "/containers", body: `{
				"server_id":"` + nodeA + `","name":"rand","color":"#ABC","container_image":"debian/13","ai":false,"hoody_kit":false,
				"dev_kit":true,"autostart":false,"ramdisk":false,"environment_vars":{"NODE_ENV":"production"},
				"ssh_public_key":"` + publicKey + `\n","comment":"front end","realm_ids":["` + realm + `"],
				"cache":true,"cache_image":false,"bypass_prespawn":false,"kvm":false,"dev_kvm":false,"prespawn":false}`},
			http.StatusCreated, "CreateContainer",
			[]any{shop, agent.CreateContainerRequest{
				ServerID: nodeA, Name: "rand", Color: "#ABC", Image: "debian/13",
				AI: new(false), HoodyKit: new(false), DevKit: new(true), Autostart: new(false), Ramdisk: new(false),
				Env: map[string]string{"NODE_ENV": "production"}, SSHPublicKey: publicKey, Comment: new("front end"), RealmIDs: []string{realm},
			}},
		},
		"getContainer": {
			request{method: "GET", path: "/api/v1/containers/" + web + "?include_proxy_domains=true"},
			http.StatusOK, "Container", []any{web},
		},
		"updateContainer": {
			request{method: "PATCH", path: "/api/v1/containers/" + web, body: `{
				"name":"web-2","color":"2f80ed","ai":false,"autostart":false,"ramdisk":false,"ramdisk_scope":"project",
				"environment_vars":{"NODE_ENV":"test"},"ssh_public_key":"` + publicKey + `\n","comment":"back end","realm_ids":["` + realm + `"]}`},
			http.StatusOK, "UpdateContainer",
			[]any{web, agent.UpdateContainerRequest{
				Name: new("web-2"), Color: new("2f80ed"), AI: new(false), Autostart: new(false), Ramdisk: new(false), RamdiskScope: new("project"),
				Env: map[string]string{"NODE_ENV": "test"}, SetSSHPublicKey: true, SSHPublicKey: publicKey, SetComment: true, Comment: new("back end"),
				RealmIDs: &[]string{realm},
			}},
		},
		"putContainer": {
			request{method: "PUT", path: "/api/v1/containers/" + web, body: `{"ssh_public_key":null,"comment":null,"environment_vars":{},"realm_ids":[]}`},
			http.StatusOK, "UpdateContainer",
			[]any{web, agent.UpdateContainerRequest{SetSSHPublicKey: true, SetComment: true, Env: map[string]string{}, RealmIDs: &[]string{}}},
		},
		"getContainerStats": {
			request{method: "GET", path: "/api/v1/containers/" + web + "/stats"}, http.StatusOK, "ContainerStats", []any{web},
		},
		"getProjectStats": {
			request{method: "GET", path: "/api/v1/projects/" + shop + "/stats"}, http.StatusOK, "ProjectStats", []any{shop},
		},
		"listStatusLogs": {
			request{method: "GET", path: "/api/v1/containers/" + web + "/status-logs?page=2&limit=1&sort_by=to_status&sort_order=asc"},
			http.StatusOK, "StatusLogs", []any{web, agent.ListQuery{Page: 2, Limit: 1, SortBy: "to_status", Ascending: true}},
		},
		"getServer": {
			request{method: "GET", path: "/api/v1/servers/" + nodeA}, http.StatusOK, "Server", []any{nodeA},
		},
		"getEnvironment": {
			request{method: "GET", path: "/api/v1/containers/" + web + "/env"}, http.StatusOK, "Environment", []any{web},
		},
		"updateEnvironment": {
			request{method: "PATCH", path: "/api/v1/containers/" + web + "/env", body: `{"A":"1","_b":"two"}`},
			http.StatusOK, "ChangeEnvironment", []any{web, map[string]string{"A": "1", "_b": "two"}, []string(nil)},
		},
		"putEnvironment": {
			request{method: "PUT", path: "/api/v1/containers/" + web + "/env/", body: `{"A":"1"}`},
			http.StatusOK, "ChangeEnvironment", []any{web, map[string]string{"A": "1"}, []string(nil)},
		},
		"setEnvironmentVariable": {
			request{method: "PATCH", path: "/api/v1/containers/" + web + "/env/NODE_ENV", body: `{"value":"test"}`},
			http.StatusOK, "ChangeEnvironment", []any{web, map[string]string{"NODE_ENV": "test"}, []string(nil)},
		},
		"putEnvironmentVariable": {
			request{method: "PUT", path: "/api/v1/containers/" + web + "/env/NODE_ENV", body: `{"value":"test"}`},
			http.StatusOK, "ChangeEnvironment", []any{web, map[string]string{"NODE_ENV": "test"}, []string(nil)},
		},
		"deleteEnvironmentVariable": {
			request{method: "DELETE", path: "/api/v1/containers/" + web + "/env/NODE_ENV"},
			http.StatusOK, "ChangeEnvironment", []any{web, map[string]string(nil), []string{"NODE_ENV"}},
		},
		"deleteContainer": {
			request{method: "DELETE", path: "/api/v1/containers/" + web},
			http.StatusOK, "DeleteContainer", []any{web},
		},
		"operateContainer": {
			request{method: "POST", path: "/api/v1/containers/" + web + "/force-stop", body: `{"timeout":30}`},
			http.StatusOK, "Operate", []any{web, agent.OperationForceStop, 30 * time.Second},
		},
		"listSnapshots": {
			request{method: "GET", path: "/api/v1/containers/" + web + "/snapshots"},
			http.StatusOK, "Snapshots", []any{web},
		},
		"createSnapshot": {
			request{method: "POST", path: "/api/v1/containers/" + web + "/snapshots", body: `{"alias":"before-sync","expiry":30}`},
			http.StatusOK, "CreateSnapshot", []any{web, agent.CreateSnapshotRequest{Alias: new("before-sync"), ExpiryDays: new(30)}},
		},
		"restoreSnapshot": {
			request{method: "PATCH", path: "/api/v1/containers/" + web + "/snapshots/before-sync"},
			http.StatusOK, "RestoreSnapshot", []any{web, "before-sync"},
		},
		"putSnapshot": {
			request{method: "PUT", path: "/api/v1/containers/" + web + "/snapshots/a%2Fb%20c"},
			http.StatusOK, "RestoreSnapshot", []any{web, "a/b c"},
		},
		"renameSnapshot": {
			request{method: "PATCH", path: "/api/v1/containers/" + web + "/snapshots/before-sync/alias", body: `{"alias":"release 1"}`},
			http.StatusOK, "RenameSnapshot", []any{web, "before-sync", new("release 1")},
		},
		"putSnapshotAlias": {
			request{method: "PUT", path: "/api/v1/containers/" + web + "/snapshots/before-sync/alias", body: `{"alias":null}`},
			http.StatusOK, "RenameSnapshot", []any{web, "before-sync", (*string)(nil)},
		},
		"deleteSnapshot": {
			request{method: "DELETE", path: "/api/v1/containers/" + web + "/snapshots/before-sync"},
			http.StatusOK, "DeleteSnapshot", []any{web, "before-sync"},
		},
		"copyContainer": {
			request{method: "POST", path: "/api/v1/containers/" + web + "/copy", body: `{
				"target_project_id":"` + shop + `","target_server_id":"` + nodeB + `","name":"prod-eu-replica","ssh_public_key":"` + publicKey + `",
				"source_snapshot":"snap-20251109-143045","copy_firewall_rules":false,"copy_network_rules":false}`},
			http.StatusCreated, "Copy",
			[]any{web, agent.CopyRequest{
				TargetProjectID: shop, TargetServerID: nodeB, Name: "prod-eu-replica", SSHPublicKey: publicKey, SourceSnapshot: "snap-20251109-143045",
			}},
		},
		"syncContainer": {
			request{method: "POST", path: "/api/v1/containers/" + webCopy + "/sync"},
			http.StatusOK, "Sync", []any{webCopy},
		},
		"cancelContainer": {
			request{method: "POST", path: "/api/v1/containers/" + webCopy + "/cancel"},
			http.StatusOK, "CancelOperation", []any{webCopy},
		},
		"listServers": {request{method: "GET", path: "/api/v1/servers"}, http.StatusOK, "Servers", nil},
		"listEvents": {
			request{method: "GET", path: "/api/v1/events?limit=5&offset=2&sort_by=event_type&sort_order=asc&event_type=container.running&resource_type=container" +
				"&resource_id=" + web + "&project_id=" + shop + "&container_id=" + web + "&start_date=2026-01-05T10:00:00Z&end_date=2026-01-05T11:00:00%2B01:00&realm_id=" + realm},
			http.StatusOK, "Events",
			[]any{agent.EventQuery{
				EventFilter: agent.EventFilter{Type: "container.running", ResourceType: "container", ResourceID: web, ProjectID: shop, ContainerID: web, RealmID: realm},
				From:        new(time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC)), Until: new(time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC)),
				Limit: 5, Offset: 2, SortBy: "event_type", Ascending: true,
			}},
		},
		"streamEvents": {
			request{method: "GET", path: "/api/v1/events/stream?event_type=container.running&project_id=" + shop, header: http.Header{"Last-Event-Id": {"0a-1f"}}},
			http.StatusOK, "StreamEvents", []any{agent.EventFilter{Type: "container.running", ProjectID: shop}, "0a-1f"},
		},
		"listUsers": {request{method: "GET", path: "/api/v1/operator/users?page=2&limit=5"}, http.StatusOK, "Users", []any{agent.ListQuery{Page: 2, Limit: 5}}},
		"getUser":   {request{method: "GET", path: "/api/v1/operator/users/" + bob}, http.StatusOK, "User", []any{bob}},
		"putUser": {
			request{method: "PUT", path: "/api/v1/operator/users/" + bob, body: `{"username":"bob","alias":"Bob B"}`},
			http.StatusOK, "PutUser", []any{bob, "bob", "Bob B"},
		},
		"banUser":   {request{method: "PUT", path: "/api/v1/operator/users/" + bob + "/ban", body: `{"reason":"spam"}`}, http.StatusOK, "BanUser", []any{bob, "spam"}},
		"unbanUser": {request{method: "DELETE", path: "/api/v1/operator/users/" + bob + "/ban"}, http.StatusOK, "UnbanUser", []any{bob}},
	}
}

func TestEveryOperation(t *testing.T) {
	h := newHarness(t)
	table := successes()
	for _, item := range h.doc.Paths.Map() {
		for _, operation := range item.Operations() {
			if _, tested := table[operation.OperationID]; !tested {
				t.Errorf("no test for operation %s of the document", operation.OperationID)
			}
		}
	}
	for name, c := range table {
		t.Run(name, func(t *testing.T) {
			h.ops.last = nil
			got := h.do(t, c.request)
			if got.status != c.status {
				t.Fatalf("status %d, want %d: %s", got.status, c.status, got.body)
			}
			if name != "getContract" && name != "streamEvents" {
				got.golden(t, name)
			}
			if c.calls == "" {
				return
			}
			if want := (call{c.calls, agent.Caller{UserID: alice}, c.args}); h.ops.last == nil || !cmp.Equal(*h.ops.last, want, cmp.AllowUnexported(call{})) {
				t.Errorf("called %+v, want %+v", h.ops.last, want)
			}
		})
	}
}

// Everything but what is required left out.
func TestShortestRequests(t *testing.T) {
	h := newHarness(t)
	for name, c := range map[string]success{
		"project":                {request{method: "POST", path: "/api/v1/projects", body: `{"alias":"shop"}`}, 201, "CreateProject", []any{agent.CreateProjectRequest{Alias: "shop"}}},
		"project without limit":  {request{method: "POST", path: "/api/v1/projects", body: `{"alias":"shop","max_containers":null}`}, 201, "CreateProject", []any{agent.CreateProjectRequest{Alias: "shop"}}},
		"alias":                  {request{method: "PATCH", path: "/api/v1/projects/" + shop, body: `{"alias":"new"}`}, 200, "UpdateProject", []any{shop, agent.UpdateProjectRequest{Alias: "new"}}},
		"limit lifted":           {request{method: "PUT", path: "/api/v1/projects/" + shop, body: `{"alias":"new","max_containers":null}`}, 200, "UpdateProject", []any{shop, agent.UpdateProjectRequest{Alias: "new", SetMaxContainers: true}}},
		"out of all realms":      {request{method: "PATCH", path: "/api/v1/projects/" + shop, body: `{"alias":"new","realm_ids":[]}`}, 200, "UpdateProject", []any{shop, agent.UpdateProjectRequest{Alias: "new", RealmIDs: &[]string{}}}},
		"permissions":            {request{method: "GET", path: "/api/v1/projects/" + shop + "/permissions/"}, 200, "Permissions", []any{shop, agent.ListQuery{Page: 1, Limit: 10, SortBy: "created_at"}}},
		"no change":              {request{method: "PATCH", path: "/api/v1/containers/" + web, body: `{}`}, 200, "UpdateContainer", []any{web, agent.UpdateContainerRequest{}}},
		"operation":              {request{method: "POST", path: "/api/v1/containers/" + web + "/start"}, 200, "Operate", []any{web, agent.OperationStart, time.Duration(0)}},
		"snapshot":               {request{method: "POST", path: "/api/v1/containers/" + web + "/snapshots"}, 200, "CreateSnapshot", []any{web, agent.CreateSnapshotRequest{}}},
		"snapshot, empty object": {request{method: "POST", path: "/api/v1/containers/" + web + "/snapshots", body: "{}"}, 200, "CreateSnapshot", []any{web, agent.CreateSnapshotRequest{}}},
		"copy":                   {request{method: "POST", path: "/api/v1/containers/" + web + "/copy", body: `{"target_project_id":"` + shop + `"}`}, 201, "Copy", []any{web, agent.CopyRequest{TargetProjectID: shop}}},
		"copy, null key":         {request{method: "POST", path: "/api/v1/containers/" + web + "/copy", body: `{"target_project_id":"` + shop + `","ssh_public_key":null}`}, 201, "Copy", []any{web, agent.CopyRequest{TargetProjectID: shop}}},
		"sync, empty object":     {request{method: "POST", path: "/api/v1/containers/" + webCopy + "/sync", body: "{}"}, 200, "Sync", []any{webCopy}},
		"projects":               {request{method: "GET", path: "/api/v1/projects/"}, 200, "Projects", []any{agent.ListQuery{Page: 1, Limit: 10, SortBy: "created_at"}}},
		"operator":               {request{method: "GET", path: "/api/v1/servers/", token: "operator"}, 200, "Servers", nil},
		"delete with a body":     {request{method: "DELETE", path: "/api/v1/containers/" + web, body: "whatever"}, 200, "DeleteContainer", []any{web}},
	} {
		t.Run(name, func(t *testing.T) {
			got := h.do(t, c.request)
			if got.status != c.status {
				t.Fatalf("status %d: %s", got.status, got.body)
			}
			want := call{c.calls, agent.Caller{UserID: alice}, c.args}
			if c.token == "operator" {
				want.caller = agent.Caller{UserID: bob, Operator: true}
			}
			if !reflect.DeepEqual(*h.ops.last, want) {
				t.Errorf("called %+v, want %+v", *h.ops.last, want)
			}
		})
	}
}

// A create without the optional switches leaves them to the documented defaults.
func TestCreateContainerDefaults(t *testing.T) {
	h := newHarness(t)
	got := h.do(t, request{method: "POST", path: "/api/v1/projects/" + shop + "/containers", body: `{"server_id":"` + nodeA + `"}`})
	if got.status != http.StatusCreated {
		t.Fatalf("status %d: %s", got.status, got.body)
	}
	want := agent.CreateContainerRequest{ServerID: nodeA, AI: new(true), HoodyKit: new(true), Autostart: new(true), Ramdisk: new(true)}
	if sent := h.ops.last.args[1]; !reflect.DeepEqual(sent, want) {
		t.Errorf("called with %+v, want %+v", sent, want)
	}
}

func TestEveryRuntimeOperation(t *testing.T) {
	h := newHarness(t)
	for _, op := range []agent.Operation{
		agent.OperationStart, agent.OperationStop, agent.OperationForceStop, agent.OperationRestart, agent.OperationPause, agent.OperationResume,
	} {
		got := h.do(t, request{method: "POST", path: "/api/v1/containers/" + web + "/" + string(op)})
		if got.status != http.StatusOK || !slices.Contains(h.ops.last.args, any(op)) {
			t.Errorf("%s: status %d, called with %+v", op, got.status, h.ops.last.args)
		}
	}
}
