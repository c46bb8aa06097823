package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// EstimateRequest asks how large streams will be. All must belong to the one job.
type EstimateRequest struct {
	JobID   string          `json:"job_id"`
	Streams []StreamRequest `json:"streams"`
}

// Estimate is an answer to EstimateRequest.
type Estimate struct {
	Bytes     uint64 `json:"bytes"`               // of all streams together, uncompressed by the transport
	Encrypted bool   `json:"encrypted,omitempty"` // the pool that they come from encrypts; streams are in the clear
}

// EstimateStreams is Source.Estimate for a peer: it tells only about what the job may fetch.
func (a *Agent) EstimateStreams(ctx context.Context, peer string, request EstimateRequest) (Estimate, error) {
	job, manifest, err := a.served(ctx, peer, request.JobID)
	if err != nil {
		return Estimate{}, err
	}
	if len(request.Streams) > len(manifest.Nodes) { // each snapshot travels once: some are no longer there
		return Estimate{}, errdefs.New(errdefs.ErrNotFound, "", "%d streams of %d snapshots", len(request.Streams), len(manifest.Nodes))
	}
	specs := make([]SendSpec, 0, len(request.Streams))
	for _, stream := range request.Streams {
		if len(stream.Between) > 0 { // each snapshot is asked for by itself
			return Estimate{}, errdefs.New(errdefs.ErrInvalid, "", "an estimate of a series")
		}
		spec, err := manifest.send(stream)
		if err != nil {
			return Estimate{}, err
		}
		specs = append(specs, spec)
	}
	size, err := a.pool.Estimate(ctx, specs...)
	if err != nil {
		a.manifests.drop(job.ID)
		return Estimate{}, err
	}
	encrypted, err := a.pool.Encrypted(ctx)
	return Estimate{Bytes: size, Encrypted: encrypted}, err
}

// preflight compares what is to come with the room for it and with how it is kept, before a byte flows.
func (p *replication) preflight(ctx context.Context, steps []lineage.Step, interrupted []lineage.Dataset) error {
	request := EstimateRequest{JobID: p.job.ID}
	for _, step := range steps {
		request.Streams = append(request.Streams, p.streamOf(step))
	}
	estimate, err := p.source.Estimate(ctx, request)
	if errors.Is(err, errdefs.ErrNotFound) {
		return planAgain(err)
	}
	if err != nil {
		return fmt.Errorf("estimate: %w", err)
	}
	if estimate.Encrypted && p.embed && !p.options.AcceptDecrypted && p.job.Kind == store.JobCopy { // what is synced is there already
		return errdefs.New(errdefs.ErrFailedPrecondition, "", "The source's pool is encrypted and the target's is not: the container would be stored in the clear there "+
			"(zfs.accept_decrypted on the target's host allows it)")
	}
	space, reserve, room, err := p.room(ctx)
	if err != nil {
		return err
	}
	arrived := p.partlyReceived(ctx, interrupted)
	needed := estimate.Bytes - min(estimate.Bytes, arrived)
	p.log.Debug("preflight", zap.Int("streams", len(steps)), zap.Uint64("needed", needed), zap.Uint64("free", space.Free), zap.Uint64("reserve", reserve))
	if !p.promises.grant(p.job.ID, p.progress, needed, needed, room) {
		return errdefs.New(errdefs.ErrExhausted, codeInsufficientSpace,
			"Not enough space on the target server: about %s are needed, %s are free, of which %s are kept in reserve and what other transfers still bring is spoken for",
			humanize.IBytes(needed), humanize.IBytes(space.Free), humanize.IBytes(reserve))
	}
	p.progress.expected.Store(needed)
	return nil
}

// room is how much of the pool transfers may take, with what it has free and what of that is kept in reserve, in bytes.
func (r *run) room(ctx context.Context) (space Space, reserve, room uint64, err error) {
	if space, err = r.pool.Space(ctx); err != nil {
		return space, 0, 0, err
	}
	reserve = r.reserve(space.Size)
	return space, reserve, space.Free - min(space.Free, reserve), nil
}

// roomStep is what a transfer is promised at a time beyond its estimate, in bytes, at most.
const roomStep = 256 << 20

// moreRoom promises a transfer more than was estimated, as long as there is room. An estimate is no more than the peer's word, and
// zfs send's can be short as well.
func (p *replication) moreRoom(ctx context.Context) error {
	_, _, room, err := p.room(ctx)
	if err != nil {
		return err
	}
	if !p.promises.grant(p.job.ID, p.progress, 1, roomStep, room) {
		return errdefs.New(errdefs.ErrExhausted, codeInsufficientSpace, "More comes than was estimated, and the target server has no room for it")
	}
	return nil
}

// codeInsufficientSpace is the code of a copy or sync for which the target has no room.
const codeInsufficientSpace = "INSUFFICIENT_SPACE"

// outOfSpace gives the failure of a pool that ran full during a stream its reason for the user.
func outOfSpace(err error) error {
	return errdefs.New(errdefs.ErrExhausted, codeInsufficientSpace, "The target server ran out of space or quota during the transfer").WithCause(err)
}

// reserve is how much of a pool transfers leave free: ZFS slows down when it is nearly full, and the containers go on writing.
// By default a twentieth and at least 1 GiB, but never more than a tenth of a small pool.
func (r *run) reserve(size uint64) uint64 {
	if r.options.SpaceReserve > 0 {
		return r.options.SpaceReserve
	}
	return min(max(size/20, 1<<30), size/10)
}

// partlyReceived is how much of interrupted streams is in the pool already.
func (r *run) partlyReceived(ctx context.Context, interrupted []lineage.Dataset) (arrived uint64) {
	for _, dataset := range interrupted {
		if point, err := r.pool.DescribeToken(ctx, dataset.ResumeToken); err == nil { // else resume finds out
			arrived += point.Bytes
		}
	}
	return arrived
}
