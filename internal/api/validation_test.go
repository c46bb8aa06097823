package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

// Bodies that the contract refuses: each answer names the field and the rule, and nothing is called.
func TestBodyRules(t *testing.T) {
	const (
		projects = "/api/v1/projects"
		create   = "/api/v1/projects/" + shop + "/containers"
		copying  = "/api/v1/containers/" + web + "/copy"
		sync     = "/api/v1/containers/" + webCopy + "/sync"
		start    = "/api/v1/containers/" + web + "/start"
		snapshot = "/api/v1/containers/" + web + "/snapshots"

		tooShort = "must NOT have fewer than 1 characters"
		idRule   = "must be 24 lower-case hexadecimal characters"
		nameRule = "must consist of letters, digits, hyphens and underscores"
		colour   = "must be a HEX color such as #F00 or #FF0000"
		keyRule  = "must be one OpenSSH public key (RSA, Ed25519 or ECDSA) on one line, without options"
	)
	server := `"server_id":"` + nodeA + `"`
	target := `"target_project_id":"` + shop + `"`
	cases := []struct {
		path, body, code string
		issues           []string
	}{
		{projects, `{}`, "MISSING_REQUIRED_FIELD", []string{"/alias: must have required property 'alias'"}},
		{projects, `{"alias":""}`, "INVALID_ALIAS_FORMAT", []string{"/alias: " + tooShort}},
		{projects, `{"alias":null}`, "INVALID_ALIAS_FORMAT", []string{"/alias: must be string"}},
		{projects, `{"alias":7}`, "INVALID_ALIAS_FORMAT", []string{"/alias: must be string"}},
		{projects, `{"alias":"` + strings.Repeat("ä", 101) + `"}`, "INVALID_ALIAS_FORMAT", []string{"/alias: must NOT have more than 100 characters"}},
		{projects, `{"alias":"a\nb"}`, "INVALID_ALIAS_FORMAT", []string{"/alias: must not contain control characters"}},
		{projects, `{"alias":"a","color":"red"}`, "INVALID_COLOR_FORMAT", []string{"/color: " + colour}},
		{projects, `{"alias":"a","color":"#12345"}`, "INVALID_COLOR_FORMAT", []string{"/color: " + colour}},
		{projects, `{"alias":"a","max_containers":-1}`, "INVALID_QUOTA_VALUE", []string{"/max_containers: must be >= 0"}},
		{projects, `{"alias":"a","max_containers":1.5}`, "INVALID_QUOTA_VALUE", []string{"/max_containers: must be integer or null"}},
		{projects, `{"alias":"a","max_containers":"5"}`, "INVALID_QUOTA_VALUE", []string{"/max_containers: must be integer or null"}},
		{projects, `{"alias":"a","max_containers":1e30}`, "INVALID_QUOTA_VALUE", []string{"/max_containers: must be <= 1000000"}},
		{projects, `{"alias":"a","max_containers":1.0}`, "VALIDATION_ERROR", []string{"/max_containers: must be a number without fraction and exponent"}},
		{projects, `{"alias":"a","realm_ids":["x"]}`, "INVALID_ID_FORMAT", []string{"/realm_ids/0: " + idRule}},
		{projects, `{"alias":"a","realm_ids":["` + realm + `","` + realm + `"]}`, "VALIDATION_ERROR", []string{"/realm_ids: must NOT have duplicate items"}},
		{projects, `{"alias":"a","colour":"#123"}`, "VALIDATION_ERROR", []string{"/colour: is not a field of this request"}},
		{projects, `{"alias":"a","Alias":"a","a/b~":1}`, "VALIDATION_ERROR", []string{"/Alias: is not a field of this request", "/a~1b~0: is not a field of this request"}},
		{projects, `{"alias":"","color":"red"}`, "VALIDATION_ERROR", []string{"/alias: " + tooShort, "/color: " + colour}},

		{create, `{}`, "MISSING_REQUIRED_FIELD", []string{"/server_id: must have required property 'server_id'"}},
		{create, `{"server_id":"node-a"}`, "INVALID_ID_FORMAT", []string{"/server_id: " + idRule}},
		{create, `{` + server + `,"name":"ab"}`, "INVALID_CONTAINER_NAME", []string{"/name: must NOT have fewer than 3 characters"}},
		{create, `{` + server + `,"name":"a b c"}`, "INVALID_CONTAINER_NAME", []string{"/name: " + nameRule}},
		{create, `{` + server + `,"name":"` + strings.Repeat("a", 101) + `"}`, "INVALID_CONTAINER_NAME", []string{"/name: must NOT have more than 100 characters"}},
		{create, `{` + server + `,"container_image":"../etc"}`, "VALIDATION_ERROR", []string{"/container_image: must be an image name such as debian/13"}},
		{create, `{` + server + `,"ai":"yes"}`, "VALIDATION_ERROR", []string{"/ai: must be boolean"}},
		{create, `{` + server + `,"comment":"` + strings.Repeat("c", 16001) + `"}`, "VALIDATION_ERROR", []string{"/comment: must NOT have more than 16000 characters"}},
		{create, `{` + server + `,"comment":"a\u0000"}`, "VALIDATION_ERROR", []string{"/comment: must not contain a NUL character"}},
		{create, `{` + server + `,"environment_vars":{"A":1}}`, "VALIDATION_ERROR", []string{"/environment_vars/A: must be string"}},
		{create, `{` + server + `,"environment_vars":{"A":""}}`, "VALIDATION_ERROR", []string{"/environment_vars/A: " + tooShort}},
		{create, `{` + server + `,"environment_vars":{"1A":"x","B":"\u0000"}}`, "VALIDATION_ERROR", []string{
			"/environment_vars/1A: the name must consist of letters, digits and underscores and not start with a digit",
			"/environment_vars/B: must not contain a NUL character or a line break",
		}},
		{create, `{` + server + `,"environment_vars":{"LD_AUDIT":"/x.so"}}`, "VALIDATION_ERROR", []string{"/environment_vars/LD_AUDIT: " + agent.VariableNameRule("LD_AUDIT")}},
		{create, `{` + server + `,"environment_vars":{"` + strings.Repeat("A", 129) + `":"x"}}`, "VALIDATION_ERROR", []string{
			"/environment_vars/" + strings.Repeat("A", 128) + "…: the name must NOT have more than 128 characters",
		}},
		{create, `{` + server + `,"environment_vars":` + environment(257) + `}`, "VALIDATION_ERROR", []string{"/environment_vars: must NOT have more than 256 properties"}},
		{create, `{` + server + `,"ssh_public_key":""}`, "VALIDATION_ERROR", []string{"/ssh_public_key: " + keyRule}},

		{copying, `{}`, "MISSING_REQUIRED_FIELD", []string{"/target_project_id: must have required property 'target_project_id'"}},
		{copying, `{"target_project_id":"` + strings.ToUpper(shop) + `"}`, "INVALID_ID_FORMAT", []string{"/target_project_id: " + idRule}},
		{copying, `{` + target + `,"target_server_id":""}`, "INVALID_ID_FORMAT", []string{"/target_server_id: " + idRule}},
		{copying, `{` + target + `,"name":""}`, "INVALID_CONTAINER_NAME", []string{"/name: must NOT have fewer than 3 characters", "/name: " + nameRule}},
		{copying, `{` + target + `,"source_snapshot":"a/b"}`, "VALIDATION_ERROR", []string{"/source_snapshot: " + nameRule}},
		{copying, `{` + target + `,"source_snapshot":null}`, "VALIDATION_ERROR", []string{"/source_snapshot: must be string"}},
		{copying, `{` + target + `,"ssh_public_key":"ssh-rsa AAAA"}`, "VALIDATION_ERROR", []string{"/ssh_public_key: is not a valid OpenSSH public key"}},
		{copying, `{` + target + `,"ssh_public_key":"ssh-dss AAAA"}`, "VALIDATION_ERROR", []string{"/ssh_public_key: " + keyRule}},
		{copying, `{` + target + `,"ssh_public_key":"` + publicKey + `\n` + publicKey + `"}`, "VALIDATION_ERROR", []string{"/ssh_public_key: " + keyRule}},
		{copying, `{` + target + `,"ssh_public_key":"command=\"id\" ` + publicKey + `"}`, "VALIDATION_ERROR", []string{"/ssh_public_key: " + keyRule}},
		{copying, `{` + target + `,"ssh_public_key":"` + strings.Replace(publicKey, "ed25519 ", "rsa ", 1) + `"}`, "VALIDATION_ERROR", []string{"/ssh_public_key: is not a valid OpenSSH public key"}},

		{sync, `{"source_snapshot":"a"}`, "VALIDATION_ERROR", []string{"/source_snapshot: is not a field of this request"}},
		{start, `{"timeout":0}`, "VALIDATION_ERROR", []string{"/timeout: must be >= 1"}},
		{start, `{"timeout":601}`, "VALIDATION_ERROR", []string{"/timeout: must be <= 600"}},
		{snapshot, `{"alias":""}`, "VALIDATION_ERROR", []string{"/alias: " + tooShort}},
		{snapshot, `{"alias":"` + strings.Repeat("a", 101) + `"}`, "VALIDATION_ERROR", []string{"/alias: must NOT have more than 100 characters"}},
		{snapshot, `{"alias":"a\u0007"}`, "VALIDATION_ERROR", []string{"/alias: must not contain control characters"}},
		{snapshot, `{"expiry":0}`, "VALIDATION_ERROR", []string{"/expiry: must be >= 1"}},
		{snapshot, `{"expiry":3651}`, "VALIDATION_ERROR", []string{"/expiry: must be <= 3650"}},
		{snapshot, `{"expiry":1e999}`, "VALIDATION_ERROR", []string{"/expiry: must be integer"}},
	}
	h := newHarness(t)
	for i, c := range cases {
		t.Run(fmt.Sprintf("%d %.60s", i, c.body), func(t *testing.T) {
			h.ops.last = nil
			got := h.do(t, request{method: "POST", path: c.path, body: c.body})
			got.fails(t, contract.Error{StatusCode: 400, Code: c.code, Message: "Validation failed"})
			if issues := got.issues(t); !slices.Equal(issues, c.issues) {
				t.Errorf("issues %q, want %q", issues, c.issues)
			}
			if h.ops.last != nil {
				t.Errorf("called %+v nevertheless", h.ops.last)
			}
		})
	}
}

// Bodies of changes that the contract refuses.
func TestChangeRules(t *testing.T) {
	const (
		change   = "PATCH /api/v1/containers/" + web
		put      = "PUT /api/v1/containers/" + web
		env      = "PATCH /api/v1/containers/" + web + "/env"
		variable = "PUT /api/v1/containers/" + web + "/env/A"
		drop     = "DELETE /api/v1/containers/" + web + "/env/"

		keyRule   = "must be one OpenSSH public key (RSA, Ed25519 or ECDSA) on one line, without options"
		nameRule  = "must consist of letters, digits and underscores and not start with a digit"
		reserved  = "names that start with HOODY_ are reserved"
		tooShort  = "must NOT have fewer than 1 characters"
		knownName = "must be equal to one of the allowed values: container, project"
	)
	h := newHarness(t)
	for _, c := range []struct {
		route, body, code string
		issues            []string
	}{
		{change, `{"name":"ab"}`, "INVALID_CONTAINER_NAME", []string{"/name: must NOT have fewer than 3 characters"}},
		{put, `{"name":null}`, "INVALID_CONTAINER_NAME", []string{"/name: must be string"}},
		{change, `{"color":"red"}`, "INVALID_COLOR_FORMAT", []string{"/color: must be a HEX color such as #F00 or #FF0000"}},
		{change, `{"autostart":"yes"}`, "VALIDATION_ERROR", []string{"/autostart: must be boolean"}},
		{change, `{"ramdisk_scope":"host"}`, "VALIDATION_ERROR", []string{"/ramdisk_scope: " + knownName}},
		{change, `{"ssh_public_key":""}`, "VALIDATION_ERROR", []string{"/ssh_public_key: " + keyRule}},
		{change, `{"ssh_public_key":"ssh-rsa AAAA"}`, "VALIDATION_ERROR", []string{"/ssh_public_key: is not a valid OpenSSH public key"}},
		{put, `{"comment":"a\u0000"}`, "VALIDATION_ERROR", []string{"/comment: must not contain a NUL character"}},
		{change, `{"comment":"` + strings.Repeat("c", 16001) + `"}`, "VALIDATION_ERROR", []string{"/comment: must NOT have more than 16000 characters"}},
		{change, `{"realm_ids":["x"]}`, "INVALID_ID_FORMAT", []string{"/realm_ids/0: must be 24 lower-case hexadecimal characters"}},
		{change, `{"environment_vars":{"1A":"x"}}`, "VALIDATION_ERROR", []string{"/environment_vars/1A: the name " + nameRule}},
		{change, `{"environment_vars":` + environment(257) + `}`, "VALIDATION_ERROR", []string{"/environment_vars: must NOT have more than 256 properties"}},
		{change, `{"server_id":"` + nodeB + `"}`, "VALIDATION_ERROR", []string{"/server_id: is not a field of this request"}},
		{change, `{"hoody_kit":true}`, "VALIDATION_ERROR", []string{"/hoody_kit: is not a field of this request"}},

		{env, `{}`, "VALIDATION_ERROR", []string{": must NOT have fewer than 1 properties"}},
		{env, `{"1A":"x","B C":"y"}`, "INVALID_ENV_KEY", []string{"/1A: the name " + nameRule, "/B C: the name " + nameRule}},
		{env, `{"` + strings.Repeat("A", 129) + `":"x"}`, "INVALID_ENV_KEY", []string{"/" + strings.Repeat("A", 128) + "…: the name must NOT have more than 128 characters"}},
		{env, `{"HOODY_KIT":"x","OTHER":"y"}`, "RESERVED_ENV_PREFIX", []string{"/HOODY_KIT: " + reserved}},
		{env, `{"A":""}`, "VALIDATION_ERROR", []string{"/A: " + tooShort}},
		{env, `{"A":null}`, "VALIDATION_ERROR", []string{"/A: must be string"}},
		{env, `{"A":"\u0000"}`, "VALIDATION_ERROR", []string{"/A: must not contain a NUL character or a line break"}},
		{env, `{"A":"x\nlxc.hook.pre-start = /bin/sh"}`, "VALIDATION_ERROR", []string{"/A: must not contain a NUL character or a line break"}},
		{env, `{"LD_PRELOAD":"/x.so"}`, "INVALID_ENV_KEY", []string{"/LD_PRELOAD: " + agent.VariableNameRule("LD_PRELOAD")}},
		{env, `{"PATH":"/proc/1/root/bin"}`, "VALIDATION_ERROR", []string{"/PATH: " + agent.VariableValueRule("PATH", "bin")}},
		{env, `{"A":"` + strings.Repeat("x", 4097) + `"}`, "VALIDATION_ERROR", []string{"/A: must NOT have more than 4096 characters"}},
		{env, environment(257), "VALIDATION_ERROR", []string{": must NOT have more than 256 properties"}},
		{variable, `{}`, "MISSING_REQUIRED_FIELD", []string{"/value: must have required property 'value'"}},
		{variable, `{"value":"x","key":"A"}`, "VALIDATION_ERROR", []string{"/key: is not a field of this request"}},
		{variable, `{"value":"\u0000"}`, "VALIDATION_ERROR", []string{"/value: must not contain a NUL character or a line break"}},
		{variable, `{"value":"x\r"}`, "VALIDATION_ERROR", []string{"/value: must not contain a NUL character or a line break"}},
		{strings.TrimSuffix(variable, "A") + "GCONV_PATH", `{"value":"x"}`, "INVALID_ENV_KEY", []string{"/key: " + agent.VariableNameRule("GCONV_PATH")}},
		{strings.TrimSuffix(variable, "A") + "PATH", `{"value":"bin"}`, "VALIDATION_ERROR", []string{"/value: " + agent.VariableValueRule("PATH", "bin")}},
		{variable + "-B", `{"value":"x"}`, "INVALID_ENV_KEY", []string{"/key: " + nameRule}},
		{strings.TrimSuffix(variable, "A") + "HOODY_A", `{"value":"x"}`, "RESERVED_ENV_PREFIX", []string{"/key: " + reserved}},
		{drop + "1", ``, "INVALID_ENV_KEY", []string{"/key: " + nameRule}},
		{drop + "HOODY_", ``, "RESERVED_ENV_PREFIX", []string{"/key: " + reserved}},
		{drop + strings.Repeat("A", 129), ``, "INVALID_ENV_KEY", []string{"/key: must NOT have more than 128 characters"}},
	} {
		t.Run(fmt.Sprintf("%.60s %.60s", c.route, c.body), func(t *testing.T) {
			h.ops.last = nil
			method, path, _ := strings.Cut(c.route, " ")
			got := h.do(t, request{method: method, path: path, body: c.body})
			got.fails(t, contract.Error{StatusCode: 400, Code: c.code, Message: "Validation failed"})
			if issues := got.issues(t); !slices.Equal(issues, c.issues) {
				t.Errorf("issues %q, want %q", issues, c.issues)
			}
			if h.ops.last != nil {
				t.Errorf("called %+v nevertheless", h.ops.last)
			}
		})
	}
}

func TestWhatIsNotOffered(t *testing.T) {
	h := newHarness(t)
	create := request{method: "POST", path: "/api/v1/projects/" + shop + "/containers"}
	copying := request{method: "POST", path: "/api/v1/containers/" + web + "/copy"}
	for field, c := range map[string]struct {
		request
		other   string
		status  int
		message string
	}{
		"kvm":                 {create, `"server_id":"` + nodeA + `"`, 403, "Insufficient permissions"},
		"dev_kvm":             {create, `"server_id":"` + nodeA + `"`, 403, "Insufficient permissions"},
		"prespawn":            {create, `"server_id":"` + nodeA + `"`, 403, "Insufficient permissions"},
		"copy_firewall_rules": {copying, `"target_project_id":"` + shop + `"`, 400, "Copying firewall or network rules is not supported yet"},
		"copy_network_rules":  {copying, `"target_project_id":"` + shop + `"`, 400, "Copying firewall or network rules is not supported yet"},
	} {
		t.Run(field, func(t *testing.T) {
			h.ops.last = nil
			c.body = fmt.Sprintf(`{%s,%q:true}`, c.other, field)
			got := h.do(t, c.request)
			got.fails(t, contract.Error{StatusCode: c.status, Message: c.message})
			if issues := got.issues(t); len(issues) != 1 || !strings.HasPrefix(issues[0], "/"+field+": ") {
				t.Errorf("issues %q", issues)
			}
			if h.ops.last != nil {
				t.Error("called nevertheless")
			}
		})
	}
	t.Run("kvm of a copy", func(t *testing.T) {
		copying.body = `{"target_project_id":"` + shop + `","kvm":true,"copy_network_rules":true}`
		h.do(t, copying).fails(t, contract.Error{StatusCode: 403})
	})
}

func TestQueries(t *testing.T) {
	h := newHarness(t)
	for query, issues := range map[string][]string{
		"page=0":                     {"/page: must be >= 1"},
		"page=-1":                    {"/page: must be >= 1"},
		"page=one":                   {"/page: must be integer"},
		"page=1.5":                   {"/page: must be integer"},
		"page=":                      {"/page: must not be empty"},
		"page=1000001":               {"/page: must be <= 1000000"},
		"page=99999999999999999999":  {"/page: must be integer"},
		"page=1&page=2":              {"/page: must be given once"},
		"limit=0":                    {"/limit: must be >= 1"},
		"limit=101":                  {"/limit: must be <= 100"},
		"sort_by=color":              {"/sort_by: must be equal to one of the allowed values: id, name, status, created_at, updated_at"},
		"sort_by=":                   {"/sort_by: must not be empty"},
		"sort_order=up":              {"/sort_order: must be equal to one of the allowed values: asc, desc"},
		"realm_id=x":                 {"/realm_id: must be 24 lower-case hexadecimal characters"},
		"include_deleting=perhaps":   {"/include_deleting: must be boolean"},
		"runtime=":                   {"/runtime: must not be empty"},
		"status=running":             {"/status: is not a parameter of this route"},
		"Page=1":                     {"/Page: is not a parameter of this route"},
		"page=0&limit=0":             {"/page: must be >= 1", "/limit: must be >= 1"},
		"a%ZZ=1":                     {": the query string is malformed"},
		"page=1;limit=2":             {": the query string is malformed"},
		"=":                          {"/: is not a parameter of this route"},
		"page[]=1":                   {"/page[]: is not a parameter of this route"},
		strings.Repeat("x", 200):     {"/" + strings.Repeat("x", 128) + "…: is not a parameter of this route"},
		"include_proxy_domains=true": nil,
		"runtime=%7B%22displays%22%3Atrue%7D&include_proxy_permissions=false&include_prespawn=true&include_expired=1": nil,
	} {
		t.Run(query, func(t *testing.T) {
			h.ops.last = nil
			got := h.do(t, request{method: "GET", path: "/api/v1/containers?" + query})
			if issues == nil {
				if got.status != http.StatusOK {
					t.Errorf("status %d: %s", got.status, got.body)
				}
				return
			}
			got.fails(t, contract.Error{StatusCode: 400, Code: "INVALID_PARAMETER_VALUE", Message: "Invalid parameter value"})
			if found := got.issues(t); !slices.Equal(found, issues) {
				t.Errorf("issues %q, want %q", found, issues)
			}
			if h.ops.last != nil {
				t.Error("called nevertheless")
			}
		})
	}
	t.Run("route without parameters", func(t *testing.T) {
		h.do(t, request{method: "GET", path: "/api/v1/servers?page=1"}).fails(t, contract.Error{StatusCode: 400, Code: "INVALID_PARAMETER_VALUE"})
	})
}

func TestPathIDs(t *testing.T) {
	h := newHarness(t)
	for _, id := range []string{"1", strings.ToUpper(web), web + "0", web[1:], web[:23] + "g", "%20", "..%2f", "%00", web + "%0A", "%ff", "a,b", "."} {
		if id == "." {
			continue // never reaches a server as such
		}
		for _, path := range []string{"/api/v1/containers/" + id, "/api/v1/projects/" + id, "/api/v1/containers/" + id + "/snapshots"} {
			h.ops.last = nil
			got := h.do(t, request{method: "GET", path: path})
			got.fails(t, contract.Error{StatusCode: 400, Code: "INVALID_ID_FORMAT", Message: "Invalid ID format"})
			if h.ops.last != nil {
				t.Error("called nevertheless")
			}
		}
	}
	t.Run("before the body", func(t *testing.T) {
		h.do(t, request{method: "POST", path: "/api/v1/containers/x/copy?y=1", body: "{"}).fails(t, contract.Error{StatusCode: 400, Code: "INVALID_ID_FORMAT"})
	})
	t.Run("unknown operation", func(t *testing.T) {
		got := h.do(t, request{method: "POST", path: "/api/v1/containers/" + web + "/explode"})
		got.fails(t, contract.Error{StatusCode: 400, Code: "VALIDATION_ERROR", Message: "Validation failed"})
		if issues := got.issues(t); len(issues) != 1 || !strings.HasPrefix(issues[0], "/operation: must be equal to one of the allowed values: start,") {
			t.Errorf("issues %q", issues)
		}
	})
}

// A request that is wrong in very many ways is told the first few.
func TestIssuesAreBounded(t *testing.T) {
	h := newHarness(t)
	var query, body []string
	for i := range 500 {
		query = append(query, fmt.Sprintf("x%d=1", i))
		body = append(body, fmt.Sprintf(`"x%d":1`, i))
	}
	if issues := h.do(t, request{method: "GET", path: "/api/v1/projects?" + strings.Join(query, "&")}).issues(t); len(issues) != 20 {
		t.Errorf("%d issues in the query", len(issues))
	}
	got := h.do(t, request{method: "POST", path: "/api/v1/projects", body: "{" + strings.Join(body, ",") + "}"})
	if issues := got.issues(t); len(issues) != 20 {
		t.Errorf("%d issues in the body", len(issues))
	}
}

func environment(n int) string {
	variables := make([]string, n)
	for i := range variables {
		variables[i] = fmt.Sprintf(`"V%d":"x"`, i)
	}
	return "{" + strings.Join(variables, ",") + "}"
}
