package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/digest"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/health"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Storage is what is asked of the pool.
type Storage interface {
	Inventory(ctx context.Context) (lineage.Inventory, error)
}

// Agent is what is asked of the agent itself.
type Agent interface {
	// Drain keeps new containers off this server, or lets them on it again.
	Drain(ctx context.Context, on bool) error
	// CancelJob asks a copy or sync, of any server, to give up.
	CancelJob(ctx context.Context, id string) error
	// Collect collects garbage, or only says what it would collect.
	Collect(ctx context.Context, dryRun bool) (agent.Report, error)
	// Findings lists what is not as the records say.
	Findings() []agent.Finding
	// Verify compares a copy of this server with its source, and tells how far it has come.
	Verify(ctx context.Context, containerID string, seen digest.Seen) (agent.Verification, error)
}

// Options are what the answers come from.
type Options struct {
	ServerID string
	Version  string
	Started  time.Time
	Records  *store.Store
	Storage  Storage
	Agent    Agent
	Health   *health.Registry
	// Pool returns what was last heard of the pool. It answers from memory.
	Pool func() Pool
	// Meet tries all other servers. Each costs at most a few seconds.
	Meet func(ctx context.Context) []Meeting
	Log  *zap.Logger
}

// NewHandler serves the admin interface. Access is the socket's business.
func NewHandler(options Options) http.Handler {
	s := &server{Options: options, mirror: options.Records.Mirror()}
	mux := http.NewServeMux()
	mux.Handle("GET "+pathStatus, answer(s, func(*http.Request) (Status, error) { return s.status(), nil }))
	mux.Handle("GET "+pathJobs, answer(s, func(r *http.Request) ([]Job, error) { return s.jobs(wantedJobs(r.URL.Query())), nil }))
	mux.Handle("GET "+pathContainers, answer(s, func(r *http.Request) ([]Container, error) { return s.containers(r.Context()) }))
	mux.Handle("GET "+pathLineage+"{container}", answer(s, func(r *http.Request) (Relative, error) {
		return s.lineage(r.Context(), r.PathValue("container"))
	}))
	mux.Handle("GET "+pathFindings, answer(s, func(*http.Request) ([]agent.Finding, error) {
		return append([]agent.Finding{}, s.Agent.Findings()...), nil // none is an empty list
	}))
	mux.Handle("POST "+pathDrain, answer(s, s.drain))
	mux.Handle("POST "+pathCancel+"{container}", answer(s, func(r *http.Request) (Cancelled, error) {
		return s.cancel(r.Context(), r.PathValue("container"))
	}))
	mux.Handle("POST "+pathCollect, answer(s, s.collect))
	mux.Handle("POST "+pathVerify+"{container}", http.HandlerFunc(s.verify))
	mux.Handle("GET "+pathMeetings, answer(s, func(r *http.Request) ([]Meeting, error) { return s.Meet(r.Context()), nil }))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, errdefs.New(errdefs.ErrNotFound, "", "this agent has no %s %s; is the command of another version?", r.Method, r.URL.Path))
	})
	return mux
}

type server struct {
	Options
	mirror *store.Mirror
}

// drain takes {"draining": bool}.
func (s *server) drain(r *http.Request) (Drained, error) {
	var wanted Drained
	if err := read(r, &wanted); err != nil {
		return Drained{}, err
	}
	if err := s.Agent.Drain(r.Context(), wanted.Draining); err != nil {
		return Drained{}, err
	}
	return Drained{Draining: wanted.Draining, OpenJobs: len(s.mirror.OpenJobs(s.ServerID))}, nil
}

func (s *server) cancel(ctx context.Context, name string) (Cancelled, error) {
	container, err := s.find(name)
	if err != nil {
		return Cancelled{}, err
	}
	if container.JobID == "" {
		return Cancelled{}, errdefs.New(errdefs.ErrFailedPrecondition, "", "no operation works on container %s", name)
	}
	if err := s.Agent.CancelJob(ctx, container.JobID); err != nil {
		return Cancelled{}, err
	}
	return Cancelled{Job: container.JobID, Container: Named{ID: container.ID, Name: container.Name}, Server: s.serverNamed(container.ServerID)}, nil
}

func wantedJobs(query url.Values) JobsWanted {
	return JobsWanted{All: query.Has("all"), Fleet: query.Has("fleet")}
}

func (s *server) collect(r *http.Request) (agent.Report, error) {
	var wanted Collection
	if err := read(r, &wanted); err != nil {
		return agent.Report{}, err
	}
	return s.Agent.Collect(r.Context(), !wanted.Apply)
}

const maxBody = 64 << 10

// read decodes a request's body.
func read(r *http.Request, into any) error {
	decoder := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return errdefs.New(errdefs.ErrInvalid, "", "request body").WithCause(err)
	}
	return nil
}

// failure is the body of an answer that is no success.
type failure struct {
	Class   string `json:"class"`
	Message string `json:"message"`
}

// answer makes a handler of what computes the answer.
func answer[T any](s *server, compute func(*http.Request) (T, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The server's read timeout goes on while an answer is computed, and would end r's context; some answers take hours.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		value, err := compute(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		write(w, http.StatusOK, value)
	})
}

// fail answers with the whole error: who may use the socket may read the log, too.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.Log.Warn("admin request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Error(err))
	status := http.StatusInternalServerError
	switch class := errdefs.ClassOf(err); {
	case errors.Is(class, errdefs.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(class, errdefs.ErrInvalid):
		status = http.StatusBadRequest
	case errors.Is(class, errdefs.ErrFailedPrecondition):
		status = http.StatusConflict
	case errors.Is(class, errdefs.ErrUnavailable):
		status = http.StatusServiceUnavailable
	}
	write(w, status, failure{Class: errdefs.ClassOf(err).Error(), Message: err.Error()})
}

func write(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // who asked may be gone
}
