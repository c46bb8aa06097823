package store

import (
	"fmt"
	"path"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Mirror is an in-memory copy of everything below the store's prefix, as of one revision. Its methods are safe for
// concurrent use and never wait for etcd, those excepted that take a context.
//
// The records it returns are shared and immutable: copy before changing. Slices of records are snapshots, ordered by
// id, and stay as they are while the mirror moves on.
type Mirror struct {
	keys   keyspace
	logger *zap.Logger
	nudge  chan struct{} // asks the feed for a sign of life now
	closed chan struct{}

	mu         sync.RWMutex
	content    *content
	revision   int64
	loads      uint64
	heard      time.Time // when etcd last confirmed that we are current
	stale      bool
	replaced   error                                 // etcd holds another store, or an older state of ours; nil = it does not
	waiters    map[chan struct{}]int64               // waitRevision
	signals    map[string]map[chan struct{}]struct{} // JobChanges: server, or job path
	subscribed map[*Subscription]struct{}
}

// content is what one load brings and events change.
type content struct {
	servers    *table[Server]
	projects   *table[Project]
	containers *table[Container]
	histories  *table[History]
	jobs       *table[Job]
	activities *table[Activity]
	users      *table[User]
	events     *eventLog

	projectsByUser                                          *index[Project]
	containersInProject, containersOnServer, containersFrom *index[Container]
	openJobs                                                *index[Job] // by server

	jobHistories map[string][]byte    // by job path, encoded: needed only to put a changed job together
	unique       map[string]string    // owner by uniqueName
	alive        map[string]time.Time // since when we know, by server
	gone         map[string]time.Time // when the server's alive key went, by server
	unreadable   map[string]error     // by key
}

func newContent() *content {
	c := &content{
		projectsByUser: &index[Project]{keys: func(p *Project) []string {
			users := []string{p.UserID}
			for _, grant := range p.Permissions {
				users = append(users, grant.UserID)
			}
			return users
		}},
		containersInProject: by(func(c *Container) string { return c.ProjectID }),
		containersOnServer:  by(func(c *Container) string { return c.ServerID }),
		containersFrom:      by(func(c *Container) string { return c.SourceContainerID }),
		openJobs: &index[Job]{keys: func(j *Job) []string {
			if j.Open() {
				return []string{j.ServerID}
			}
			return nil
		}},
		jobHistories: make(map[string][]byte),
		unique:       make(map[string]string),
		alive:        make(map[string]time.Time),
		gone:         make(map[string]time.Time),
		unreadable:   make(map[string]error),
	}
	c.servers = newTable(func(s *Server) string { return s.ID })
	c.projects = newTable(func(p *Project) string { return p.ID }, c.projectsByUser)
	c.containers = newTable(func(c *Container) string { return c.ID },
		c.containersInProject, c.containersOnServer, c.containersFrom)
	c.histories = newTable(func(h *History) string { return h.ContainerID })
	c.jobs = newTable(func(j *Job) string { return j.ID }, c.openJobs)
	c.users = newTable(func(u *User) string { return u.ID })
	c.events = newEventLog()
	c.activities = newTable(func(a *Activity) string { return a.ServerID })
	return c
}

// by is an index on one value; records without it are in no group.
func by[T any](key func(*T) string) *index[T] {
	return &index[T]{keys: func(record *T) []string {
		if value := key(record); value != "" {
			return []string{value}
		}
		return nil
	}}
}

// apply takes one event in and returns what changed for subscribers; Kind is empty when that is nothing of theirs.
// A record that cannot be read is dropped and remembered: better none than an old one taken for current.
func (c *content) apply(keys keyspace, kv *mvccpb.KeyValue, deleted bool, now time.Time) Change {
	key := string(kv.Key)
	kind, rest, ok := keys.split(key)
	if !ok {
		return Change{}
	}
	delete(c.unreadable, key)
	value := kv.Value
	if deleted {
		value = nil
	}
	var change Change
	var err error
	switch kind {
	case KindServer:
		change, err = applyRecord(c.servers, kind, rest, value)
	case KindProject:
		change, err = applyRecord(c.projects, kind, rest, value)
	case KindContainer:
		change, err = applyRecord(c.containers, kind, rest, value)
	case KindHistory:
		change, err = applyRecord(c.histories, kind, rest, value)
	case KindJob:
		change, err = c.applyJob(rest, value)
	case KindUser:
		change, err = applyRecord(c.users, kind, rest, value)
	case KindEvent:
		change, err = c.events.apply(rest, kv.ModRevision, value)
	case KindActivity:
		_, err = applyRecord(c.activities, kind, rest, value) // too frequent to be anybody's news
	case kindJobHistory:
		setOrDelete(c.jobHistories, rest, value, !deleted)
	case kindUnique:
		setOrDelete(c.unique, rest, string(value), !deleted)
	case kindAlive:
		setOrDelete(c.alive, rest, now, !deleted)
		setOrDelete(c.gone, rest, now, deleted)
		server := c.servers.byID[rest]
		change = newChange(KindServer, rest, server, server)
	}
	if err != nil {
		c.unreadable[key] = err
	}
	return change
}

func setOrDelete[V any](m map[string]V, key string, value V, set bool) {
	if set {
		m[key] = value
	} else {
		delete(m, key)
	}
}

func applyRecord[T any](t *table[T], kind Kind, id string, value []byte) (Change, error) {
	if value == nil {
		return newChange(kind, id, t.remove(id), nil), nil
	}
	record, err := decode[T](kind.noun()+" "+id, value)
	if err == nil && t.ordered.id(record) != id {
		err = fmt.Errorf("%s %s calls itself %q: %w", kind.noun(), id, t.ordered.id(record), errdefs.ErrCorrupt)
	}
	if err != nil {
		return newChange(kind, id, t.remove(id), nil), err
	}
	return newChange(kind, id, t.put(record), record), nil
}

func (c *content) applyJob(jobAt string, value []byte) (Change, error) {
	id := path.Base(jobAt)
	if value == nil {
		return newChange(KindJob, id, c.jobs.remove(id), nil), nil
	}
	job, err := decodeJob(id, value, func() ([]byte, error) { return c.jobHistories[jobAt], nil })
	if err == nil && jobPath(job.ServerID, job.ID) != jobAt {
		err = fmt.Errorf("job %s calls itself %q: %w", jobAt, jobPath(job.ServerID, job.ID), errdefs.ErrCorrupt)
	}
	if err != nil {
		return newChange(KindJob, id, c.jobs.remove(id), nil), err
	}
	return newChange(KindJob, id, c.jobs.put(job), job), nil
}

func newMirror(keys keyspace, logger *zap.Logger) *Mirror {
	return &Mirror{
		keys:       keys,
		logger:     logger,
		nudge:      make(chan struct{}, 1),
		closed:     make(chan struct{}),
		content:    newContent(),
		waiters:    make(map[chan struct{}]int64),
		signals:    make(map[string]map[chan struct{}]struct{}),
		subscribed: make(map[*Subscription]struct{}),
	}
}
