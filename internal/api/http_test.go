package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hoodynetwork/hoody-agent/internal/api"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

func TestPaths(t *testing.T) {
	h := newHarness(t)
	cases := []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/api/v1", 404, ""},
		{"GET", "/api/v2/projects", 404, ""},
		{"GET", "/api/v1/nonsense", 404, ""},
		{"GET", "/api/v1//projects", 404, ""},
		{"GET", "/api/v1/projects//", 404, ""},
		{"GET", "/api/v1/../v1/projects", 404, ""},
		{"GET", "/api/v1/projects/", 200, ""},
		{"GET", "/api/v1/containers/", 200, ""},
		{"GET", "/api/v1/servers/", 200, ""},
		{"GET", "/api/v1/projects/" + shop + "/containers/", 200, ""},
		{"GET", "/api/v1/containers/" + web + "/snapshots/", 200, ""},
		{"GET", "/api/v1/openapi.json", 200, ""},
		{"PUT", "/api/v1/projects", 405, "GET, POST"},
		{"DELETE", "/api/v1/projects/", 405, "GET, POST"},
		{"POST", "/api/v1/projects/" + shop, 405, "DELETE, GET, PATCH, PUT"},
		{"DELETE", "/api/v1/projects/" + shop + "/permissions", 405, "GET, POST"},
		{"GET", "/api/v1/projects/" + shop + "/permissions/" + grant, 405, "DELETE, PATCH, PUT"},
		{"POST", "/api/v1/containers", 405, "GET"},
		{"POST", "/api/v1/containers/" + web, 405, "DELETE, GET, PATCH, PUT"},
		{"DELETE", "/api/v1/containers/" + web + "/env", 405, "GET, PATCH, POST, PUT"},
		{"GET", "/api/v1/containers/" + web + "/env/A", 405, "DELETE, PATCH, PUT"},
		{"GET", "/api/v1/containers/" + web + "/copy", 405, "POST"},
		{"GET", "/api/v1/containers/" + web + "/start", 405, "POST"},
		{"DELETE", "/api/v1/containers/" + web + "/snapshots", 405, "GET, POST"},
		{"OPTIONS", "/api/v1/servers", 405, "GET"},
		{"BREW", "/api/v1/servers", 405, "GET"},
		{"HEAD", "/api/v1/projects", 200, ""},
	}
	for _, c := range cases {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			got := h.do(t, request{method: c.method, path: c.path})
			if got.status != c.status || got.header.Get("Allow") != c.allow {
				t.Errorf("status %d, Allow %q; want %d, %q", got.status, got.header.Get("Allow"), c.status, c.allow)
			}
		})
	}
}

func TestBodies(t *testing.T) {
	h := newHarness(t)
	long := strings.Repeat(" ", 1<<20)
	cases := map[string]struct {
		body   string
		header http.Header
		status int
		issue  string // of a 400
	}{
		"charset":            {`{"alias":"a"}`, contentType("application/json; charset=UTF-8"), 201, ""},
		"no content type":    {`{"alias":"a"}`, contentType(), 201, ""},
		"curl's default":     {`{"alias":"a"}`, contentType("application/x-www-form-urlencoded"), 201, ""},
		"as large as can be": {`{"alias":"a"}` + long[13:], nil, 201, ""},
		"text":               {`{"alias":"a"}`, contentType("text/plain"), 415, ""},
		"other JSON":         {`{"alias":"a"}`, contentType("application/merge-patch+json"), 415, ""},
		"other charset":      {`{"alias":"a"}`, contentType("application/json; charset=utf-16"), 415, ""},
		"nonsense type":      {`{"alias":"a"}`, contentType("///"), 415, ""},
		"compressed":         {`{"alias":"a"}`, http.Header{"Content-Encoding": {"gzip"}}, 415, ""},
		"too large":          {`{"alias":"a"}` + long, nil, 413, ""},
		"none":               {``, nil, 400, ": a JSON object is required"},
		"cut":                {`{"alias":"a"`, nil, 400, ": the body ends before its JSON value does"},
		"no JSON":            {`alias=a`, nil, 400, ": the body is not valid JSON: invalid character 'a' looking for beginning of value"},
		"comma":              {`{"alias":"a",}`, nil, 400, ": the body is not valid JSON: invalid character '}'"},
		"name twice":         {`{"alias":"a","alias":"b"}`, nil, 400, `: the field "alias" is given twice`},
		"inner name twice":   {`{"alias":"a","x":[{"y":1,"y":2}]}`, nil, 400, `: the field "y" is given twice`},
		"two values":         {`{"alias":"a"} {}`, nil, 400, ": there is more behind the body's JSON value"},
		"rubbish behind":     {`{"alias":"a"}x`, nil, 400, ": there is more behind the body's JSON value"},
		"not UTF-8":          {"{\"alias\":\"\xff\"}", nil, 400, ": the body is not valid UTF-8"},
		"too deep":           {strings.Repeat("[", 17) + strings.Repeat("]", 17), nil, 400, ": the body nests deeper than 16 levels"},
		"array":              {`[]`, nil, 400, ": must be object"},
		"null":               {`null`, nil, 400, ": must be object"},
		"string":             {`"alias"`, nil, 400, ": must be object"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h.ops.last = nil
			got := h.do(t, request{method: "POST", path: "/api/v1/projects", body: c.body, header: c.header})
			if got.status != c.status {
				t.Fatalf("status %d, want %d: %s", got.status, c.status, got.body)
			}
			if c.status == 201 {
				return
			}
			if h.ops.last != nil {
				t.Error("called nevertheless")
			}
			if c.status != 400 {
				return
			}
			got.fails(t, contract.Error{StatusCode: 400, Code: "VALIDATION_ERROR", Message: "Validation failed"})
			if issues := got.issues(t); len(issues) != 1 || !strings.HasPrefix(issues[0], c.issue) {
				t.Errorf("issues %q, want %q", issues, c.issue)
			}
		})
	}
}

// contentType is a header that replaces what the harness would send; none takes it away.
func contentType(types ...string) http.Header { return http.Header{"Content-Type": types} }

// A body whose length is not announced is read as far as the limit goes, too.
func TestChunkedBodyTooLarge(t *testing.T) {
	h := newHarness(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.server.URL+"/api/v1/projects", struct{ *strings.Reader }{strings.NewReader(strings.Repeat(" ", 1<<20+1))})
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer alice")
	h.roundTrip(t, r).fails(t, contract.Error{StatusCode: 413, Code: "PAYLOAD_TOO_LARGE"})
}

// refusedInPart sends part of a request, and requires a refusal that has changed nothing.
func (h *harness) refusedInPart(t *testing.T, part string, then func(*net.TCPConn) error) {
	t.Helper()
	connection, err := net.Dial("tcp", h.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	if _, err := connection.Write([]byte(part)); err != nil {
		t.Fatal(err)
	}
	if err := then(connection.(*net.TCPConn)); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if seen := <-h.seen; seen.status != 400 || response.StatusCode != 400 || h.ops.last != nil {
		t.Errorf("answered %d, called %v", response.StatusCode, h.ops.last)
	}
}

// A client that hangs up in the middle of its body gets an answer if it still listens, and changes nothing.
func TestBodyEndsEarly(t *testing.T) {
	newHarness(t).refusedInPart(t, "POST /api/v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\nContent-Length: 50\r\n\r\n{\"alias\":\"a\"}",
		(*net.TCPConn).CloseWrite)
}

// A body that is announced and does not come holds nobody up for longer than a request may take, where no body is asked for, too.
func TestBodyNeverComes(t *testing.T) {
	h := newHarnessWith(t, api.Options{}, func(s *http.Server) { s.ReadTimeout, s.ReadHeaderTimeout = time.Second, time.Minute })
	for _, line := range []string{"GET /api/v1/openapi.json", "GET /api/v1/projects", "POST /api/v1/projects"} {
		t.Run(line, func(t *testing.T) {
			h.refusedInPart(t, line+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\nContent-Length: 5\r\n\r\n",
				func(*net.TCPConn) error { return nil })
		})
	}
}

func TestRequestID(t *testing.T) {
	h := newHarness(t)
	generated := regexp.MustCompile(`^[0-9a-f]{32}$`)
	for name, c := range map[string]struct {
		sent string
		kept bool
	}{
		"ours to make": {"", false},
		"taken over":   {"job-7_a.B", true},
		"longest":      {strings.Repeat("x", 64), true},
		"too long":     {strings.Repeat("x", 65), false},
		"blank":        {"a b", false},
		"quote":        {`a"b`, false},
		"not ASCII":    {"ä", false},
	} {
		t.Run(name, func(t *testing.T) {
			got := h.do(t, request{method: "GET", path: "/api/v1/servers", header: http.Header{"X-Request-Id": {c.sent}}}).header.Get("X-Request-Id")
			if c.kept && got != c.sent || !c.kept && !generated.MatchString(got) {
				t.Errorf("sent %q, got %q", c.sent, got)
			}
		})
	}
}

func TestAccessLogAndObservation(t *testing.T) {
	h := newHarness(t)
	got := h.do(t, request{method: "GET", path: "/api/v1/containers/" + web + "?runtime=secret"})
	if got.route != "/api/v1/containers/{id}" {
		t.Errorf("route %q", got.route)
	}
	line := h.logs.FilterMessage("request").All()[0].ContextMap()
	want := map[string]any{
		"method": "GET", "route": "/api/v1/containers/{id}", "status": int64(200), "bytes": int64(len(got.body)),
		"user": alice, "request_id": got.header.Get("X-Request-Id"),
	}
	for name, value := range want {
		if line[name] != value {
			t.Errorf("%s is %v, want %v", name, line[name], value)
		}
	}
	if text := fmt.Sprint(line); strings.Contains(text, "secret") || strings.Contains(text, "Bearer") {
		t.Errorf("logged %s", text)
	}

	h.do(t, request{method: "BREW", path: "/api/v1/nonsense/" + web})
	last := h.logs.FilterMessage("request").All()[1].ContextMap()
	if last["method"] != "OTHER" || last["route"] != "unmatched" {
		t.Errorf("logged %v", last)
	}
}

func TestHeaders(t *testing.T) {
	h := newHarness(t)
	header := h.do(t, request{method: "GET", path: "/api/v1/containers/" + web}).header
	for name, want := range map[string]string{
		"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestPanicIsA500ThatTellsNothing(t *testing.T) {
	h := newHarness(t)
	h.ops.panic = "the secret of the house"
	got := h.do(t, request{method: "GET", path: "/api/v1/servers"})
	got.fails(t, contract.Error{StatusCode: 500, Code: "INTERNAL_SERVER_ERROR", Message: "An unexpected error occurred"})
	if strings.Contains(string(got.body), "secret") {
		t.Errorf("answered %s", got.body)
	}
	line := h.logs.FilterMessage("panic").All()[0].ContextMap()
	if line["panic"] != h.ops.panic || !strings.Contains(fmt.Sprint(line["stack"]), "fake_test.go") {
		t.Errorf("logged %v", line)
	}
}

func TestAbortCutsTheConnection(t *testing.T) {
	h := newHarness(t)
	h.ops.panic = http.ErrAbortHandler
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.server.URL+"/api/v1/servers", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer alice")
	if response, err := h.server.Client().Do(r); err == nil {
		_ = response.Body.Close()
		t.Errorf("answered %s", response.Status)
	}
	<-h.seen
}

// The document that is served is the one that is served by.
func TestContract(t *testing.T) {
	h := newHarness(t)
	body := h.do(t, request{method: "GET", path: "/api/v1/openapi.json", token: "-"}).body
	served, err := openapi3.NewLoader().LoadFromData(body)
	if err != nil {
		t.Fatal(err)
	}
	if err := served.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := served.Paths.Keys(), h.doc.Paths.Keys(); !slices.Equal(got, want) {
		t.Errorf("paths %v, want %v", got, want)
	}
}

// Every object of a request says that it takes nothing unknown, and so does every object of an answer.
func TestDocumentIsClosed(t *testing.T) {
	doc := loadDocument(t)
	for name, schema := range doc.Components.Schemas {
		if !schema.Value.Type.Is("object") {
			continue
		}
		closed := schema.Value.AdditionalProperties
		if closed.Schema == nil && (closed.Has == nil || *closed.Has) {
			t.Errorf("schema %s takes unknown members", name)
		}
	}
}

func TestTimestamp(t *testing.T) {
	var got contract.Timestamp
	if err := json.Unmarshal([]byte(`"2026-01-05T09:00:00.100Z"`), &got); err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(got); err != nil || string(text) != `"2026-01-05T09:00:00.100Z"` {
		t.Errorf("got %s, %v", text, err)
	}
	for _, bad := range []string{`"2026-01-05"`, `"2026-01-05T09:00:00Z"`, `"2026-01-05T09:00:00.100+01:00"`, `5`} {
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("accepted %s", bad)
		}
	}
}
