package agent_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

func TestProjectGrantsDoNotLoseEachOther(t *testing.T) {
	f := newFleet(t, 2)
	const crowd = 16
	leaving := f.grant(f.project, guest(999), store.PermissionEdit)
	outcomes := together(crowd+1, func(i int) error {
		here := f.servers[i%2].agent
		if i == crowd {
			return here.RemovePermission(f.ctx, caller, f.project.ID, leaving.ID)
		}
		return second(here.AddPermission(f.ctx, caller, f.project.ID, agent.AddPermissionRequest{UserID: guest(i).UserID, Level: store.PermissionRead}))
	})
	for i, err := range outcomes {
		if err != nil {
			t.Errorf("change %d: %v", i, err)
		}
	}
	project, err := f.records.GetProject(f.ctx, f.project.ID)
	f.must(err)
	var granted []string
	for _, grant := range project.Permissions {
		granted = append(granted, grant.UserID)
	}
	slices.Sort(granted)
	var want []string
	for i := range crowd {
		want = append(want, guest(i).UserID)
	}
	if !slices.Equal(granted, want) {
		t.Errorf("granted to %v, want %v", granted, want)
	}
}

func TestProjectOneGrantPerUser(t *testing.T) {
	f := newFleet(t, 2)
	outcomes := together(6, func(i int) error {
		return second(f.servers[i%2].agent.AddPermission(f.ctx, caller, f.project.ID, agent.AddPermissionRequest{UserID: stranger, Level: store.PermissionRead}))
	})
	granted := 0
	for _, err := range outcomes {
		if err == nil {
			granted++
		} else if code(err) != "PERMISSION_ALREADY_EXISTS" {
			t.Error(err)
		}
	}
	project, err := f.records.GetProject(f.ctx, f.project.ID)
	f.must(err)
	if granted != 1 || len(project.Permissions) != 1 {
		t.Errorf("%d grants succeeded, %d are there", granted, len(project.Permissions))
	}
}

// A user whose grant is revoked is refused from the next request on: to change anything, whichever agent he asks, and to
// read, by the agent that revoked it. Another agent refuses his reads from the moment that it has heard of it.
func TestProjectRevokedGrantIsRefusedAtOnce(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0].agent, f.servers[1].agent
	inhabitant := f.create(f.servers[0], "inhabitant")
	user := guest(1)
	heard := f.servers[1].store.Mirror().Subscribe(store.KindProject)
	defer heard.Close()
	for range 10 {
		grant := f.grant(f.project, user, store.PermissionDelete)
		f.must(second(here.Container(f.ctx, user, inhabitant.ID)))
		f.must(second(there.UpdateProject(f.ctx, user, f.project.ID, agent.UpdateProjectRequest{Alias: "project"})))
		f.must(here.RemovePermission(f.ctx, caller, f.project.ID, grant.ID))
		for name, test := range map[string]struct {
			err  error
			code string
		}{
			"rename elsewhere":   {second(there.UpdateProject(f.ctx, user, f.project.ID, agent.UpdateProjectRequest{Alias: "project"})), "PROJECT_NOT_FOUND"},
			"delete elsewhere":   {there.DeleteContainer(f.ctx, user, inhabitant.ID), "CONTAINER_NOT_FOUND"},
			"snapshot elsewhere": {second(there.CreateSnapshot(f.ctx, user, inhabitant.ID, agent.CreateSnapshotRequest{})), "CONTAINER_NOT_FOUND"},
			"read":               {second(here.Project(f.ctx, user, f.project.ID)), "PROJECT_NOT_FOUND"},
			"read of grants":     {second(here.Permissions(f.ctx, user, f.project.ID, agent.ListQuery{})), "PROJECT_NOT_FOUND"},
			"read of container":  {second(here.Container(f.ctx, user, inhabitant.ID)), "CONTAINER_NOT_FOUND"},
		} {
			if code(test.err) != test.code {
				t.Fatalf("%s: %v, want %s", name, test.err, test.code)
			}
		}
		for revoked := false; !revoked; {
			select {
			case change := <-heard.Changes():
				_, now := store.Records[store.Project](change)
				revoked = now != nil && len(now.Permissions) == 0
			case <-f.ctx.Done():
				t.Fatal("never heard of the revocation")
			}
		}
		containers, err := there.Containers(f.ctx, user, agent.ContainerQuery{})
		f.must(err)
		projects, err := there.Projects(f.ctx, user, agent.ListQuery{})
		f.must(err)
		events, err := there.Events(f.ctx, user, agent.EventQuery{})
		f.must(err)
		if containers.Total+projects.Total+events.Total > 0 {
			t.Fatalf("lists elsewhere show %d containers, %d projects, %d events", containers.Total, projects.Total, events.Total)
		}
		for name, test := range map[string]struct {
			err  error
			code string
		}{
			"project":     {second(there.Project(f.ctx, user, f.project.ID)), "PROJECT_NOT_FOUND"},
			"grants":      {second(there.Permissions(f.ctx, user, f.project.ID, agent.ListQuery{})), "PROJECT_NOT_FOUND"},
			"container":   {second(there.Container(f.ctx, user, inhabitant.ID)), "CONTAINER_NOT_FOUND"},
			"environment": {second(there.Environment(f.ctx, user, inhabitant.ID)), "CONTAINER_NOT_FOUND"},
			"snapshots":   {second(there.Snapshots(f.ctx, user, inhabitant.ID)), "CONTAINER_NOT_FOUND"},
			"stats":       {second(there.ContainerStats(f.ctx, user, inhabitant.ID)), "CONTAINER_NOT_FOUND"},
			"status logs": {second(there.StatusLogs(f.ctx, user, inhabitant.ID, agent.ListQuery{})), "CONTAINER_NOT_FOUND"},
		} {
			if code(test.err) != test.code {
				t.Fatalf("read of %s elsewhere: %v, want %s", name, test.err, test.code)
			}
		}
	}
}

func TestProjectGrantLevels(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0].agent
	user := guest(1)
	rising := []store.PermissionLevel{store.PermissionRead, store.PermissionEdit, store.PermissionDelete}
	for i, level := range rising {
		alias := "for " + string(level)
		project := f.newProject(alias)
		grant := f.grant(project, user, rising[(i+1)%3])
		changed, err := here.UpdatePermission(f.ctx, caller, project.ID, grant.ID, level)
		f.must(err)
		if want := (store.Permission{ID: grant.ID, UserID: user.UserID, Level: level, CreatedAt: grant.CreatedAt, UpdatedAt: changed.UpdatedAt}); changed != want {
			t.Errorf("changed to %+v, want %+v", changed, want)
		}
		var able []store.PermissionLevel
		for j, err := range []error{
			second(here.Project(f.ctx, user, project.ID)),
			second(here.UpdateProject(f.ctx, user, project.ID, agent.UpdateProjectRequest{Alias: alias})),
			second(here.DeleteProject(f.ctx, user, project.ID)),
		} {
			if err == nil {
				able = append(able, rising[j])
			}
		}
		if !slices.Equal(able, rising[:i+1]) {
			t.Errorf("%s allows %v", level, able)
		}
	}
	// Everybody may climb down; only who stands higher can lift him again.
	grant := f.grant(f.project, user, store.PermissionDelete)
	f.must(second(here.UpdatePermission(f.ctx, user, f.project.ID, grant.ID, store.PermissionEdit)))
	if _, err := here.UpdatePermission(f.ctx, user, f.project.ID, grant.ID, store.PermissionDelete); code(err) != "INSUFFICIENT_PERMISSIONS" {
		t.Errorf("back up by himself: %v", err)
	}
	f.must(second(here.UpdatePermission(f.ctx, caller, f.project.ID, grant.ID, store.PermissionDelete)))
}

func TestProjectGrantsArePagedAndSorted(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0].agent
	levels := []store.PermissionLevel{store.PermissionEdit, store.PermissionDelete, store.PermissionRead}
	var grants []store.Permission
	for i, level := range levels {
		grants = append(grants, f.grant(f.project, guest(9-i), level))
	}
	f.must(second(here.UpdatePermission(f.ctx, caller, f.project.ID, grants[0].ID, store.PermissionEdit)))
	for name, test := range map[string]struct {
		query agent.ListQuery
		want  []agent.Caller
	}{
		"newest first by default": {agent.ListQuery{}, []agent.Caller{guest(7), guest(8), guest(9)}},
		"by creation":             {agent.ListQuery{SortBy: "created_at", Ascending: true}, []agent.Caller{guest(9), guest(8), guest(7)}},
		"by change":               {agent.ListQuery{SortBy: "updated_at"}, []agent.Caller{guest(9), guest(7), guest(8)}},
		"by user":                 {agent.ListQuery{SortBy: "user_id", Ascending: true}, []agent.Caller{guest(7), guest(8), guest(9)}},
		"by what they allow":      {agent.ListQuery{SortBy: "permission_level", Ascending: true}, []agent.Caller{guest(7), guest(9), guest(8)}},
		"a page":                  {agent.ListQuery{SortBy: "user_id", Ascending: true, Page: 2, Limit: 2}, []agent.Caller{guest(9)}},
		"no such page":            {agent.ListQuery{Page: 3, Limit: 2}, nil},
	} {
		page, err := here.Permissions(f.ctx, guest(7), f.project.ID, test.query)
		f.must(err)
		var users []agent.Caller
		for _, grant := range page.Permissions {
			users = append(users, agent.Caller{UserID: grant.UserID})
		}
		if page.Total != 3 || !reflect.DeepEqual(users, test.want) {
			t.Errorf("%s: %v of %d, want %v", name, users, page.Total, test.want)
		}
	}
}

// A project's record is written with every container that comes and goes: it must not grow without end.
func TestProjectGrantsAreBounded(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0].agent
	full := f.project
	for i := range 500 {
		full.Permissions = append(full.Permissions, store.Permission{ID: guest(i).UserID, UserID: guest(i).UserID, Level: store.PermissionRead})
	}
	_, err := f.records.Update(f.ctx, func(tx *store.Tx) error { return tx.PutProject(full) })
	f.must(err)
	more := agent.AddPermissionRequest{UserID: stranger, Level: store.PermissionRead}
	if _, err := here.AddPermission(f.ctx, caller, full.ID, more); code(err) != "QUOTA_EXCEEDED" {
		t.Errorf("one more grant: %v", err)
	}
	f.must(here.RemovePermission(f.ctx, caller, full.ID, full.Permissions[250].ID))
	f.must(second(here.AddPermission(f.ctx, caller, full.ID, more)))
}
