package agent

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// Pool is the storage of one server. Dataset names are relative to the pool's root, which is the dataset that the
// runtime keeps its instances in: "containers/x", "hoody/incoming/y"; snapshots are "containers/x@hoody-…".
//
// All methods may be called concurrently. Errors belong to the classes of package errdefs: a missing dataset or snapshot is
// ErrNotFound, a taken name ErrAlreadyExists, one that is held or received into ErrBusy, no space or quota ErrExhausted.
// A cancelled context ends the command behind a call after a grace time.
type Pool interface {
	// Inventory lists every dataset, snapshot and bookmark below the root, in a number of commands that does not
	// depend on how many there are. A snapshot marked for deferred destruction is listed with DeferDestroy set.
	Inventory(ctx context.Context) (lineage.Inventory, error)
	// Dataset reads one dataset.
	Dataset(ctx context.Context, name string) (lineage.Dataset, error)

	// Create makes a filesystem that mounts nowhere by itself; missing parents are made too.
	Create(ctx context.Context, dataset string, properties Properties) error
	// Clone makes a filesystem from "dataset@snapshot", like Create otherwise.
	Clone(ctx context.Context, snapshot, dataset string, properties Properties) error
	// Rename moves a dataset without unmounting it; missing parents are made.
	Rename(ctx context.Context, from, to string) error
	// SetProperties sets properties; an empty value takes a local setting back.
	SetProperties(ctx context.Context, dataset string, properties Properties) error
	// Promote makes a clone the owner of its origin and what is older.
	Promote(ctx context.Context, dataset string) error
	// Rollback throws away what was written to a dataset since "dataset@snapshot". ErrBusy when that is not its newest, a bookmark is newer, or Mounted tells
	// that somebody has it mounted; whoever has a Mount of it must not ask.
	Rollback(ctx context.Context, snapshot string) error
	// Snapshot makes dataset@name. ErrAlreadyExists when the name is taken.
	Snapshot(ctx context.Context, dataset, name string) (lineage.Snapshot, error)
	// RenameSnapshot gives "dataset@snapshot" another short name; clones follow. ErrAlreadyExists when the name is taken.
	RenameSnapshot(ctx context.Context, snapshot, name string) error
	// Bookmark makes dataset#name from "dataset@snapshot". A bookmark of that name and GUID counts as success.
	Bookmark(ctx context.Context, snapshot, name string) error
	// Destroy removes one dataset with its own snapshots, never anything that depends on it: ErrBusy when it has children or clones.
	Destroy(ctx context.Context, dataset string) error
	// DestroyEmpty is Destroy for a dataset without snapshots: ErrBusy when it has one, whoever made it and however late.
	DestroyEmpty(ctx context.Context, dataset string) error
	// DestroySnapshot removes "dataset@snapshot", or a bookmark "dataset#name". ErrBusy when clones or holds depend on it.
	DestroySnapshot(ctx context.Context, snapshot string) error

	// Written returns how many bytes were written to the snapshot's dataset since the snapshot. Zero proves it unchanged; a
	// little does not prove a change: mounting alone counts (1 KiB on OpenZFS 2.3.9).
	Written(ctx context.Context, snapshot string) (uint64, error)
	// WrittenLately is Written for several snapshots of a dataset, by short name, in one command. What was written a few seconds ago may not
	// show yet; a snapshot that is gone is left out.
	WrittenLately(ctx context.Context, dataset string, snapshots []string) (map[string]uint64, error)
	// Diff lists what changed in the snapshot's dataset since the snapshot, at most limit entries; more is ErrExhausted.
	Diff(ctx context.Context, snapshot string, limit int) ([]Change, error)

	// Activity measures all datasets directly below a parent, in one command; by name. What was written a few seconds ago may
	// not show yet. A missing parent has none.
	Activity(ctx context.Context, parent string) (map[string]Activity, error)

	// Estimate returns the expected size of the streams together, in bytes. A chain of streams within one dataset may be estimated
	// as one, with what lies between its snapshots.
	Estimate(ctx context.Context, specs ...SendSpec) (uint64, error)
	// Send starts a stream, of one snapshot or of a series of them. Its Read ends with io.EOF only if the sender ended well, else with the classified error.
	// Close ends the sender and waits for it; it must be called.
	Send(ctx context.Context, spec SendSpec) (io.ReadCloser, error)
	// Receive reads one stream to its end into the snapshots that it brings. What arrived before an error stays, resumable.
	// ErrAborted: cut off, resume. ErrStale: the base or token no longer fits, or a series lacks a snapshot, plan again. ErrCorrupt:
	// not a valid stream. ErrWrongSnapshot: refused before anything was made of that snapshot.
	Receive(ctx context.Context, spec ReceiveSpec, stream io.Reader) error
	// DescribeToken decodes a token without acting on it.
	DescribeToken(ctx context.Context, token string) (ResumePoint, error)
	// AbortReceive drops partly received state; none is success. A dataset that holds nothing else goes with it.
	AbortReceive(ctx context.Context, dataset string) error

	// Mount makes the dataset's files reachable privately, without device, setuid and exec; Unmount must be called.
	Mount(ctx context.Context, dataset string) (Mount, error)
	// MountSnapshot makes the files of "dataset@snapshot" reachable in the same way, for reading alone. Until Unmount the snapshot
	// cannot be destroyed: ErrBusy.
	MountSnapshot(ctx context.Context, snapshot string) (Mount, error)
	// Mounted tells whether anything on this host has the dataset mounted.
	Mounted(ctx context.Context, dataset string) (bool, error)
	// Encrypted tells whether datasets below the root are encrypted: embedded blocks cannot be received there (zfs-send(8)).
	Encrypted(ctx context.Context) (bool, error)
	// Space reports the pool's size and what is free, in bytes.
	Space(ctx context.Context) (Space, error)
}

// Activity is what of a dataset changes when its files do.
type Activity struct {
	Written    uint64 // bytes written since the newest snapshot that are still there
	Referenced uint64 // bytes in all
	Snapshots  string // changes when a snapshot is made or destroyed
}

// Properties are dataset properties by name: native ones such as "refquota" and the agent's own "hoody:…".
type Properties map[string]string

// SendSpec says what a stream carries: To in full, or the difference from From to To, or the rest of an interrupted stream.
type SendSpec struct {
	From   string // "dataset@snapshot" or "dataset#bookmark"; empty for a full stream
	To     string // "dataset@snapshot"
	Series bool   // each snapshot between From and To as well, as the difference from the one before it; From is a snapshot of To's dataset
	Token  string // resume token; From, To and Series are ignored
	Embed  bool   // allow embedded blocks; never when the receiving dataset is encrypted
}

// ReceiveSpec says where a stream goes.
type ReceiveSpec struct {
	To         string       // "dataset@snapshot" to be made
	GUID       lineage.GUID // of the snapshot that the stream has to be of; 0 for any
	Origin     string       // "dataset@snapshot" the new dataset is a clone of; empty for none
	Properties Properties   // set on a dataset that the receive creates
	Continues  bool         // the dataset is there: nothing is created, and nothing has to be looked up for it
	// Before are the snapshots that a series brings before To, oldest first, by the names that the stream has to give them. Only with Continues.
	Before []Incoming
}

// Incoming is a snapshot that a stream brings.
type Incoming struct {
	Name string // short
	GUID lineage.GUID
}

// ErrWrongSnapshot is the refusal of a stream that is of another snapshot than the one asked for.
var ErrWrongSnapshot = fmt.Errorf("the stream is of another snapshot: %w", errdefs.ErrCorrupt)

// ResumePoint is what a resume token says.
type ResumePoint struct {
	To    lineage.GUID
	From  lineage.GUID // 0 for a full stream
	Bytes uint64       // already received
	Embed bool         // the stream may hold embedded blocks
	Raw   bool         // the stream is of encrypted blocks as they are
}

// Change is one path that differs from a snapshot.
type Change struct {
	Path string // relative to the dataset's root, such as "rootfs/etc/motd"
	Kind ChangeKind
}

// ChangeKind is how a path differs.
type ChangeKind string

// The kinds of `zfs diff`.
const (
	ChangeAdded    ChangeKind = "added"
	ChangeRemoved  ChangeKind = "removed"
	ChangeModified ChangeKind = "modified"
	ChangeRenamed  ChangeKind = "renamed"
)

// Mount is a dataset's file tree. Root follows no link out of the tree.
type Mount interface {
	Root() *os.Root
	// Unmount ends the access. It may be called more than once.
	Unmount(ctx context.Context) error
}

// Space is a pool's size in bytes.
type Space struct {
	Size, Free uint64
}
