package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/digest"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

const (
	// maxVerifying is how many snapshots are read for comparisons at the same time, for this agent and for others.
	maxVerifying = 2
	// maxDifferences is how many differing paths a verification names.
	maxDifferences = 100
)

// Verification is what became of comparing a copy with its source: the files of one snapshot that both hold. A snapshot never
// changes, so nothing of what the containers do, or the agent does to them, counts.
type Verification struct {
	Container      string       `json:"container"`
	Source         string       `json:"source"`
	SourceServerID string       `json:"source_server_id"`
	Snapshot       lineage.GUID `json:"snapshot"`
	// Current: the copy's present files were made from the snapshot. Otherwise it is of their common history.
	Current bool `json:"current"`
	// Shared: both are on one server and stand on the very same snapshot. It was read, which ZFS checks; there was nothing to compare with.
	Shared bool `json:"shared"`
	digest.Comparison
	Took time.Duration `json:"took"`
}

// DigestRequest asks for the files of one snapshot that a copy has in common with its source.
type DigestRequest struct {
	ContainerID string         `json:"container_id"` // the copy, of the asking server
	Snapshots   []lineage.GUID `json:"snapshots"`    // that the asking server holds, the best first
}

// Digests are the files of a snapshot as package digest encodes them. Their Read ends with io.EOF only after the last. Close
// must be called.
type Digests struct {
	Snapshot lineage.GUID
	io.ReadCloser
}

// Verify compares a copy of this server with its source. It reads all of a snapshot on both sides, at low priority, until ctx
// ends. ErrFailedPrecondition: it is no copy, or another server's. ErrNotFound: the source is gone, or no snapshot is held by
// both. ErrBusy: too many verifications run. seen is told how far it has come, from one goroutine at a time, often.
func (a *Agent) Verify(ctx context.Context, containerID string, seen digest.Seen) (Verification, error) {
	began := time.Now()
	v, err := a.verify(ctx, containerID, seen)
	if err != nil {
		return Verification{}, fmt.Errorf("verify container %s: %w", containerID, err)
	}
	v.Took = time.Since(began)
	a.log.Info("copy verified", zap.String("container", v.Container), zap.String("source", v.Source), zap.Stringer("snapshot", v.Snapshot),
		zap.Bool("equal", v.Equal()), zap.Uint64("entries", v.Entries), zap.Uint64("bytes", v.Bytes), zap.Duration("took", v.Took))
	return v, nil
}

func (a *Agent) verify(ctx context.Context, containerID string, seen digest.Seen) (Verification, error) {
	copied, err := a.store.GetContainer(ctx, containerID)
	if err != nil {
		return Verification{}, err
	}
	if copied.ServerID != a.serverID {
		return Verification{}, errdefs.New(errdefs.ErrFailedPrecondition, "", "it is on server %s; ask the agent there", copied.ServerID)
	}
	if copied.SourceContainerID == "" {
		return Verification{}, errdefs.New(errdefs.ErrFailedPrecondition, "", "it is no copy, there is nothing to compare it with")
	}
	source, err := a.store.GetContainer(ctx, copied.SourceContainerID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return Verification{}, errdefs.New(errdefs.ErrNotFound, "", "its source %s was deleted", copied.SourceContainerID)
	}
	if err != nil {
		return Verification{}, err
	}
	held, err := a.snapshotsInCommon(ctx, copied, nil)
	if err != nil {
		return Verification{}, err
	}
	v := Verification{Container: copied.ID, Source: source.ID, SourceServerID: source.ServerID, Shared: source.ServerID == a.serverID}
	if v.Shared {
		v.Comparison, err = a.readThrough(ctx, held[0], seen)
		v.Snapshot = held[0].guid
	} else {
		v.Comparison, v.Snapshot, err = a.compareWith(ctx, source.ServerID, copied.ID, held, seen)
	}
	v.Current = v.Snapshot == copied.Generation.Base
	return v, err
}

// readThrough reads a snapshot that copy and source share.
func (a *Agent) readThrough(ctx context.Context, shared heldSnapshot, seen digest.Seen) (c digest.Comparison, err error) {
	err = a.readSnapshot(ctx, shared, func(ctx context.Context, mount Mount) (err error) {
		c, err = digest.Measure(ctx, mount.Root(), seen)
		return err
	})
	return c, err
}

// compareWith compares one of the snapshots held here, of the other server's choice, with what is there.
func (a *Agent) compareWith(ctx context.Context, serverID, copyID string, held []heldSnapshot, seen digest.Seen) (c digest.Comparison, compared lineage.GUID, err error) {
	request := DigestRequest{ContainerID: copyID}
	for _, snapshot := range held {
		request.Snapshots = append(request.Snapshots, snapshot.guid)
	}
	theirs, err := a.peers.Digests(ctx, serverID, request)
	if err != nil {
		return c, 0, err
	}
	defer func() { err = errors.Join(err, theirs.Close()) }()
	i := slices.Index(request.Snapshots, theirs.Snapshot)
	if i < 0 {
		return c, 0, errdefs.New(errdefs.ErrCorrupt, "", "server %s answered with snapshot %s, which was not asked for", serverID, theirs.Snapshot)
	}
	err = a.readSnapshot(ctx, held[i], func(ctx context.Context, mount Mount) (err error) {
		c, err = digest.Compare(ctx, mount.Root(), theirs, maxDifferences, seen)
		return err
	})
	return c, theirs.Snapshot, err
}

// OpenDigests is Peers.Digests for a peer: it lists the files of a snapshot that a copy on the peer's server has from a container
// of this one. What it tells is of files that the peer was sent.
func (a *Agent) OpenDigests(ctx context.Context, peer string, request DigestRequest) (Digests, error) {
	copied, err := a.store.GetContainer(ctx, request.ContainerID)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return Digests{}, err
	}
	if err != nil || copied.ServerID != peer || copied.SourceContainerID == "" {
		return Digests{}, errdefs.New(errdefs.ErrPermissionDenied, "", "server %s has no copy %s", peer, request.ContainerID)
	}
	source, err := a.store.GetContainer(ctx, copied.SourceContainerID)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return Digests{}, err
	}
	if err != nil || source.ServerID != a.serverID {
		return Digests{}, errdefs.New(errdefs.ErrPermissionDenied, "", "the source of copy %s is not on this server", request.ContainerID)
	}
	held, err := a.snapshotsInCommon(ctx, copied, request.Snapshots)
	if err != nil {
		return Digests{}, err
	}
	return a.digests(ctx, held[0])
}

// heldSnapshot is a snapshot in this pool.
type heldSnapshot struct {
	guid lineage.GUID
	name string // dataset@snapshot, when it was looked for
}

// snapshotsInCommon lists the snapshots in this pool that a copy may share with its source, the best first: what its files were
// made from, what it was synced with, its history from the newest on. Only the owner's count, and with among, only those.
func (a *Agent) snapshotsInCommon(ctx context.Context, copied store.Container, among []lineage.GUID) ([]heldSnapshot, error) {
	history, err := a.store.GetHistory(ctx, copied.ID)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return nil, err
	}
	candidates := []lineage.GUID{copied.Generation.Base, syncBase(&copied)}
	for _, snapshot := range slices.Backward(history.Snapshots) {
		candidates = append(candidates, snapshot.GUID)
	}
	inventory, err := a.pool.Inventory(ctx)
	if err != nil {
		return nil, err
	}
	located := lineage.Locate(ownedBy(inventory, copied.OwnerID))
	var held []heldSnapshot
	for _, guid := range candidates {
		known := slices.ContainsFunc(held, func(s heldSnapshot) bool { return s.guid == guid })
		if name := located[guid]; name != "" && !known && (among == nil || slices.Contains(among, guid)) {
			held = append(held, heldSnapshot{guid, name})
		}
	}
	if len(held) == 0 {
		return nil, errdefs.New(errdefs.ErrNotFound, "", "copy and source have no common snapshot any more")
	}
	return held, nil
}

// digests reads a snapshot and lists its files, for as long as somebody reads the list.
func (a *Agent) digests(ctx context.Context, snapshot heldSnapshot) (Digests, error) {
	ctx, cancel := context.WithCancel(ctx)
	reader, writer := io.Pipe()
	mounted, done := make(chan error, 1), make(chan struct{})
	go func() { // ends with Close
		defer close(done)
		err := a.readSnapshot(ctx, snapshot, func(ctx context.Context, mount Mount) error {
			mounted <- nil
			return digest.Write(ctx, mount.Root(), writer)
		})
		if err != nil {
			select {
			case mounted <- err: // it never was
			default:
			}
		}
		_ = writer.CloseWithError(err) // nil is the end of the list
	}()
	if err := <-mounted; err != nil {
		cancel()
		<-done
		return Digests{}, err
	}
	return Digests{Snapshot: snapshot.guid, ReadCloser: &digestStream{PipeReader: reader, cancel: cancel, done: done}}, nil
}

// digestStream is the reading end of a list.
type digestStream struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

// Close ends the reading of the snapshot and waits for it.
func (s *digestStream) Close() error {
	s.cancel()
	_ = s.PipeReader.Close() // never fails
	<-s.done
	return nil
}

// readSnapshot mounts a snapshot for use, which runs at low priority. ErrBusy when enough are read already: to wait for each
// other is what two agents that verify against each other must not do.
func (a *Agent) readSnapshot(ctx context.Context, snapshot heldSnapshot, use func(ctx context.Context, mount Mount) error) (err error) {
	select {
	case a.verifying <- struct{}{}:
		defer func() { <-a.verifying }()
	default:
		return errdefs.New(errdefs.ErrBusy, "", "this server reads %d snapshots for verifications already; try again later", maxVerifying)
	}
	mount, err := a.mountShared(ctx, snapshot.name)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unmountTimeout)
		defer cancel()
		err = errors.Join(err, mount.Unmount(ctx))
	}()
	return inBackground(func() error { return use(ctx, mount) })
}

// unmountTimeout bounds what a cancelled verification still does.
const unmountTimeout = 10 * time.Second

// mountShared mounts a snapshot while no collection runs; mounted, ZFS keeps it.
func (a *Agent) mountShared(ctx context.Context, name string) (Mount, error) {
	release, err := a.pins.share(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return a.pool.MountSnapshot(ctx, name)
}
