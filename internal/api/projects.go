package api

import (
	"context"
	"net/http"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// ListProjects implements GET /api/v1/projects.
func (s *server) ListProjects(w http.ResponseWriter, r *http.Request, params contract.ListProjectsParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		query := agent.ListQuery{
			Page:      value(params.Page),
			Limit:     value(params.Limit),
			SortBy:    string(value(params.SortBy)),
			Ascending: value(params.SortOrder) == contract.SortDirectionAsc,
			RealmID:   value(params.RealmID),
		}
		page, err := s.ops.Projects(ctx, caller, query)
		if err != nil {
			return response{}, err
		}
		return ok("Projects retrieved successfully", contract.ProjectPage{
			Projects:   each(page.Projects, projectView),
			Pagination: pagination(query, page.Total),
		}), nil
	})
}

// CreateProject implements POST /api/v1/projects.
func (s *server) CreateProject(w http.ResponseWriter, r *http.Request, _ contract.CreateProjectParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		body, err := decode[contract.CreateProject](r)
		if err != nil {
			return response{}, err
		}
		project, err := s.ops.CreateProject(ctx, caller, agent.CreateProjectRequest{
			Alias:         body.Alias,
			Color:         value(body.Color),
			MaxContainers: body.MaxContainers,
			RealmIDs:      value(body.RealmIDs),
		})
		if err != nil {
			return response{}, err
		}
		return created("Project created successfully", projectView(project)), nil
	})
}

// GetProject implements GET /api/v1/projects/{id}.
func (s *server) GetProject(w http.ResponseWriter, r *http.Request, id contract.ID, params contract.GetProjectParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		project, err := s.ops.Project(ctx, caller, id)
		if err != nil {
			return response{}, err
		}
		view := projectView(project)
		if value(params.IncludePermissions) {
			view.Permissions = new(each(project.Permissions, s.permissionView(project.ID)))
		}
		return ok("Project retrieved successfully", view), nil
	})
}

// UpdateProject implements PATCH /api/v1/projects/{id}.
func (s *server) UpdateProject(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		body, err := decode[contract.UpdateProject](r)
		if err != nil {
			return response{}, err
		}
		project, err := s.ops.UpdateProject(ctx, caller, id, agent.UpdateProjectRequest{
			Alias:            body.Alias,
			Color:            body.Color,
			RealmIDs:         body.RealmIDs,
			SetMaxContainers: body.MaxContainers.Given,
			MaxContainers:    body.MaxContainers.Limit,
		})
		if err != nil {
			return response{}, err
		}
		return ok("Project updated successfully", projectView(project)), nil
	})
}

// PutProject implements PUT /api/v1/projects/{id}, which in this contract changes only what it names, too.
func (s *server) PutProject(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.UpdateProject(w, r, id)
}

// DeleteProject implements DELETE /api/v1/projects/{id}.
func (s *server) DeleteProject(w http.ResponseWriter, r *http.Request, id contract.ID, params contract.DeleteProjectParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		project, err := s.ops.DeleteProject(ctx, caller, id)
		if err != nil {
			return response{}, err
		}
		var view contract.ProjectDeleted
		view.Deleted.Permissions = len(project.Permissions)
		if value(params.IncludeDeletedItems) {
			view.DeletedItems = &contract.DeletedItems{Containers: []contract.DeletedContainer{}}
		}
		return ok("Project deleted successfully", view), nil
	})
}

func projectView(p store.Project) contract.Project {
	return contract.Project{
		ID:            p.ID,
		UserID:        p.UserID,
		Alias:         p.Alias,
		Color:         p.Color,
		MaxContainers: p.MaxContainers,
		IsDefault:     p.IsDefault,
		RealmIDs:      orEmpty(p.RealmIDs),
		CreatedAt:     contract.At(p.CreatedAt),
		UpdatedAt:     contract.At(p.UpdatedAt),
	}
}
