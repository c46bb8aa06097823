package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	document "github.com/hoodynetwork/hoody-agent/api"
	"github.com/hoodynetwork/hoody-agent/internal/api"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

var update = flag.Bool("update", false, "write the golden files")

// harness is a served API over a fake. Whatever it answers is checked against the document.
type harness struct {
	ops    *fake
	doc    *openapi3.T
	server *httptest.Server
	logs   *observer.ObservedLogs
	seen   chan observation
}

type observation struct {
	method, route string
	status        int
}

func init() {
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.FileBodyDecoder) // a text; its parts have a test of their own
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	return newHarnessWith(t, api.Options{})
}

func newHarnessWith(t *testing.T, options api.Options, configure ...func(*http.Server)) *harness {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	h := &harness{ops: newFake(), doc: loadDocument(t), logs: logs, seen: make(chan observation, 1)}
	options.Logger = zap.New(core)
	options.Observe = func(method, route string, status int, took time.Duration) {
		h.seen <- observation{method, route, status}
	}
	h.server = httptest.NewUnstartedServer(api.New(h.ops, fakeAuth{}, options))
	for _, set := range configure {
		set(h.server.Config)
	}
	h.server.Start()
	t.Cleanup(h.server.Close)
	h.server.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return h
}

func newFake() *fake { return &fake{containers: 1, pageSize: 1, sync: "copying"} }

func loadDocument(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(document.Document())
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// request is what a test sends; alice sends it unless it says otherwise.
type request struct {
	method string
	path   string
	token  string // "-" for none
	body   string
	header http.Header
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	body   []byte
	route  string
}

func (h *harness) do(t *testing.T, sent request) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), sent.method, h.server.URL+sent.path, strings.NewReader(sent.body))
	if err != nil {
		t.Fatal(err)
	}
	if sent.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	switch sent.token {
	case "":
		r.Header.Set("Authorization", "Bearer alice")
	case "-":
	default:
		r.Header.Set("Authorization", "Bearer "+sent.token)
	}
	for name, values := range sent.header {
		r.Header[name] = values
	}
	return h.roundTrip(t, r)
}

func (h *harness) roundTrip(t *testing.T, r *http.Request) reply {
	t.Helper()
	response, err := h.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	seen := <-h.seen
	if seen.status != response.StatusCode {
		t.Errorf("observed status %d, answered %d", seen.status, response.StatusCode)
	}
	got := reply{status: response.StatusCode, header: response.Header, body: body, route: seen.route}
	if r.Method != http.MethodHead {
		if err := conforms(h.doc, r.Method, got); err != nil {
			t.Errorf("%s %s answered outside the document: %v\n%s", r.Method, r.URL.Path, err, body)
		}
	}
	return got
}

// conforms checks status, headers and body of a reply against the document.
func conforms(doc *openapi3.T, method string, got reply) error {
	description, err := describedAs(doc, method, got)
	if err != nil {
		return err
	}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: &http.Request{Method: method}, Route: description},
		Status:                 got.status,
		Header:                 got.header,
		Body:                   io.NopCloser(bytes.NewReader(got.body)),
		Options:                &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	})
	if err != nil {
		return err
	}
	if strings.HasPrefix(got.header.Get("Content-Type"), "text/event-stream") {
		return nil // no envelope
	}
	var envelope struct {
		StatusCode int `json:"statusCode"`
	}
	if err := json.Unmarshal(got.body, &envelope); err != nil {
		return err
	}
	if envelope.StatusCode != got.status && envelope.StatusCode != 0 {
		return fmt.Errorf("statusCode %d under status %d", envelope.StatusCode, got.status)
	}
	return nil
}

// describedAs finds what the document says about the reply. What matches no operation has two possible answers.
func describedAs(doc *openapi3.T, method string, got reply) (*routers.Route, error) {
	if item := doc.Paths.Find(got.route); item != nil {
		if operation := item.GetOperation(method); operation != nil {
			return &routers.Route{Spec: doc, Path: got.route, PathItem: item, Method: method, Operation: operation}, nil
		}
	}
	unmatched := map[int]string{http.StatusNotFound: "NotFound", http.StatusMethodNotAllowed: "MethodNotAllowed"}
	name, ok := unmatched[got.status]
	if !ok || got.route != "unmatched" {
		return nil, fmt.Errorf("status %d on route %q", got.status, got.route)
	}
	responses := openapi3.NewResponses()
	responses.Set(strconv.Itoa(got.status), &openapi3.ResponseRef{Value: doc.Components.Responses[name].Value})
	return &routers.Route{Spec: doc, Operation: &openapi3.Operation{Responses: responses}}, nil
}

// fails checks that a reply is the error that is wanted; an empty member of want is not looked at.
func (got reply) fails(t *testing.T, want contract.Error) contract.Error {
	t.Helper()
	var envelope contract.Error
	if err := json.Unmarshal(got.body, &envelope); err != nil {
		t.Fatalf("%v in %s", err, got.body)
	}
	if got.status != want.StatusCode {
		t.Errorf("status %d, want %d", got.status, want.StatusCode)
	}
	if want.Reason == "" {
		want.Reason = http.StatusText(want.StatusCode)
	}
	if envelope.Reason != want.Reason {
		t.Errorf("error %q, want %q", envelope.Reason, want.Reason)
	}
	if want.Code != "" && envelope.Code != want.Code {
		t.Errorf("code %q, want %q", envelope.Code, want.Code)
	}
	if want.Message != "" && envelope.Message != want.Message {
		t.Errorf("message %q, want %q", envelope.Message, want.Message)
	}
	if t.Failed() {
		t.Logf("answer: %s", got.body)
	}
	return envelope
}

// issues returns the data of a validation error as "path: message" lines.
func (got reply) issues(t *testing.T) []string {
	t.Helper()
	var envelope struct {
		Data []contract.Issue `json:"data"`
	}
	if err := json.Unmarshal(got.body, &envelope); err != nil {
		t.Fatalf("%v in %s", err, got.body)
	}
	lines := make([]string, len(envelope.Data))
	for i, issue := range envelope.Data {
		lines[i] = issue.InstancePath + ": " + issue.Message
	}
	return lines
}

// golden compares a reply's body with testdata/answers/<name>.json.
func (got reply) golden(t *testing.T, name string) {
	t.Helper()
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, got.body, "", "  "); err != nil {
		t.Fatal(err)
	}
	pretty.WriteByte('\n')
	path := filepath.Join("testdata", "answers", name+".json")
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, pretty.Bytes(), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pretty.Bytes(), want) {
		t.Errorf("answer differs from %s (see -update):\n%s", path, pretty.Bytes())
	}
}
