package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/identity"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// DefaultImage is what a container is made from when the request names none.
const DefaultImage = "debian/13"

// CreateContainer accepts a create on the named server. The container is `creating` until its job ends.
func (a *Agent) CreateContainer(ctx context.Context, caller Caller, projectID string, request CreateContainerRequest) (CreateResult, error) {
	if err := checkEnvironment("/environment_vars", nil, request.Env); err != nil {
		return CreateResult{}, err
	}
	now := a.now()
	id := newID(now)
	public, private, err := keyFor(request.SSHPublicKey, "hoody-"+id)
	if err != nil {
		return CreateResult{}, err
	}
	var container store.Container
	var receipt store.Receipt
	err = a.acceptOnce(ctx, caller, &receipt, func(tx *store.Tx) error {
		project, err := visibleProject(tx, caller, projectID, store.PermissionEdit, resourceNotFound("Resource"))
		if err != nil {
			return err
		}
		if err := a.checkServerForContainer(tx, request.ServerID, caller.UserID); err != nil {
			return refusedAs(err, "CONTAINER_CREATE_DISPATCH_FAILED")
		}
		container = createRecord(request, store.Container{
			ID: id, ProjectID: project.ID, ServerID: request.ServerID, OwnerID: project.UserID,
			SSHPublicKey: public, CreatedAt: now, UpdatedAt: now,
		})
		container.RealmIDs = caller.withRealm(container.RealmIDs)
		if err := enrol(tx, &container, project, func(int) string { return randomName() }); err != nil {
			return err
		}
		job := a.newJob(store.JobCreate, container, caller)
		receipt = receiptOf(job)
		return assignJob(tx, &container, job)
	})
	if err != nil {
		return CreateResult{}, err
	}
	if caller.repeats() {
		view, err := a.Container(ctx, caller, receipt.ContainerID)
		return CreateResult{View: view}, err
	}
	return CreateResult{View: a.view(container), PrivateKey: private}, nil
}

func createRecord(request CreateContainerRequest, own store.Container) store.Container {
	if request.Name != "rand" {
		own.Name = request.Name
	}
	own.Color = normalizeColor(request.Color)
	own.Image = imageAlias(request.Image)
	own.AI = orTrue(request.AI)
	own.HoodyKit = orTrue(request.HoodyKit)
	own.DevKit = own.HoodyKit
	if request.DevKit != nil {
		own.DevKit = *request.DevKit
	}
	own.Autostart = orTrue(request.Autostart)
	own.Ramdisk = orTrue(request.Ramdisk)
	own.Env = request.Env
	own.Comment = request.Comment
	own.RealmIDs = request.RealmIDs
	own.Status = store.StatusCreating
	return own
}

func orTrue(value *bool) bool { return value == nil || *value }

// imageAlias resolves the contract's short forms: debian, debian-13 and debian:13 all mean debian/13.
func imageAlias(image string) string {
	switch image {
	case "", "debian", "debian-13", "debian:13":
		return DefaultImage
	default:
		return image
	}
}

// A create: an instance from a local image, given an identity of its own before its first boot.
var createOperation = operation{
	phases: []phase{
		{name: "instance", do: (*run).createInstance, heavy: true},
		{name: "prepare", do: (*run).prepareCreated, heavy: true},
		{name: "start", do: (*run).startCreated, outlastsRuntime: true, costly: true, firstStart: true},
		{name: "finish", do: (*run).finishCreate, concluding: true},
	},
	undo: (*run).undoCreate,
}

func (r *run) createInstance(ctx context.Context) error {
	container, err := r.store.GetContainer(ctx, r.job.ContainerID)
	if err != nil {
		return err
	}
	err = r.runtime.CreateFromImage(ctx, r.instanceSpec(container, container.Config), container.Image)
	if errors.Is(err, errdefs.ErrAlreadyExists) {
		if err := r.ownInstance(ctx); err != nil {
			return err
		}
		return r.takeOverInstance(ctx, container)
	}
	if errors.Is(err, errdefs.ErrNotFound) {
		return errdefs.New(errdefs.ErrNotFound, "", "Image %s is not on this server", container.Image).WithCause(err)
	}
	if err != nil {
		return fmt.Errorf("create from image %s: %w", container.Image, err)
	}
	return r.pool.SetProperties(ctx, ContainerDataset(container.ID), generationProperties(container, r.job.ID))
}

// takeOverInstance goes on with the instance that an earlier attempt made. One without files, whose making was cut off, goes, and
// is made again.
func (r *run) takeOverInstance(ctx context.Context, container store.Container) error {
	err := r.pool.SetProperties(ctx, ContainerDataset(container.ID), generationProperties(container, r.job.ID))
	if !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	return r.removeHalfMade(ctx)
}

// removeHalfMade removes an instance without files, for another attempt to make it anew.
func (r *run) removeHalfMade(ctx context.Context) error {
	if err := r.removeInstance(ctx); err != nil {
		return err
	}
	return errdefs.New(errdefs.ErrAborted, "", "The making of the container was cut off")
}

func (r *run) prepareCreated(ctx context.Context) error {
	container, err := r.store.GetContainer(ctx, r.job.ContainerID)
	if err != nil {
		return err
	}
	spec := identity.Spec{AuthorizedKey: container.SSHPublicKey, Hostname: container.Name}
	return r.establish(ctx, ContainerDataset(container.ID), spec)
}

func (r *run) startCreated(ctx context.Context) error { return r.start(ctx, true) }

func (r *run) finishCreate(ctx context.Context) error {
	if err := r.restoreAutostart(ctx); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	instance, err := r.runtime.Instance(ctx, InstanceName(r.job.ContainerID))
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) { // removed meanwhile: that is found out when nothing works on it any more
		return err
	}
	return r.finish(ctx, store.JobDone, func(_ *store.Tx, job *store.Job, container *store.Container) error {
		container.Status = store.StatusRunning
		container.Generation = job.Generation
		container.IDMap = instance.IDMap
		return nil
	})
}

// undoCreate removes what the job made. Its files go aside first, as a deletion's do: somebody may hold them, and then the runtime would not delete them.
func (r *run) undoCreate(ctx context.Context) error {
	if err := r.leftToCollection(r.moveAside(ctx)); err != nil {
		return err
	}
	if err := r.removeInstance(ctx); err != nil {
		return err
	}
	return r.finish(ctx, store.JobFailed, failContainer)
}
