package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Every code that the contract documents for these operations, as the agent says it, and how it is answered.
func TestDocumentedErrors(t *testing.T) {
	cases := []struct {
		name      string
		operation string
		fail      *errdefs.Error
		status    int
		inError   bool // the code stands in the error member
	}{
		{"project alias taken", "createProject", errdefs.New(errdefs.ErrAlreadyExists, "DUPLICATE_ALIAS", "Project alias already exists"), 409, false},
		{"no such project", "getProject", errdefs.New(errdefs.ErrNotFound, "PROJECT_NOT_FOUND", "Project not found"), 404, false},
		{"project is another's", "getProject", errdefs.New(errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS", "Insufficient permissions"), 403, false},
		{"new alias taken", "updateProject", errdefs.New(errdefs.ErrAlreadyExists, "DUPLICATE_ALIAS", "Project alias already exists"), 409, false},
		{"change of no such project", "putProject", errdefs.New(errdefs.ErrNotFound, "PROJECT_NOT_FOUND", "Project not found"), 404, false},
		{"change by a reader", "updateProject", errdefs.New(errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS", "Insufficient permissions"), 403, false},
		{"project not empty", "deleteProject", errdefs.New(errdefs.ErrUnprocessable, "PROJECT_HAS_CONTAINERS", "Project contains active containers"), 422, false},
		{"delete of no such project", "deleteProject", errdefs.New(errdefs.ErrNotFound, "PROJECT_NOT_FOUND", "Project not found"), 404, false},
		{"granted already", "addProjectPermission", errdefs.New(errdefs.ErrAlreadyExists, "PERMISSION_ALREADY_EXISTS", "User already has permission for this project"), 409, false},
		{"granted to oneself", "addProjectPermission", errdefs.New(errdefs.ErrAlreadyExists, "CANNOT_GRANT_SELF_PERMISSION", "Cannot grant permission to yourself"), 409, false},
		{"too many grants", "addProjectPermission", errdefs.New(errdefs.ErrExhausted, "QUOTA_EXCEEDED", "Too many permissions"), 422, false},
		{"grants of no such project", "listProjectPermissions", errdefs.New(errdefs.ErrNotFound, "PROJECT_NOT_FOUND", "Project not found"), 404, false},
		{"change of no such grant", "updateProjectPermission", errdefs.New(errdefs.ErrNotFound, "PERMISSION_NOT_FOUND", "Permission not found"), 404, false},
		{"no such grant", "removeProjectPermission", errdefs.New(errdefs.ErrNotFound, "PERMISSION_NOT_FOUND", "Permission not found"), 404, false},
		{"no such container", "getContainer", errdefs.New(errdefs.ErrNotFound, "CONTAINER_NOT_FOUND", "Container not found"), 404, false},
		{"list of no such project", "listProjectContainers", errdefs.New(errdefs.ErrNotFound, "RESOURCE_NOT_FOUND", "Resource not found"), 404, false},
		{"name taken", "createContainer", errdefs.New(errdefs.ErrAlreadyExists, "CONTAINER_NAME_IN_USE", "Container name already in use"), 409, false},
		{"key taken", "createContainer", errdefs.New(errdefs.ErrAlreadyExists, "SSH_PUBLIC_KEY_IN_USE", "SSH public key already in use"), 409, false},
		{"server full", "createContainer", errdefs.New(errdefs.ErrExhausted, "SERVER_CONTAINER_LIMIT", "Server is full"), 400, false},
		{"project full", "createContainer", errdefs.New(errdefs.ErrExhausted, "PROJECT_CONTAINER_LIMIT", "Project is full"), 400, false},
		{"quota", "createContainer", errdefs.New(errdefs.ErrExhausted, "QUOTA_EXCEEDED", "Quota exceeded"), 422, false},
		{"not dispatched", "createContainer", errdefs.New(errdefs.ErrUnavailable, "CONTAINER_CREATE_DISPATCH_FAILED", "Nothing was created"), 500, true},
		{"new name taken", "updateContainer", errdefs.New(errdefs.ErrAlreadyExists, "CONTAINER_NAME_IN_USE", "Container name already in use"), 409, false},
		{"new key taken", "putContainer", errdefs.New(errdefs.ErrAlreadyExists, "SSH_PUBLIC_KEY_IN_USE", "SSH public key already in use"), 409, false},
		{"change of no such container", "updateContainer", errdefs.New(errdefs.ErrNotFound, "CONTAINER_NOT_FOUND", "Container not found"), 404, false},
		{"change on an expired server", "updateContainer", errdefs.New(errdefs.ErrPermissionDenied, "OPERATION_NOT_PERMITTED_ON_EXPIRED", "Container is read-only"), 403, true},
		{"too many keys", "updateContainer", errdefs.New(errdefs.ErrExhausted, "QUOTA_EXCEEDED", "Too many keys"), 422, false},
		{"stats, host away", "getContainerStats", errdefs.New(errdefs.ErrUnavailable, "EXTERNAL_SERVICE_ERROR", "External service unavailable"), 500, false},
		{"stats of no such container", "getContainerStats", errdefs.New(errdefs.ErrNotFound, "CONTAINER_NOT_FOUND", "Container not found"), 404, false},
		{"stats without an instance", "getContainerStats", errdefs.New(errdefs.ErrNotFound, "RESOURCE_NOT_FOUND", "Instance not found"), 404, false},
		{"stats of no such project", "getProjectStats", errdefs.New(errdefs.ErrNotFound, "RESOURCE_NOT_FOUND", "Project not found"), 404, false},
		{"stats, one host away", "getProjectStats", errdefs.New(errdefs.ErrUnavailable, "EXTERNAL_SERVICE_ERROR", "External service unavailable"), 500, false},
		{"status logs of no such container", "listStatusLogs", errdefs.New(errdefs.ErrNotFound, "CONTAINER_NOT_FOUND", "Container not found"), 404, false},
		{"no such server", "getServer", errdefs.New(errdefs.ErrNotFound, "RESOURCE_NOT_FOUND", "Server not found"), 404, false},
		{"variables of no such container", "getEnvironment", errdefs.New(errdefs.ErrNotFound, "CONTAINER_NOT_FOUND", "Container not found"), 404, false},
		{"variables by a reader", "updateEnvironment", errdefs.New(errdefs.ErrPermissionDenied, "RESOURCE_ACCESS_DENIED", "Access denied"), 403, false},
		{"variable by a reader", "deleteEnvironmentVariable", errdefs.New(errdefs.ErrPermissionDenied, "RESOURCE_ACCESS_DENIED", "Access denied"), 403, false},
		{"too many variables", "setEnvironmentVariable", errdefs.New(errdefs.ErrInvalid, "VALIDATION_ERROR", "Too many variables"), 400, false},
		{"delete while in use", "deleteContainer", errdefs.New(errdefs.ErrBusy, "RESOURCE_IN_USE", "Resource is currently in use"), 409, false},
		{"delete in a wrong state", "deleteContainer", errdefs.New(errdefs.ErrFailedPrecondition, "OPERATION_STATE_CONFLICT", "Container is copying"), 409, false},
		{"delete, host broken", "deleteContainer", errdefs.New(errdefs.ErrInternal, "EXTERNAL_SERVICE_ERROR", "External service unavailable"), 500, false},
		{"already running", "operateContainer", errdefs.New(errdefs.ErrInvalid, "OPERATION_STATE_CONFLICT", "Container is already running"), 400, false},
		{"other operation runs", "operateContainer", errdefs.New(errdefs.ErrBusy, "CONTAINER_OPERATION_IN_PROGRESS", "Another operation runs"), 409, true},
		{"finalizing", "operateContainer", errdefs.New(errdefs.ErrBusy, "container_finalizing", "Container is being set up"), 409, true},
		{"server expired", "operateContainer", errdefs.New(errdefs.ErrPermissionDenied, "OPERATION_NOT_PERMITTED_ON_EXPIRED", "Container is read-only"), 403, true},
		{"host refused", "operateContainer", errdefs.New(errdefs.ErrUnavailable, "CONTAINER_HOST_COMMAND_FAILED", "The host refused"), 502, true},
		{"host timed out", "operateContainer", errdefs.New(errdefs.ErrUnavailable, "CONTAINER_HOST_TIMEOUT", "The outcome is unknown"), 504, true},
		{"too many snapshots", "createSnapshot", errdefs.New(errdefs.ErrExhausted, "CONTAINER_SNAPSHOT_LIMIT", "Too many snapshots"), 400, true},
		{"snapshot runs", "createSnapshot", errdefs.New(errdefs.ErrBusy, "SNAPSHOT_OPERATION_IN_PROGRESS", "A snapshot is being taken"), 409, true},
		{"snapshot of what is being made", "createSnapshot", errdefs.New(errdefs.ErrBusy, "container_finalizing", "Still being set up"), 409, true},
		{"restore while another runs", "restoreSnapshot", errdefs.New(errdefs.ErrBusy, "SNAPSHOT_OPERATION_IN_PROGRESS", "Another operation runs"), 409, true},
		{"restore that does not start", "restoreSnapshot", errdefs.New(errdefs.ErrInternal, "CONTAINER_HOST_COMMAND_FAILED", "The container does not start"), 502, true},
		{"restore of what is paused", "restoreSnapshot", errdefs.New(errdefs.ErrFailedPrecondition, "OPERATION_STATE_CONFLICT", "Container is paused"), 409, false},
		{"restore of an unknown snapshot", "putSnapshot", errdefs.New(errdefs.ErrNotFound, "RESOURCE_NOT_FOUND", "Snapshot not found"), 404, false},
		{"delete while an operation runs", "deleteSnapshot", errdefs.New(errdefs.ErrBusy, "SNAPSHOT_OPERATION_IN_PROGRESS", "Another operation runs"), 409, true},
		{"alias taken", "renameSnapshot", errdefs.New(errdefs.ErrAlreadyExists, "RESOURCE_ALREADY_EXISTS", "Alias taken"), 409, false},
		{"alias not checkable", "putSnapshotAlias", errdefs.New(errdefs.ErrUnavailable, "SNAPSHOT_INVENTORY_UNAVAILABLE", "Nothing changed"), 503, true},
		{"limit not checkable", "createSnapshot", errdefs.New(errdefs.ErrUnavailable, "SNAPSHOT_INVENTORY_UNAVAILABLE", "Nothing changed"), 503, true},
		{"no such source", "copyContainer", errdefs.New(errdefs.ErrNotFound, "SOURCE_CONTAINER_NOT_FOUND", "Source container not found"), 404, false},
		{"no such target", "copyContainer", errdefs.New(errdefs.ErrNotFound, "RESOURCE_NOT_FOUND", "Resource not found"), 404, false},
		{"copy of a copying one", "copyContainer", errdefs.New(errdefs.ErrFailedPrecondition, "OPERATION_STATE_CONFLICT", "Container is copying"), 409, false},
		{"copy, name taken", "copyContainer", errdefs.New(errdefs.ErrAlreadyExists, "CONTAINER_NAME_IN_USE", "Container name already in use"), 409, false},
		{"copy, server full", "copyContainer", errdefs.New(errdefs.ErrExhausted, "SERVER_CONTAINER_LIMIT", "Server is full"), 400, false},
		{"copy, pool full", "copyContainer", errdefs.New(errdefs.ErrExhausted, "QUOTA_EXCEEDED", "Not enough space on the server"), 422, false},
		{"sync of no copy", "syncContainer", errdefs.New(errdefs.ErrFailedPrecondition, "CONTAINER_NOT_COPIED", "Container is not a copy"), 400, false},
		{"sync, source gone", "syncContainer", errdefs.New(errdefs.ErrNotFound, "SOURCE_CONTAINER_NOT_FOUND", "Source container not found"), 400, false},
		{"sync, no such copy", "syncContainer", errdefs.New(errdefs.ErrNotFound, "CONTAINER_NOT_FOUND", "Container not found"), 404, false},
		{"sync while copying", "syncContainer", errdefs.New(errdefs.ErrBusy, "OPERATION_STATE_CONFLICT", "Container is copying"), 409, false},
		{"too fast", "listContainers", errdefs.New(errdefs.ErrExhausted, "RATE_LIMIT_EXCEEDED", "Rate limit exceeded"), 429, false},
		{"store away", "listServers", errdefs.New(errdefs.ErrUnavailable, "", "The records cannot be read now"), 503, false},
	}
	h := newHarness(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h.ops.fail = fmt.Errorf("agent: %w", c.fail.WithCause(errors.New("secret of the house")))
			got := h.do(t, successes()[c.operation].request)
			want := contract.Error{StatusCode: c.status, Message: c.fail.Message, Code: c.fail.Code}
			if c.inError {
				want.Reason = c.fail.Code
			}
			got.fails(t, want)
			if strings.Contains(string(got.body), "secret") {
				t.Errorf("the cause is told: %s", got.body)
			}
			waits := errors.Is(c.fail.Class, errdefs.ErrBusy) || c.status == 429 || c.status == 503
			if (got.header.Get("Retry-After") != "") != waits {
				t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
			}
		})
	}
}

// Whatever an operation returns, the answer is one that the document lists for it, and tells nothing that was not said
// for the caller.
func TestEveryClassFromEveryOperation(t *testing.T) {
	classes := []error{
		errdefs.ErrInvalid, errdefs.ErrNotFound, errdefs.ErrAlreadyExists, errdefs.ErrUnauthenticated, errdefs.ErrPermissionDenied,
		errdefs.ErrFailedPrecondition, errdefs.ErrBusy, errdefs.ErrExhausted, errdefs.ErrUnprocessable, errdefs.ErrUnavailable,
		errdefs.ErrAborted, errdefs.ErrStale, errdefs.ErrCorrupt, errdefs.ErrUnsupported, errdefs.ErrInternal,
		context.Canceled, context.DeadlineExceeded, errors.New("never seen"),
	}
	h := newHarness(t)
	for name, c := range successes() {
		if c.calls == "" || name == "streamEvents" {
			continue // a stream has begun to answer by then
		}
		for _, class := range classes {
			for _, fail := range []error{fmt.Errorf("secret: %w", class), errdefs.New(class, "", "For the caller")} {
				h.ops.fail = fail
				got := h.do(t, c.request) // checks the answer against the document
				if got.status < 400 {
					t.Errorf("%s: %v answered %d", name, fail, got.status)
				}
				if strings.Contains(string(got.body), "secret") {
					t.Errorf("%s: the error is told: %s", name, got.body)
				}
				if got.status == http.StatusInternalServerError && strings.Contains(string(got.body), "For the caller") {
					t.Errorf("%s: a 500 explains itself: %s", name, got.body)
				}
			}
		}
	}
}

// What is behind an error does not change what the error says it is.
func TestClassIsTheOutermost(t *testing.T) {
	h := newHarness(t)
	h.ops.fail = errdefs.New(errdefs.ErrUnavailable, "", "The server does not answer").WithCause(errdefs.ErrNotFound)
	h.do(t, request{method: "GET", path: "/api/v1/containers/" + web}).
		fails(t, contract.Error{StatusCode: 503, Message: "The server does not answer"})
}

// A refused operation tells the container's state in data.
func TestRefusedOperationTellsTheState(t *testing.T) {
	h := newHarness(t)
	result := operationResult(agent.OperationStart)
	result.Error, result.Message = true, "Container is already running"
	h.ops.fail = errdefs.New(errdefs.ErrFailedPrecondition, "OPERATION_STATE_CONFLICT", "Container is already running").WithData(result)
	got := h.do(t, request{method: "POST", path: "/api/v1/containers/" + web + "/start"})
	got.fails(t, contract.Error{StatusCode: 409, Code: "OPERATION_STATE_CONFLICT"})
	got.golden(t, "operateContainer.refused")
}

func TestLimitTellsTheNumbers(t *testing.T) {
	h := newHarness(t)
	h.ops.fail = errdefs.New(errdefs.ErrExhausted, "CONTAINER_SNAPSHOT_LIMIT", "The container has 10 snapshots, as many as it may have").
		WithData(map[string]any{"field": "container_snapshot_limit", "container_id": web, "server_id": nodeA, "current_count": 10, "limit": 10})
	h.do(t, request{method: "POST", path: "/api/v1/containers/" + web + "/snapshots"}).golden(t, "createSnapshot.limit")
}

// Data that JSON cannot say is a bug of ours; the answer is still an answer.
func TestDataThatDoesNotEncode(t *testing.T) {
	h := newHarness(t)
	h.ops.fail = errdefs.New(errdefs.ErrInvalid, "", "Bad").WithData(func() {})
	h.do(t, request{method: "GET", path: "/api/v1/containers/" + web}).fails(t, contract.Error{StatusCode: 500, Code: "INTERNAL_SERVER_ERROR"})
}

func TestFailuresAreLoggedWithTheirCause(t *testing.T) {
	h := newHarness(t)
	h.ops.fail = errdefs.New(errdefs.ErrCorrupt, "", "x").WithCause(errors.New("checksum of block 7"))
	got := h.do(t, request{method: "GET", path: "/api/v1/containers/" + web, header: http.Header{"X-Request-Id": {"abc"}}})
	got.fails(t, contract.Error{StatusCode: 500, Code: "INTERNAL_SERVER_ERROR", Message: "An unexpected error occurred"})
	entries := h.logs.FilterMessage("request failed").All()
	if len(entries) != 1 {
		t.Fatalf("%d log lines", len(entries))
	}
	fields := entries[0].ContextMap()
	if fields["request_id"] != "abc" || fields["operation"] != "getContainer" || !strings.Contains(fmt.Sprint(fields["error"]), "block 7") {
		t.Errorf("logged %v", fields)
	}
}

func TestCredentials(t *testing.T) {
	h := newHarness(t)
	for name, c := range map[string]struct {
		token, code, message, challenge string
	}{
		"missing": {"-", "MISSING_TOKEN", "Authentication token required", `Bearer realm="hoody-agent"`},
		"invalid": {"mallory", "INVALID_TOKEN", "Invalid authentication token", `Bearer realm="hoody-agent", error="invalid_token"`},
		"expired": {"old", "TOKEN_EXPIRED", "Token has expired", `Bearer realm="hoody-agent", error="invalid_token", error_description="the token has expired"`},
	} {
		t.Run(name, func(t *testing.T) {
			for operation, s := range successes() {
				if operation == "getContract" {
					continue
				}
				h.ops.last = nil
				sent := s.request
				sent.token = c.token
				got := h.do(t, sent)
				got.fails(t, contract.Error{StatusCode: 401, Code: c.code, Message: c.message})
				if challenge := got.header.Get("WWW-Authenticate"); challenge != c.challenge {
					t.Errorf("%s: challenge %q", operation, challenge)
				}
				if h.ops.last != nil {
					t.Errorf("%s: called nevertheless", operation)
				}
			}
		})
	}
	t.Run("before anything else is looked at", func(t *testing.T) {
		h.do(t, request{method: "POST", path: "/api/v1/containers/x/copy?y=1", token: "-", body: "{"}).fails(t, contract.Error{StatusCode: 401})
	})
	t.Run("not checkable", func(t *testing.T) {
		h.do(t, request{method: "GET", path: "/api/v1/servers", token: "down"}).fails(t, contract.Error{StatusCode: 503, Code: "SERVICE_UNAVAILABLE"})
	})
}
