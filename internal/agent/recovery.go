package agent

import (
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Recovery is what can be made of a pool whose records are gone, old or another's: for people to read before it is done.
type Recovery struct {
	ServerID   string               `json:"server_id"`
	StoreID    string               `json:"store_id"`
	Stamp      string               `json:"stamp"`    // on the pool; empty for none
	Distrust   *Finding             `json:"distrust"` // why records and pool do not belong together; nil when they do
	Containers []RecoveredContainer `json:"containers"`
	Jobs       []EndedJob           `json:"jobs"` // operations that are ended, since nobody can tell how far they came
	Notes      []string             `json:"notes"`
	Obstacles  []string             `json:"obstacles"` // why nothing can be applied; empty when it can

	damaged  []string // record files that nothing is read from; put aside
	projects map[string]store.Project
}

// RecoveryVerdict is what becomes of a container.
type RecoveryVerdict string

// The verdicts.
const (
	VerdictInOrder    RecoveryVerdict = "in order"        // the store's record stands as it is
	VerdictCorrected  RecoveryVerdict = "corrected"       // the store's record is put in order, from the record file and what is there
	VerdictRestored   RecoveryVerdict = "restored"        // from its record file
	VerdictRebuilt    RecoveryVerdict = "rebuilt"         // from properties and the instance alone: much is not known
	VerdictNotTouched RecoveryVerdict = "left as it is"   // nothing is done, see the conflicts
	VerdictDeleted    RecoveryVerdict = "deleted already" // on purpose, as the store knows
)

// RecoveredContainer is what was found of one container and what becomes of it.
type RecoveredContainer struct {
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	ProjectID string          `json:"project_id"`
	Verdict   RecoveryVerdict `json:"verdict"`
	Status    store.Status    `json:"status,omitempty"`
	Snapshots int             `json:"snapshots"`
	PutBack   string          `json:"put_back,omitempty"` // dataset that becomes its present generation again
	Unknown   []string        `json:"unknown,omitempty"`  // what could not be found out
	Conflicts []string        `json:"conflicts,omitempty"`
	Changes   []string        `json:"changes,omitempty"` // of a corrected record

	before    *store.Container // the store's record, nil for none
	container store.Container
	history   store.History
}

// writes tells whether the store's record is to be written.
func (c RecoveredContainer) writes() bool {
	return c.Verdict == VerdictCorrected || c.Verdict == VerdictRestored || c.Verdict == VerdictRebuilt
}

// EndedJob is an operation that recovery ends.
type EndedJob struct {
	ID          string        `json:"id"`
	Kind        store.JobKind `json:"kind"`
	ContainerID string        `json:"container_id"`

	job store.Job
}

// recoveryFacts are all that recovery knows.
type recoveryFacts struct {
	serverID, storeID string
	formerID          string // id that the agent had made up for this server, for want of the one on the stamp; empty for none
	distrust          *Finding
	stamp             string
	now               time.Time

	inventory lineage.Inventory
	instances map[string]Instance   // by container id
	files     map[string]recordFile // by container id
	damaged   map[string]error      // files that cannot be read, by name

	containers map[string]store.Container // all of the store
	histories  map[string]store.History
	projects   map[string]store.Project
	tombstones map[string]store.Tombstone
	jobs       []store.Job                                                  // open, of this server
	claimed    func(kind store.UniqueKind, scope, value string) (id string) // who holds a unique value; empty for nobody
	unreadable []string                                                     // keys of the store that cannot be read
}
