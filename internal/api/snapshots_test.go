package api_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

func TestRulesOfARenamedAlias(t *testing.T) {
	h := newHarness(t)
	for body, want := range map[string]struct{ code, issue string }{
		``:                          {"VALIDATION_ERROR", ": a JSON object is required"},
		`{}`:                        {"MISSING_REQUIRED_FIELD", "/alias: must have required property 'alias'"},
		`{"alias":""}`:              {"VALIDATION_ERROR", "/alias: must NOT have fewer than 1 characters"},
		`{"alias":7}`:               {"VALIDATION_ERROR", "/alias: must be string or null"},
		`{"alias":"a\u0007"}`:       {"VALIDATION_ERROR", "/alias: must not contain control characters"},
		`{"alias":"a","expiry":30}`: {"VALIDATION_ERROR", "/expiry: is not a field of this request"},
		`{"alias":"` + strings.Repeat("ä", 101) + `"}`: {"VALIDATION_ERROR", "/alias: must NOT have more than 100 characters"},
	} {
		for _, method := range []string{"PATCH", "PUT"} {
			h.ops.last = nil
			got := h.do(t, request{method: method, path: "/api/v1/containers/" + web + "/snapshots/a/alias", body: body})
			got.fails(t, contract.Error{StatusCode: 400, Code: want.code, Message: "Validation failed"})
			if issues := got.issues(t); !slices.Equal(issues, []string{want.issue}) {
				t.Errorf("%s %s: issues %q, want %q", method, body, issues, want.issue)
			}
			if h.ops.last != nil {
				t.Errorf("%s %s: called %+v nevertheless", method, body, h.ops.last)
			}
		}
	}
}

func TestASnapshotsNameInThePath(t *testing.T) {
	h := newHarness(t)
	for path, want := range map[string]int{
		"/snapshots/123":                         200, // a name, whatever it looks like
		"/snapshots/a%2Cb%3Bc":                   200,
		"/snapshots/" + strings.Repeat("a", 200): 200,
		"/snapshots/" + strings.Repeat("a", 201): 400,
		"/snapshots/a/b":                         404,
	} {
		if got := h.do(t, request{method: "DELETE", path: "/api/v1/containers/" + web + path}); got.status != want {
			t.Errorf("%s answered %d, want %d", path, got.status, want)
		}
	}
	h.do(t, request{method: "GET", path: "/api/v1/containers/" + web + "/snapshots/a"}).fails(t, contract.Error{StatusCode: 405})
	h.do(t, request{method: "PATCH", path: "/api/v1/containers/x/snapshots/a"}).fails(t, contract.Error{StatusCode: 400, Code: "INVALID_ID_FORMAT"})
}
