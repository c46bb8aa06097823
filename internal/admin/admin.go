// Package admin is the agent's interface for the people who run it: JSON over HTTP on a unix socket of the host. Who
// may open the socket may use it; there are no tokens.
package admin

import (
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/health"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Routes of the socket.
const (
	pathStatus     = "/v1/status"
	pathJobs       = "/v1/jobs"
	pathContainers = "/v1/containers"
	pathLineage    = "/v1/lineage/" // and a container's id or name
	pathFindings   = "/v1/findings"
	pathDrain      = "/v1/drain"
	pathCancel     = "/v1/cancel/" // and a container's id or name
	pathCollect    = "/v1/gc"
	pathMeetings   = "/v1/peers"
	pathVerify     = "/v1/verify/" // and a container's id or name; with ?progress it tells how far it has come
)

// Status is the agent at a glance.
type Status struct {
	Server     Server         `json:"server"`
	Pool       Pool           `json:"pool"`
	Store      Store          `json:"store"`
	Ready      bool           `json:"ready"`
	Health     []health.State `json:"health"`
	Containers map[string]int `json:"containers"` // of this server, by status
	Jobs       []Job          `json:"jobs"`       // open ones of this server, the oldest first
	Fleet      []Neighbour    `json:"fleet"`      // the other servers, by name
}

// Server is the agent's own server.
type Server struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	API       string    `json:"api"`
	Draining  bool      `json:"draining"`
}

// Collection says what a garbage collection may do.
type Collection struct {
	Apply bool `json:"apply"` // remove what nobody refers to; else only say what that is
}

// Drained is where a drain stands.
type Drained struct {
	Draining bool `json:"draining"`
	OpenJobs int  `json:"open_jobs"`
}

// Pool is the storage pool. Of a pool that does not answer everything is zero; a suspended one tells its health and no sizes.
type Pool struct {
	Root          string `json:"root"`
	Health        string `json:"health"` // as zpool says it: ONLINE, DEGRADED, …
	Size          uint64 `json:"size"`
	Free          uint64 `json:"free"`
	Fragmentation int    `json:"fragmentation"` // percent; -1 where there is no such figure
}

// Store is where the records are.
type Store struct {
	ID         string    `json:"id"`
	Revision   int64     `json:"revision"` // that the mirror has reached
	Stale      bool      `json:"stale"`
	StaleSince time.Time `json:"stale_since,omitzero"`
}

// Neighbour is another server of the fleet.
type Neighbour struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Version    string    `json:"version"`
	Alive      bool      `json:"alive"`
	LastSeen   time.Time `json:"last_seen,omitzero"`
	Containers int       `json:"containers"`
	Draining   bool      `json:"draining"`
}

// Meeting is how it went to reach another server's agent, and for that to reach this one.
type Meeting struct {
	Server  Named         `json:"server"`
	Address string        `json:"address"`
	Version string        `json:"version,omitempty"`
	There   string        `json:"there,omitempty"` // why it cannot be reached; empty: it can
	Back    string        `json:"back,omitempty"`  // why it cannot reach this server; empty: it can, or was not reached
	Took    time.Duration `json:"took"`            // there and back
	Skew    time.Duration `json:"skew"`            // its clock's lead over this one's
}

// Job is one operation on a container.
type Job struct {
	ID         string         `json:"id"`
	Kind       string         `json:"kind"`
	State      string         `json:"state"`
	Phase      string         `json:"phase"`
	Attempts   int            `json:"attempts"` // failed ones of the phase
	Server     Named          `json:"server"`   // that does the work
	Container  Named          `json:"container"`
	Source     *Named         `json:"source,omitempty"` // of a copy or sync
	From       *Named         `json:"from,omitempty"`   // the source's server, when it is another than Server
	Progress   store.Progress `json:"progress"`
	Error      string         `json:"error,omitempty"` // why it failed, or why the phase is tried again
	Class      string         `json:"class,omitempty"` // of that error
	CreatedAt  time.Time      `json:"created_at"`
	StartedAt  *time.Time     `json:"started_at"`
	FinishedAt *time.Time     `json:"finished_at"`
}

// JobsWanted selects jobs.
type JobsWanted struct {
	All   bool // finished ones, too, as long as they are kept; else only open ones
	Fleet bool // those of all servers; else only this one's
}

// Cancelled is the operation that is to be given up.
type Cancelled struct {
	Job       string `json:"job"`
	Container Named  `json:"container"`
	Server    Named  `json:"server"` // whose agent gives it up, as soon as it runs
}

// Named is an id with the name that people know it by, empty when there is none (any more).
type Named struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// String is the name, or else the id.
func (n Named) String() string {
	if n.Name == "" {
		return n.ID
	}
	return n.Name
}

// Container is a container of this server.
type Container struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Project    Named      `json:"project"`
	Status     string     `json:"status"`
	Source     *Named     `json:"source,omitempty"` // of a copy
	Snapshots  int        `json:"snapshots"`
	Job        string     `json:"job,omitempty"` // that works on it
	Failure    string     `json:"failure,omitempty"`
	Used       uint64     `json:"used"`       // bytes that only its generation holds
	Referenced uint64     `json:"referenced"` // bytes reachable from its generation
	Last       *Operation `json:"last_operation,omitempty"`
}

// Operation is how the newest finished operation on a container went.
type Operation struct {
	Kind       string    `json:"kind"`
	State      string    `json:"state"`
	Error      string    `json:"error,omitempty"`
	FinishedAt time.Time `json:"finished_at"`
}

// Used is which part of the pool is in use, between 0 and 1.
func (p Pool) Used() float64 {
	if p.Size == 0 || p.Free > p.Size {
		return 0
	}
	return float64(p.Size-p.Free) / float64(p.Size)
}
