package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// readContainer finds a container that the caller may see. A miss looks once where it is true: another agent may have
// just made it.
func (a *Agent) readContainer(ctx context.Context, caller Caller, id string) (store.Container, error) {
	mirror := a.store.Mirror()
	container, ok := mirror.Container(id)
	if !ok {
		if _, err := a.store.GetContainer(ctx, id); err != nil {
			if errors.Is(err, errdefs.ErrNotFound) {
				return store.Container{}, containerNotFound()
			}
			return store.Container{}, err
		}
		if _, err := a.store.Barrier(ctx); err != nil {
			return store.Container{}, err
		}
		if container, ok = mirror.Container(id); !ok {
			return store.Container{}, containerNotFound()
		}
	}
	project, ok := mirror.Project(container.ProjectID)
	if !ok || !caller.sees(container.RealmIDs) {
		return store.Container{}, containerNotFound()
	}
	if err := allow(caller, *project, store.PermissionRead, containerNotFound()); err != nil {
		return store.Container{}, err
	}
	return *container, nil
}

// Container returns one container.
func (a *Agent) Container(ctx context.Context, caller Caller, id string) (ContainerView, error) {
	container, err := a.readContainer(ctx, caller, id)
	if err != nil {
		return ContainerView{}, err
	}
	return a.view(container), nil
}

// Containers lists the containers that the caller may see, in one project or in all.
func (a *Agent) Containers(ctx context.Context, caller Caller, query ContainerQuery) (ContainerPage, error) {
	mirror := a.store.Mirror()
	var candidates []*store.Container
	if query.ProjectID != "" {
		project, err := a.Project(ctx, caller, query.ProjectID)
		if err != nil {
			if errors.Is(err, errdefs.ErrNotFound) {
				return ContainerPage{}, resourceNotFound("Resource")
			}
			return ContainerPage{}, err
		}
		candidates = mirror.ContainersInProject(project.ID)
	} else if caller.Operator {
		candidates = mirror.Containers()
	} else {
		for _, project := range mirror.ProjectsOf(caller.UserID) {
			candidates = append(candidates, mirror.ContainersInProject(project.ID)...)
		}
	}
	var selected []*store.Container
	for _, container := range candidates {
		hidden := container.Status == store.StatusDeleting && !query.IncludeDeleting
		if !hidden && inRealm(query.RealmID, container.RealmIDs) && caller.sees(container.RealmIDs) {
			selected = append(selected, container)
		}
	}
	updatedAt := a.updatedAtOfMany()
	sortBy(selected, query.ListQuery, func(c *store.Container) string {
		switch query.SortBy {
		case "name":
			return c.Name
		case "status":
			return string(c.Status)
		default:
			return c.ID
		}
	}, func(c *store.Container) time.Time {
		if query.SortBy == "updated_at" {
			return updatedAt(c)
		}
		return c.CreatedAt
	}, func(c *store.Container) string { return c.ID })
	page := ContainerPage{Total: len(selected)}
	for _, container := range paged(selected, query.ListQuery, 50) {
		page.Containers = append(page.Containers, a.view(*container))
	}
	return page, nil
}

// Project returns one project that the caller may see.
func (a *Agent) Project(ctx context.Context, caller Caller, id string) (store.Project, error) {
	project, ok := a.store.Mirror().Project(id)
	if !ok {
		read, err := a.store.GetProject(ctx, id)
		if errors.Is(err, errdefs.ErrNotFound) {
			return store.Project{}, projectNotFound()
		}
		if err != nil {
			return store.Project{}, err
		}
		project = &read
	}
	if !caller.sees(project.RealmIDs) {
		return store.Project{}, projectNotFound()
	}
	return *project, allow(caller, *project, store.PermissionRead, projectNotFound())
}

// Projects lists the projects that the caller owns or has been granted access to; an operator sees all.
func (a *Agent) Projects(_ context.Context, caller Caller, query ListQuery) (ProjectPage, error) {
	var selected []*store.Project
	candidates := a.store.Mirror().ProjectsOf(caller.UserID)
	if caller.Operator {
		candidates = a.store.Mirror().Projects()
	}
	for _, project := range candidates {
		if inRealm(query.RealmID, project.RealmIDs) && caller.sees(project.RealmIDs) {
			selected = append(selected, project)
		}
	}
	sortBy(selected, query, func(p *store.Project) string {
		if query.SortBy == "alias" {
			return p.Alias
		}
		return p.ID
	}, func(p *store.Project) time.Time {
		if query.SortBy == "updated_at" {
			return p.UpdatedAt
		}
		return p.CreatedAt
	}, func(p *store.Project) string { return p.ID })
	page := ProjectPage{Total: len(selected)}
	for _, project := range paged(selected, query, 10) {
		page.Projects = append(page.Projects, *project)
	}
	return page, nil
}

// Servers lists the servers of the fleet by name.
func (a *Agent) Servers(_ context.Context, _ Caller) ([]ServerView, error) {
	mirror := a.store.Mirror()
	var views []ServerView
	for _, server := range mirror.Servers() {
		views = append(views, a.serverView(server))
	}
	slices.SortFunc(views, func(x, y ServerView) int {
		return cmp.Or(cmp.Compare(x.Server.Name, y.Server.Name), cmp.Compare(x.Server.ID, y.Server.ID))
	})
	return views, nil
}

// Server returns one server.
func (a *Agent) Server(ctx context.Context, _ Caller, id string) (ServerView, error) {
	mirror := a.store.Mirror()
	server, ok := mirror.Server(id)
	if !ok {
		read, err := a.store.GetServer(ctx, id)
		if errors.Is(err, errdefs.ErrNotFound) {
			return ServerView{}, resourceNotFound("Server")
		}
		if err != nil {
			return ServerView{}, err
		}
		server = &read
	}
	return a.serverView(server), nil
}

func (a *Agent) serverView(server *store.Server) ServerView {
	alive, seen := a.store.Mirror().Alive(server.ID)
	return ServerView{Server: *server, Alive: alive, LastSeen: seen, Containers: len(a.store.Mirror().ContainersOnServer(server.ID))}
}
