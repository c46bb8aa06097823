package api

import (
	"context"
	"net/http"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// ListContainers implements GET /api/v1/containers.
func (s *server) ListContainers(w http.ResponseWriter, r *http.Request, params contract.ListContainersParams) {
	s.listContainers(w, r, "", params)
}

// ListProjectContainers implements GET /api/v1/projects/{id}/containers. It takes the parameters of ListContainers.
func (s *server) ListProjectContainers(w http.ResponseWriter, r *http.Request, id contract.ID, params contract.ListProjectContainersParams) {
	s.listContainers(w, r, id, contract.ListContainersParams(params))
}

func (s *server) listContainers(w http.ResponseWriter, r *http.Request, projectID string, params contract.ListContainersParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		query := agent.ContainerQuery{
			ListQuery: agent.ListQuery{
				Page:      value(params.Page),
				Limit:     value(params.Limit),
				SortBy:    string(value(params.SortBy)),
				Ascending: value(params.SortOrder) == contract.SortDirectionAsc,
				RealmID:   value(params.RealmID),
			},
			ProjectID:       projectID,
			IncludeDeleting: value(params.IncludeDeleting),
		}
		page, err := s.ops.Containers(ctx, caller, query)
		if err != nil {
			return response{}, err
		}
		return ok("Containers retrieved successfully", contract.ContainerPage{
			Containers: each(page.Containers, containerView),
			Pagination: pagination(query.ListQuery, page.Total),
		}), nil
	})
}

// GetContainer implements GET /api/v1/containers/{id}. Its parameters ask for what an agent does not have.
func (s *server) GetContainer(w http.ResponseWriter, r *http.Request, id contract.ID, _ contract.GetContainerParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		container, err := s.ops.Container(ctx, caller, id)
		if err != nil {
			return response{}, err
		}
		return ok("Container retrieved successfully", containerView(container)), nil
	})
}

// CreateContainer implements POST /api/v1/projects/{id}/containers.
func (s *server) CreateContainer(w http.ResponseWriter, r *http.Request, id contract.ID, _ contract.CreateContainerParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		body, err := decode[contract.CreateContainer](r)
		if err != nil {
			return response{}, err
		}
		request, err := createContainerRequest(body)
		if err != nil {
			return response{}, err
		}
		result, err := s.ops.CreateContainer(ctx, caller, id, request)
		if err != nil {
			return response{}, err
		}
		view := containerView(result.View)
		view.SSHPrivateKey = orNil(result.PrivateKey)
		return created("Container created successfully", view), nil
	})
}

func createContainerRequest(body contract.CreateContainer) (agent.CreateContainerRequest, error) {
	var broken rules
	broken.refuseVirtualization(body.KVM, body.DevKVM)
	broken.refuse(value(body.Prespawn), "/prespawn", "containers are not made ahead of time here")
	if err := broken.asForbidden(); err != nil {
		return agent.CreateContainerRequest{}, err
	}
	environment := value(body.EnvironmentVars)
	broken.checkEnvironment("/environment_vars", environment)
	key := broken.checkPublicKey("/ssh_public_key", body.SSHPublicKey)
	return agent.CreateContainerRequest{
		ServerID:     body.ServerID,
		Name:         value(body.Name),
		Color:        value(body.Color),
		Image:        value(body.ContainerImage),
		AI:           body.AI,
		HoodyKit:     body.HoodyKit,
		DevKit:       body.DevKit,
		Autostart:    body.Autostart,
		Ramdisk:      body.Ramdisk,
		Env:          environment,
		SSHPublicKey: key,
		Comment:      body.Comment,
		RealmIDs:     value(body.RealmIDs),
	}, broken.asInvalid()
}

// UpdateContainer implements PATCH /api/v1/containers/{id}.
func (s *server) UpdateContainer(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		body, err := decode[contract.UpdateContainer](r)
		if err != nil {
			return response{}, err
		}
		request, err := updateContainerRequest(body)
		if err != nil {
			return response{}, err
		}
		view, err := s.ops.UpdateContainer(ctx, caller, id, request)
		if err != nil {
			return response{}, err
		}
		return ok("Container updated successfully", containerView(view)), nil
	})
}

// PutContainer implements PUT /api/v1/containers/{id}, which in this contract changes only what it names, too.
func (s *server) PutContainer(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.UpdateContainer(w, r, id)
}

func updateContainerRequest(body contract.UpdateContainer) (agent.UpdateContainerRequest, error) {
	var broken rules
	var environment map[string]string
	if body.EnvironmentVars != nil {
		environment = *body.EnvironmentVars
		broken.checkEnvironment("/environment_vars", environment)
	}
	key := broken.checkPublicKey("/ssh_public_key", body.SSHPublicKey.Text)
	return agent.UpdateContainerRequest{
		Name:            body.Name,
		Color:           body.Color,
		AI:              body.AI,
		Autostart:       body.Autostart,
		Ramdisk:         body.Ramdisk,
		RamdiskScope:    (*string)(body.RamdiskScope),
		Env:             environment,
		SetSSHPublicKey: body.SSHPublicKey.Given,
		SSHPublicKey:    key,
		SetComment:      body.Comment.Given,
		Comment:         body.Comment.Text,
		RealmIDs:        body.RealmIDs,
	}, broken.asInvalid()
}

// DeleteContainer implements DELETE /api/v1/containers/{id}.
func (s *server) DeleteContainer(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		if err := s.ops.DeleteContainer(ctx, caller, id); err != nil {
			return response{}, err
		}
		return done("Container deleted successfully"), nil
	})
}

// OperateContainer implements POST /api/v1/containers/{id}/{operation}.
func (s *server) OperateContainer(w http.ResponseWriter, r *http.Request, id contract.ID, operation contract.Operation, _ contract.OperateContainerParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		body, err := decode[contract.OperateContainer](r)
		if err != nil {
			return response{}, err
		}
		timeout := time.Duration(value(body.Timeout)) * time.Second
		result, err := s.ops.Operate(ctx, caller, id, agent.Operation(operation), timeout)
		if err != nil {
			return response{}, err
		}
		return ok(result.Message, operationView(result)), nil
	})
}

func operationView(result agent.OperationResult) contract.OperationResult {
	return contract.OperationResult{
		Error:       result.Error,
		Operation:   contract.Operation(result.Operation),
		ContainerID: result.ContainerID,
		ProjectID:   result.ProjectID,
		Message:     result.Message,
		Status:      contract.ContainerStatus(result.Status),
		OperationID: orNil(result.OperationID),
	}
}

// containerView shows a container. What an agent knows nothing about has the constant that the document names.
func containerView(view agent.ContainerView) contract.Container {
	c := view.Container
	shown := contract.Container{
		ID:                    c.ID,
		ProjectID:             c.ProjectID,
		ProjectAlias:          orNil(view.Project.Alias),
		ServerID:              c.ServerID,
		ServerName:            orNil(view.Server.Name),
		Server:                containerServerView(view.Server),
		Name:                  c.Name,
		Color:                 c.Color,
		ContainerImage:        c.Image,
		AI:                    c.AI,
		HoodyKit:              c.HoodyKit,
		DevKit:                c.DevKit,
		Autostart:             c.Autostart,
		Ramdisk:               c.Ramdisk,
		RamdiskScope:          ramdiskScope(c),
		Status:                contract.ContainerStatus(c.Status),
		EnvironmentVars:       environmentView(c),
		EnvSync:               environmentSyncView(c.Settings),
		Volumes:               map[string]string{},
		SSHPublicKey:          orNil(c.SSHPublicKey),
		SSHKeyFingerprint:     orNil(fingerprint(c.SSHPublicKey)),
		Comment:               c.Comment,
		SourceContainerID:     orNil(c.SourceContainerID),
		Warnings:              []contract.Warning{},
		SnapshotCount:         c.SnapshotCount,
		LastUsedSnapshot:      orNil(c.LastUsedSnapshot),
		ProxyPermissionsScope: contract.ProxyPermissionsScopeNone,
		RealmIDs:              orEmpty(c.RealmIDs),
		CreatedAt:             contract.At(c.CreatedAt),
		UpdatedAt:             contract.At(c.UpdatedAt),
	}
	if c.LastOperation != nil {
		shown.LastOperation = lastOperationView(*c.LastOperation)
	}
	switch c.Status {
	case store.StatusFailed:
		shown.FailureReason = orNil(c.FailureReason)
	case store.StatusCopying:
		shown.Progress = progressView(view.Job)
	}
	return shown
}

func lastOperationView(last store.OperationSummary) *contract.LastOperation {
	return &contract.LastOperation{
		ID:          last.ID,
		Kind:        string(last.Kind),
		State:       contract.LastOperationState(last.State),
		Error:       orNil(last.Error),
		FinishedAt:  contract.At(last.FinishedAt),
		BytesDone:   last.Progress.BytesDone,
		BytesWire:   last.Progress.BytesWire,
		Snapshots:   last.Progress.Snapshots,
		Compression: last.Progress.Compression,
		DownMillis:  last.Progress.DownMillis,
		NoOp:        last.Progress.NoOp,
	}
}

func progressView(job *store.Job) *contract.Progress {
	if job == nil {
		return nil
	}
	done := job.Progress
	shown := &contract.Progress{
		Phase:      job.Phase,
		Attempts:   job.Attempts,
		BytesDone:  done.BytesDone,
		BytesTotal: done.BytesTotal,
	}
	if rate := done.BytesPerSecond; rate > 0 {
		shown.BytesPerSecond = &rate
		if done.BytesTotal > 0 {
			eta := int((done.BytesTotal - min(done.BytesTotal, done.BytesDone)) / rate)
			shown.EtaSeconds = &eta
		}
	}
	if job.Attempts > 0 && job.Error != nil {
		shown.Error = orNil(job.Error.Message)
	}
	if job.CancelledAt != nil {
		cancelling := true
		shown.Cancelling = &cancelling
	}
	return shown
}
