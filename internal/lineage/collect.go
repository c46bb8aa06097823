package lineage

// Collect works out what a pool can do without: garbage collection, as mark, promote and sweep. It returns what becomes of every
// object of the agent's and what has to be done for that, in an order that ZFS accepts. Carried out whole, nothing is left
// to do. Carried out in part, nothing that is referred to is lost, and the next collection goes on; so, too, when steps are
// refused, if nothing more is done to an object after a step on it was refused.
//
//   - A snapshot goes when nobody refers to it and it is the agent's own or was deleted on purpose. What a user may have made
//     and no record knows is kept and reported.
//   - A base is kept as a bookmark, which holds no space. Only the newest base of a container's present dataset stays a
//     snapshot: it tells whether anything has changed since.
//   - A retired dataset goes when no snapshot is left in it. A container's present dataset that was cloned from a retired
//     one takes over the snapshots that it stands on, so that the retired one can go.
//   - What a retired dataset holds beyond its newest snapshot nobody refers to: while snapshots keep the dataset, that goes alone.
//   - What is foreign, and what a job works on, is left alone, and so is whatever that depends on.
func Collect(inv Inventory, refs References) Collection {
	c := newCollector(inv, refs)
	for c.sweep() || c.promote() {
		continue
	}
	c.rollBack()
	return Collection{Actions: c.actions, Objects: c.objects(inv)}
}

// References are all that anybody wants of a pool. The reasons are for people.
type References struct {
	Datasets map[string]Use      // what each dataset is; one without a use is foreign
	Wanted   map[GUID][]string   // snapshots that somebody refers to, and who
	Names    map[string][]string // the same by short name: journalled before the snapshot was made
	Bases    map[GUID][]string   // what increments start from on this side: a bookmark is enough
	Deleted  map[GUID]bool       // users' snapshots that were deleted on purpose
	Heads    map[string]uint64   // bytes that datasets hold beyond their newest snapshots and nobody refers to, where it is worth a step
}

// Use is what a dataset is to the agent.
type Use struct {
	Kind      UseKind
	Container string // whose files they are or were; empty for a replica
	Why       string // why it is kept as it is; for people
}

// UseKind sorts datasets by what may be done with them.
type UseKind int

// The uses.
const (
	Foreign UseKind = iota // not the agent's: never touched
	Fixed                  // the agent's, and always there
	Busy                   // the agent's, and a job works on it: left alone for now
	Current                // a container's present files: stays, and may take over what it was cloned from
	Retired                // a generation that nobody runs on, or a replica: goes when nothing is left in it
	Image                  // a replica of an image: like a retired one, but nobody takes it over
)

// Collection is what a garbage collection would do.
type Collection struct {
	Actions []Action
	Objects []Object // every dataset, snapshot and bookmark of the agent's, and what is foreign in their midst; by name
}

// Action is one step. Names are those of the moment when all steps before it are done.
type Action struct {
	Kind   ActionKind `json:"kind"`
	Object string     `json:"object"` // "dataset", "dataset@snapshot" or "dataset#bookmark"
	GUID   GUID       `json:"guid"`   // of the snapshot or bookmark, or of the origin that Promote takes over; 0 for a dataset
	Name   string     `json:"name"`   // short name to be given, of RenameSnapshot and MakeBookmark
}

// ActionKind is what an action does.
type ActionKind string

// The actions.
const (
	DestroySnapshot ActionKind = "destroy-snapshot"
	DestroyBookmark ActionKind = "destroy-bookmark"
	DestroyDataset  ActionKind = "destroy-dataset"
	MakeBookmark    ActionKind = "bookmark"
	RenameSnapshot  ActionKind = "rename-snapshot"
	Promote         ActionKind = "promote"
	Rollback        ActionKind = "rollback" // to the newest snapshot
	AbortReceive    ActionKind = "abort-receive"
)

// Object is one thing in the pool and what becomes of it.
type Object struct {
	Name    string   `json:"name"`
	GUID    GUID     `json:"guid"` // of a snapshot or bookmark
	Used    uint64   `json:"used"` // bytes that go with it alone
	Verdict Verdict  `json:"verdict"`
	Reasons []string `json:"reasons"`
}

// Verdict is what a collection thinks of an object.
type Verdict string

// The verdicts.
const (
	VerdictKept      Verdict = "kept"      // somebody refers to it, or something that stays depends on it
	VerdictRemovable Verdict = "removable" // goes
	VerdictRemoved   Verdict = "removed"   // gone, where a collection was carried out
	VerdictUnlisted  Verdict = "unlisted"  // a user's snapshot that no record lists and nobody deleted: kept
	VerdictForeign   Verdict = "foreign"   // not the agent's: not touched
	VerdictDeferred  Verdict = "deferred"  // in use for the moment
)
