package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// replicate brings into this pool what the job wants and the pool lacks: fetch, in git's words. On the source's own
// server there is nothing to bring. It keeps no state of its own: what is there and what is missing is read from the
// pools each time, so it goes on from wherever it was cut off.
func (r *run) replicate(ctx context.Context) error {
	container, err := r.store.GetContainer(ctx, r.job.ContainerID)
	if err != nil {
		return err
	}
	p := &replication{
		run: r, source: r.sourceOf(r.job.SourceServerID), owner: container.OwnerID, slot: transferSlot{gate: r.options.Transfers, peer: r.job.SourceServerID},
	}
	defer p.slot.end()
	if err := p.untilComplete(ctx); err != nil {
		return err
	}
	r.promises.end(r.job.ID)
	return nil
}

// replication is one attempt to bring what a job wants.
type replication struct {
	*run
	source   Source
	owner    string
	slot     transferSlot
	manifest Manifest  // as of the plan that is carried out
	embed    bool      // streams may carry blocks embedded in pointers, which an encrypted pool cannot take
	apart    bool      // each snapshot by a stream of its own: a series was not what it should have been
	progress *progress // of the fetch under way
}

// untilComplete plans and fetches until nothing is missing. Plans are cheap and go out of date: others bring snapshots, too, and move datasets.
func (p *replication) untilComplete(ctx context.Context) (err error) {
	misled, fetched := false, false
	for failures := 0; ; {
		if !fetched { // else the manifest is the one that was just fetched from
			if p.manifest, err = p.manifestFrom(ctx, p.source); err != nil {
				return err
			}
		}
		fetched = false
		if p.job.SourceServerID == p.serverID {
			return nil // all that is wanted was found in this pool
		}
		planned := p.inFlight.endings()
		missing, inventory, err := p.missing(ctx, p.owner, p.manifest)
		if err != nil {
			return err
		}
		p.want(guidsOf(missing))
		if len(missing) == 0 {
			return p.settleReplicas(ctx, inventory)
		}
		arrivals := arrivalsOf(missing, p.owner)
		claimed, wait, ok := p.inFlight.claim(arrivals, planned)
		if !ok {
			if err := p.awaitAnother(ctx, wait); err != nil {
				return err
			}
			continue
		}
		p.promises.begin(p.job.ID, arrivals)
		// Before it is this one's turn, which may take hours: until then it bears the name of a job that has ended, and would be collected.
		if err = p.takeOver(ctx, p.owner, missing, inventory); err == nil {
			err = p.slot.take(ctx)
		}
		if err == nil {
			err = p.fetch(ctx, missing, claimed)
		}
		claimed.end()
		if errors.Is(err, ErrWrongSnapshot) && !errors.Is(err, errdefs.ErrStale) && !misled {
			// A name of the manifest may have gone to another snapshot meanwhile; the next manifest has the names of now.
			misled, err = true, planAgain(err)
		}
		if fetched = err == nil; fetched {
			continue
		}
		if failures++; !errors.Is(err, errdefs.ErrStale) || failures == maxPlans {
			return err
		}
		p.log.Info("plans again", zap.Error(err))
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// awaitAnother waits for the end of another replication that brings what this one wants: it lacks neither a turn nor room meanwhile. Where it has
// ended already, only the plan is out of date.
func (p *replication) awaitAnother(ctx context.Context, end <-chan struct{}) error {
	select {
	case <-end:
		return ctx.Err()
	default:
	}
	p.log.Info("waits for another replication, and plans again")
	p.slot.end()
	p.promises.end(p.job.ID)
	select {
	case <-end:
		return nil
	case <-ctx.Done():
		return ctx.Err()
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
	if err != nil {
		return Manifest{}, err
	}
	if manifest.Protocol != PeerProtocol { // which an upgrade may be about to change
		return Manifest{}, errdefs.New(errdefs.ErrUnavailable, "PEER_PROTOCOL_MISMATCH",
			"The agents of source and target server are of versions that do not fit together (protocols %d and %d)", manifest.Protocol, PeerProtocol)
	}
	job, err := r.store.GetJob(ctx, r.job.ID) // where the source has recorded what it froze
	if err != nil {
		return Manifest{}, err
	}
	return manifest, checkWanted(job, manifest)
}

// checkWanted refuses a manifest that would bring what the job does not ask for: the source's word is only where things lie. Beside the
// frozen state and the history that goes along that may be an image for each of them to start from.
func checkWanted(job store.Job, manifest Manifest) error {
	asked := map[lineage.GUID]bool{job.Freeze.GUID: true}
	for _, snapshot := range job.History {
		asked[snapshot.GUID] = true
	}
	ofAnImage := make(map[lineage.GUID]bool)
	for _, node := range manifest.Nodes {
		ofAnImage[node.GUID] = !node.Bookmark && isImage(node.Dataset)
	}
	images := 0
	for _, guid := range manifest.Wanted {
		if asked[guid] {
			continue
		}
		if images++; !ofAnImage[guid] || images > len(asked) {
			return errdefs.New(errdefs.ErrPermissionDenied, "", "The source server offers more than was asked for").WithCause(fmt.Errorf("snapshot %s", guid))
		}
	}
	return nil
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
	have := lineage.Locate(ownedBy(inventory, owner)) // only the owner's own data can be built on
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
			return nil, inventory, errdefs.New(errdefs.ErrPermissionDenied, "", "The target server has a snapshot of the source already, which belongs to somebody else").WithCause(fmt.Errorf("snapshot %s is held as %s", step.GUID, name))
		}
	}
	return steps, inventory, nil
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

// fetch receives the steps in order. An image that has arrived is given up of what is claimed: other containers stand on it, too.
func (p *replication) fetch(ctx context.Context, steps []lineage.Step, claimed *claim) error {
	encrypted, err := p.pool.Encrypted(ctx)
	if err != nil {
		return err
	}
	p.embed = !encrypted
	p.progress = p.startProgress(ctx)
	defer p.progress.stop()
	interrupted, err := p.interrupted(ctx)
	if err != nil {
		return err
	}
	if err := p.preflight(ctx, steps, interrupted); err != nil {
		return err
	}
	if resumed, err := p.resume(ctx, interrupted); err != nil {
		return err
	} else if resumed {
		// What was planned without it is planned again with it.
		return errdefs.New(errdefs.ErrStale, "", "an interrupted stream was completed")
	}
	// Where streams are small, their beginnings cost more than their bytes: one brings as many snapshots as it can, and a next one of a single
	// snapshot is asked for meanwhile. Beside a large one the next would only wait, and be cut off for it, as a series would.
	small := p.progress.expected.Load()/uint64(len(steps)) <= smallStream
	most := 1
	if small && p.manifest.Series && !p.apart {
		most = maxSeries
	}
	groups := lineage.Together(p.manifest.Nodes, steps, most)
	next := openStream(ctx, p.source, p.streamOf(groups[0]...))
	defer func() { next.drop() }()
	for i, group := range groups {
		opening := next
		next = nil
		if small && i+1 < len(groups) && len(groups[i+1]) == 1 {
			next = openStream(ctx, p.source, p.streamOf(groups[i+1]...))
		}
		first, last := group[0], group[len(group)-1]
		spec := ReceiveSpec{To: last.Target, GUID: last.GUID, Before: before(group), Origin: first.Origin, Continues: first.Continues(), Properties: Properties{
			propertyRole: roleOf(first), propertyOwner: p.owner, propertyJob: p.job.ID, propertyContainer: p.job.SourceID, "atime": "off",
		}}
		err := p.receive(ctx, opening, spec)
		if len(group) > 1 && ctx.Err() == nil && refused(err) {
			p.log.Warn("a series was refused: its snapshots come one by one", zap.Int("snapshots", len(group)), zap.Error(err))
			p.apart, err = true, planAgain(err)
		}
		if err != nil {
			return fmt.Errorf("receive snapshot %s: %w", last.GUID, err)
		}
		if roleOf(first) == roleImage {
			claimed.arrived(arrivalOf(first, p.owner))
		}
		if next == nil && i+1 < len(groups) {
			next = openStream(ctx, p.source, p.streamOf(groups[i+1]...))
		}
	}
	return nil
}

// refused tells whether a stream failed for another reason than the way that it came or the room that there is.
func refused(err error) bool {
	switch errdefs.ClassOf(err) {
	case errdefs.ErrAborted, errdefs.ErrUnavailable, errdefs.ErrExhausted:
		return false
	default:
		return err != nil
	}
}

// maxSeries is how many snapshots one stream brings at most: its request names them.
const maxSeries = 256

// before are the snapshots that steps of one stream bring before the last.
func before(steps []lineage.Step) (snapshots []Incoming) {
	for _, step := range steps[:len(steps)-1] {
		_, name, _ := lineage.SplitSnapshot(step.Target)
		snapshots = append(snapshots, Incoming{Name: name, GUID: step.GUID})
	}
	return snapshots
}

// streamOf is what asks for the stream that brings steps.
func (p *replication) streamOf(steps ...lineage.Step) StreamRequest {
	last := len(steps) - 1
	request := StreamRequest{JobID: p.job.ID, To: steps[last].GUID, From: steps[0].Base, Embed: p.embed}
	for _, step := range steps[:last] {
		request.Between = append(request.Between, step.GUID)
	}
	return request
}

// roleOf tells what a step brings. That it is an image is the peer's word, which gives nobody anything: the label only
// allows others to bring the same GUID into datasets of their own.
func roleOf(step lineage.Step) string {
	if isImage(step.Send) && step.Base == 0 {
		return roleImage
	}
	return roleReplica
}

// resume completes the stream that an earlier attempt of this job left half received, and tells whether it changed anything.
func (p *replication) resume(ctx context.Context, interrupted []lineage.Dataset) (bool, error) {
	if len(interrupted) == 0 {
		return false, nil
	}
	dataset := interrupted[0] // the others are seen by the next plan: what changed asks for one
	err := p.resumeInto(ctx, dataset)
	if p.options.Observe.Resumed != nil {
		p.options.Observe.Resumed(err)
	}
	if p.keepsPart(err) {
		return false, err
	}
	if err != nil {
		// The token leads nowhere any more (consumed, its snapshot gone, refused): what it stands for is dropped and sent anew.
		p.log.Warn("drops a partly received stream", zap.String("dataset", dataset.Name), zap.Error(err))
		if err := p.pool.AbortReceive(ctx, dataset.Name); err != nil {
			return false, err
		}
	}
	return true, nil
}

// keepsPart tells whether what was partly received is of use after an error: where the token is not what is wrong. Of an error that
// nobody knows, it is once.
func (r *run) keepsPart(err error) bool {
	switch errdefs.ClassOf(err) {
	case errdefs.ErrExhausted, errdefs.ErrBusy, errdefs.ErrUnavailable, errdefs.ErrAborted:
		return true
	case errdefs.ErrInternal:
		r.unexplainedResumes++
		return r.unexplainedResumes == 1
	default:
		return false
	}
}

func (p *replication) resumeInto(ctx context.Context, dataset lineage.Dataset) error {
	point, err := p.pool.DescribeToken(ctx, dataset.ResumeToken)
	if err != nil {
		return err
	}
	for _, node := range p.manifest.Nodes {
		if node.GUID != point.To {
			continue
		}
		p.log.Info("resumes an interrupted stream", zap.String("dataset", dataset.Name), zap.Stringer("snapshot", point.To), zap.Uint64("bytes", point.Bytes))
		request := StreamRequest{JobID: p.job.ID, To: point.To, From: point.From, Token: dataset.ResumeToken, Embed: p.embed}
		return p.receive(ctx, openStream(ctx, p.source, request), ReceiveSpec{To: dataset.Name + "@" + lineage.TargetName(node), GUID: point.To, Continues: true})
	}
	return errdefs.New(errdefs.ErrStale, "", "snapshot %s is no longer part of the lineage", point.To)
}

// transferSlot is a replication's place among those that move data at a time. It is kept from plan to plan: who has waited for hours and has to plan
// again does not wait again.
type transferSlot struct {
	gate    Gate // nil: nobody waits
	peer    string
	release func() // nil without a place
}

// take waits for the place, unless it is there.
func (s *transferSlot) take(ctx context.Context) (err error) {
	if s.gate == nil || s.release != nil {
		return nil
	}
	s.release, err = s.gate.Acquire(ctx, s.peer)
	return err
}

// end gives the place back, if there is one.
func (s *transferSlot) end() {
	if s.release != nil {
		s.release()
		s.release = nil
	}
}
