package api_test

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

func withKey(sent request, keys ...string) request {
	sent.header = http.Header{"Idempotency-Key": keys}
	return sent
}

// Every POST takes a key over, and says of a repetition that it is one.
func TestIdempotencyKey(t *testing.T) {
	h := newHarness(t)
	for name, c := range successes() {
		t.Run(name, func(t *testing.T) {
			h.ops.repeats = false
			first := h.do(t, withKey(c.request, "key-1"))
			if c.method != http.MethodPost {
				if c.calls != "" && h.ops.last.caller.Once != nil {
					t.Errorf("%s takes a key over", c.method)
				}
				return
			}
			once := *h.ops.last.caller.Once
			path, _, _ := strings.Cut(c.path, "?")
			if once.Key != "key-1" || once.Scope != "POST "+path || first.header.Get("Idempotent-Replayed") != "" {
				t.Errorf("first: %+v, answered %v", once, first.header)
			}
			h.ops.repeats = true
			again := h.do(t, withKey(c.request, "key-1"))
			if got := *h.ops.last.caller.Once; got.Digest != once.Digest || got.Scope != once.Scope {
				t.Errorf("the repetition is %+v, the first was %+v", got, once)
			}
			if again.status != c.status || again.header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("the repetition is answered %d with %v", again.status, again.header)
			}
			h.do(t, c.request)
			if h.ops.last.caller.Once != nil {
				t.Error("counts once without a key")
			}
			for _, keys := range [][]string{{""}, {strings.Repeat("k", 256)}, {"with blank"}, {"a", "b"}} {
				h.do(t, withKey(c.request, keys...)).fails(t, contract.Error{StatusCode: 400, Code: "INVALID_PARAMETER_VALUE"})
			}
		})
	}
}

func TestIdempotencyKeyTellsBodiesApart(t *testing.T) {
	h := newHarness(t)
	digest := func(body string) string {
		h.do(t, withKey(request{method: "POST", path: "/api/v1/projects", body: body}, "k"))
		return h.ops.last.caller.Once.Digest
	}
	if digest(`{"alias":"a"}`) == digest(`{"alias":"b"}`) {
		t.Error("different bodies have the same digest")
	}
}

// Who reads while the store is away is told how old that is.
func TestReadsOfAnOldMirrorTellTheirAge(t *testing.T) {
	since, stale := time.Now().Add(-90*time.Second), false
	h := newHarnessWith(t, api.Options{Stale: func() (time.Time, bool) { return since, stale }})
	ask := func() string {
		return h.do(t, request{method: "GET", path: "/api/v1/servers", token: "alice"}).header.Get("Age")
	}
	if age := ask(); age != "" {
		t.Errorf("age %q of what is current", age)
	}
	stale = true
	if age, err := strconv.Atoi(ask()); err != nil || age < 90 {
		t.Errorf("age %d, %v", age, err)
	}
}

func TestRateLimitPerToken(t *testing.T) {
	limiter := api.NewLimiter(api.Limits{PerSecond: 1, Burst: 3})
	h := newHarnessWith(t, api.Options{Limiter: limiter})
	ask := func(token string) reply {
		return h.do(t, request{method: "GET", path: "/api/v1/servers", token: token})
	}
	for range 3 {
		if got := ask("alice"); got.status != http.StatusOK {
			t.Fatalf("within the burst: %s", got.body)
		}
	}
	refused := ask("alice")
	for range 3 { // a busy machine may have let a second pass
		if refused.status == http.StatusOK {
			refused = ask("alice")
		}
	}
	refused.fails(t, contract.Error{StatusCode: 429, Code: "RATE_LIMIT_EXCEEDED", Message: "Rate limit exceeded"})
	if refused.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After is %q", refused.header.Get("Retry-After"))
	}
	if got := ask("carol"); got.status != http.StatusOK {
		t.Errorf("another token pays for the first: %s", got.body)
	}
	for range 10 {
		if got := ask("operator"); got.status != http.StatusOK {
			t.Errorf("an operator is limited: %s", got.body)
		}
	}
	limiter.Set(api.Limits{})
	for range 10 {
		if got := ask("alice"); got.status != http.StatusOK {
			t.Errorf("refused without a limit: %s", got.body)
		}
	}
}

func TestStreamsPerUser(t *testing.T) {
	h := newHarnessWith(t, api.Options{Limiter: api.NewLimiter(api.Limits{Streams: 1})})
	held := make(chan struct{})
	h.ops.wait = held
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open, err := http.NewRequestWithContext(ctx, http.MethodGet, h.server.URL+"/api/v1/events/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	open.Header.Set("Authorization", "Bearer alice")
	response, err := h.server.Client().Do(open)
	if err != nil {
		t.Fatal(err)
	}
	h.do(t, request{method: "GET", path: "/api/v1/events/stream"}).fails(t, contract.Error{StatusCode: 429, Code: "RATE_LIMIT_EXCEEDED"})
	close(held)
	<-h.seen // the first has ended
	_ = response.Body.Close()
	if got := h.do(t, request{method: "GET", path: "/api/v1/events/stream"}); got.status != http.StatusOK {
		t.Errorf("refused after the first has ended: %s", got.body)
	}
}

func TestOperatorsStreamsAreNotCounted(t *testing.T) {
	h := newHarnessWith(t, api.Options{Limiter: api.NewLimiter(api.Limits{Streams: 1})})
	held := make(chan struct{})
	h.ops.wait = held
	for range 2 {
		open, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.server.URL+"/api/v1/events/stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		open.Header.Set("Authorization", "Bearer operator")
		response, err := h.server.Client().Do(open)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("an operator is limited: %s", response.Status)
		}
	}
	close(held)
	for range 2 {
		<-h.seen
	}
}

func TestOperatorActsAsUser(t *testing.T) {
	h := newHarness(t)
	as := func(token string, users ...string) reply {
		return h.do(t, request{method: "GET", path: "/api/v1/servers", token: token, header: http.Header{"X-Hoody-User": users}})
	}
	as("operator", alice)
	if want := (agent.Caller{UserID: alice, ActingOperator: bob}); h.ops.last.caller != want {
		t.Errorf("called by %+v, want %+v", h.ops.last.caller, want)
	}
	if entries := h.logs.FilterMessage("request").All(); entries[len(entries)-1].ContextMap()["operator"] != bob {
		t.Errorf("logged %v", entries[len(entries)-1].ContextMap())
	}
	as("alice", alice).fails(t, contract.Error{StatusCode: 403, Code: "INSUFFICIENT_PERMISSIONS"})
	for _, users := range [][]string{{""}, {"alice"}, {strings.ToUpper(alice)}, {alice, bob}} {
		as("operator", users...).fails(t, contract.Error{StatusCode: 400, Code: "INVALID_ID_FORMAT"})
	}
}

func TestTheHostNamesTheRealm(t *testing.T) {
	h := newHarness(t)
	for host, want := range map[string]string{
		realm + ".api.example.org": realm,
		realm + ".localhost:6470":  realm,

		strings.ToUpper(realm) + ".API.example.org": realm,
		realm:                           "",
		realm + ".":                     "",
		"api.example.org":               "",
		"api." + realm + ".example.org": "",
		strings.ToUpper(realm) + "x.api.example.org": "",
		realm[1:] + ".api.example.org":               "",
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.server.URL+"/api/v1/projects/"+shop, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		r.Header.Set("Authorization", "Bearer alice")
		h.roundTrip(t, r)
		if got := h.ops.last.caller.RealmID; got != want {
			t.Errorf("host %s: realm %q, want %q", host, got, want)
		}
	}
}

func TestBannedUsersAreRefusedEverything(t *testing.T) {
	h := newHarness(t)
	h.ops.banned = alice
	for name, c := range successes() {
		if name == "getContract" {
			continue
		}
		h.ops.last = nil
		h.do(t, c.request).fails(t, contract.Error{StatusCode: 403, Code: "ACCOUNT_BANNED", Message: "Your account is banned"})
		if h.ops.last != nil {
			t.Errorf("%s: called nevertheless", name)
		}
	}
}

func TestPermissionsShowRegisteredNames(t *testing.T) {
	h := newHarness(t)
	h.ops.named = true
	h.do(t, request{method: "GET", path: "/api/v1/projects/" + shop + "/permissions"}).golden(t, "listProjectPermissions.named")
}

func TestStreamFormat(t *testing.T) {
	h := newHarness(t)
	happened := event()
	h.ops.stream = []agent.StreamItem{
		{Missed: true},
		{Event: &happened},
		{},
		{Progress: &store.Job{
			ID: jobID, Kind: store.JobCopy, ContainerID: web, ProjectID: shop, Phase: "replicate",
			Progress: store.Progress{BytesDone: 10, BytesTotal: 30, BytesPerSecond: 5},
		}},
	}
	got := h.do(t, request{method: "GET", path: "/api/v1/events/stream"})
	want := `: connected

event: reset
data: {}

id: 0000000000000011-64c1aa00b2d34e5f60718601
event: container.running
data: {"container_id":"` + web + `","created_at":"2026-01-05T09:00:00.123Z","event_type":"container.running","id":"64c1aa00b2d34e5f60718601","payload":{"container":{"id":"` + web + `","status":"running"},"previous_status":"copying"},"project_id":"` + shop + `","realm_ids":["` + realm + `"],"resource_id":"` + web + `","resource_type":"container","user_id":"` + alice + `"}

: alive

event: container.operation.progress
data: {"attempts":0,"bytes_done":10,"bytes_per_second":5,"bytes_total":30,"container_id":"` + web + `","kind":"copy","operation_id":"` + jobID + `","phase":"replicate","project_id":"` + shop + `"}

`
	if string(got.body) != want || !strings.HasPrefix(got.header.Get("Content-Type"), "text/event-stream") {
		t.Errorf("%v\n%s\nwant\n%s", got.header, got.body, want)
	}
}

// A stream does not keep the server from shutting down.
func TestStreamsEndAtShutdown(t *testing.T) {
	closing, shutDown := context.WithCancel(t.Context())
	h := newHarnessWith(t, api.Options{Closing: closing})
	h.ops.wait = make(chan struct{}) // never
	time.AfterFunc(time.Millisecond, shutDown)
	if got := h.do(t, request{method: "GET", path: "/api/v1/events/stream"}); !strings.HasPrefix(string(got.body), ": connected") {
		t.Errorf("answered %s", got.body)
	}
}
