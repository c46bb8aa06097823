package api_test

import (
	"slices"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

// What a change of a project or of its grants is refused for; nothing is called.
func TestProjectChangeRules(t *testing.T) {
	const (
		idRule    = "must be 24 lower-case hexadecimal characters"
		levelRule = "must be equal to one of the allowed values: read, edit, delete"
	)
	project := "/api/v1/projects/" + shop
	grants, one := project+"/permissions", project+"/permissions/"+grant
	cases := map[string]struct {
		method, path, body, code string
		issues                   []string
	}{
		"no alias":               {"PATCH", project, `{"color":"#123"}`, "MISSING_REQUIRED_FIELD", []string{"/alias: must have required property 'alias'"}},
		"no alias in a PUT":      {"PUT", project, `{}`, "MISSING_REQUIRED_FIELD", []string{"/alias: must have required property 'alias'"}},
		"empty alias":            {"PATCH", project, `{"alias":""}`, "INVALID_ALIAS_FORMAT", []string{"/alias: must NOT have fewer than 1 characters"}},
		"no color":               {"PATCH", project, `{"alias":"a","color":null}`, "INVALID_COLOR_FORMAT", []string{"/color: must be string"}},
		"limit below zero":       {"PATCH", project, `{"alias":"a","max_containers":-1}`, "INVALID_QUOTA_VALUE", []string{"/max_containers: must be >= 0"}},
		"limit with a point":     {"PATCH", project, `{"alias":"a","max_containers":1.0}`, "VALIDATION_ERROR", []string{"/max_containers: must be a number without fraction and exponent"}},
		"realm that is none":     {"PATCH", project, `{"alias":"a","realm_ids":["x"]}`, "INVALID_ID_FORMAT", []string{"/realm_ids/0: " + idRule}},
		"somebody else's":        {"PATCH", project, `{"alias":"a","user_id":"` + bob + `"}`, "VALIDATION_ERROR", []string{"/user_id: is not a field of this request"}},
		"grant without level":    {"POST", grants, `{"user_id":"` + bob + `"}`, "MISSING_REQUIRED_FIELD", []string{"/permission_level: must have required property 'permission_level'"}},
		"grant to nobody":        {"POST", grants, `{"permission_level":"read"}`, "MISSING_REQUIRED_FIELD", []string{"/user_id: must have required property 'user_id'"}},
		"grant by name":          {"POST", grants, `{"user_id":"bob","permission_level":"read"}`, "INVALID_ID_FORMAT", []string{"/user_id: " + idRule}},
		"unknown level":          {"POST", grants, `{"user_id":"` + bob + `","permission_level":"owner"}`, "VALIDATION_ERROR", []string{"/permission_level: " + levelRule}},
		"change without level":   {"PATCH", one, `{}`, "MISSING_REQUIRED_FIELD", []string{"/permission_level: must have required property 'permission_level'"}},
		"change to no level":     {"PUT", one, `{"permission_level":""}`, "VALIDATION_ERROR", []string{"/permission_level: " + levelRule}},
		"change of the user":     {"PATCH", one, `{"permission_level":"read","user_id":"` + bob + `"}`, "VALIDATION_ERROR", []string{"/user_id: is not a field of this request"}},
		"grant that is none":     {"DELETE", grants + "/x", "", "INVALID_ID_FORMAT", []string{"/permissionId: " + idRule}},
		"grant of no project":    {"PATCH", "/api/v1/projects/x/permissions/" + grant, `{`, "INVALID_ID_FORMAT", []string{"/id: " + idRule}},
		"sorted by what is none": {"GET", grants + "?sort_by=alias", "", "INVALID_PARAMETER_VALUE", []string{"/sort_by: must be equal to one of the allowed values: id, user_id, permission_level, created_at, updated_at"}},
		"grants of a realm":      {"GET", grants + "?realm_id=" + realm, "", "INVALID_PARAMETER_VALUE", []string{"/realm_id: is not a parameter of this route"}},
		"too long a page":        {"GET", grants + "?limit=101", "", "INVALID_PARAMETER_VALUE", []string{"/limit: must be <= 100"}},
		"deleted perhaps":        {"DELETE", project + "?include_deleted_items=perhaps", "", "INVALID_PARAMETER_VALUE", []string{"/include_deleted_items: must be boolean"}},
	}
	h := newHarness(t)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h.ops.last = nil
			got := h.do(t, request{method: c.method, path: c.path, body: c.body})
			got.fails(t, contract.Error{StatusCode: 400, Code: c.code})
			if issues := got.issues(t); !slices.Equal(issues, c.issues) {
				t.Errorf("issues %q, want %q", issues, c.issues)
			}
			if h.ops.last != nil {
				t.Errorf("called %+v nevertheless", h.ops.last)
			}
		})
	}
}

// What is only there on request is not there without.
func TestProjectShowsNoMoreThanAskedFor(t *testing.T) {
	h := newHarness(t)
	for _, c := range []struct{ method, query, absent string }{
		{"GET", "", "permissions"},
		{"GET", "?include_permissions=false", "permissions"},
		{"DELETE", "", "deleted_items"},
		{"DELETE", "?include_deleted_items=false", "deleted_items"},
	} {
		shown := h.do(t, request{method: c.method, path: "/api/v1/projects/" + shop + c.query}).shown(t)
		if value, there := shown[c.absent]; there {
			t.Errorf("%s %s shows %s: %v", c.method, c.query, c.absent, value)
		}
	}
}
