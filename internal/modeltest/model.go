package modeltest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Model is what a fleet is to hold.
type Model struct {
	containers map[string]*container
	gone       map[string]bool    // deleted containers
	foreign    map[string]foreign // snapshots made by hand, by name: nobody's but the admin's, whatever becomes of the containers
	beside     map[place]bool     // what was missing from a server, until a copy brought it
	remembered bool               // the store's records, once at least
	recovered  bool               // from the pools: that something was deleted may be forgotten
	clock      int
}

// place is a state on a server.
type place struct {
	server int
	at     *commit
}

// container is one container of the model.
type container struct {
	server    int
	status    store.Status
	source    string // empty unless a copy
	files     files
	head      *commit // the snapshot that the files were made from or last taken as
	dirty     bool    // written to since its last checkout
	snapshots []snapshot
	byHand    []snapshot // the runtime's own, which a checkout adopts
	undone    int        // checkouts that displaced changes, so far
}

// maxUndo is how many of the states that checkouts displaced a container keeps.
const maxUndo = 3

// files are a container's files: their values by name. A value of files is never changed.
type files map[string]string

func (f files) with(name, value string) files {
	changed := maps.Clone(f)
	if changed == nil {
		changed = make(files)
	}
	changed[name] = value
	return changed
}

// commit is an immutable state and what it came from.
type commit struct {
	files  files
	parent *commit
	frozen bool // for a copy or sync: of an unchanged container it may be any earlier snapshot with the same files
}

// led tells whether an ancestor led to a commit, or is it; perhaps, if that depends on which of equal states was frozen.
func (ancestor *commit) led(to *commit) (yes, perhaps bool) {
	equal := files(nil)
	for c, skips := to, false; c != nil; c = c.parent {
		skips = skips && maps.Equal(c.files, equal)
		if c == ancestor {
			return true, skips
		}
		if c.frozen {
			equal, skips = c.files, true
		}
	}
	return false, false
}

// snapshot is a commit as a container lists it. An automatic one goes by a name of the model's own, undo-<n>.
type snapshot struct {
	name    string
	at      *commit
	undo    bool
	expires bool
	perhaps bool    // it depends on what was frozen whether it is listed
	wanted  int     // when it was made or last restored; of automatic ones, the longest unwanted goes
	missing bool    // destroyed by hand in the container's pool
	back    bool    // it was missing, until a copy brought it; what came after it no longer stands on it there
	alias   *string // as it was given; nil where the model does not say
}

// foreign is a snapshot that somebody made by hand.
type foreign struct {
	server int
	files  files
}

// NewModel is the model of an empty fleet.
func NewModel() *Model {
	return &Model{containers: make(map[string]*container), gone: make(map[string]bool), foreign: make(map[string]foreign), beside: make(map[place]bool)}
}

// Outcomes of an action: what the fleet answers. All but success are an error's code, or its class where it has none.
const (
	success          = ""
	unavailable      = "unavailable"
	containerUnknown = "CONTAINER_NOT_FOUND"
	sourceUnknown    = "SOURCE_CONTAINER_NOT_FOUND"
	snapshotUnknown  = "RESOURCE_NOT_FOUND"
	notCopied        = "CONTAINER_NOT_COPIED"
	stateConflict    = "OPERATION_STATE_CONFLICT"
	nameTaken        = "RESOURCE_ALREADY_EXISTS"
	inUse            = "RESOURCE_IN_USE"
	snapshotBusy     = "SNAPSHOT_OPERATION_IN_PROGRESS"
)

// meaningful tells whether a program may hold the action here at all: what it makes is not there, what happens behind the
// agent's back can happen.
func (m *Model) meaningful(a Action) bool {
	c := m.containers[a.Container]
	switch a.Op {
	case opCollect, opExpire, opRemember, opWrongStore:
		return true
	case opRecover: // without a container, nothing in the pools tells of the project
		for _, c := range m.containers {
			if c.status != store.StatusFailed {
				return true
			}
		}
		return false
	case opOldStore:
		return m.remembered
	case opCreate:
		return c == nil && !m.gone[a.Container]
	case opCopy, opCopySnapshot:
		return (c != nil || m.gone[a.Container]) && m.containers[a.To] == nil && !m.gone[a.To]
	case opWrite:
		return c != nil && c.status != store.StatusFailed
	case opHandSnapshot:
		_, exists := m.foreign[a.Name]
		return c != nil && c.status != store.StatusFailed && !exists
	case opHandDestroy:
		if c == nil {
			return false
		}
		s, exists := c.listed(a.Name)
		return exists && !s.missing
	case opRuntimeSnapshot:
		return c != nil && c.status != store.StatusFailed && !slices.ContainsFunc(c.byHand, func(s snapshot) bool { return s.name == a.Name })
	default:
		return c != nil || m.gone[a.Container]
	}
}

// Outcome is what the fleet is to answer.
func (m *Model) Outcome(a Action) string {
	c := m.containers[a.Container]
	if c == nil && a.Container != "" && a.Op != opCreate {
		if a.Op == opCopy || a.Op == opCopySnapshot {
			return sourceUnknown
		}
		return containerUnknown
	}
	switch a.Op {
	case opCopy:
		return conflictUnless(c.status != store.StatusFailed)
	case opSnapshot, opExpiring:
		switch {
		case c.status == store.StatusFailed:
			return stateConflict
		case c.taken(a.Name, ""):
			return nameTaken
		}
	case opAlias, opNoAlias:
		if _, exists := c.listed(a.Name); !exists {
			return snapshotUnknown
		}
		if a.Op == opAlias && c.taken(a.Value, a.Name) {
			return nameTaken
		}
	case opRestore, opCopySnapshot, opDropSnapshot:
		if a.Op == opRestore && c.status == store.StatusPaused || a.Op != opDropSnapshot && c.status == store.StatusFailed {
			return stateConflict
		}
		s, exists := c.listed(a.Name)
		if !exists || s.missing && a.Op != opDropSnapshot {
			return snapshotUnknown
		}
	case opSync:
		switch {
		case c.source == "":
			return notCopied
		case m.containers[c.source] == nil:
			return sourceUnknown
		case c.status == store.StatusPaused || c.status == store.StatusFailed:
			return stateConflict
		}
	case opStart:
		return conflictUnless(c.status == store.StatusStopped)
	case opStop, opPause:
		return conflictUnless(c.status == store.StatusRunning)
	case opResume:
		return conflictUnless(c.status == store.StatusPaused)
	}
	return success
}

func conflictUnless(fits bool) string {
	if fits {
		return success
	}
	return stateConflict
}

// Seen is what an action was seen to do where the model leaves the fleet a choice.
type Seen struct {
	NoOp bool // a sync found nothing to do; then the files say whether that is true
	Kept bool // a sync or restore kept what it displaced, which it must if that had changed, and does if nothing else leads back to it

	Cancelled bool // a copy or sync was given up before it had changed anything
}

// Apply changes the model the way the action, successful, is to change the fleet.
func (m *Model) Apply(a Action, seen Seen) {
	c := m.containers[a.Container]
	m.clock++
	switch a.Op {
	case opCreate:
		m.containers[a.Container] = &container{server: a.Server, status: store.StatusRunning}
	case opRemember:
		m.remembered = true
	case opRecover:
		m.remembered, m.recovered = false, true
		for name, c := range m.containers {
			if c.status == store.StatusFailed { // nothing of a cancelled copy is in the pool but its record's file, which is told of
				delete(m.containers, name)
				m.gone[name] = true
			}
		}
	case opWrite:
		c.files, c.dirty = c.files.with(a.Name, a.Value), true
	case opSnapshot, opExpiring:
		c.list(snapshot{name: a.Name, at: c.freeze(), expires: a.Op == opExpiring, alias: &a.Name})
	case opAlias, opNoAlias:
		c.snapshots = slices.Clone(c.snapshots)
		for i := range c.snapshots {
			if c.snapshots[i].name == a.Name {
				c.snapshots[i].alias = &a.Value
			}
		}
	case opHandSnapshot:
		m.foreign[a.Name] = foreign{server: c.server, files: c.files}
	case opHandDestroy:
		at, _ := c.snapshot(a.Name)
		for _, other := range m.containers {
			if other.server == c.server {
				other.mark(at, true)
			}
		}
	case opRuntimeSnapshot:
		c.byHand = append(slices.Clone(c.byHand), snapshot{name: a.Name, at: c.freeze()})
	case opDropSnapshot:
		c.drop(func(s snapshot) bool { return s.name == a.Name })
	case opExpire:
		for _, c := range m.containers {
			c.drop(func(s snapshot) bool { return s.expires })
		}
	case opRestore:
		at, _ := c.snapshot(a.Name)
		c.dirty = c.dirty || seen.Kept
		c.displace(m.clock)
		c.checkOut(at)
		m.clock++ // what was displaced was made before what was restored was last wanted
		for i := range c.snapshots {
			if c.snapshots[i].name == a.Name {
				c.snapshots[i].wanted = m.clock
			}
		}
		c.limitUndo()
	case opCopy, opCopySnapshot, opSync:
		m.replicate(a, c, seen)
	case opDelete, opDeleteMidway:
		if c != nil { // else the copy that was to make it was refused
			delete(m.containers, a.Container)
			m.gone[a.Container] = true
		}
	case opStart, opResume:
		c.status = store.StatusRunning
	case opStop:
		c.status = store.StatusStopped
	case opPause:
		c.status = store.StatusPaused
	}
}

// replicate is Apply for copies and syncs.
func (m *Model) replicate(a Action, c *container, seen Seen) {
	switch {
	case seen.Cancelled && a.Op == opSync: // leaves the copy as it was
	case seen.Cancelled:
		m.containers[a.To] = &container{server: a.Server, status: store.StatusFailed, source: a.Container}
	case a.Op == opCopy:
		m.containers[a.To] = m.copied(a, c.frozen(), c.snapshots)
	case a.Op == opCopySnapshot:
		at, _ := c.snapshot(a.Name)
		past := slices.DeleteFunc(slices.Clone(c.snapshots), func(s snapshot) bool {
			led, _ := s.at.led(at)
			return !led || s.undo && s.at != at
		})
		for i := range past {
			_, perhaps := past[i].at.led(at)
			past[i].perhaps = perhaps || past[i].back && past[i].at != at
			if past[i].undo { // on the copy it undoes nothing
				past[i].undo, past[i].name = false, past[i].name+"-of-"+a.Container
			}
		}
		m.containers[a.To] = m.copied(a, at, past)
	case seen.NoOp:
		c.files = m.containers[c.source].frozen().files // the same, if the fleet is right; but what led to it is another past
	default:
		c.dirty = c.dirty || seen.Kept
		at := m.containers[c.source].frozen()
		c.displace(m.clock)
		c.checkOut(at)
		c.limitUndo()
	}
}

func (c *container) snapshot(name string) (*commit, bool) {
	s, exists := c.listed(name)
	return s.at, exists
}

func (c *container) listed(name string) (snapshot, bool) {
	for _, s := range c.snapshots {
		if s.name == name {
			return s, true
		}
	}
	return snapshot{}, false
}

// taken tells whether a name or alias finds another of the container's snapshots than one.
func (c *container) taken(name, but string) bool {
	return slices.ContainsFunc(c.snapshots, func(s snapshot) bool {
		return s.name != but && (s.name == name || s.alias != nil && *s.alias == name)
	})
}

// mark notes of what the container lists of a state whether it is missing.
func (c *container) mark(at *commit, missing bool) {
	c.snapshots = slices.Clone(c.snapshots)
	for i := range c.snapshots {
		if c.snapshots[i].at == at {
			c.snapshots[i].missing, c.snapshots[i].back = missing, !missing
		}
	}
}

// freeze makes the container's state of now immutable.
func (c *container) freeze() *commit {
	c.head = &commit{files: c.files, parent: c.head}
	return c.head
}

// frozen is freeze for a copy or sync.
func (c *container) frozen() *commit {
	at := c.freeze()
	at.frozen = true
	return at
}

// checkOut makes the container's files those of a commit.
func (c *container) checkOut(at *commit) {
	c.files, c.head, c.dirty = at.files, at, false
}

// displace keeps what a checkout is about to displace, if anything has changed since the last one.
func (c *container) displace(now int) {
	if c.dirty {
		c.undone++
		c.list(snapshot{name: fmt.Sprintf("undo-%d", c.undone), at: c.freeze(), undo: true, expires: true, wanted: now})
	}
}

// limitUndo drops what is past the limit of automatic snapshots.
func (c *container) limitUndo() {
	for {
		count, oldest := 0, snapshot{}
		for _, s := range c.snapshots {
			if s.undo {
				if count++; oldest.at == nil || s.wanted < oldest.wanted {
					oldest = s
				}
			}
		}
		if count <= maxUndo {
			return
		}
		c.drop(func(s snapshot) bool { return s.name == oldest.name })
	}
}

func (c *container) list(s snapshot) { c.snapshots = append(slices.Clone(c.snapshots), s) }

func (c *container) drop(drop func(snapshot) bool) {
	c.snapshots = slices.DeleteFunc(slices.Clone(c.snapshots), drop)
}

// copied is a new copy. What only undoes does not go along, nor what is not there.
func (m *Model) copied(a Action, at *commit, history []snapshot) *container {
	made := &container{server: a.Server, status: store.StatusRunning, source: a.Container, snapshots: slices.Clone(history)}
	made.drop(func(s snapshot) bool { return s.undo || s.missing })
	for i := range made.snapshots {
		made.snapshots[i].back = made.snapshots[i].back || m.beside[place{a.Server, made.snapshots[i].at}]
	}
	made.checkOut(at)
	return made
}
