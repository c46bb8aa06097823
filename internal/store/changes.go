package store

import "slices"

// Record is any record that changes are delivered of.
type Record interface {
	Server | Project | Container | History | Job | User | Event
}

// Change is one record's change. A Change with Resync set carries nothing else: changes were lost, because the
// subscriber fell behind or the mirror had to load anew; read what you need from the mirror again.
type Change struct {
	Resync bool
	Kind   Kind
	ID     string // of the record; the container's for a history

	before, after any // *Server and so on, nil for a record that was not or is no longer there
}

// Records returns the two sides of a change of kind T: old is nil for a record that is new, new for one that is gone.
// Both are nil when the change is of another kind, and the same when only the liveness of a server changed.
func Records[T Record](c Change) (old, new *T) {
	old, _ = c.before.(*T)
	new, _ = c.after.(*T)
	return old, new
}

func newChange[T any](kind Kind, id string, old, new *T) Change {
	if old == nil && new == nil {
		return Change{}
	}
	return Change{Kind: kind, ID: id, before: old, after: new}
}

// subscriptionQueue is how many changes wait for a slow subscriber before they are given up for a resync.
const subscriptionQueue = 1024

// Subscription delivers changes in the order of their revisions. When one arrives, the mirror shows it already.
type Subscription struct {
	mirror  *Mirror
	kinds   []Kind
	changes chan Change
}

// Subscribe delivers the changes of the given kinds, of all kinds if none is given, from now on. It never holds up the
// mirror: a full queue is emptied and replaced by one Resync. The caller must Close the subscription.
func (m *Mirror) Subscribe(kinds ...Kind) *Subscription {
	s := &Subscription{mirror: m, kinds: kinds, changes: make(chan Change, subscriptionQueue)}
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.closed:
		close(s.changes)
	default:
		m.subscribed[s] = struct{}{}
	}
	return s
}

// Changes is where they arrive; it is closed by Close, and when the store closes.
func (s *Subscription) Changes() <-chan Change { return s.changes }

// Close ends the subscription. Further calls do nothing.
func (s *Subscription) Close() {
	s.mirror.mu.Lock()
	defer s.mirror.mu.Unlock()
	if _, open := s.mirror.subscribed[s]; open {
		delete(s.mirror.subscribed, s)
		close(s.changes)
	}
}

// deliver queues one change. The mirror's lock makes the caller the only sender.
func (s *Subscription) deliver(change Change) {
	if !change.Resync && len(s.kinds) > 0 && !slices.Contains(s.kinds, change.Kind) {
		return
	}
	select {
	case s.changes <- change:
		return
	default:
	}
	for {
		select {
		case <-s.changes:
			continue
		default:
		}
		break
	}
	s.changes <- Change{Resync: true} // there is room: nobody else sends
}

// publish hands the changes out. The caller holds the lock, and the content shows them already.
func (m *Mirror) publish(changes ...Change) {
	for _, change := range changes {
		for s := range m.subscribed {
			s.deliver(change)
		}
		if change.Resync {
			for name := range m.signals {
				m.signal(name)
			}
		}
		if change.Kind != KindJob {
			continue
		}
		for _, job := range []any{change.before, change.after} {
			if job, ok := job.(*Job); ok && job != nil {
				m.signal(job.ServerID)
				m.signal(jobPath(job.ServerID, job.ID))
			}
		}
	}
}

func (m *Mirror) signal(name string) {
	for listener := range m.signals[name] {
		select {
		case listener <- struct{}{}:
		default:
		}
	}
}

// listen returns a channel that gets a value after each change that signal is called for by that name; changes that
// come while one is pending are covered by it.
func (m *Mirror) listen(name string) (changed <-chan struct{}, cancel func()) {
	listener := make(chan struct{}, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.signals[name] == nil {
		m.signals[name] = make(map[chan struct{}]struct{})
	}
	m.signals[name][listener] = struct{}{}
	return listener, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.signals[name], listener)
		if len(m.signals[name]) == 0 {
			delete(m.signals, name)
		}
	}
}

// close ends waits and subscriptions.
func (m *Mirror) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.closed)
	for s := range m.subscribed {
		delete(m.subscribed, s)
		close(s.changes)
	}
}
