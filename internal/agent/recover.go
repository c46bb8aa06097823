package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Recoverer puts the records of one server in order from its pool and its runtime, while its agent is stopped. Server,
// Store, Pool and Runtime are required.
type Recoverer struct {
	Server   store.Server // as it registers; its id is the one that the pool is stamped with
	FormerID string       // id that an agent had made up for this server when its own was gone; empty for none
	Store    *store.Store
	Pool     Pool
	Runtime  Runtime
	Logger   *zap.Logger      // nil = none
	Now      func() time.Time // nil = time.Now
}

// StampedServer reads which server a pool belongs to; empty when it is not stamped, ErrCorrupt when what is there is no stamp.
func StampedServer(ctx context.Context, pool Pool) (string, error) {
	parent, err := pool.Dataset(ctx, poolParent)
	if errors.Is(err, errdefs.ErrNotFound) || err == nil && parent.Properties[propertyStamp] == "" {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the pool's stamp: %w", err)
	}
	stamped, err := parseStamp(parent.Properties[propertyStamp])
	return stamped.server, err
}

// Plan finds out what there is and what can be made of it. It changes nothing.
func (r *Recoverer) Plan(ctx context.Context) (Recovery, error) {
	facts, err := r.look(ctx)
	if err != nil {
		return Recovery{}, fmt.Errorf("plan recovery: %w", err)
	}
	return planRecovery(facts), nil
}

// look gathers the facts: from the pool, the runtime and the store.
func (r *Recoverer) look(ctx context.Context) (facts recoveryFacts, err error) {
	facts = recoveryFacts{
		serverID: r.Server.ID, formerID: r.FormerID, storeID: r.Store.StoreID(), now: r.now(), instances: make(map[string]Instance),
		containers: make(map[string]store.Container), histories: make(map[string]store.History), projects: make(map[string]store.Project),
		tombstones: make(map[string]store.Tombstone),
	}
	if facts.inventory, err = r.Pool.Inventory(ctx); err != nil {
		return facts, err
	}
	instances, err := r.Runtime.Instances(ctx)
	if err != nil {
		return facts, err
	}
	for _, instance := range instances {
		if instance.Name == InstanceName(instance.ContainerID) { // else it was renamed or copied behind our back
			facts.instances[instance.ContainerID] = instance
		}
	}
	if facts.files, facts.damaged, err = r.recordFiles(ctx, facts); err != nil {
		return facts, err
	}
	if _, err := r.Store.Barrier(ctx); err != nil {
		return facts, err
	}
	if err := r.lookIntoStore(ctx, &facts); err != nil {
		return facts, err
	}
	noted, err := notedStamp(ctx, r.Store, r.Server.ID)
	if err != nil {
		return facts, err
	}
	parent, _ := facts.inventory.Dataset(poolParent)
	facts.stamp = parent.Properties[propertyStamp]
	if facts.stamp != "" || holdsAgentData(facts.inventory) || slices.ContainsFunc(slices.Collect(maps.Values(facts.containers)), func(c store.Container) bool { return hasFiles(&c, r.Server.ID) }) {
		facts.distrust = judgeStamp(facts.stamp, facts.storeID, r.Server.ID, noted)
		if facts.distrust == nil && r.FormerID != "" {
			facts.distrust = judgeStamp(facts.stamp, facts.storeID, r.FormerID, noted) // what an agent would say that starts now
		}
	}
	return facts, nil
}

func (r *Recoverer) recordFiles(ctx context.Context, facts recoveryFacts) (files map[string]recordFile, damaged map[string]error, err error) {
	files = make(map[string]recordFile)
	if _, exists := facts.inventory.Dataset(recordsDataset); !exists {
		return files, nil, nil
	}
	var contents map[string][]byte
	err = withTree(ctx, r.Pool, recordsDataset, func(mount Mount) (err error) {
		contents, damaged, err = readRecordFiles(mount.Root())
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for name, content := range contents {
		file, err := decodeRecordFile(name, content)
		if err != nil {
			damaged[name] = err
			continue
		}
		files[file.Container.ID] = file
	}
	return files, damaged, nil
}

func (r *Recoverer) lookIntoStore(ctx context.Context, facts *recoveryFacts) error {
	mirror := r.Store.Mirror()
	for _, container := range mirror.Containers() {
		facts.containers[container.ID] = *container
	}
	for _, history := range mirror.Histories() {
		facts.histories[history.ContainerID] = *history
	}
	for _, project := range mirror.Projects() {
		facts.projects[project.ID] = *project
	}
	for _, id := range []string{r.Server.ID, r.FormerID} {
		for _, job := range mirror.OpenJobs(id) {
			facts.jobs = append(facts.jobs, *job)
		}
	}
	tombstones, err := r.Store.Tombstones(ctx)
	if err != nil {
		return err
	}
	for _, tombstone := range tombstones {
		facts.tombstones[tombstone.ContainerID] = tombstone
	}
	facts.claimed = func(kind store.UniqueKind, scope, value string) string {
		owner, _ := mirror.UniqueOwner(kind, scope, value)
		return owner
	}
	facts.unreadable = slices.Sorted(maps.Keys(mirror.Unreadable()))
	return nil
}

// Apply carries a plan out. It may be repeated, with a new plan, until it succeeds; what it wrote stays. The pool is stamped
// last: until then nothing trusts the records.
func (r *Recoverer) Apply(ctx context.Context, plan Recovery) error {
	if len(plan.Obstacles) > 0 {
		return errdefs.New(errdefs.ErrFailedPrecondition, "", "nothing is applied: %s", plan.Obstacles[0])
	}
	for _, job := range plan.Jobs {
		if err := r.endJob(ctx, job.job); err != nil {
			return fmt.Errorf("end job %s: %w", job.ID, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(plan.projects)) {
		if err := r.writeProject(ctx, plan.projects[id]); err != nil {
			return fmt.Errorf("write project %s: %w", id, err)
		}
	}
	for _, container := range plan.Containers {
		if !container.writes() {
			continue
		}
		if err := r.putBack(ctx, container); err != nil {
			return fmt.Errorf("put generation of container %s back: %w", container.ID, err)
		}
		if err := r.writeContainer(ctx, container); err != nil {
			return fmt.Errorf("write container %s: %w", container.ID, err)
		}
		r.log().Info("record written", zap.String("container", container.ID), zap.String("name", container.Name), zap.String("verdict", string(container.Verdict)))
	}
	if err := r.putAside(ctx, plan.damaged); err != nil {
		return err
	}
	if err := r.takeOverTombstones(ctx); err != nil {
		return err
	}
	return r.stamp(ctx)
}

// endJob ends an operation that may have been done or not. What it left in the pool is garbage collection's to judge.
func (r *Recoverer) endJob(ctx context.Context, job store.Job) error {
	cameToNothing := false
	if job.Kind == store.JobCopy {
		_, err := r.Pool.Dataset(ctx, ContainerDataset(job.ContainerID))
		if cameToNothing = errors.Is(err, errdefs.ErrNotFound); err != nil && !cameToNothing {
			return err
		}
	}
	_, err := r.Store.Update(ctx, func(tx *store.Tx) error {
		job, err := tx.Job(job.ServerID, job.ID)
		if errors.Is(err, errdefs.ErrNotFound) || err == nil && !job.Open() {
			return nil
		}
		if err != nil {
			return err
		}
		now := r.now()
		job.State, job.FinishedAt, job.UpdatedAt = store.JobFailed, &now, now
		job.Error = jobError(errdefs.New(errdefs.ErrAborted, "", "The records were recovered while this operation was under way"))
		if err := releaseSource(tx, job); err != nil {
			return err
		}
		if cameToNothing { // nobody lists what came along for it
			if err := bury(tx, job.ContainerID, r.Server.ID, now, guidsIn(job.History)); err != nil {
				return err
			}
		}
		return tx.PutJob(job)
	})
	return err
}

// takeOverTombstones makes those count that were written under the id that an agent had made up for this server.
func (r *Recoverer) takeOverTombstones(ctx context.Context) error {
	if r.FormerID == "" {
		return nil
	}
	tombstones, err := r.Store.Tombstones(ctx)
	if err != nil {
		return err
	}
	for _, tombstone := range tombstones {
		if tombstone.ServerID != r.FormerID {
			continue
		}
		if _, err := r.Store.Update(ctx, func(tx *store.Tx) error {
			now, err := tx.Tombstone(tombstone.ContainerID)
			if errors.Is(err, errdefs.ErrNotFound) || err == nil && now.ServerID != r.FormerID {
				return nil
			}
			if err != nil {
				return err
			}
			now.ServerID = r.Server.ID
			return tx.PutTombstone(now)
		}); err != nil {
			return fmt.Errorf("tombstone of container %s: %w", tombstone.ContainerID, err)
		}
	}
	return nil
}

func (r *Recoverer) writeProject(ctx context.Context, project store.Project) error {
	_, err := r.Store.Update(ctx, func(tx *store.Tx) error {
		was, err := tx.Project(project.ID)
		switch {
		case errors.Is(err, errdefs.ErrNotFound):
		case err != nil:
			return err
		case was.Alias != project.Alias:
			if err := releaseAlias(tx, was); err != nil {
				return err
			}
		}
		if err := tx.ClaimUnique(store.UniqueProjectAlias, project.UserID, project.Alias, project.ID); err != nil {
			return err
		}
		write := project
		write.Containers = was.Containers
		return tx.PutProject(write)
	})
	return err
}

// putBack makes a generation that an operation had moved aside the container's present one again.
func (r *Recoverer) putBack(ctx context.Context, container RecoveredContainer) error {
	if container.PutBack == "" {
		return nil
	}
	err := r.Pool.Rename(ctx, container.PutBack, ContainerDataset(container.ID))
	if errors.Is(err, errdefs.ErrNotFound) {
		return errdefs.New(errdefs.ErrStale, "", "dataset %s moved since the plan was made", container.PutBack).WithCause(err)
	}
	return err
}

// writeContainer writes a container with its history and its claims, unless the record changed since the plan was made.
func (r *Recoverer) writeContainer(ctx context.Context, recovered RecoveredContainer) error {
	_, err := r.Store.Update(ctx, func(tx *store.Tx) error {
		container := recovered.container
		was, err := tx.Container(container.ID)
		switch {
		case errors.Is(err, errdefs.ErrNotFound):
			project, err := tx.Project(container.ProjectID)
			if err != nil {
				return err
			}
			project.Containers++ // a limit that is reached is no reason to lose a container
			if err := tx.PutProject(project); err != nil {
				return err
			}
		case err != nil:
			return err
		case recovered.before == nil || !was.UpdatedAt.Equal(recovered.before.UpdatedAt) || was.Status != recovered.before.Status:
			return errdefs.New(errdefs.ErrStale, "", "the store's record changed since the plan was made; plan again")
		default:
			if err := releaseClaims(tx, was, container); err != nil {
				return err
			}
		}
		if err := errors.Join(claimName(tx, container), claimKey(tx, container)); err != nil {
			return err
		}
		if err := tx.PutHistory(recovered.history); err != nil {
			return err
		}
		return tx.PutContainer(container)
	})
	return err
}

// releaseClaims gives up what the former record held and the new one does not.
func releaseClaims(tx *store.Tx, was, now store.Container) error {
	var failed error
	if was.Name != now.Name {
		failed = releaseName(tx, was)
	}
	if was.SSHPublicKey != now.SSHPublicKey {
		failed = errors.Join(failed, releaseKey(tx, was))
	}
	return failed
}

// putAside renames record files that nothing was read from, so that they are not written over.
func (r *Recoverer) putAside(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	return withTree(ctx, r.Pool, recordsDataset, func(mount Mount) error {
		for _, name := range names {
			if err := mount.Root().Rename(name, name+".damaged"); err != nil {
				return fmt.Errorf("put record file %s aside: %w", name, err)
			}
		}
		return syncDirectory(mount.Root())
	})
}

// stamp makes records and pool belong together, and registers the server if the store does not know it.
func (r *Recoverer) stamp(ctx context.Context) error {
	_, err := r.Store.Update(ctx, func(tx *store.Tx) error {
		if _, err := tx.Server(r.Server.ID); !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
		return tx.PutServer(r.Server)
	})
	if err != nil {
		return fmt.Errorf("write server %s: %w", r.Server.ID, err)
	}
	if err := prepareLayout(ctx, r.Pool); err != nil { // of a pool that was made anew
		return fmt.Errorf("prepare pool: %w", err)
	}
	parent, err := r.Pool.Dataset(ctx, poolParent)
	if err != nil {
		return fmt.Errorf("read the pool's stamp: %w", err)
	}
	former, _ := parseStamp(parent.Properties[propertyStamp])
	// Past all that was ever stamped: no other backup of the records that are given up here passes for these.
	revision, err := noteStamp(ctx, r.Store, r.Server.ID, former.revision+1)
	if err != nil {
		return fmt.Errorf("stamp the store: %w", err)
	}
	properties := stampProperties(r.Store, r.Server.ID, revision)
	properties[propertyRecovered] = recoveredJustNow // the first collection that believes its clock writes down when
	if err := r.Pool.SetProperties(ctx, poolParent, properties); err != nil {
		return fmt.Errorf("stamp the pool: %w", err)
	}
	return nil
}

func (r *Recoverer) now() time.Time {
	if r.Now == nil {
		return time.Now().UTC()
	}
	return r.Now().UTC()
}

func (r *Recoverer) log() *zap.Logger {
	if r.Logger == nil {
		return zap.NewNop()
	}
	return r.Logger
}
