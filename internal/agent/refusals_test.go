package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api"
	"github.com/hoodynetwork/hoody-agent/internal/auth"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// refusal is a request and the error that it is answered with. It is the operation's row of the matrix, apart from what it
// says otherwise.
type refusal struct {
	status int
	code   string
	role   string                            // who asks; the owner when empty
	of     string                            // what it is asked of: the scene's name for the first id in the path
	path   string                            // a template, as in the matrix
	body   string                            // likewise
	header http.Header                       // more of it
	given  func(*refusalScene) (undo func()) // what has to be so
	// accepted: the request is refused by the work that it has begun, and leaves the record of that.
	accepted bool
}

// notHere are documented answers, 4xx, that no request causes in this test.
var notHere = map[string]string{
	"createProject 404": "a repetition of one whose project is gone: TestRepetitionsOfWhatIsGone",
}

// refusalScene is the scene of the matrix, behind real tokens, with whatever can be in the way of a request.
type refusalScene struct {
	*matrixScene
	tokens  map[string]string // of the roles, and of nobody
	limiter *api.Limiter
	before  string // everything, as the last refusal left it; empty when something else came in between
}

func newRefusalScene(t *testing.T) *refusalScene {
	tokens, verifier := issueTokens(t)
	s := &refusalScene{tokens: tokens, limiter: api.NewLimiter(api.Limits{})}
	s.matrixScene = newMatrixScene(t, verifier, api.Options{Limiter: s.limiter})
	s.fillTheWay()
	return s
}

// issueTokens gives every role a token.
func issueTokens(t *testing.T) (map[string]string, *auth.Verifier) {
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(t.TempDir(), "secret")
	must(os.WriteFile(secret, []byte(strings.Repeat("secret of the test ", 3)), 0o600))
	verifier, err := auth.NewVerifier(auth.Config{Algorithm: auth.HS256, KeyFile: secret}, nil)
	must(err)
	key, err := auth.LoadSigningKey(auth.HS256, secret, "")
	must(err)
	sign := func(who agent.Caller, issued time.Time) string {
		token, err := auth.Sign(key, auth.Token{UserID: who.UserID, Operator: who.Operator, IssuedAt: issued, Lifetime: time.Hour})
		must(err)
		return token
	}
	tokens := map[string]string{}
	for role, who := range roles {
		tokens[role] = sign(who, time.Now())
	}
	tokens["late"], tokens["liar"] = sign(caller, time.Now().Add(-2*time.Hour)), tokens["owner"]+"x"
	return tokens, verifier
}

// fillTheWay writes records of what requests run into. What an operation works on, or what can do nothing, is on a server
// that is away: nobody works there.
func (s *refusalScene) fillTheWay() {
	const away = "64c1aa00b2d34e5f607184ff"
	real := s.view(s.servers[0], store.Container{ID: s.ids["container"]})
	id := func(n int) string { return fmt.Sprintf("64c1aa00b2d34e5f6071b%03x", n) }
	job := func(n int) store.Job {
		return store.Job{ID: fmt.Sprintf("%032x", n), Kind: store.JobRestart, ServerID: away, State: store.JobRunning}
	}
	containers := map[string]func(*store.Container){
		"away":       func(*store.Container) {},
		"away copy":  func(c *store.Container) { c.SourceContainerID = id(0) },
		"busy":       func(c *store.Container) { c.JobID = job(1).ID },
		"busy copy":  func(c *store.Container) { c.JobID, c.SourceContainerID = job(2).ID, real.ID },
		"unfinished": func(c *store.Container) { c.JobID, c.Generation = job(3).ID, store.Generation{} },
		"claimed":    func(c *store.Container) { c.PendingFreezes = []string{job(4).ID} },
		"failed":     func(c *store.Container) { c.Status = store.StatusFailed },
		"broken":     func(c *store.Container) { c.Status, c.SourceContainerID = store.StatusFailed, real.ID },
		"orphan":     func(c *store.Container) { c.SourceContainerID = id(0xfff) },
		"much keyed": func(c *store.Container) {
			c.InheritedKeys, c.SSHPublicKey = slices.Repeat([]string{real.SSHPublicKey}, 200), newKey(s.t)
		},
	}
	other, err := s.servers[0].agent.CreateSnapshot(s.ctx, caller, real.ID, agent.CreateSnapshotRequest{Alias: new("other")})
	s.must(err)
	s.ids["other name"] = other.Snapshot.Name
	real = s.view(s.servers[0], real)
	kept, err := s.records.GetHistory(s.ctx, real.ID)
	s.must(err)
	full := s.shared()
	theirs, err := s.servers[0].agent.CreateProject(s.ctx, roles["edit"], agent.CreateProjectRequest{Alias: "theirs"})
	s.must(err)
	for n, name := range slices.Sorted(maps.Keys(containers)) {
		s.must(second(s.records.Update(s.ctx, func(tx *store.Tx) error {
			container := real
			container.ID, container.Name, container.ServerID, container.SSHPublicKey = id(n), strings.ReplaceAll(name, " ", "-"), away, ""
			containers[name](&container)
			held := store.History{ContainerID: container.ID, Snapshots: kept.Snapshots}
			if name == "orphan" {
				held.Snapshots = nil
			}
			if container.JobID != "" {
				open := job(n)
				open.ID, open.ContainerID, open.ProjectID = container.JobID, container.ID, container.ProjectID
				if err := tx.PutJob(open); err != nil {
					return err
				}
			}
			return errors.Join(tx.PutHistory(held), tx.PutContainer(container))
		})))
		s.ids[name] = id(n)
	}
	s.must(second(s.records.Update(s.ctx, func(tx *store.Tx) error {
		full.MaxContainers = new(0)
		return errors.Join(tx.PutProject(full), tx.PutServer(store.Server{ID: away, Name: "away"}))
	})))
	s.ids["unknown"] = id(0xfff)
	s.ids["away server"] = away
	s.ids["full"], s.ids["theirs"] = full.ID, theirs.ID
	s.ids["owner"], s.ids["reader"] = owner, roles["read"].UserID
	s.ids["alias"], s.ids["taken"], s.ids["taken key"], s.ids["new key"] = full.Alias, real.Name, real.SSHPublicKey, newKey(s.t)
	s.ids["1 MiB"] = strings.Repeat(" ", 1<<20)
	s.catchUp()
}

// limited is a server that has more containers than it may, each with as many snapshots as it may.
func limited(s *refusalScene) (undo func()) {
	return s.changeServer(func(server *store.Server) { server.MaxContainers, server.MaxSnapshots = 1, 1 })
}

func (s *refusalScene) changeServer(change func(*store.Server)) (undo func()) {
	var before store.Server
	write := func(change func(*store.Server)) {
		s.must(second(s.records.Update(s.ctx, func(tx *store.Tx) error {
			server, err := tx.Server(s.servers[0].id)
			if err != nil {
				return err
			}
			before = server
			change(&server)
			return tx.PutServer(server)
		})))
	}
	write(change)
	was := before
	return func() { write(func(server *store.Server) { *server = was }) }
}

// crowded is a project with as many grants as it may have.
func crowded(s *refusalScene) (undo func()) {
	project, err := s.records.GetProject(s.ctx, s.ids["project"])
	s.must(err)
	write := func(project store.Project) {
		s.must(second(s.records.Update(s.ctx, func(tx *store.Tx) error { return tx.PutProject(project) })))
	}
	full := project
	for n := range 500 {
		full.Permissions = append(full.Permissions, store.Permission{ID: guest(n).UserID, UserID: guest(n + 0x200).UserID, Level: store.PermissionRead})
	}
	write(full)
	return func() { write(project) }
}

// failing is a host on which an effect fails.
func failing(effect string, err error) func(*refusalScene) (undo func()) {
	return func(s *refusalScene) func() {
		s.servers[0].setFault(func(op, _ string) error {
			if op == effect {
				return err
			}
			return nil
		})
		return func() { s.servers[0].setFault(nil) }
	}
}

// usedKey is an Idempotency-Key that the owner has sent with another body.
func usedKey(path string) func(*refusalScene) (undo func()) {
	return func(s *refusalScene) func() {
		request := store.Request{UserID: owner, Scope: "POST " + path, Key: "used", Digest: "another"}
		_, _, _, err := s.servers[0].store.UpdateOnce(s.ctx, request, func(*store.Tx) (store.Receipt, error) { return store.Receipt{}, nil })
		s.must(err)
		return func() {}
	}
}

// common are the refusals that an operation has for what it takes: a token, parameters, a body, a key.
func common(pattern, method string, operation *openapi3.Operation) []refusal {
	row := matrix[operation.OperationID]
	path := row.template(pattern)
	refused := []refusal{{status: 400, code: "INVALID_PARAMETER_VALUE", path: path + "?unknown=1"}}
	if strings.Contains(path, "{") {
		refused = append(refused, refusal{status: 400, code: "INVALID_ID_FORMAT", of: "alias"})
	}
	if row.need == needNobody {
		return refused
	}
	refused = append(refused,
		refusal{status: 401, code: "MISSING_TOKEN", role: "nobody"}, refusal{status: 401, code: "INVALID_TOKEN", role: "liar"},
		refusal{status: 401, code: "TOKEN_EXPIRED", role: "late"}, refusal{status: 403, code: "ACCOUNT_BANNED", role: "banned"},
		refusal{status: 403, code: "INSUFFICIENT_PERMISSIONS", header: http.Header{"X-Hoody-User": {stranger}}},
		refusal{status: 429, code: "RATE_LIMIT_EXCEEDED", role: "owner"},
	)
	for _, role := range []string{"read", "edit", "owner"} {
		if status, code := answers(role, row); status == http.StatusForbidden {
			refused = append(refused, refusal{status: status, code: code, role: role})
		}
	}
	if operation.RequestBody != nil {
		refused = append(refused,
			refusal{status: 400, code: "VALIDATION_ERROR", body: "{"},
			refusal{status: 413, code: "PAYLOAD_TOO_LARGE", body: "{}{1 MiB}"},
			refusal{status: 415, code: "UNSUPPORTED_MEDIA_TYPE", body: "{}", header: http.Header{"Content-Type": {"text/plain"}}},
		)
		if len(operation.RequestBody.Value.Content["application/json"].Schema.Value.Required) > 0 {
			refused = append(refused, refusal{status: 400, code: "MISSING_REQUIRED_FIELD", body: "{}"})
		}
	}
	if operation.Parameters.GetByInAndName("header", "Idempotency-Key") != nil {
		refused = append(refused,
			refusal{status: 400, code: "INVALID_PARAMETER_VALUE", header: http.Header{"Idempotency-Key": {"a blank"}}},
			refusal{status: 422, code: "IDEMPOTENCY_KEY_REUSED", header: http.Header{"Idempotency-Key": {"used"}}},
		)
	}
	return refused
}

// refused sends the request of a row and returns the answer's status and code.
func (s *refusalScene) refused(pattern, method string, row refusal) (status int, code string) {
	s.t.Helper()
	target := s.fill(row.path)
	r, err := http.NewRequestWithContext(s.ctx, method, s.server.URL+target, strings.NewReader(s.fill(row.body)))
	s.must(err)
	if token := s.tokens[row.role]; token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	maps.Copy(r.Header, row.header)
	response, err := s.server.Client().Do(r)
	s.must(err)
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode < 400 {
		return response.StatusCode, "" // a stream would not end
	}
	body, err := io.ReadAll(response.Body)
	s.must(err)
	if err := s.conforms(pattern, r, response, body); err != nil {
		s.t.Errorf("%s %s answered outside the document: %v\n%s", method, target, err, body)
	}
	var envelope struct{ Code string }
	s.must(json.Unmarshal(body, &envelope))
	return response.StatusCode, envelope.Code
}

// completed is the row with what it leaves out.
func (row refusal) completed(operation *openapi3.Operation, pattern string) refusal {
	of := matrix[operation.OperationID]
	if row.path == "" {
		row.path = of.template(pattern)
	}
	if row.body == "" {
		row.body = of.body
	}
	if row.role == "" {
		row.role = map[bool]string{false: "owner", true: "operator"}[of.need == needOperator]
	}
	if row.of != "" {
		row.path = firstID.ReplaceAllString(row.path, "$1{"+row.of+"}$3")
	}
	if row.code == "RATE_LIMIT_EXCEEDED" {
		row.path += "?unknown=1" // admitted, it is refused all the same
	}
	return row
}

var firstID = regexp.MustCompile(`^([^{]*)(\{[^}]*\})(.*)$`)

// check sends the request of a row and compares: the answer, and that nothing has changed.
func (s *refusalScene) check(pattern, method string, row refusal) {
	s.t.Helper()
	here := s.servers[0]
	if row.header.Get("Idempotency-Key") == "used" {
		row.given = usedKey(s.fill(row.path))
	}
	if row.given != nil {
		undo := row.given(s)
		s.before = ""
		defer func() { undo(); s.before = "" }()
	}
	var held []string
	if row.accepted {
		held = s.heldBy(here)
	} else if s.before == "" {
		s.before = s.everything(here)
	}
	if row.status == http.StatusTooManyRequests {
		s.limiter.Set(api.Limits{PerSecond: 1, Burst: 1})
		defer s.limiter.Set(api.Limits{})
	}
	status, code := s.refused(pattern, method, row)
	for status == http.StatusBadRequest && row.status == http.StatusTooManyRequests {
		status, code = s.refused(pattern, method, row) // the first of a second
	}
	if status != row.status || code != row.code {
		s.t.Errorf("%s %s by %s: %d %s, want %d %s", method, s.fill(row.path), row.role, status, code, row.status, row.code)
	}
	if row.accepted {
		s.rest()
		s.before = ""
		if diff := cmp.Diff(held, s.heldBy(here)); diff != "" {
			s.t.Errorf("%s %s: %s was not undone: %s", method, row.path, row.code, diff)
		}
		return
	}
	after := s.everything(here)
	if after != s.before {
		s.t.Errorf("%s %s: %s changed something: %s", method, row.path, row.code, cmp.Diff(s.before, after))
	}
	s.before = after
}

// Every error that the document lists for an operation, through real HTTP, real tokens and a real agent: the request that
// causes it, what is answered, and that nothing has changed.
func TestRefusals(t *testing.T) {
	s := newRefusalScene(t)
	found := codeTable{}
	for pattern, item := range s.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			caused := map[int]bool{}
			for _, row := range slices.Concat(common(pattern, method, operation), ownRefusals[operation.OperationID]) {
				s.check(pattern, method, row.completed(operation, pattern))
				caused[row.status] = true
				found.add(row, method, pattern)
				answer := operation.Responses.Status(row.status)
				if answer == nil || !slices.Contains(codesIn(*answer.Value.Description), row.code) {
					t.Errorf("%s answers %d %s, which the document does not name", operation.OperationID, row.status, row.code)
				}
			}
			for status := 400; status < 500; status++ {
				name := fmt.Sprint(operation.OperationID, " ", status)
				documented := operation.Responses.Status(status) != nil
				if documented && !caused[status] && notHere[name] == "" {
					t.Errorf("no request causes %s, which the document lists", name)
				}
				if notHere[name] != "" && (!documented || caused[status]) {
					t.Errorf("%s is said not to be caused here", name)
				}
			}
		}
	}
	for name := range ownRefusals {
		if !documented(s.doc, name) {
			t.Errorf("rows for %s, which the document does not have", name)
		}
	}
	found.compare(t, s.doc)
}
