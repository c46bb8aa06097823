package api

import (
	"context"
	"net/http"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// GetEnvironment implements GET /api/v1/containers/{id}/env.
func (s *server) GetEnvironment(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		container, err := s.ops.Environment(ctx, caller, id)
		if err != nil {
			return response{}, err
		}
		return ok("Environment variables retrieved", contract.Environment{
			EnvironmentVars: environmentView(container),
			EnvSync:         environmentSyncView(container.Settings),
		}), nil
	})
}

// UpdateEnvironment implements PATCH /api/v1/containers/{id}/env.
func (s *server) UpdateEnvironment(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		body, err := decode[contract.UpdateEnvironment](r)
		if err != nil {
			return response{}, err
		}
		if err := checkVariables(body); err != nil {
			return response{}, err
		}
		return s.changeEnvironment(ctx, caller, id, body)
	})
}

// PutEnvironment implements PUT /api/v1/containers/{id}/env, which in this contract merges, too.
func (s *server) PutEnvironment(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.UpdateEnvironment(w, r, id)
}

// SetEnvironmentVariable implements PATCH /api/v1/containers/{id}/env/{key}.
func (s *server) SetEnvironmentVariable(w http.ResponseWriter, r *http.Request, id contract.ID, key contract.EnvironmentKey) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		body, err := decode[contract.SetEnvironmentVariable](r)
		if err != nil {
			return response{}, err
		}
		if reserved(key) {
			return response{}, reservedVariable("/key")
		}
		if err := checkVariable(key, body.Value); err != nil {
			return response{}, err
		}
		return s.changeEnvironment(ctx, caller, id, map[string]string{key: body.Value})
	})
}

// PutEnvironmentVariable implements PUT /api/v1/containers/{id}/env/{key}.
func (s *server) PutEnvironmentVariable(w http.ResponseWriter, r *http.Request, id contract.ID, key contract.EnvironmentKey) {
	s.SetEnvironmentVariable(w, r, id, key)
}

// DeleteEnvironmentVariable implements DELETE /api/v1/containers/{id}/env/{key}.
func (s *server) DeleteEnvironmentVariable(w http.ResponseWriter, r *http.Request, id contract.ID, key contract.EnvironmentKey) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		if reserved(key) {
			return response{}, reservedVariable("/key")
		}
		return s.changeEnvironment(ctx, caller, id, nil, key)
	})
}

func (s *server) changeEnvironment(ctx context.Context, caller agent.Caller, id string, set map[string]string, remove ...string) (response, error) {
	container, err := s.ops.ChangeEnvironment(ctx, caller, id, set, remove...)
	if err != nil {
		return response{}, err
	}
	return ok("Environment variables updated", contract.UpdatedEnvironment{
		EnvironmentVars: environmentView(container),
		Synced:          !container.Settings.Pending(),
		EnvSync:         environmentSyncView(container.Settings),
	}), nil
}

func environmentView(container store.Container) map[string]string {
	if container.Env == nil {
		return map[string]string{}
	}
	return container.Env
}

func environmentSyncView(settings store.Settings) contract.EnvironmentSync {
	return contract.EnvironmentSync{
		Pending:         settings.Pending(),
		Revision:        settings.Revision,
		AppliedRevision: settings.Applied,
		VerifiedAt:      contract.AtIfAny(settings.AppliedAt),
		AttemptedAt:     contract.AtIfAny(settings.AttemptedAt),
		LastError:       orNil(settings.Error),
	}
}

func ramdiskScope(container store.Container) contract.RamdiskScope {
	if container.RamdiskScope == "" {
		return contract.RamdiskScopeContainer
	}
	return contract.RamdiskScope(container.RamdiskScope)
}
