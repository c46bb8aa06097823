package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
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
				return ContainerPage{}, resourceNotFound("Project")
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

// CreateProject makes a project owned by the caller.
func (a *Agent) CreateProject(ctx context.Context, caller Caller, request CreateProjectRequest) (store.Project, error) {
	now := a.now()
	project := store.Project{
		ID: newID(now), UserID: caller.UserID, Alias: request.Alias, Color: normalizeColor(request.Color),
		MaxContainers: request.MaxContainers, RealmIDs: caller.withRealm(request.RealmIDs), CreatedAt: now, UpdatedAt: now,
	}
	var receipt store.Receipt
	err := a.acceptOnce(ctx, caller, &receipt, func(tx *store.Tx) error {
		receipt = store.Receipt{ProjectID: project.ID}
		if err := tx.ClaimUnique(store.UniqueProjectAlias, caller.UserID, project.Alias, project.ID); err != nil {
			return taken(err, "DUPLICATE_ALIAS", "Project alias already exists")
		}
		return tx.PutProject(project)
	})
	if err != nil {
		return store.Project{}, err
	}
	if caller.repeats() {
		return a.Project(ctx, caller, receipt.ProjectID)
	}
	return project, nil
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

func inRealm(wanted string, realms []string) bool {
	return wanted == "" || slices.Contains(realms, wanted)
}

// sortBy orders by the query's key, text or time, and then by id, so that pages never overlap. Of a query with a limit only
// its page is put where it belongs: that costs a look at each item instead of a sort of all.
func sortBy[T any](items []*T, query ListQuery, text func(*T) string, when func(*T) time.Time, id func(*T) string) {
	type keyed struct {
		when int64 // ns; a comparison of numbers costs a fraction of one of times
		text string
		item *T
	}
	byTime := query.SortBy == "" || query.SortBy == "created_at" || query.SortBy == "updated_at"
	keys := make([]keyed, len(items))
	for i, item := range items {
		keys[i].item = item
		if byTime {
			keys[i].when = when(item).UnixNano()
		} else {
			keys[i].text = text(item)
		}
	}
	compare := func(x, y keyed) int {
		order := cmp.Compare(x.when, y.when)
		if order == 0 && !byTime {
			order = strings.Compare(x.text, y.text)
		}
		if order == 0 {
			order = strings.Compare(id(x.item), id(y.item))
		}
		if !query.Ascending {
			return -order
		}
		return order
	}
	window := keys
	if query.Limit > 0 {
		from := min((max(query.Page, 1)-1)*query.Limit, len(keys))
		window = keys[from:min(from+query.Limit, len(keys))]
		selectNth(keys, from, compare)
		selectNth(keys[from:], len(window), compare)
	}
	slices.SortFunc(window, compare)
	for i, key := range keys {
		items[i] = key.item
	}
}

// selectNth puts the n smallest items in front, in any order (quickselect). Where its guesses are bad it sorts.
func selectNth[T any](items []T, n int, compare func(x, y T) int) {
	for round := 0; n > 0 && n < len(items); round++ {
		if len(items) < 32 || round > 64 {
			slices.SortFunc(items, compare)
			return
		}
		middle := len(items) / 2
		slices.SortFunc(items[middle-1:middle+2], compare) // the median of three
		last := len(items) - 1
		items[middle], items[last] = items[last], items[middle]
		smaller := 0
		for i := range last {
			if compare(items[i], items[last]) < 0 {
				items[i], items[smaller] = items[smaller], items[i]
				smaller++
			}
		}
		items[smaller], items[last] = items[last], items[smaller]
		if n <= smaller {
			items = items[:smaller]
		} else {
			items, n = items[smaller+1:], n-smaller-1
		}
	}
}

func paged[T any](items []T, query ListQuery, defaultLimit int) []T {
	page, limit := max(query.Page, 1), query.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	if page > len(items)/limit+1 {
		return nil
	}
	from := (page - 1) * limit
	return items[min(from, len(items)):min(from+limit, len(items))]
}
