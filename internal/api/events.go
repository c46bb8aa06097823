package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// ListEvents implements GET /api/v1/events.
func (s *server) ListEvents(w http.ResponseWriter, r *http.Request, params contract.ListEventsParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		query := agent.EventQuery{
			EventFilter: agent.EventFilter{
				Type: value(params.EventType), ResourceType: string(value(params.ResourceType)), ResourceID: value(params.ResourceID),
				ProjectID: value(params.ProjectID), ContainerID: value(params.ContainerID), RealmID: value(params.RealmID),
			},
			From:      params.StartDate,
			Until:     params.EndDate,
			Limit:     value(params.Limit),
			Offset:    value(params.Offset),
			SortBy:    string(value(params.SortBy)),
			Ascending: value(params.SortOrder) == contract.SortDirectionAsc,
		}
		page, err := s.ops.Events(ctx, caller, query)
		if err != nil {
			return response{}, err
		}
		return ok("Events retrieved successfully", contract.EventPage{
			Events: each(page.Events, eventView),
			Pagination: contract.EventPagination{
				Total: page.Total, Limit: query.Limit, Offset: query.Offset, HasMore: query.Offset+len(page.Events) < page.Total,
			},
		}), nil
	})
}

func eventView(event store.Event) contract.Event {
	payload := event.Payload
	if payload == nil {
		payload = map[string]any{}
	}
	return contract.Event{
		ID:           event.ID,
		EventType:    event.Type,
		ResourceType: contract.ResourceType(event.ResourceType),
		ResourceID:   event.ResourceID,
		UserID:       event.UserID,
		Payload:      payload,
		RealmIDs:     orEmpty(event.RealmIDs),
		CreatedAt:    contract.At(event.CreatedAt),
		ProjectID:    event.ProjectID,
		ContainerID:  orNil(event.ContainerID),
	}
}

// writeTimeout is how long a client of a stream may take to read what is sent to it. Who takes longer is cut off: what
// waits for him waits here, and nowhere else.
const writeTimeout = 10 * time.Second

// StreamEvents implements GET /api/v1/events/stream.
func (s *server) StreamEvents(w http.ResponseWriter, r *http.Request, params contract.StreamEventsParams) {
	caller := exchangeOf(r).caller
	release, err := s.limiter.holdStream(caller)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer release()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()

	filter := agent.EventFilter{
		Type: value(params.EventType), ResourceType: string(value(params.ResourceType)), ResourceID: value(params.ResourceID),
		ProjectID: value(params.ProjectID), ContainerID: value(params.ContainerID), RealmID: value(params.RealmID),
	}
	stream := eventWriter{to: w, control: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy that collects answers would keep the events
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead || stream.write(": connected\n\n") != nil {
		return
	}
	for item, err := range s.ops.StreamEvents(ctx, caller, filter, value(params.LastEventID)) {
		if err != nil {
			// The answer has begun; its end is all that can be said. A client that comes back is told why.
			return
		}
		if stream.item(item) != nil {
			return
		}
	}
}

// eventWriter writes Server-Sent Events.
type eventWriter struct {
	to      http.ResponseWriter
	control *http.ResponseController
}

func (w eventWriter) item(item agent.StreamItem) error {
	switch {
	case item.Event != nil:
		return w.event(item.Event.Position, item.Event.Type, eventView(*item.Event))
	case item.Progress != nil:
		return w.event("", "container.operation.progress", operationProgressView(*item.Progress))
	case item.Missed:
		return w.event(item.Position, "reset", struct{}{})
	default:
		return w.write(": alive\n\n")
	}
}

// event writes one event. JSON has no line breaks of its own, and neither have ids and types.
func (w eventWriter) event(id, kind string, data any) error {
	encoded, err := json.Marshal(data)
	if err != nil {
		return err
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	return w.write(fmt.Sprintf("%sevent: %s\ndata: %s\n\n", id, kind, encoded))
}

func (w eventWriter) write(text string) error {
	// Where deadlines are not supported, as in tests without a connection, there is no slow client either.
	_ = w.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := w.to.Write([]byte(text)); err != nil {
		return err
	}
	err := w.control.Flush()
	// Over HTTP/2 a deadline ends the stream when it has passed, whether anything is being written or not.
	_ = w.control.SetWriteDeadline(time.Time{})
	return err
}

func operationProgressView(job store.Job) contract.OperationProgress {
	return contract.OperationProgress{
		OperationID:    job.ID,
		Kind:           string(job.Kind),
		ContainerID:    job.ContainerID,
		ProjectID:      job.ProjectID,
		Phase:          job.Phase,
		Attempts:       job.Attempts,
		BytesDone:      job.Progress.BytesDone,
		BytesTotal:     job.Progress.BytesTotal,
		BytesPerSecond: job.Progress.BytesPerSecond,
	}
}
