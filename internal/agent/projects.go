package agent

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

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
		if err := claimAlias(tx, project); err != nil {
			return err
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

// maxGrants bounds a project's record: every create and delete of a container writes it, and every agent keeps it.
const maxGrants = 500

// UpdateProject changes what the request names.
func (a *Agent) UpdateProject(ctx context.Context, caller Caller, id string, request UpdateProjectRequest) (store.Project, error) {
	return a.changeProject(ctx, caller, id, func(tx *store.Tx, project *store.Project) error {
		if request.SetMaxContainers {
			if !owns(caller, *project) {
				return insufficientPermissions()
			}
			project.MaxContainers = request.MaxContainers
		}
		if request.Color != nil {
			project.Color = normalizeColor(*request.Color)
		}
		if request.RealmIDs != nil {
			project.RealmIDs = *request.RealmIDs
		}
		return renameProject(tx, project, request.Alias)
	})
}

// renameProject moves the project's claim on its alias.
func renameProject(tx *store.Tx, project *store.Project, alias string) error {
	if alias == project.Alias {
		return nil
	}
	was := *project
	project.Alias = alias
	if err := claimAlias(tx, *project); err != nil {
		return err
	}
	return releaseAlias(tx, was)
}

// DeleteProject removes a project without containers, and returns it as it was. A container that is made at the same time
// either is seen here or does not find the project: both transactions touch its record.
func (a *Agent) DeleteProject(ctx context.Context, caller Caller, id string) (store.Project, error) {
	var project store.Project
	err := a.accept(ctx, caller, func(tx *store.Tx) error {
		var err error
		if project, err = visibleProject(tx, caller, id, store.PermissionDelete, projectNotFound()); err != nil {
			return err
		}
		if project.Containers > 0 {
			return errdefs.New(errdefs.ErrUnprocessable, "PROJECT_HAS_CONTAINERS", "Project contains active containers")
		}
		if err := releaseAlias(tx, project); err != nil {
			return err
		}
		return tx.DeleteProject(project.ID)
	})
	if err != nil {
		return store.Project{}, err
	}
	return project, nil
}

// Permissions lists the grants on a project.
func (a *Agent) Permissions(ctx context.Context, caller Caller, projectID string, query ListQuery) (PermissionPage, error) {
	project, err := a.Project(ctx, caller, projectID)
	if err != nil {
		return PermissionPage{}, err
	}
	grants := make([]*store.Permission, len(project.Permissions))
	for i := range project.Permissions {
		grants[i] = &project.Permissions[i]
	}
	sortBy(grants, query, func(p *store.Permission) string {
		switch query.SortBy {
		case "user_id":
			return p.UserID
		case "permission_level":
			return strconv.Itoa(levelRank[p.Level])
		default:
			return p.ID
		}
	}, func(p *store.Permission) time.Time {
		if query.SortBy == "updated_at" {
			return p.UpdatedAt
		}
		return p.CreatedAt
	}, func(p *store.Permission) string { return p.ID })
	page := PermissionPage{Total: len(grants)}
	for _, grant := range paged(grants, query, 10) {
		page.Permissions = append(page.Permissions, *grant)
	}
	return page, nil
}

// AddPermission grants a user access to a project. Whether there is such a user is not known here: users are the control
// plane's, and a grant to nobody is of use to nobody.
func (a *Agent) AddPermission(ctx context.Context, caller Caller, projectID string, request AddPermissionRequest) (store.Permission, error) {
	now := a.now()
	grant := store.Permission{ID: newID(now), UserID: request.UserID, Level: request.Level, CreatedAt: now, UpdatedAt: now}
	add := func(_ *store.Tx, project *store.Project) error {
		if grant.UserID == caller.UserID {
			return errdefs.New(errdefs.ErrAlreadyExists, "CANNOT_GRANT_SELF_PERMISSION", "Cannot grant permission to yourself")
		}
		if levelOf(Caller{UserID: grant.UserID}, *project) != "" {
			return errdefs.New(errdefs.ErrAlreadyExists, "PERMISSION_ALREADY_EXISTS", "User already has permission for this project")
		}
		if len(project.Permissions) >= maxGrants {
			return errdefs.New(errdefs.ErrExhausted, "QUOTA_EXCEEDED", "The project has %d permissions, as many as it may have", maxGrants)
		}
		if err := mayGrant(caller, *project, grant.Level); err != nil {
			return err
		}
		project.Permissions = append(project.Permissions, grant)
		return nil
	}
	receipt := store.Receipt{ProjectID: projectID, PermissionID: grant.ID}
	err := a.acceptOnce(ctx, caller, &receipt, func(tx *store.Tx) error {
		_, err := a.changeProjectIn(tx, caller, projectID, add)
		return err
	})
	if err != nil {
		return store.Permission{}, err
	}
	if caller.repeats() {
		return a.grantOf(ctx, caller, receipt)
	}
	return grant, nil
}

// grantOf returns the grant that an earlier request made.
func (a *Agent) grantOf(ctx context.Context, caller Caller, receipt store.Receipt) (store.Permission, error) {
	project, err := a.Project(ctx, caller, receipt.ProjectID)
	if err != nil {
		return store.Permission{}, err
	}
	i, err := grantIndex(project, receipt.PermissionID)
	if err != nil {
		return store.Permission{}, err
	}
	return project.Permissions[i], nil
}

// UpdatePermission changes what a grant allows.
func (a *Agent) UpdatePermission(ctx context.Context, caller Caller, projectID, id string, level store.PermissionLevel) (store.Permission, error) {
	now := a.now()
	var grant store.Permission
	_, err := a.changeProject(ctx, caller, projectID, func(_ *store.Tx, project *store.Project) error {
		i, err := grantIndex(*project, id)
		if err != nil {
			return err
		}
		if err := mayGrant(caller, *project, project.Permissions[i].Level, level); err != nil {
			return err
		}
		project.Permissions[i].Level, project.Permissions[i].UpdatedAt = level, now
		grant = project.Permissions[i]
		return nil
	})
	if err != nil {
		return store.Permission{}, err
	}
	return grant, nil
}

// RemovePermission revokes a grant. What its user asks for from now on is refused; what he has started goes on.
func (a *Agent) RemovePermission(ctx context.Context, caller Caller, projectID, id string) error {
	_, err := a.changeProject(ctx, caller, projectID, func(_ *store.Tx, project *store.Project) error {
		i, err := grantIndex(*project, id)
		if err != nil {
			return err
		}
		if err := mayGrant(caller, *project, project.Permissions[i].Level); err != nil {
			return err
		}
		project.Permissions = slices.Delete(project.Permissions, i, i+1)
		return nil
	})
	return err
}

// changeProject writes back what change makes of a project that the caller may change at that very moment.
func (a *Agent) changeProject(ctx context.Context, caller Caller, id string, change func(*store.Tx, *store.Project) error) (store.Project, error) {
	var project store.Project
	err := a.accept(ctx, caller, func(tx *store.Tx) (err error) {
		project, err = a.changeProjectIn(tx, caller, id, change)
		return err
	})
	if err != nil {
		return store.Project{}, err
	}
	return project, nil
}

// changeProjectIn is changeProject inside a transaction. Grants are part of the project: by its
// time a recovery tells which of two records is the later one.
func (a *Agent) changeProjectIn(tx *store.Tx, caller Caller, id string, change func(*store.Tx, *store.Project) error) (store.Project, error) {
	project, err := visibleProject(tx, caller, id, store.PermissionEdit, projectNotFound())
	if err != nil {
		return store.Project{}, err
	}
	if err := change(tx, &project); err != nil {
		return store.Project{}, err
	}
	project.UpdatedAt = a.now()
	return project, tx.PutProject(project)
}

// visibleProject reads a project inside a transaction and checks the caller's level, as visibleContainer does; missing is the
// error for one that the caller may not know of.
func visibleProject(tx *store.Tx, caller Caller, id string, need store.PermissionLevel, missing *errdefs.Error) (store.Project, error) {
	project, err := tx.Project(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return store.Project{}, missing
	}
	if err != nil {
		return store.Project{}, err
	}
	if !caller.sees(project.RealmIDs) {
		return store.Project{}, missing
	}
	return project, allow(caller, project, need, missing)
}

// mayGrant keeps a caller from giving, changing or taking away a level above his own. Without it, who may edit could make
// himself, or a second account of his, one who may delete.
func mayGrant(caller Caller, project store.Project, levels ...store.PermissionLevel) error {
	for _, level := range levels {
		if err := allow(caller, project, level, projectNotFound()); err != nil {
			return err
		}
	}
	return nil
}

func grantIndex(project store.Project, id string) (int, error) {
	i := slices.IndexFunc(project.Permissions, func(p store.Permission) bool { return p.ID == id })
	if i < 0 {
		return 0, errdefs.New(errdefs.ErrNotFound, "PERMISSION_NOT_FOUND", "Permission not found")
	}
	return i, nil
}
