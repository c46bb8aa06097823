package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// replicaDataset names the i-th dataset that a job receives into. The number is padded so that names sort.
func replicaDataset(jobID string, i int) string {
	return fmt.Sprintf("%s%s-%04d", incomingPrefix, jobID, i)
}

// nextReplica is the first number that none of the job's replicas has, received or settled.
func nextReplica(inventory lineage.Inventory, jobID string) int {
	next := 0
	for _, dataset := range inventory.Datasets {
		for _, prefix := range []string{incomingDataset(jobID), generationDataset(jobID)} {
			if number, ok := strings.CutPrefix(dataset.Name, prefix+"-"); ok {
				if n, err := strconv.Atoi(number); err == nil {
					next = max(next, n+1)
				}
			}
		}
	}
	return next
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
		if err := r.pool.Rename(ctx, dataset.Name, generationDataset(r.job.ID)+"-"+suffix); err != nil {
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
