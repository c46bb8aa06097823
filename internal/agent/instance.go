package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// What operations have in common that make an instance, work on it and take it away.

// instanceSpec describes a container to the runtime. Autostart, which an instance is made without, stays off until the job
// ends: only the job starts it.
func (r *run) instanceSpec(container store.Container, config map[string]string) InstanceSpec {
	return InstanceSpec{
		Name:        InstanceName(container.ID),
		ContainerID: container.ID,
		Description: container.Name,
		Env:         r.variablesFor(container),
		Config:      config,
		RootSize:    r.job.RootSize,
		IDMap:       r.job.IDMap,
	}
}

// ownInstance makes sure that an instance which exists already is this container's.
func (r *run) ownInstance(ctx context.Context) error {
	instance, err := r.runtime.Instance(ctx, InstanceName(r.job.ContainerID))
	if err != nil {
		return err
	}
	if instance.ContainerID != r.job.ContainerID {
		return errdefs.New(errdefs.ErrAlreadyExists, "", "The host has another instance in the container's place").WithCause(fmt.Errorf("instance %s is not this agent's", instance.Name))
	}
	return nil
}

// restoreAutostart gives the instance its own autostart back, which the swap had turned off.
func (r *run) restoreAutostart(ctx context.Context) error {
	container, err := r.store.GetContainer(ctx, r.job.ContainerID)
	if err != nil {
		return err
	}
	return r.runtime.Configure(ctx, InstanceName(container.ID), map[string]string{ConfigAutostart: strconv.FormatBool(container.Autostart)})
}

// removeInstance deletes the job's instance, if it is the job's.
func (r *run) removeInstance(ctx context.Context) error {
	name := InstanceName(r.job.ContainerID)
	err := r.ownInstance(ctx)
	if errors.Is(err, errdefs.ErrAlreadyExists) {
		return nil
	}
	if errors.Is(err, errdefs.ErrNotFound) {
		return r.runtime.Delete(ctx, name) // which waits for one whose making was given up on
	}
	if err != nil {
		return err
	}
	if err := r.end(ctx, name); err != nil {
		return err
	}
	if err := r.runtime.Protect(ctx, name, false); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	return r.runtime.Delete(ctx, name)
}
