package api_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hoodynetwork/hoody-agent/internal/api"
)

// fuzzed is the API without a network between, so that nothing tidies up a request on its way.
type fuzzed struct {
	doc     *openapi3.T
	handler http.Handler
	route   string // of the last request
}

func newFuzzed(f *testing.F) *fuzzed {
	served := &fuzzed{doc: loadDocument(f)}
	served.handler = api.New(newFake(), fakeAuth{}, api.Options{
		Observe: func(_, route string, _ int, _ time.Duration) { served.route = route },
	})
	return served
}

// send sends a request and checks what every answer must be: documented, and no failure of ours.
func (f *fuzzed) send(t *testing.T, method string, target *url.URL, header http.Header, body string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
	r.URL, r.RequestURI, r.Header = target, target.RequestURI(), header
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	got := reply{status: w.Code, header: w.Header(), body: w.Body.Bytes(), route: f.route}
	if got.status >= http.StatusInternalServerError {
		t.Fatalf("%s %s %q: %s", method, target, body, got.body)
	}
	if err := conforms(f.doc, method, got); err != nil {
		t.Fatalf("%s %s %q: %v", method, target, body, err)
	}
}

func fuzzHeader() http.Header { return http.Header{"Authorization": {"Bearer alice"}} }

// bodyRequests are the requests that take a body: all of the document.
func bodyRequests(doc *openapi3.T) []request {
	var requests []request
	table := successes()
	for _, path := range slices.Sorted(maps.Keys(doc.Paths.Map())) {
		operations := doc.Paths.Find(path).Operations()
		for _, method := range slices.Sorted(maps.Keys(operations)) {
			if operations[method].RequestBody != nil {
				requests = append(requests, table[operations[method].OperationID].request)
			}
		}
	}
	return requests
}

// queryPaths are the paths that GET takes: all of the document.
func queryPaths(doc *openapi3.T) []string {
	var paths []string
	table := successes()
	for _, path := range slices.Sorted(maps.Keys(doc.Paths.Map())) {
		if get := doc.Paths.Find(path).Get; get != nil {
			asked, _, _ := strings.Cut(table[get.OperationID].path, "?")
			paths = append(paths, asked)
		}
	}
	return paths
}

func FuzzBody(f *testing.F) {
	served := newFuzzed(f)
	requests := bodyRequests(served.doc)
	for i, to := range requests {
		f.Add(uint8(i), "application/json", to.body)
		for _, body := range []string{``, `{}`, `null`, `[]`, `{"alias":null}`, `{"a":{"b":[1,{"c":2}]}}`, `{"alias":"a","alias":"b"}`, "{\"\xff\":1}", `{"expiry":1.0}`, `{"timeout":1e2}`} {
			f.Add(uint8(i), "application/json; charset=utf-8", body)
		}
		f.Add(uint8(i), "text/plain", to.path)
	}
	f.Fuzz(func(t *testing.T, which uint8, contentType, body string) {
		header := fuzzHeader()
		header.Set("Content-Type", contentType)
		to := requests[int(which)%len(requests)]
		served.send(t, to.method, &url.URL{Path: to.path}, header, body)
	})
}

func FuzzQuery(f *testing.F) {
	served := newFuzzed(f)
	paths := queryPaths(served.doc)
	for i := range paths {
		for _, query := range []string{
			"", "page=1&limit=100&sort_by=name&sort_order=asc", "page=+1", "page=1e3", "page=0x10", "limit=%31", "page=1&page=1", "%zz", ";", "=", "&&",
			"realm_id=" + realm, "include_deleting=T", "include_permissions=TRUE", "runtime=%7B%7D", "page=9223372036854775808", "page=-0", "page=01",
		} {
			f.Add(uint8(i), query)
		}
	}
	f.Fuzz(func(t *testing.T, path uint8, query string) {
		served.send(t, http.MethodGet, &url.URL{Path: paths[int(path)%len(paths)], RawQuery: query}, fuzzHeader(), "")
	})
}

func FuzzPath(f *testing.F) {
	served := newFuzzed(f)
	methods := []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, http.MethodConnect, "BREW"}
	for i := range methods {
		for _, id := range []string{
			web, strings.ToUpper(web), "", "/", "//", ".", "..", "a/../b", web + "/", web + "/copy", web + "/start", web + "/snapshots/", web + "//", web + "/%2e",
			"\x00", "ä", "%", "{id}", "*", web + "\n", web + "/snapshots/a/alias",
		} {
			f.Add(uint8(i), "/api/v1/containers/"+id)
		}
		f.Add(uint8(i), "*")
		f.Add(uint8(i), "")
	}
	f.Fuzz(func(t *testing.T, method uint8, path string) {
		served.send(t, methods[int(method)%len(methods)], &url.URL{Path: path}, fuzzHeader(), "")
	})
}

func FuzzHeaders(f *testing.F) {
	served := newFuzzed(f)
	for _, token := range []string{"", "Bearer alice", "Bearer ", "Basic x", "Bearer \x00", "Bearer ä"} {
		f.Add(token, "", "")
		f.Add(token, "id-1", "gzip")
		f.Add(token, strings.Repeat("i", 65), "identity")
	}
	f.Fuzz(func(t *testing.T, token, requestID, encoding string) {
		header := http.Header{"Authorization": {token}, "X-Request-Id": {requestID}, "Content-Encoding": {encoding}}
		served.send(t, http.MethodPost, &url.URL{Path: "/api/v1/projects"}, header, `{"alias":"a"}`)
	})
}

// FuzzIDs sends what a well-behaved client makes of an id: percent-encoded into one path segment.
func FuzzIDs(f *testing.F) {
	served := newFuzzed(f)
	for _, id := range []string{web, "", "a", strings.ToUpper(web), web + "0", "../" + web, web + "\n", "ä", "\x00", "%2f", "*"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		for _, path := range []string{"/api/v1/projects/%s", "/api/v1/containers/%s", "/api/v1/containers/%s/snapshots"} {
			target := &url.URL{
				Path:    strings.Replace(path, "%s", id, 1),
				RawPath: strings.Replace(path, "%s", url.PathEscape(id), 1),
			}
			served.send(t, http.MethodGet, target, fuzzHeader(), "")
			if slices.Contains([]string{".", "..", ""}, id) {
				return
			}
		}
	})
}
