package modeltest

import (
	"context"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// What happens to a copy or sync while it is under way: it is cancelled, or its container is deleted. How far it has come by
// then is counted in effects on the disks of the container's server.

// interrupts tells whether an action is about what another of its step does.
func (a Action) interrupts() bool { return a.Op == opCancel || a.Op == opDeleteMidway }

// worksOn is the container that a copy makes or another action changes.
func (a Action) worksOn() string {
	if a.Op == opCopy || a.Op == opCopySnapshot {
		return a.To
	}
	return a.Container
}

// serverOf is the server of the container that an action works on, in a step.
func (d *driver) serverOf(a Action, all []Action) int {
	if made, ok := d.made(a, all); ok {
		return made.Server
	}
	if c := d.model.containers[a.Container]; c != nil {
		return c.server
	}
	return 0 // of a container that is gone: nothing there to wait for
}

// made finds the copy of the same step that makes the container of an action.
func (d *driver) made(a Action, all []Action) (Action, bool) {
	i := slices.IndexFunc(all, func(other Action) bool {
		copies := other.Op == opCopy || other.Op == opCopySnapshot
		return copies && other.To == a.Container && d.model.meaningful(other)
	})
	if i < 0 {
		return Action{}, false
	}
	return all[i], true
}

// meaningful is the model's, for an action among others.
func (d *driver) meaningful(a Action, all []Action) bool {
	if _, made := d.made(a, all); made && a.interrupts() {
		return true
	}
	return d.model.meaningful(a)
}

// outcome is the model's, for an action among others.
func (d *driver) outcome(a Action, all []Action) string {
	if _, made := d.made(a, all); made && a.interrupts() {
		return success
	}
	return d.model.Outcome(a)
}

// interrupted tells whether a copy or sync may have been given up.
func interrupted(a Action, all []Action) bool {
	return slices.ContainsFunc(all, func(other Action) bool { return other.interrupts() && other.Container == a.worksOn() })
}

// interrupt waits for its moment, or for the end of what it is to interrupt.
func (d *driver) interrupt(ctx context.Context, front *agent.Agent, a Action, server int) error {
	id := d.ids[a.Container]
	if id == "" {
		return nil // the copy was refused
	}
	d.awaitEffect(ctx, id, server, a.At)
	if a.Op == opDeleteMidway {
		return front.DeleteContainer(ctx, caller, id)
	}
	return front.CancelOperation(ctx, caller, id)
}

// awaitEffect waits until a server's disks have seen so many effects more, or nothing works on a container of it.
func (d *driver) awaitEffect(ctx context.Context, id string, server, effects int) {
	reached, stop := d.servers[server].meter.after(effects)
	defer stop()
	changes := d.records.Mirror().Subscribe(store.KindContainer)
	defer changes.Close()
	if _, err := d.records.Barrier(ctx); err != nil {
		return // the store is away: this moment is as good as any
	}
	for {
		record, exists := d.records.Mirror().Container(id)
		if !exists || record.JobID == "" {
			return
		}
		select {
		case <-reached:
			return
		case <-ctx.Done():
			return
		case <-changes.Changes():
		}
	}
}
