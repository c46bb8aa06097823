package api

import (
	"context"
	"net/http"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// ListProjectPermissions implements GET /api/v1/projects/{id}/permissions.
func (s *server) ListProjectPermissions(w http.ResponseWriter, r *http.Request, id contract.ID, params contract.ListProjectPermissionsParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		query := agent.ListQuery{
			Page:      value(params.Page),
			Limit:     value(params.Limit),
			SortBy:    string(value(params.SortBy)),
			Ascending: value(params.SortOrder) == contract.SortDirectionAsc,
		}
		page, err := s.ops.Permissions(ctx, caller, id, query)
		if err != nil {
			return response{}, err
		}
		return ok("Project permissions retrieved successfully", contract.PermissionPage{
			Permissions: each(page.Permissions, s.permissionView(id)),
			Pagination:  pagination(query, page.Total),
		}), nil
	})
}

// AddProjectPermission implements POST /api/v1/projects/{id}/permissions.
func (s *server) AddProjectPermission(w http.ResponseWriter, r *http.Request, id contract.ID, _ contract.AddProjectPermissionParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		body, err := decode[contract.AddPermission](r)
		if err != nil {
			return response{}, err
		}
		grant, err := s.ops.AddPermission(ctx, caller, id, agent.AddPermissionRequest{
			UserID: body.UserID,
			Level:  store.PermissionLevel(body.PermissionLevel),
		})
		if err != nil {
			return response{}, err
		}
		return created("Project permission added successfully", s.permissionView(id)(grant)), nil
	})
}

// UpdateProjectPermission implements PATCH /api/v1/projects/{id}/permissions/{permissionId}.
func (s *server) UpdateProjectPermission(w http.ResponseWriter, r *http.Request, id, permissionID contract.ID) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		body, err := decode[contract.UpdatePermission](r)
		if err != nil {
			return response{}, err
		}
		grant, err := s.ops.UpdatePermission(ctx, caller, id, permissionID, store.PermissionLevel(body.PermissionLevel))
		if err != nil {
			return response{}, err
		}
		return ok("Project permission updated successfully", s.permissionView(id)(grant)), nil
	})
}

// PutProjectPermission implements PUT /api/v1/projects/{id}/permissions/{permissionId}.
func (s *server) PutProjectPermission(w http.ResponseWriter, r *http.Request, id, permissionID contract.ID) {
	s.UpdateProjectPermission(w, r, id, permissionID)
}

// RemoveProjectPermission implements DELETE /api/v1/projects/{id}/permissions/{permissionId}.
func (s *server) RemoveProjectPermission(w http.ResponseWriter, r *http.Request, id, permissionID contract.ID) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		if err := s.ops.RemovePermission(ctx, caller, id, permissionID); err != nil {
			return response{}, err
		}
		return done("Project permission removed successfully"), nil
	})
}

// permissionView shows the grants on a project.
func (s *server) permissionView(projectID string) func(store.Permission) contract.Permission {
	return func(p store.Permission) contract.Permission {
		return contract.Permission{
			ID:              p.ID,
			ProjectID:       projectID,
			UserID:          p.UserID,
			User:            userName(s.ops.NamesOf(p.UserID)),
			PermissionLevel: contract.PermissionLevel(p.Level),
			CreatedAt:       contract.At(p.CreatedAt),
			UpdatedAt:       contract.At(p.UpdatedAt),
		}
	}
}

// userName shows a registered user's names; nil for one that is not.
func userName(user store.User) *contract.UserName {
	if user.Username == "" {
		return nil
	}
	return &contract.UserName{ID: user.ID, Username: user.Username, Alias: orNil(user.Alias)}
}
