package agent

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// EventHeartbeat is how long a stream of events is silent before it says that it lives.
const EventHeartbeat = 15 * time.Second

// StreamItem is what a stream of events delivers: an event, or a copy or sync that has come further, or that events were
// missed; none of them to say that the stream lives.
type StreamItem struct {
	Event    *store.Event
	Progress *store.Job
	Missed   bool
	Position string // with Missed: where the stream goes on from; empty for the beginning
}

// StreamEvents delivers the events that the caller may see at the moment they are delivered, as they happen, and the
// progress of copies and syncs. It begins behind the position after, of an event that a stream of any agent has delivered;
// empty for now.
//
// It ends with an error: errdefs.ErrPermissionDenied when the caller is banned, errdefs.ErrUnauthenticated when his
// credentials expire, errdefs.ErrUnavailable when ctx ends or the store closes.
func (a *Agent) StreamEvents(ctx context.Context, caller Caller, filter EventFilter, after string) iter.Seq2[StreamItem, error] {
	return func(yield func(StreamItem, error) bool) {
		if !caller.Expires.IsZero() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadlineCause(ctx, caller.Expires, errTokenExpired())
			defer cancel()
		}
		s := a.openStream(caller, filter, after)
		defer s.changes.Close()
		for {
			item, err := s.next(ctx)
			if err != nil {
				yield(StreamItem{}, err)
				return
			}
			if !yield(item, nil) {
				return
			}
		}
	}
}

func errTokenExpired() *errdefs.Error {
	return errdefs.New(errdefs.ErrUnauthenticated, "TOKEN_EXPIRED", "Token has expired")
}

// eventStream is the state of one stream.
type eventStream struct {
	agent    *Agent
	caller   Caller
	filter   EventFilter
	changes  *store.Subscription
	position string                // of the last event looked at
	pending  []*store.Event        // behind it
	missed   bool                  // still to be said
	reported map[string]*store.Job // as they were told last
}

func (a *Agent) openStream(caller Caller, filter EventFilter, after string) *eventStream {
	mirror := a.store.Mirror()
	s := &eventStream{
		agent: a, caller: caller, filter: filter, position: after, reported: make(map[string]*store.Job),
		changes: mirror.Subscribe(store.KindEvent, store.KindJob, store.KindUser),
	}
	if after == "" {
		if all := mirror.Events(); len(all) > 0 {
			s.position = all[len(all)-1].Position
		}
		return s
	}
	s.missed = !s.goOn()
	return s
}

// goOn looks for what came behind the position, and tells whether that is known. A position past all that there is comes from a store that was
// put back or made anew: from there on nothing would ever be behind it.
func (s *eventStream) goOn() (known bool) {
	mirror := s.agent.store.Mirror()
	if s.pending, known = mirror.EventsAfter(s.position); known || len(s.pending) > 0 {
		return known
	}
	s.position = ""
	if all := mirror.Events(); len(all) > 0 {
		s.position = all[len(all)-1].Position
	}
	return false
}

// next waits for something that the caller may see.
func (s *eventStream) next(ctx context.Context) (StreamItem, error) {
	heartbeat := time.NewTimer(EventHeartbeat)
	defer heartbeat.Stop()
	for {
		if err := s.agent.Admit(s.caller); err != nil {
			return StreamItem{}, err
		}
		if s.missed {
			s.missed = false
			return StreamItem{Missed: true, Position: s.position}, nil
		}
		if event := s.nextPending(); event != nil {
			return StreamItem{Event: event}, nil
		}
		select {
		case change, open := <-s.changes.Changes():
			if !open {
				return StreamItem{}, fmt.Errorf("stream events: the store closed: %w", errdefs.ErrUnavailable)
			}
			if progress := s.take(change); progress != nil {
				return StreamItem{Progress: progress}, nil
			}
		case <-heartbeat.C:
			return StreamItem{}, nil
		case <-ctx.Done():
			return StreamItem{}, fmt.Errorf("stream events: %w", endOf(ctx))
		}
	}
}

func endOf(ctx context.Context) error {
	var expired *errdefs.Error
	if cause := context.Cause(ctx); errors.As(cause, &expired) {
		return expired
	}
	return ctx.Err()
}

func (s *eventStream) nextPending() *store.Event {
	for len(s.pending) > 0 {
		event := s.pending[0]
		s.pending, s.position = s.pending[1:], event.Position
		if s.filter.matches(event) && s.agent.sight(s.caller)(event) {
			return event
		}
	}
	return nil
}

// take looks at one change. Events are read from the mirror, which has them in order and still has those whose changes were
// given up because this stream was slow.
func (s *eventStream) take(change store.Change) *store.Job {
	if change.Resync || change.Kind == store.KindEvent {
		began := s.position == ""
		s.missed = !s.goOn() && change.Resync && !began
		return nil
	}
	_, job := store.Records[store.Job](change)
	if job == nil {
		return nil
	}
	return s.progress(job)
}

// progress returns the job if there is something to tell of it, else nil.
func (s *eventStream) progress(job *store.Job) *store.Job {
	last, known := s.reported[job.ID]
	if !job.Open() {
		delete(s.reported, job.ID)
		return nil
	}
	if job.Kind != store.JobCopy && job.Kind != store.JobSync || known && last.Phase == job.Phase && last.Progress == job.Progress {
		return nil
	}
	event := &store.Event{
		Type: eventOperationProgress, ResourceType: "container", ResourceID: job.ContainerID, ContainerID: job.ContainerID, ProjectID: job.ProjectID,
	}
	if container, ok := s.agent.store.Mirror().Container(job.ContainerID); ok {
		event.RealmIDs, event.OwnerID = container.RealmIDs, container.OwnerID
	}
	if !s.filter.matches(event) || !s.agent.sight(s.caller)(event) {
		return nil
	}
	s.reported[job.ID] = job
	return job
}
