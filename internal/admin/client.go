package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// ErrNoAgent is that there was nobody to ask: nothing answers at the socket, or the caller may not open it. What an agent
// answers is never it.
var ErrNoAgent = errors.New("no agent")

// noAgent makes an error an ErrNoAgent without a word added.
type noAgent struct{ error }

func (e noAgent) Is(target error) bool { return target == ErrNoAgent }
func (e noAgent) Unwrap() error        { return e.error }

// Client asks the agent behind a socket. Its methods may be called concurrently. Errors are ErrNoAgent or the agent's own, of its class.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client of the agent that serves at socket. It does not connect yet.
func NewClient(socket string) *Client {
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// Status returns the agent at a glance.
func (c *Client) Status(ctx context.Context) (status Status, err error) {
	return status, c.do(ctx, http.MethodGet, pathStatus, nil, &status)
}

// Jobs lists jobs, the oldest first.
func (c *Client) Jobs(ctx context.Context, wanted JobsWanted) (jobs []Job, err error) {
	query := url.Values{}
	if wanted.All {
		query.Set("all", "")
	}
	if wanted.Fleet {
		query.Set("fleet", "")
	}
	return jobs, c.do(ctx, http.MethodGet, pathJobs+"?"+query.Encode(), nil, &jobs)
}

// Cancel gives up the copy or sync that works on a container of any server, given by id or name: a sync leaves the copy as it was, a first
// copy becomes failed. It returns when that is recorded. ErrFailedPrecondition when nothing that can be cancelled works on it.
func (c *Client) Cancel(ctx context.Context, container string) (cancelled Cancelled, err error) {
	return cancelled, c.do(ctx, http.MethodPost, pathCancel+url.PathEscape(container), nil, &cancelled)
}

// Containers lists the server's containers.
func (c *Client) Containers(ctx context.Context) (containers []Container, err error) {
	return containers, c.do(ctx, http.MethodGet, pathContainers, nil, &containers)
}

// Lineage returns the family of a container, given by id or name, from its oldest known ancestor down.
func (c *Client) Lineage(ctx context.Context, container string) (eldest Relative, err error) {
	return eldest, c.do(ctx, http.MethodGet, pathLineage+url.PathEscape(container), nil, &eldest)
}

// Findings lists what is not as the records say.
func (c *Client) Findings(ctx context.Context) (findings []agent.Finding, err error) {
	return findings, c.do(ctx, http.MethodGet, pathFindings, nil, &findings)
}

// Drain keeps new containers off the server, or lets them on it again.
func (c *Client) Drain(ctx context.Context, on bool) (drained Drained, err error) {
	return drained, c.do(ctx, http.MethodPost, pathDrain, Drained{Draining: on}, &drained)
}

// Collect collects garbage; without apply it only reports what it would collect.
func (c *Client) Collect(ctx context.Context, apply bool) (report agent.Report, err error) {
	return report, c.do(ctx, http.MethodPost, pathCollect, Collection{Apply: apply}, &report)
}

// Meet lets the agent try all other servers, both ways.
func (c *Client) Meet(ctx context.Context) (meetings []Meeting, err error) {
	return meetings, c.do(ctx, http.MethodGet, pathMeetings, nil, &meetings)
}

// do sends one request and decodes its answer into result.
func (c *Client) do(ctx context.Context, method, path string, body, result any) error {
	response, err := c.ask(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(result); err != nil {
		return unreadable(err)
	}
	return nil
}

// ask sends one request and returns the answer, which must be closed, or the agent's error.
func (c *Client) ask(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("ask the agent: %w", err)
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, content)
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	var failed failure
	if err := json.NewDecoder(response.Body).Decode(&failed); err != nil || failed.Message == "" {
		return nil, fmt.Errorf("ask the agent: it answered %s", response.Status)
	}
	return nil, failed.err()
}

func unreadable(err error) error {
	return fmt.Errorf("ask the agent: its answer cannot be read: %w", err)
}

func (f failure) err() error { return errdefs.New(errdefs.ClassNamed(f.Class), "", "%s", f.Message) }

func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, fs.ErrPermission) {
		return noAgent{errdefs.New(errdefs.ErrPermissionDenied, "", "the socket %s is not for you: be root, or a member of its group", c.socket)}
	}
	return noAgent{errdefs.New(errdefs.ErrUnavailable, "", "no agent answers at %s: is it running (systemctl status hoody-agent)?", c.socket).WithCause(err)}
}
