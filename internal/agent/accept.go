package agent

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// accept runs the transaction that takes a caller's request on. Who was banned a moment ago is refused.
func (a *Agent) accept(ctx context.Context, caller Caller, change func(*store.Tx) error) error {
	revision, err := a.store.Update(ctx, a.accepting(caller, change))
	return a.outcome(revision, err)
}

// acceptOnce is accept for a request that may be sent again. change fills in the receipt; for a repetition it is not
// called, the receipt is the first one's, and caller.repeats.
func (a *Agent) acceptOnce(ctx context.Context, caller Caller, receipt *store.Receipt, change func(*store.Tx) error) error {
	if caller.Once == nil {
		return a.accept(ctx, caller, change)
	}
	request := store.Request{UserID: caller.UserID, Scope: caller.Once.Scope, Key: caller.Once.Key, Digest: caller.Once.Digest}
	accepted := a.accepting(caller, change)
	known, repeated, revision, err := a.store.UpdateOnce(ctx, request, func(tx *store.Tx) (store.Receipt, error) {
		err := accepted(tx)
		receipt.At = a.now()
		return *receipt, err
	})
	*receipt, caller.Once.Repeated = known, repeated
	return a.outcome(revision, err)
}

// repeats tells, once the request is accepted, whether it had been before.
func (c Caller) repeats() bool { return c.Once != nil && c.Once.Repeated }

// receiptOf is the receipt of a request that a job was made for.
func receiptOf(job store.Job) store.Receipt {
	return store.Receipt{ProjectID: job.ProjectID, ContainerID: job.ContainerID, ServerID: job.ServerID, JobID: job.ID}
}

func (a *Agent) accepting(caller Caller, change func(*store.Tx) error) func(*store.Tx) error {
	return a.withEvents(caller.UserID, func(tx *store.Tx) error {
		if err := admitted(tx, caller); err != nil {
			return err
		}
		return change(tx)
	})
}

// update runs a transaction that nobody in particular asked for.
func (a *Agent) update(ctx context.Context, change func(*store.Tx) error) error {
	revision, err := a.store.Update(ctx, a.withEvents("", change))
	return a.outcome(revision, err)
}

// outcome makes of what an update returned the error that its caller has to know: none if the transaction is written, be it that the
// mirror does not show it yet.
func (a *Agent) outcome(revision int64, err error) error {
	if err != nil && revision > 0 {
		// Who asked must hear that it is written: a private key is told only once.
		a.log.Warn("the mirror is behind what was written", zap.Int64("revision", revision), zap.Error(err))
		return nil
	}
	if errors.Is(err, store.ErrOutcomeUnknown) {
		return errdefs.New(errdefs.ErrUnavailable, "", "The records did not answer: whether the request was taken on is not known").WithCause(err)
	}
	if errors.Is(err, store.ErrFull) { // nobody's quota but the operator's, and it passes
		return errdefs.New(errdefs.ErrUnavailable, "", "Nothing can be changed at the moment").WithCause(err)
	}
	return err
}

// visibleContainer reads a container and its project inside a transaction and checks the caller's level, so that a grant
// revoked a moment ago is revoked.
func visibleContainer(tx *store.Tx, caller Caller, id string, need store.PermissionLevel, missing *errdefs.Error) (store.Container, store.Project, error) {
	container, err := tx.Container(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return store.Container{}, store.Project{}, missing
	}
	if err != nil {
		return store.Container{}, store.Project{}, err
	}
	if !caller.sees(container.RealmIDs) {
		return store.Container{}, store.Project{}, missing
	}
	project, err := tx.Project(container.ProjectID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return store.Container{}, store.Project{}, missing
	}
	if err != nil {
		return store.Container{}, store.Project{}, err
	}
	return container, project, allow(caller, project, need, missing)
}

// newJob prepares a job on a container for its server.
func (a *Agent) newJob(kind store.JobKind, container store.Container, caller Caller) store.Job {
	now := a.now()
	return store.Job{
		ID: newJobID(now), Kind: kind, ServerID: container.ServerID, ContainerID: container.ID, ProjectID: container.ProjectID,
		UserID: caller.UserID, RequestID: caller.RequestID, State: store.JobQueued, PriorStatus: container.Status, CreatedAt: now, UpdatedAt: now,
	}
}

// assignJob makes the job the container's one operation.
func assignJob(tx *store.Tx, container *store.Container, job store.Job) error {
	if container.JobID != "" {
		return operationInProgress()
	}
	container.JobID = job.ID
	if err := tx.PutContainer(*container); err != nil {
		return err
	}
	return tx.PutJob(job)
}

// refusedAs gives a refusal for want of a server the code that the contract has for it on a route.
func refusedAs(err error, code string) error {
	var refused *errdefs.Error
	if errors.As(err, &refused) && refused.Class == errdefs.ErrUnavailable && refused.Code == "" {
		refused.Code = code
	}
	return err
}

// serverForJob returns a server that lives and takes another job of a user, who may have a quarter of those that it takes on: nobody
// shuts all others out. userID is empty for what acts on a container that is there, its power or its end: that is taken on when nothing else is.
func (a *Agent) serverForJob(tx *store.Tx, id, userID string) (store.Server, error) {
	server, err := tx.Server(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return store.Server{}, resourceNotFound("Server")
	}
	if err != nil {
		return store.Server{}, err
	}
	mirror := a.store.Mirror()
	if alive, _ := mirror.Alive(id); !alive {
		return store.Server{}, errdefs.New(errdefs.ErrUnavailable, "", "Server %s is not available", server.Name)
	}
	open, theirs := mirror.OpenJobs(id), 0
	for _, job := range open {
		if job.UserID == userID {
			theirs++
		}
	}
	limit := a.options.MaxOpenJobs
	switch {
	case len(open) >= 2*limit || userID != "" && len(open) >= limit:
		return store.Server{}, errdefs.New(errdefs.ErrUnavailable, "", "Server %s has too many operations in progress", server.Name)
	case userID != "" && theirs >= max(1, limit/4):
		return store.Server{}, errdefs.New(errdefs.ErrUnavailable, "", "You have too many operations in progress on server %s", server.Name)
	}
	return server, nil
}

// checkServerForContainer makes sure that a server lives, takes another job and has room for another container.
func (a *Agent) checkServerForContainer(tx *store.Tx, id, userID string) error {
	server, err := a.serverForJob(tx, id, userID)
	if err != nil {
		return err
	}
	if err := refuseDraining(server); err != nil {
		return err
	}
	// Counted in the mirror: creates that arrive together may pass the limit by a few, which a capacity bears and a
	// counter that every create of a server writes would not.
	return a.checkRoom(server, len(a.store.Mirror().ContainersOnServer(id)))
}

// checkOverfull refuses work on a server that has more containers than its limit. One that is just full goes on.
func (a *Agent) checkOverfull(tx *store.Tx, id string) error {
	server, err := tx.Server(id)
	if err != nil {
		return err
	}
	return a.checkRoom(server, len(a.store.Mirror().ContainersOnServer(id))-1)
}

// checkRoom refuses another container beside those that are there.
func (a *Agent) checkRoom(server store.Server, used int) error {
	if server.MaxContainers == 0 || used < server.MaxContainers {
		return nil
	}
	return errdefs.New(errdefs.ErrInvalid, "SERVER_CONTAINER_LIMIT", "The server has no room for another container").
		WithData(map[string]any{"field": "server_container_limit", "server_id": server.ID, "current_count": used, "limit": server.MaxContainers})
}

// enrol puts a new container into its project: name and key unique, limit kept. It fills in a generated name.
func enrol(tx *store.Tx, container *store.Container, project store.Project, nameHint func(attempt int) string) error {
	if project.MaxContainers != nil && project.Containers >= *project.MaxContainers {
		return errdefs.New(errdefs.ErrInvalid, "PROJECT_CONTAINER_LIMIT", "The project has reached its container limit").
			WithData(map[string]any{"field": "project_container_limit", "project_id": project.ID, "current_count": project.Containers, "limit": *project.MaxContainers})
	}
	if container.Name == "" {
		for attempt := range 10 {
			name := nameHint(attempt)
			if tx.UniqueOwner(store.UniqueContainerName, project.ID, name) == "" {
				container.Name = name
				break
			}
		}
	}
	if err := claimName(tx, *container); err != nil {
		return err
	}
	if err := claimKey(tx, *container); err != nil {
		return err
	}
	project.Containers++
	return tx.PutProject(project)
}

func invalidField(path, rule string) *errdefs.Error {
	return errdefs.New(errdefs.ErrInvalid, "VALIDATION_ERROR", "Validation failed").
		WithData([]map[string]string{{"instancePath": path, "message": rule}})
}

// view completes a container with what its API object shows, from the mirror.
func (a *Agent) view(container store.Container) ContainerView {
	mirror := a.store.Mirror()
	container.UpdatedAt = a.updatedAt(&container)
	view := ContainerView{Container: container}
	if project, ok := mirror.Project(container.ProjectID); ok {
		view.Project = *project
	}
	if server, ok := mirror.Server(container.ServerID); ok {
		view.Server = *server
	}
	if container.JobID != "" {
		if job, ok := mirror.Job(container.JobID); ok {
			view.Job = job
		}
	}
	return view
}
