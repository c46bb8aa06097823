package agent_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/go-cmp/cmp"

	document "github.com/hoodynetwork/hoody-agent/api"
	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// need is what a route wants of its caller.
type need int

const (
	needNobody   need = iota // not even a token
	needUser                 // anybody who is not banned; what he may not see is left out
	needRead                 // at least this grant on the project
	needEdit                 //
	needDelete               //
	needOperator             // the control plane
)

// route is a row of the matrix. Its body and the ids in its path are put together from the scene: {project}, {container},
// {copy}, {snapshot}, {grant}, {server}, {fresh} (something unused before).
type route struct {
	need need
	path string // as asked, where it differs from the document's
	body string
	code string // of a refusal for want of a level, where it is not INSUFFICIENT_PERMISSIONS
}

// matrix has a row for every operation of the document.
var matrix = map[string]route{
	"getContract": {need: needNobody},

	"listProjects":  {need: needUser},
	"createProject": {need: needUser, body: `{"alias":"{fresh}"}`},
	"getProject":    {need: needRead},
	"updateProject": {need: needEdit, body: `{"alias":"{fresh}"}`},
	"putProject":    {need: needEdit, body: `{"alias":"{fresh}"}`},
	"deleteProject": {need: needDelete, path: "/api/v1/projects/{empty}"},

	"listProjectPermissions":  {need: needRead},
	"addProjectPermission":    {need: needEdit, body: `{"user_id":"{fresh}","permission_level":"read"}`},
	"updateProjectPermission": {need: needEdit, body: `{"permission_level":"read"}`},
	"putProjectPermission":    {need: needEdit, body: `{"permission_level":"read"}`},
	"removeProjectPermission": {need: needEdit},

	"listProjectContainers": {need: needRead},
	"createContainer":       {need: needEdit, body: `{"server_id":"{server}","container_image":"busybox"}`},
	"listContainers":        {need: needUser},
	"getProjectStats":       {need: needRead},
	"getContainerStats":     {need: needRead},
	"listStatusLogs":        {need: needRead},
	"getContainer":          {need: needRead},
	"updateContainer":       {need: needEdit, body: `{"name":"n{fresh}"}`},
	"putContainer":          {need: needEdit, body: `{"comment":"{fresh}"}`},
	"deleteContainer":       {need: needDelete},
	"operateContainer":      {need: needEdit, path: "/api/v1/containers/{container}/restart"},

	"getEnvironment":            {need: needRead},
	"updateEnvironment":         {need: needEdit, body: `{"A":"{fresh}"}`, code: "RESOURCE_ACCESS_DENIED"},
	"putEnvironment":            {need: needEdit, body: `{"A":"{fresh}"}`, code: "RESOURCE_ACCESS_DENIED"},
	"setEnvironmentVariable":    {need: needEdit, body: `{"value":"{fresh}"}`, code: "RESOURCE_ACCESS_DENIED"},
	"putEnvironmentVariable":    {need: needEdit, body: `{"value":"{fresh}"}`, code: "RESOURCE_ACCESS_DENIED"},
	"deleteEnvironmentVariable": {need: needEdit, code: "RESOURCE_ACCESS_DENIED"},

	"listSnapshots":    {need: needRead},
	"createSnapshot":   {need: needEdit},
	"restoreSnapshot":  {need: needEdit},
	"putSnapshot":      {need: needEdit},
	"deleteSnapshot":   {need: needEdit},
	"renameSnapshot":   {need: needEdit, body: `{"alias":"{fresh}"}`},
	"putSnapshotAlias": {need: needEdit, body: `{"alias":"{fresh}"}`},

	"copyContainer": {need: needEdit, body: `{"target_project_id":"{project}"}`},
	"syncContainer": {need: needEdit, path: "/api/v1/containers/{copy}/sync"},

	"cancelContainer": {need: needEdit},

	"listServers":  {need: needUser},
	"getServer":    {need: needUser, path: "/api/v1/servers/{server}"},
	"listEvents":   {need: needUser},
	"streamEvents": {need: needUser},

	"listUsers": {need: needOperator},
	"getUser":   {need: needOperator, path: "/api/v1/operator/users/{user}"},
	"putUser":   {need: needOperator, path: "/api/v1/operator/users/{user}", body: `{"username":"{fresh}"}`},
	"banUser":   {need: needOperator, path: "/api/v1/operator/users/{fresh}/ban"},
	"unbanUser": {need: needOperator, path: "/api/v1/operator/users/{user}/ban"},
}

// roles are who asks. Tokens of the matrix are their names.
var roles = map[string]agent.Caller{
	"owner":    caller,
	"read":     guest(1),
	"edit":     guest(2),
	"delete":   guest(3),
	"stranger": {UserID: stranger},
	"banned":   guest(4), // with a grant to delete
	"operator": {UserID: guest(5).UserID, Operator: true},
}

// answers is what a role is answered by a route with a need: a status and, for refusals, a code.
func answers(role string, row route) (status int, code string) {
	n := row.need
	notFound, denied := http.StatusNotFound, http.StatusForbidden
	rank := map[string]need{"read": needRead, "edit": needEdit, "delete": needDelete, "owner": needDelete}[role]
	switch {
	case n == needNobody, role == "operator":
		return http.StatusOK, ""
	case role == "banned":
		return denied, "ACCOUNT_BANNED"
	case n == needUser:
		return http.StatusOK, ""
	case n == needOperator:
		return denied, "INSUFFICIENT_PERMISSIONS"
	case role == "stranger":
		return notFound, ""
	case rank < n && row.code != "":
		return denied, row.code
	case rank < n:
		return denied, "INSUFFICIENT_PERMISSIONS"
	}
	return http.StatusOK, ""
}

type roleTokens struct{}

func (roleTokens) Authenticate(r *http.Request) (agent.Caller, error) {
	name, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return roles[name], nil
}

// matrixScene is what the requests of the matrix are about.
type matrixScene struct {
	*fleet
	doc    *openapi3.T
	server *httptest.Server
	fresh  int
	ids    map[string]string
	busy   []string // containers that the last request may have set to work
}

func newMatrixScene(t *testing.T, tokens api.Authenticator, options api.Options) *matrixScene {
	s := &matrixScene{fleet: newFleet(t, 1)}
	here := s.servers[0]
	doc, err := openapi3.NewLoader().LoadFromData(document.Document())
	s.must(err)
	s.doc = doc
	s.server = httptest.NewServer(api.New(here.agent, tokens, options))
	t.Cleanup(s.server.Close)
	s.must(second(here.agent.BanUser(s.ctx, roles["operator"], roles["banned"].UserID, "")))
	s.set()
	s.must(second(here.agent.PutUser(s.ctx, roles["operator"], s.ids["user"], "user", "")))
	return s
}

// set makes the project and the containers anew: the last request has changed them.
func (s *matrixScene) set() {
	here := s.servers[0]
	s.ids = map[string]string{"server": here.id, "user": guest(7).UserID}
	s.project = s.shared()
	container := s.create(here, "container")
	copied := s.settled(s.copy(container, here, agent.CopyRequest{}).ID, store.StatusRunning)
	s.ids["project"], s.ids["container"], s.ids["copy"] = s.project.ID, container.ID, copied.ID
	for operation := range map[string]bool{"deleteProject": true, "removeProjectPermission": true, "deleteSnapshot": true} {
		s.renew(operation)
	}
}

// renew makes anew what an operation has taken away.
func (s *matrixScene) renew(operation string) {
	switch operation {
	case "deleteProject":
		s.ids["empty"] = s.shared().ID
	case "removeProjectPermission":
		s.fresh++
		s.ids["grant"] = s.grant(s.project, guest(0x100+s.fresh), store.PermissionRead).ID
	case "deleteSnapshot":
		snapshot, err := s.servers[0].agent.CreateSnapshot(s.ctx, caller, s.ids["container"], agent.CreateSnapshotRequest{})
		s.must(err)
		s.ids["name"] = snapshot.Snapshot.Name
	case "deleteContainer":
		s.set()
	}
}

// shared makes a project that the roles have their grants on.
func (s *matrixScene) shared() store.Project {
	s.fresh++
	project := s.newProject(fmt.Sprintf("scene %d", s.fresh))
	for role, level := range map[string]store.PermissionLevel{
		"read": store.PermissionRead, "edit": store.PermissionEdit, "delete": store.PermissionDelete, "banned": store.PermissionDelete,
	} {
		s.grant(project, roles[role], level)
	}
	return project
}

// fill puts the scene's ids into a text.
func (s *matrixScene) fill(text string) string {
	for name, id := range s.ids {
		text = strings.ReplaceAll(text, "{"+name+"}", id)
	}
	if strings.Contains(text, "{fresh}") {
		s.fresh++
		text = strings.ReplaceAll(text, "{fresh}", fmt.Sprintf("%024x", 0xf000+s.fresh))
	}
	return text
}

// ask sends a request as a role and checks the answer against the document.
func (s *matrixScene) ask(role, method, pattern string, row route) (status int, code string) {
	s.t.Helper()
	path := row.template(pattern)
	r, err := http.NewRequestWithContext(s.ctx, method, s.server.URL+s.fill(path), strings.NewReader(s.fill(row.body)))
	s.must(err)
	r.Header.Set("Authorization", "Bearer "+role)
	response, err := s.server.Client().Do(r)
	s.must(err)
	defer func() { _ = response.Body.Close() }()
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		return response.StatusCode, "" // it would not end
	}
	body, err := io.ReadAll(response.Body)
	s.must(err)
	if err := s.conforms(pattern, r, response, body); err != nil {
		s.t.Errorf("%s by %s answered outside the document: %v\n%s", path, role, err, body)
	}
	var envelope struct {
		Code string
		Data struct{ ID string }
	}
	_ = json.Unmarshal(body, &envelope) // lists and arrays have no such members
	s.busy = []string{s.ids["container"], s.ids["copy"], envelope.Data.ID}
	return response.StatusCode, envelope.Code
}

// template is the path of a row, with the names of what it is about.
func (row route) template(pattern string) string {
	if row.path != "" {
		return row.path
	}
	return strings.NewReplacer("/projects/{id}", "/projects/{project}", "/containers/{id}", "/containers/{container}", "{permissionId}", "{grant}", "{key}", "A").Replace(pattern)
}

// conforms checks an answer against the document.
func (s *matrixScene) conforms(pattern string, r *http.Request, response *http.Response, body []byte) error {
	item := s.doc.Paths.Find(pattern)
	return openapi3filter.ValidateResponse(s.ctx, &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: r, Route: &routers.Route{Spec: s.doc, Path: pattern, PathItem: item, Method: r.Method, Operation: item.GetOperation(r.Method)},
		},
		Status: response.StatusCode, Header: response.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	})
}

// rest waits until no operation is under way.
func (s *matrixScene) rest() {
	s.must(second(s.records.Barrier(s.ctx)))
	for _, id := range s.busy {
		if _, there := s.records.Mirror().Container(id); there {
			s.ended(id)
		}
	}
	s.catchUp()
}

// Every route for every role, through real HTTP and a real agent. Who is refused changes nothing.
func TestPermissionMatrix(t *testing.T) {
	t.Parallel()
	s := newMatrixScene(t, roleTokens{}, api.Options{})
	for pattern, item := range s.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			row, tested := matrix[operation.OperationID]
			if !tested {
				t.Errorf("no row for operation %s of the document", operation.OperationID)
				continue
			}
			s.rest()
			before := s.everything(s.servers[0])
			var allowed []string
			for role := range roles {
				status, code := answers(role, row)
				if status < 400 {
					allowed = append(allowed, role)
					continue
				}
				if got, said := s.ask(role, method, pattern, row); got != status || code != "" && said != code {
					t.Errorf("%s by %s: %d %s, want %d %s", operation.OperationID, role, got, said, status, code)
				}
			}
			if after := s.everything(s.servers[0]); after != before {
				t.Errorf("%s: refusals changed something: %s", operation.OperationID, cmp.Diff(before, after))
			}
			for _, role := range allowed {
				if got, said := s.ask(role, method, pattern, row); got/100 != 2 {
					t.Errorf("%s by %s: %d %s, want it done", operation.OperationID, role, got, said)
				}
				s.rest()
				s.renew(operation.OperationID)
			}
		}
	}
	for name := range matrix {
		if !documented(s.doc, name) {
			t.Errorf("a row for %s, which the document does not have", name)
		}
	}
}

func documented(doc *openapi3.T, name string) bool {
	for _, item := range doc.Paths.Map() {
		for _, operation := range item.Operations() {
			if operation.OperationID == name {
				return true
			}
		}
	}
	return false
}
