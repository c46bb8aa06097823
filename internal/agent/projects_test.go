package agent_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// guest is one of as many users as a test needs.
func guest(n int) agent.Caller {
	return agent.Caller{UserID: fmt.Sprintf("64c1aa00b2d34e5f6071a%03x", n)}
}

// newProject makes another project of the owner.
func (f *fleet) newProject(alias string) store.Project {
	f.t.Helper()
	project, err := f.servers[0].agent.CreateProject(f.ctx, caller, agent.CreateProjectRequest{Alias: alias})
	f.must(err)
	return project
}

// grant gives a user access to a project.
func (f *fleet) grant(project store.Project, user agent.Caller, level store.PermissionLevel) store.Permission {
	f.t.Helper()
	given, err := f.servers[0].agent.AddPermission(f.ctx, caller, project.ID, agent.AddPermissionRequest{UserID: user.UserID, Level: level})
	f.must(err)
	return given
}

// together runs do for 0 to n-1 at the same time and returns what each came to.
func together(n int, do func(i int) error) []error {
	outcomes := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { outcomes[i] = do(i) })
	}
	all.Wait()
	return outcomes
}

func TestProjectRefusalsChangeNothing(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	f.create(here, "inhabitant")
	f.newProject("taken")
	reader, editor, remover, nobody := guest(1), guest(2), guest(3), guest(4)
	f.grant(f.project, reader, store.PermissionRead)
	ofEditor := f.grant(f.project, editor, store.PermissionEdit)
	ofRemover := f.grant(f.project, remover, store.PermissionDelete)
	before := f.everything(here)

	const unknown = "64c1aa00b2d34e5f6071ffff"
	update := func(who agent.Caller, id string, request agent.UpdateProjectRequest) func() error {
		return func() error { return second(here.agent.UpdateProject(f.ctx, who, id, request)) }
	}
	remove := func(who agent.Caller, id string) func() error {
		return func() error { return second(here.agent.DeleteProject(f.ctx, who, id)) }
	}
	list := func(who agent.Caller, id string) func() error {
		return func() error { return second(here.agent.Permissions(f.ctx, who, id, agent.ListQuery{})) }
	}
	add := func(who agent.Caller, id string, to agent.Caller, level store.PermissionLevel) func() error {
		return func() error {
			return second(here.agent.AddPermission(f.ctx, who, id, agent.AddPermissionRequest{UserID: to.UserID, Level: level}))
		}
	}
	change := func(who agent.Caller, id, grant string, level store.PermissionLevel) func() error {
		return func() error { return second(here.agent.UpdatePermission(f.ctx, who, id, grant, level)) }
	}
	revoke := func(who agent.Caller, id, grant string) func() error {
		return func() error { return here.agent.RemovePermission(f.ctx, who, id, grant) }
	}
	id, renamed := f.project.ID, agent.UpdateProjectRequest{Alias: "renamed"}
	for name, test := range map[string]struct {
		do    func() error
		class error
		code  string
	}{
		"change of an unknown project":      {update(caller, unknown, renamed), errdefs.ErrNotFound, "PROJECT_NOT_FOUND"},
		"change by a stranger":              {update(nobody, id, renamed), errdefs.ErrNotFound, "PROJECT_NOT_FOUND"},
		"change by a reader":                {update(reader, id, renamed), errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS"},
		"a taken alias":                     {update(caller, id, agent.UpdateProjectRequest{Alias: "taken"}), errdefs.ErrAlreadyExists, "DUPLICATE_ALIAS"},
		"the owner's alias, by another":     {update(editor, id, agent.UpdateProjectRequest{Alias: "taken"}), errdefs.ErrAlreadyExists, "DUPLICATE_ALIAS"},
		"a limit by an editor":              {update(editor, id, agent.UpdateProjectRequest{Alias: "project", SetMaxContainers: true}), errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS"},
		"a limit by a remover":              {update(remover, id, agent.UpdateProjectRequest{Alias: "renamed", SetMaxContainers: true}), errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS"},
		"delete of an unknown project":      {remove(caller, unknown), errdefs.ErrNotFound, "PROJECT_NOT_FOUND"},
		"delete by a stranger":              {remove(nobody, id), errdefs.ErrNotFound, "PROJECT_NOT_FOUND"},
		"delete by an editor":               {remove(editor, id), errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS"},
		"delete of an inhabited project":    {remove(caller, id), errdefs.ErrUnprocessable, "PROJECT_HAS_CONTAINERS"},
		"the same by the operator":          {remove(agent.Caller{Operator: true}, id), errdefs.ErrUnprocessable, "PROJECT_HAS_CONTAINERS"},
		"grants of an unknown project":      {list(caller, unknown), errdefs.ErrNotFound, "PROJECT_NOT_FOUND"},
		"grants for a stranger":             {list(nobody, id), errdefs.ErrNotFound, "PROJECT_NOT_FOUND"},
		"grant on an unknown project":       {add(caller, unknown, nobody, store.PermissionRead), errdefs.ErrNotFound, "PROJECT_NOT_FOUND"},
		"grant by a stranger":               {add(nobody, id, nobody, store.PermissionRead), errdefs.ErrNotFound, "PROJECT_NOT_FOUND"},
		"grant by a reader":                 {add(reader, id, nobody, store.PermissionRead), errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS"},
		"grant to oneself":                  {add(caller, id, caller, store.PermissionRead), errdefs.ErrAlreadyExists, "CANNOT_GRANT_SELF_PERMISSION"},
		"grant to oneself by an editor":     {add(editor, id, editor, store.PermissionDelete), errdefs.ErrAlreadyExists, "CANNOT_GRANT_SELF_PERMISSION"},
		"second grant":                      {add(caller, id, reader, store.PermissionEdit), errdefs.ErrAlreadyExists, "PERMISSION_ALREADY_EXISTS"},
		"grant to the owner":                {add(editor, id, caller, store.PermissionRead), errdefs.ErrAlreadyExists, "PERMISSION_ALREADY_EXISTS"},
		"grant above one's own":             {add(editor, id, nobody, store.PermissionDelete), errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS"},
		"change of an unknown grant":        {change(caller, id, unknown, store.PermissionRead), errdefs.ErrNotFound, "PERMISSION_NOT_FOUND"},
		"change in an unknown project":      {change(caller, unknown, ofEditor.ID, store.PermissionRead), errdefs.ErrNotFound, "PROJECT_NOT_FOUND"},
		"change of a grant by a reader":     {change(reader, id, ofEditor.ID, store.PermissionRead), errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS"},
		"a reader tries ids":                {change(reader, id, unknown, store.PermissionRead), errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS"},
		"an editor promotes himself":        {change(editor, id, ofEditor.ID, store.PermissionDelete), errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS"},
		"an editor demotes a remover":       {change(editor, id, ofRemover.ID, store.PermissionRead), errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS"},
		"revocation of an unknown grant":    {revoke(caller, id, unknown), errdefs.ErrNotFound, "PERMISSION_NOT_FOUND"},
		"revocation in an unknown project":  {revoke(caller, unknown, ofEditor.ID), errdefs.ErrNotFound, "PROJECT_NOT_FOUND"},
		"revocation by a reader":            {revoke(reader, id, ofEditor.ID), errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS"},
		"revocation of a grant above one's": {revoke(editor, id, ofRemover.ID), errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS"},
	} {
		err := test.do()
		if errdefs.ClassOf(err) != test.class || code(err) != test.code {
			t.Errorf("%s: %v (%v, %s), want %v, %s", name, err, errdefs.ClassOf(err), code(err), test.class, test.code)
		}
	}
	if after := f.everything(here); after != before {
		t.Errorf("refusals changed something:\n%s\nwas\n%s", after, before)
	}
	// A refused rename has not claimed what it wanted.
	f.newProject("renamed")
}

func TestProjectUpdateChangesWhatItNames(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	realms := []string{"64c1aa00b2d34e5f60718501"}
	limit, none := 3, []string{}
	for name, test := range map[string]struct {
		who     agent.Caller
		request agent.UpdateProjectRequest
		change  func(*store.Project)
	}{
		"alias":    {caller, agent.UpdateProjectRequest{Alias: "other"}, func(p *store.Project) { p.Alias = "other" }},
		"nothing":  {caller, agent.UpdateProjectRequest{Alias: "before"}, func(*store.Project) {}},
		"color":    {guest(1), agent.UpdateProjectRequest{Alias: "before", Color: new("a0b1c2")}, func(p *store.Project) { p.Color = "#A0B1C2" }},
		"realms":   {guest(1), agent.UpdateProjectRequest{Alias: "before", RealmIDs: &none}, func(p *store.Project) { p.RealmIDs = none }},
		"no limit": {caller, agent.UpdateProjectRequest{Alias: "before", SetMaxContainers: true}, func(p *store.Project) { p.MaxContainers = nil }},
		"limit": {agent.Caller{Operator: true}, agent.UpdateProjectRequest{Alias: "before", SetMaxContainers: true, MaxContainers: new(0)},
			func(p *store.Project) { p.MaxContainers = new(0) }},
	} {
		t.Run(name, func(t *testing.T) {
			made, err := here.agent.CreateProject(f.ctx, caller, agent.CreateProjectRequest{Alias: "before", MaxContainers: &limit, RealmIDs: realms})
			f.must(err)
			f.grant(made, guest(1), store.PermissionEdit)
			want, err := here.agent.Project(f.ctx, caller, made.ID)
			f.must(err)
			test.change(&want)
			got, err := here.agent.UpdateProject(f.ctx, test.who, made.ID, test.request)
			f.must(err)
			if !got.UpdatedAt.After(made.UpdatedAt) {
				t.Errorf("updated at %v, after %v", got.UpdatedAt, made.UpdatedAt)
			}
			want.UpdatedAt = got.UpdatedAt
			read, err := here.agent.Project(f.ctx, caller, made.ID)
			f.must(err)
			if asJSON(got) != asJSON(want) || asJSON(read) != asJSON(want) {
				t.Errorf("answered\n%s, reads\n%s, want\n%s", asJSON(got), asJSON(read), asJSON(want))
			}
			// Deleted, it is gone, and its alias is free for the next round's.
			f.must(second(here.agent.DeleteProject(f.ctx, caller, made.ID)))
			if _, err := here.agent.Project(f.ctx, caller, made.ID); code(err) != "PROJECT_NOT_FOUND" {
				t.Errorf("after its deletion: %v", err)
			}
		})
	}
}

func TestProjectIsDeletedByWhoMayOnceItIsEmpty(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	remover := guest(1)
	f.grant(f.project, guest(2), store.PermissionRead)
	f.grant(f.project, remover, store.PermissionDelete)
	inhabitant := f.create(here, "inhabitant")
	if _, err := here.agent.DeleteProject(f.ctx, remover, f.project.ID); code(err) != "PROJECT_HAS_CONTAINERS" {
		t.Fatalf("an inhabited project: %v", err)
	}
	f.must(here.agent.DeleteContainer(f.ctx, remover, inhabitant.ID))
	deleted, err := here.agent.DeleteProject(f.ctx, remover, f.project.ID)
	f.must(err)
	if len(deleted.Permissions) != 2 {
		t.Errorf("deleted with %d grants, want 2", len(deleted.Permissions))
	}
	if _, err := here.agent.DeleteProject(f.ctx, remover, f.project.ID); code(err) != "PROJECT_NOT_FOUND" {
		t.Errorf("a second time: %v", err)
	}
}

// However a delete and a create meet, no container is left without its project.
func TestProjectDeleteMeetsCreate(t *testing.T) {
	f := newFleet(t, 2)
	for round := range 8 {
		project := f.newProject(fmt.Sprint("round ", round))
		var made agent.CreateResult
		outcomes := together(2, func(i int) (err error) {
			if i == 0 {
				return second(f.servers[0].agent.DeleteProject(f.ctx, caller, project.ID))
			}
			made, err = f.servers[1].agent.CreateContainer(f.ctx, caller, project.ID, agent.CreateContainerRequest{ServerID: f.servers[1].id, Image: "busybox"})
			return err
		})
		_, err := f.records.GetProject(f.ctx, project.ID)
		switch {
		case code(outcomes[0]) == "PROJECT_HAS_CONTAINERS" && outcomes[1] == nil && err == nil:
			f.settled(made.View.Container.ID, store.StatusRunning)
		case outcomes[0] == nil && code(outcomes[1]) == "RESOURCE_NOT_FOUND" && errdefs.ClassOf(err) == errdefs.ErrNotFound:
		default:
			t.Errorf("delete: %v, create: %v, the project then: %v", outcomes[0], outcomes[1], err)
		}
	}
}

func TestProjectAliasIsUniqueUnderConcurrentRenames(t *testing.T) {
	f := newFleet(t, 2)
	const contenders = 8
	var projects []store.Project
	for i := range contenders {
		projects = append(projects, f.newProject(fmt.Sprint("contender ", i)))
	}
	outcomes := together(contenders, func(i int) error {
		return second(f.servers[i%2].agent.UpdateProject(f.ctx, caller, projects[i].ID, agent.UpdateProjectRequest{Alias: "prize"}))
	})
	winners := 0
	for i, err := range outcomes {
		read, readErr := f.records.GetProject(f.ctx, projects[i].ID)
		f.must(readErr)
		// Who won has let go of the old alias, who lost still has it.
		_, again := f.servers[0].agent.CreateProject(f.ctx, caller, agent.CreateProjectRequest{Alias: projects[i].Alias})
		switch {
		case err == nil && read.Alias == "prize" && again == nil:
			winners++
		case code(err) == "DUPLICATE_ALIAS" && read.Alias == projects[i].Alias && code(again) == "DUPLICATE_ALIAS":
		default:
			t.Errorf("contender %d: %v, is called %q then, its old alias: %v", i, err, read.Alias, again)
		}
	}
	if winners != 1 {
		t.Errorf("%d projects got the alias", winners)
	}
}
