package store

import (
	"maps"
	"time"
)

// read runs fn on the content; fn must be quick and must not keep it.
func read[R any](m *Mirror, fn func(*content) R) R {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return fn(m.content)
}

func byID[T any](m *Mirror, id string, of func(*content) *table[T]) (*T, bool) {
	record := read(m, func(c *content) *T { return of(c).byID[id] })
	return record, record != nil
}

// Servers returns all servers.
func (m *Mirror) Servers() []*Server {
	return read(m, func(c *content) []*Server { return c.servers.ordered.all() })
}

// Server returns the server; ok is false when the mirror has none.
func (m *Mirror) Server(id string) (_ *Server, ok bool) {
	return byID(m, id, func(c *content) *table[Server] { return c.servers })
}

// Projects returns all projects.
func (m *Mirror) Projects() []*Project {
	return read(m, func(c *content) []*Project { return c.projects.ordered.all() })
}

// ProjectsOf returns the projects that the user owns or has a grant on.
func (m *Mirror) ProjectsOf(userID string) []*Project {
	return read(m, func(c *content) []*Project { return c.projectsByUser.all(userID) })
}

// Project returns the project; ok is false when the mirror has none.
func (m *Mirror) Project(id string) (_ *Project, ok bool) {
	return byID(m, id, func(c *content) *table[Project] { return c.projects })
}

// Containers returns all containers.
func (m *Mirror) Containers() []*Container {
	return read(m, func(c *content) []*Container { return c.containers.ordered.all() })
}

// ContainersInProject returns the project's containers.
func (m *Mirror) ContainersInProject(projectID string) []*Container {
	return read(m, func(c *content) []*Container { return c.containersInProject.all(projectID) })
}

// ContainersOnServer returns the server's containers.
func (m *Mirror) ContainersOnServer(serverID string) []*Container {
	return read(m, func(c *content) []*Container { return c.containersOnServer.all(serverID) })
}

// CopiesOf returns the containers whose source is the given one.
func (m *Mirror) CopiesOf(containerID string) []*Container {
	return read(m, func(c *content) []*Container { return c.containersFrom.all(containerID) })
}

// Container returns the container; ok is false when the mirror has none.
func (m *Mirror) Container(id string) (_ *Container, ok bool) {
	return byID(m, id, func(c *content) *table[Container] { return c.containers })
}

// Histories returns the snapshot lists of all containers.
func (m *Mirror) Histories() []*History {
	return read(m, func(c *content) []*History { return c.histories.ordered.all() })
}

// History returns the container's snapshot list; ok is false when the mirror has none.
func (m *Mirror) History(containerID string) (_ *History, ok bool) {
	return byID(m, containerID, func(c *content) *table[History] { return c.histories })
}

// Jobs returns all jobs, finished ones included as long as they are kept.
func (m *Mirror) Jobs() []*Job {
	return read(m, func(c *content) []*Job { return c.jobs.ordered.all() })
}

// OpenJobs returns the server's jobs that are queued or running, oldest first.
func (m *Mirror) OpenJobs(serverID string) []*Job {
	return read(m, func(c *content) []*Job { return c.openJobs.all(serverID) })
}

// Job returns the job; ok is false when the mirror has none.
func (m *Mirror) Job(id string) (_ *Job, ok bool) {
	return byID(m, id, func(c *content) *table[Job] { return c.jobs })
}

// Users returns all users that the control plane has registered or banned.
func (m *Mirror) Users() []*User {
	return read(m, func(c *content) []*User { return c.users.ordered.all() })
}

// User returns the user's record; ok is false when the mirror has none.
func (m *Mirror) User(id string) (_ *User, ok bool) {
	return byID(m, id, func(c *content) *table[User] { return c.users })
}

// UniqueOwner returns who holds the value within the scope; ok is false for nobody.
func (m *Mirror) UniqueOwner(kind UniqueKind, scope, value string) (owner string, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	owner, ok = m.content.unique[uniqueName(kind, scope, value)]
	return owner, ok
}

// Alive tells whether the server holds its lease, and when it last did as far as this mirror knows: for a living one
// that is when etcd last confirmed the mirror, for one that was gone before the mirror began, its record's last update.
func (m *Mirror) Alive(serverID string) (alive bool, lastSeen time.Time) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if _, ok := m.content.alive[serverID]; ok {
		return true, m.heard
	}
	if at, ok := m.content.gone[serverID]; ok {
		return false, at
	}
	if server := m.content.servers.byID[serverID]; server != nil {
		return false, server.UpdatedAt
	}
	return false, time.Time{}
}

// Revision is the revision whose content the mirror shows.
func (m *Mirror) Revision() int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.revision
}

// Loads counts how often all records were read at once, the first time included, instead of followed change by change: what
// such a load brings need not follow from what was known.
func (m *Mirror) Loads() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.loads
}

// Stale tells whether the mirror has lost etcd, or etcd its leader, and since when it may be behind.
func (m *Mirror) Stale() (since time.Time, stale bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.stale {
		return time.Time{}, false
	}
	return m.heard, true
}

// Unreadable returns the keys whose records could not be decoded, with the reason. They are missing from all other
// reads, so nothing may be destroyed for being absent while there are any.
func (m *Mirror) Unreadable() map[string]error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return maps.Clone(m.content.unreadable)
}
