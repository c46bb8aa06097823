package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// replicate brings into this pool what the job wants and the pool lacks: fetch, in git's words. On the source's own
// server there is nothing to bring. It keeps no state of its own: what is there and what is missing is read from the
// pools each time, so it goes on from wherever it was cut off.
func (r *run) replicate(ctx context.Context) error {
	source := r.sourceOf(r.job.SourceServerID)
	container, err := r.store.GetContainer(ctx, r.job.ContainerID)
	if err != nil {
		return err
	}
	misled := false
	var manifest Manifest
	fetched := false
	for failures := 0; ; {
		if !fetched { // else the manifest is the one that was just fetched from
			if manifest, err = r.manifestFrom(ctx, source); err != nil {
				return err
			}
		}
		fetched = false
		planned := r.inFlight.endings()
		missing, inventory, err := r.missing(ctx, container.OwnerID, manifest)
		if err != nil {
			return err
		}
		r.want(guidsOf(missing))
		if len(missing) == 0 {
			return r.settleReplicas(ctx, inventory)
		}
		claimed, wait, ok := r.inFlight.claim(arrivalsOf(missing, container.OwnerID), planned)
		if !ok {
			r.log.Info("waits for another replication, and plans again")
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		err = r.fetch(ctx, source, container.OwnerID, manifest, missing, inventory, claimed)
		claimed.end()
		if errors.Is(err, ErrWrongSnapshot) && !misled {
			// A name of the manifest may have gone to another snapshot meanwhile; the next manifest has the names of now.
			misled, err = true, planAgain(err)
		}
		if fetched = err == nil; fetched {
			continue
		}
		if failures++; !errors.Is(err, errdefs.ErrStale) || failures == maxPlans {
			return err
		}
		r.log.Info("plans again", zap.Error(err))
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// want notes what this job lacks, in place of what it lacked before. It holds through the pauses between attempts: what others leave
// half received waits for it.
func (r *run) want(guids []lineage.GUID) {
	before := r.wanted
	r.wanted = r.inFlight.want(guids)
	if before != nil {
		before()
	}
}

// manifestFrom lets the source freeze, once, and asks what there is to fetch as its pool looks now.
func (r *run) manifestFrom(ctx context.Context, source Source) (Manifest, error) {
	manifest, err := source.Freeze(ctx, r.job.ID)
	if err == nil && manifest.Protocol != PeerProtocol {
		err = errdefs.New(errdefs.ErrUnsupported, "PEER_PROTOCOL_MISMATCH",
			"The agents of source and target server are of versions that do not fit together (protocols %d and %d)", manifest.Protocol, PeerProtocol)
	}
	return manifest, err
}

// maxPlans is how often a replication plans anew at once. Plans that do not hold time after time have another reason than a
// pool on the move: it is shown in the job then, and the pauses grow.
const maxPlans = 5

// missing plans what has to travel, and returns the pool as it looked then. Only what this agent itself recorded as the same
// owner's counts as held.
func (r *run) missing(ctx context.Context, owner string, manifest Manifest) (steps []lineage.Step, inventory lineage.Inventory, err error) {
	release, err := r.pins.share(ctx)
	if err != nil {
		return nil, inventory, err
	}
	defer release()
	if inventory, err = r.pool.Inventory(ctx); err != nil {
		return nil, inventory, err
	}
	// On the source's own pool every node is what it says; from elsewhere only the owner's own data can be built on.
	local := r.job.SourceServerID == r.serverID
	have := lineage.Locate(inventory)
	if !local {
		have = lineage.Locate(ownedBy(inventory, owner))
	}
	next := nextReplica(inventory, r.job.ID)
	steps, err = lineage.Plan(manifest.Nodes, manifest.Wanted, have, func(i int) string { return replicaDataset(r.job.ID, next+i) })
	if err != nil {
		return nil, inventory, fmt.Errorf("plan replication: %w", err)
	}
	bases := make([]lineage.GUID, 0, len(steps))
	for _, step := range steps {
		if step.Origin != "" {
			bases = append(bases, step.Base)
		}
	}
	r.pins.keep(r.job.ID, bases)
	theirs := lineage.Locate(heldByOthers(inventory, owner))
	for _, step := range steps {
		if name, taken := theirs[step.GUID]; taken {
			return nil, inventory, errdefs.New(errdefs.ErrPermissionDenied, "", "snapshot %s is here already and belongs to somebody else", step.GUID).WithCause(fmt.Errorf("held as %s", name))
		}
	}
	return steps, inventory, nil
}

// replicaDataset names the i-th dataset that a job receives into. The number is padded so that names sort.
func replicaDataset(jobID string, i int) string {
	return fmt.Sprintf("%s%s-%04d", incomingPrefix, jobID, i)
}

// nextReplica is the first number that none of the job's replicas has, received or settled.
func nextReplica(inventory lineage.Inventory, jobID string) int {
	next := 0
	for _, dataset := range inventory.Datasets {
		for _, prefix := range []string{incomingDataset(jobID), displacedDataset(jobID)} {
			if number, ok := strings.CutPrefix(dataset.Name, prefix+"-"); ok {
				if n, err := strconv.Atoi(number); err == nil {
					next = max(next, n+1)
				}
			}
		}
	}
	return next
}

func guidsOf(steps []lineage.Step) []lineage.GUID {
	guids := make([]lineage.GUID, len(steps))
	for i, step := range steps {
		guids[i] = step.GUID
	}
	return guids
}

// arrivalsOf are the snapshots that steps bring to an owner.
func arrivalsOf(steps []lineage.Step, owner string) []arrival {
	arrivals := make([]arrival, len(steps))
	for i, step := range steps {
		arrivals[i] = arrivalOf(step, owner)
	}
	return arrivals
}

func arrivalOf(step lineage.Step, owner string) arrival {
	if roleOf(step) == roleImage {
		return arrival{step.GUID, owner}
	}
	return arrival{guid: step.GUID}
}

// fetch receives the steps in order, holding one of the server's replication slots. planned is the pool as it was planned on.
// An image that has arrived is given up of what is claimed: other containers stand on it, too.
func (r *run) fetch(ctx context.Context, source Source, owner string, manifest Manifest, steps []lineage.Step, planned lineage.Inventory, claimed *claim) error {
	// Before there is a slot, which may take hours: until then it bears the name of a job that has ended, and would be collected.
	if err := r.takeOver(ctx, owner, steps, planned); err != nil {
		return err
	}
	if r.options.Transfers != nil {
		release, err := r.options.Transfers.Acquire(ctx, r.job.SourceServerID)
		if err != nil {
			return err
		}
		defer release()
	}
	encrypted, err := r.pool.Encrypted(ctx)
	if err != nil {
		return err
	}
	progress := r.startProgress(ctx)
	defer progress.stop()
	interrupted, err := r.interrupted(ctx)
	if err != nil {
		return err
	}
	if err := r.preflight(ctx, source, steps, encrypted, interrupted, progress); err != nil {
		return err
	}
	if resumed, err := r.resume(ctx, source, manifest, interrupted, !encrypted, progress); err != nil {
		return err
	} else if resumed {
		// What was planned without it is planned again with it.
		return errdefs.New(errdefs.ErrStale, "", "an interrupted stream was completed")
	}
	// Where streams are small, their beginnings cost more than their bytes: the next one is asked for meanwhile. Beside a large one
	// the next would only wait, and be cut off for it.
	ahead := progress.expected.Load()/uint64(len(steps)) <= smallStream
	request := func(step lineage.Step) StreamRequest {
		return StreamRequest{JobID: r.job.ID, To: step.GUID, From: step.Base, Embed: !encrypted}
	}
	next := openStream(ctx, source, request(steps[0]))
	defer func() { next.drop() }()
	for i, step := range steps {
		opening := next
		next = nil
		if ahead && i+1 < len(steps) {
			next = openStream(ctx, source, request(steps[i+1]))
		}
		spec := ReceiveSpec{To: step.Target, GUID: step.GUID, Origin: step.Origin, Continues: step.Continues(), Properties: Properties{
			propertyRole: roleOf(step), propertyOwner: owner, propertyJob: r.job.ID, propertyContainer: r.job.SourceID, "atime": "off",
		}}
		if err := r.receive(ctx, opening, spec, progress); err != nil {
			return fmt.Errorf("receive snapshot %s: %w", step.GUID, err)
		}
		if roleOf(step) == roleImage {
			claimed.arrived(arrivalOf(step, owner))
		}
		if next == nil && i+1 < len(steps) {
			next = openStream(ctx, source, request(steps[i+1]))
		}
	}
	return nil
}

// roleOf tells what a step brings. That it is an image is the peer's word, which gives nobody anything: the label only
// allows others to bring the same GUID into datasets of their own.
func roleOf(step lineage.Step) string {
	if isImage(step.Send) && step.Base == 0 {
		return roleImage
	}
	return roleReplica
}

// takeOver makes a stream that another job of this owner left half received this job's own, to be resumed. Nobody receives it:
// its snapshot is among those that this job has claimed, and the claim fails when somebody has let go of one since the plan.
func (r *run) takeOver(ctx context.Context, owner string, steps []lineage.Step, inventory lineage.Inventory) error {
	claimed := guidsOf(steps)
	own := incomingDataset(r.job.ID) + "-"
	for _, dataset := range inventory.Datasets {
		left := dataset.ResumeToken != "" && strings.HasPrefix(dataset.Name, incomingPrefix) && dataset.Properties[propertyOwner] == owner
		if !left || strings.HasPrefix(dataset.Name, own) {
			continue
		}
		point, err := r.pool.DescribeToken(ctx, dataset.ResumeToken)
		if err != nil || !slices.Contains(claimed, point.To) {
			continue // whoever it is of finds out
		}
		r.log.Info("takes over what another job left half received", zap.String("dataset", dataset.Name), zap.Stringer("snapshot", point.To), zap.Uint64("bytes", point.Bytes))
		err = r.pool.Rename(ctx, dataset.Name, replicaDataset(r.job.ID, nextReplica(inventory, r.job.ID)))
		if errors.Is(err, errdefs.ErrNotFound) {
			return planAgain(err) // its job has dropped it just now
		}
		if err != nil { // then it is sent anew
			r.log.Warn("could not take over what another job left", zap.String("dataset", dataset.Name), zap.Error(err))
			continue
		}
		return nil
	}
	return nil
}

// interrupted are the job's datasets whose stream was cut off.
func (r *run) interrupted(ctx context.Context) ([]lineage.Dataset, error) {
	inventory, err := r.pool.Inventory(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(inventory.Datasets, func(dataset lineage.Dataset) bool {
		return dataset.ResumeToken == "" || !strings.HasPrefix(dataset.Name, incomingDataset(r.job.ID)+"-")
	}), nil
}

// resume completes the stream that an earlier attempt of this job left half received, and tells whether it changed anything.
func (r *run) resume(ctx context.Context, source Source, manifest Manifest, interrupted []lineage.Dataset, embed bool, progress *progress) (bool, error) {
	for _, dataset := range interrupted {
		err := r.resumeInto(ctx, source, manifest, dataset, embed, progress)
		if r.options.Observe.Resumed != nil {
			r.options.Observe.Resumed(err)
		}
		if errors.Is(err, errdefs.ErrExhausted) || err != nil && errdefs.Retryable(err) && !errors.Is(err, errdefs.ErrStale) {
			return false, err
		}
		if err != nil {
			// The token leads nowhere any more (consumed, its snapshot gone, refused): what it stands for is dropped and sent anew.
			r.log.Warn("drops a partly received stream", zap.String("dataset", dataset.Name), zap.Error(err))
			if err := r.pool.AbortReceive(ctx, dataset.Name); err != nil {
				return false, err
			}
		}
		return true, nil
	}
	return false, nil
}

func (r *run) resumeInto(ctx context.Context, source Source, manifest Manifest, dataset lineage.Dataset, embed bool, progress *progress) error {
	point, err := r.pool.DescribeToken(ctx, dataset.ResumeToken)
	if err != nil {
		return err
	}
	for _, node := range manifest.Nodes {
		if node.GUID != point.To {
			continue
		}
		r.log.Info("resumes an interrupted stream", zap.String("dataset", dataset.Name), zap.Stringer("snapshot", point.To), zap.Uint64("bytes", point.Bytes))
		request := StreamRequest{JobID: r.job.ID, To: point.To, From: point.From, Token: dataset.ResumeToken, Embed: embed}
		return r.receive(ctx, openStream(ctx, source, request), ReceiveSpec{To: dataset.Name + "@" + lineage.TargetName(node), GUID: point.To, Continues: true}, progress)
	}
	return errdefs.New(errdefs.ErrStale, "", "snapshot %s is no longer part of the lineage", point.To)
}

// settleReplicas moves what was received to where replicas live, now that all is there. What of it is not whole somebody
// else has brought meanwhile; it goes, unless another job waits for it and will take it over.
func (r *run) settleReplicas(ctx context.Context, inventory lineage.Inventory) error {
	for _, dataset := range inventory.Datasets {
		suffix, ok := strings.CutPrefix(dataset.Name, incomingDataset(r.job.ID)+"-")
		if !ok {
			continue
		}
		if dataset.ResumeToken != "" {
			point, err := r.pool.DescribeToken(ctx, dataset.ResumeToken)
			if err == nil && r.inFlight.isWanted(point.To) {
				r.inFlight.leave(dataset.Name, point.To)
				continue // taken over soon; if not, garbage collection finds it without an open job
			}
			if err := r.pool.AbortReceive(ctx, dataset.Name); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
				return err
			}
			if len(dataset.Snapshots) == 0 {
				continue // it went with it
			}
		}
		if err := r.pool.Rename(ctx, dataset.Name, displacedDataset(r.job.ID)+"-"+suffix); err != nil {
			return err
		}
	}
	return nil
}

// dropReplicas lets go of what a failed job received. What is whole others may count on by now, each for a part of it; garbage
// collection knows them all, and takes what nobody wants.
func (r *run) dropReplicas(ctx context.Context) error {
	r.want(nil)
	inventory, err := r.pool.Inventory(ctx)
	if err != nil {
		return err
	}
	return r.settleReplicas(ctx, inventory)
}
