package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// eventLog is the mirror's copy of the events, oldest first. The mirror's lock guards it; what it hands out is never
// changed afterwards, see list.
type eventLog struct {
	byID    map[string]*Event
	ordered *list[Event] // by position
}

func newEventLog() *eventLog {
	return &eventLog{byID: make(map[string]*Event), ordered: &list[Event]{id: func(e *Event) string { return e.Position }}}
}

// position orders events by the revision that wrote them. Ids alone would not do: they tell times of several clocks.
func position(revision int64, id string) string { return fmt.Sprintf("%016x-%s", revision, id) }

func (l *eventLog) apply(id string, revision int64, value []byte) (Change, error) {
	old := l.byID[id]
	if old != nil {
		delete(l.byID, id)
		l.ordered.remove(old.Position)
	}
	if value == nil {
		return newChange(KindEvent, id, old, nil), nil
	}
	event, err := decode[Event]("event "+id, value)
	if err == nil && event.ID != id {
		err = fmt.Errorf("event %s calls itself %q: %w", id, event.ID, errdefs.ErrCorrupt)
	}
	if err != nil {
		return newChange(KindEvent, id, old, nil), err
	}
	event.Position = position(revision, id)
	l.byID[id] = event
	l.ordered.put(event)
	return newChange(KindEvent, id, old, event), nil
}

// Events returns all events, oldest first.
func (m *Mirror) Events() []*Event {
	return read(m, func(c *content) []*Event { return c.events.ordered.all() })
}

// EventsAfter returns the events behind a position, oldest first. known tells whether the event at that position is still
// there: if not, some that followed it may be gone as well.
func (m *Mirror) EventsAfter(position string) (after []*Event, known bool) {
	all := m.Events()
	at, known := slices.BinarySearchFunc(all, position, func(e *Event, position string) int { return strings.Compare(e.Position, position) })
	if known {
		at++
	}
	return all[at:], known
}

// sweepEvents removes the events that are too old, and the oldest of those that are too many. Ids begin with the seconds
// of their time, so both are a range of keys. One server does it for the fleet.
func (s *Store) sweepEvents(ctx context.Context, now time.Time) error {
	if !s.foremost() {
		return nil
	}
	if err := s.mirror.intact(); err != nil {
		return err
	}
	oldest := fmt.Sprintf("%08x", uint32(now.Add(-s.opts.EventRetention).Unix()))
	ids := make([]string, 0, s.opts.MaxEvents)
	for _, event := range s.mirror.Events() {
		ids = append(ids, event.ID)
	}
	slices.Sort(ids)
	if surplus := len(ids) - s.opts.MaxEvents; surplus > 0 {
		oldest = max(oldest, ids[surplus])
	}
	if len(ids) == 0 || ids[0] >= oldest {
		return nil
	}
	return s.bounded(ctx, func(ctx context.Context) error {
		_, err := s.client.Delete(ctx, s.keys.kind(KindEvent), clientv3.WithRange(s.keys.record(KindEvent, oldest)))
		return etcdError("remove old events", err)
	})
}

// foremost tells whether this server is the first of those that are alive: what has to be done once for the fleet is its
// business. Two that think so for a moment do no harm.
func (s *Store) foremost() bool {
	return read(s.mirror, func(c *content) bool {
		for id := range c.alive {
			if id < s.opts.ServerID {
				return false
			}
		}
		_, alive := c.alive[s.opts.ServerID]
		return alive
	})
}
