// Package client talks to an agent's HTTP API the way any program would: with what api/openapi.yaml says and nothing
// else. The demo and the end-to-end tests tell their stories through it.
package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// Client is one user at one agent. It may be used concurrently.
type Client struct {
	Base  string // such as "http://127.0.0.1:6470"
	Token string
	HTTP  *http.Client
	Pace  time.Duration // between two looks at what Settle waits for; 0 for 100 ms
}

// Error is an answer other than 2xx.
type Error struct {
	Method, Path string
	Status       int
	Code         string // machine code, when the answer has one
	Message      string
	Body         []byte
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s %s: %d %s %s", e.Method, e.Path, e.Status, e.Code, e.Message)
}

// StatusOf returns the HTTP status of an *Error, or 0.
func StatusOf(err error) int {
	var answer *Error
	if errors.As(err, &answer) {
		return answer.Status
	}
	return 0
}

// Do sends one request and decodes the answer's data into out; nil ignores it. A string or []byte body is sent as it is.
func (c *Client) Do(ctx context.Context, method, path string, body, out any) error {
	var content io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(body)
	case []byte:
		content = bytes.NewReader(body)
	default:
		encoded, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.Base+path, content)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if content != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	doer := c.HTTP
	if doer == nil {
		doer = http.DefaultClient
	}
	response, err := doer.Do(request)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	var envelope struct {
		Code    string          `json:"code"`
		Error   string          `json:"error"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	}
	decoded := json.Unmarshal(answer, &envelope)
	if response.StatusCode/100 != 2 {
		failed := &Error{Method: method, Path: path, Status: response.StatusCode, Code: envelope.Code, Message: envelope.Message, Body: answer}
		if failed.Code == "" {
			failed.Code = envelope.Error
		}
		return failed
	}
	if out == nil || envelope.Data == nil && decoded == nil {
		return nil
	}
	if decoded == nil {
		decoded = json.Unmarshal(envelope.Data, out)
	}
	if decoded != nil {
		return fmt.Errorf("%s %s: %w", method, path, decoded)
	}
	return nil
}

// Created is a container just asked for, with the private key that is handed out once.
type Created struct {
	contract.Container
	PrivateKey string `json:"ssh_private_key"`
}

// CreateProject makes a project.
func (c *Client) CreateProject(ctx context.Context, alias string) (contract.Project, error) {
	var project contract.Project
	err := c.Do(ctx, http.MethodPost, "/api/v1/projects/", map[string]any{"alias": alias}, &project)
	return project, err
}

// CreateContainer asks for a container; body is the request's object.
func (c *Client) CreateContainer(ctx context.Context, projectID string, body map[string]any) (Created, error) {
	var created Created
	err := c.Do(ctx, http.MethodPost, "/api/v1/projects/"+projectID+"/containers", body, &created)
	return created, err
}

// Container reads a container.
func (c *Client) Container(ctx context.Context, id string) (contract.Container, error) {
	var container contract.Container
	err := c.Do(ctx, http.MethodGet, "/api/v1/containers/"+id, nil, &container)
	return container, err
}

// Operate starts, stops and so on, and returns when it is done.
func (c *Client) Operate(ctx context.Context, id, operation string) error {
	return c.Do(ctx, http.MethodPost, "/api/v1/containers/"+id+"/"+operation, nil, nil)
}

// Delete deletes a container.
func (c *Client) Delete(ctx context.Context, id string) error {
	return c.Do(ctx, http.MethodDelete, "/api/v1/containers/"+id, nil, nil)
}

// Snapshot takes a snapshot; an empty alias means none.
func (c *Client) Snapshot(ctx context.Context, id, alias string) (contract.Snapshot, error) {
	body := map[string]any{}
	if alias != "" {
		body["alias"] = alias
	}
	var answer struct {
		Snapshot contract.Snapshot `json:"snapshot"`
	}
	err := c.Do(ctx, http.MethodPost, "/api/v1/containers/"+id+"/snapshots", body, &answer)
	return answer.Snapshot, err
}

// Snapshots lists a container's snapshots, newest first.
func (c *Client) Snapshots(ctx context.Context, id string) ([]contract.Snapshot, error) {
	var answer struct {
		Snapshots []contract.Snapshot `json:"snapshots"`
	}
	err := c.Do(ctx, http.MethodGet, "/api/v1/containers/"+id+"/snapshots", nil, &answer)
	return answer.Snapshots, err
}

// Restore puts a container back to a snapshot, by its name or alias, and returns when that is done.
func (c *Client) Restore(ctx context.Context, id, name string) (contract.Snapshot, error) {
	var answer struct {
		Snapshot contract.Snapshot `json:"snapshot"`
	}
	err := c.Do(ctx, http.MethodPatch, "/api/v1/containers/"+id+"/snapshots/"+url.PathEscape(name), nil, &answer)
	return answer.Snapshot, err
}

// DeleteSnapshot deletes a snapshot of a container, by its name or alias.
func (c *Client) DeleteSnapshot(ctx context.Context, id, name string) error {
	return c.Do(ctx, http.MethodDelete, "/api/v1/containers/"+id+"/snapshots/"+url.PathEscape(name), nil, nil)
}

// Copy asks for a copy; body is the request's object.
func (c *Client) Copy(ctx context.Context, sourceID string, body map[string]any) (Created, error) {
	var created Created
	err := c.Do(ctx, http.MethodPost, "/api/v1/containers/"+sourceID+"/copy", body, &created)
	return created, err
}

// Sync asks for a sync of a copy with its source.
func (c *Client) Sync(ctx context.Context, copyID string) error {
	return c.Do(ctx, http.MethodPost, "/api/v1/containers/"+copyID+"/sync", nil, nil)
}

// defaultPace keeps well below an agent's rate limit.
const defaultPace = 100 * time.Millisecond

// Settle polls a container until no operation works on it any more, as the contract tells clients to.
func (c *Client) Settle(ctx context.Context, id string) (contract.Container, error) {
	ticker := time.NewTicker(cmp.Or(c.Pace, defaultPace))
	defer ticker.Stop()
	for {
		container, err := c.Container(ctx, id)
		if err != nil {
			return container, err
		}
		switch container.Status {
		case "creating", "copying", "deleting":
		default:
			return container, nil
		}
		select {
		case <-ctx.Done():
			return container, fmt.Errorf("container %s is still %s: %w", id, container.Status, ctx.Err())
		case <-ticker.C:
		}
	}
}
