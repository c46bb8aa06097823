package agent

import (
	"context"
	"errors"
	"maps"
	"strconv"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// The size limits of a container's root disk are the runtime's to say and properties of the dataset that is the instance's: each checkout sets them anew.

// reserves tells whether a limit is one that holds space.
func reserves(limit string) bool { return limit == "reservation" || limit == "refreservation" }

// limitRoot sets on the dataset that is an instance's now what the runtime wants of it.
func (r *run) limitRoot(ctx context.Context, instance Instance) error {
	return r.limit(ctx, InstanceDataset(instance.Name), instance.RootLimits)
}

// limit sets limits on a dataset. ZFS notices late that a refquota is exceeded, and refuses to set one below what is used: a container that has
// hit its limit could not be checked out. If it exceeds it by LimitSlack at most, the limit becomes its size and a quarter of that, room
// for what the runtime writes at the start.
func (r *run) limit(ctx context.Context, name string, limits Properties) error {
	if len(limits) == 0 {
		return nil
	}
	refused := r.pool.SetProperties(ctx, name, limits)
	limit, err := strconv.ParseUint(limits["refquota"], 10, 64)
	if !errors.Is(refused, errdefs.ErrExhausted) || err != nil {
		return refused
	}
	dataset, err := r.pool.Dataset(ctx, name)
	if err != nil {
		return err
	}
	if dataset.Referenced <= limit || dataset.Referenced-limit > r.options.LimitSlack {
		return refused
	}
	r.log.Warn("a state that is past its limit gets one of its size and a little", zap.Uint64("limit", limit), zap.Uint64("size", dataset.Referenced))
	limits = maps.Clone(limits)
	limits["refquota"] = strconv.FormatUint(dataset.Referenced+r.options.LimitSlack/4, 10)
	return r.pool.SetProperties(ctx, name, limits)
}

// tryLimits sets on the new generation the limits that it will have, for a refusal not to cost the time of a stop. What is reserved stays with the old one
// until then: there may not be room for it twice.
func (r *run) tryLimits(ctx context.Context, instance Instance) error {
	limits := maps.Clone(instance.RootLimits)
	maps.DeleteFunc(limits, func(name, _ string) bool { return reserves(name) })
	return r.limit(ctx, incomingDataset(r.job.ID), limits)
}

// giveUpReservation lets a generation that is not the instance's any more hold no space beyond what is in it: the one in its place reserves as much.
func (r *run) giveUpReservation(ctx context.Context, generation string, instance Instance) error {
	none := make(Properties)
	for name, value := range instance.RootLimits {
		if reserves(name) && value != "" {
			none[name] = ""
		}
	}
	if len(none) == 0 {
		return nil
	}
	err := r.pool.SetProperties(ctx, generation, none)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil // there was nothing to displace
	}
	return err
}
