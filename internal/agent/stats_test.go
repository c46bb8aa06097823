package agent_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Whichever agent is asked, it measures containers of all servers; of one that is away, nothing is made up.
func TestStats(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	near, far := f.create(here, "near"), f.create(there, "far")
	f.must(second(there.agent.Operate(f.ctx, caller, far.ID, agent.OperationStop, 0)))
	for _, s := range f.servers {
		for _, container := range []store.Container{near, far} {
			got, err := s.agent.ContainerStats(f.ctx, caller, container.ID)
			f.must(err)
			running := container.ID == near.ID
			if got.ContainerID != container.ID || got.View.Server.ID != container.ServerID || running != (got.Stats.CPU != nil) || running != (got.Stats.Status == agent.InstanceRunning) {
				t.Errorf("%s says of %s: %+v", s.id, container.Name, got.Measured)
			}
		}
		sum, err := s.agent.ProjectStats(f.ctx, caller, f.project.ID)
		f.must(err)
		if len(sum.Containers) != 2 || sum.Project.ID != f.project.ID {
			t.Errorf("%s sums up %+v", s.id, sum)
		}
	}
	if _, err := here.agent.ContainerStats(f.ctx, agent.Caller{UserID: stranger}, near.ID); code(err) != "CONTAINER_NOT_FOUND" {
		t.Errorf("stats for a stranger: %v", err)
	}
	if _, err := here.agent.ProjectStats(f.ctx, agent.Caller{UserID: stranger}, f.project.ID); code(err) != "RESOURCE_NOT_FOUND" {
		t.Errorf("sum for a stranger: %v", err)
	}
	// A peer that fails, and one that answers what it was not asked.
	f.measured = func([]agent.Measured, error) ([]agent.Measured, error) { return nil, errors.New("broken") }
	for name, err := range map[string]error{
		"stats": second(here.agent.ContainerStats(f.ctx, caller, far.ID)), "sum": second(here.agent.ProjectStats(f.ctx, caller, f.project.ID)),
	} {
		if code(err) != "EXTERNAL_SERVICE_ERROR" || !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("%s of a broken peer: %v", name, err)
		}
	}
	f.measured = func(all []agent.Measured, err error) ([]agent.Measured, error) {
		return append([]agent.Measured{{ContainerID: near.ID}}, append(all, all...)...), err
	}
	if got, err := here.agent.ContainerStats(f.ctx, caller, far.ID); err != nil || got.ContainerID != far.ID {
		t.Errorf("of a peer that says too much: %+v, %v", got, err)
	}
	if sum, err := here.agent.ProjectStats(f.ctx, caller, f.project.ID); err != nil || len(sum.Containers) != 2 {
		t.Errorf("of a peer that says too much: %+v, %v", sum, err)
	}
	f.measured = nil
	// A server that is away: its containers are not live.
	there.kill()
	f.untilGone(there)
	sum, err := here.agent.ProjectStats(f.ctx, caller, f.project.ID)
	f.must(err)
	if len(sum.Containers) != 1 || sum.Containers[0].ContainerID != near.ID {
		t.Errorf("without a server: %+v", sum)
	}
	if _, err := here.agent.Measure(f.ctx, make([]string, 101)); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("too many at once: %v", err)
	}
}

// A server that is away, unknown or full takes nothing new, and says so with the contract's codes; nothing is changed.
func TestServersThatCannot(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	near, far := f.create(here, "near"), f.create(there, "far")
	copied := f.settled(f.copy(near, there, agent.CopyRequest{Name: "copied"}).ID, store.StatusRunning)
	view, err := here.agent.Server(f.ctx, caller, there.id)
	f.must(err)
	if !view.Alive || view.Containers != 2 || view.Server.PoolSize == 0 || view.Server.Cores == 0 {
		t.Errorf("server %+v", view)
	}
	if _, err := here.agent.Server(f.ctx, caller, near.ID); code(err) != "RESOURCE_NOT_FOUND" {
		t.Errorf("unknown server: %v", err)
	}
	there.kill()
	f.untilGone(there)
	if view, err = here.agent.Server(f.ctx, caller, there.id); err != nil || view.Alive {
		t.Errorf("server %+v, %v", view, err)
	}
	before := f.everything(here)
	create := agent.CreateContainerRequest{ServerID: there.id, Image: "busybox"}
	for name, test := range map[string]struct {
		err  error
		code string
	}{
		"create":  {second(here.agent.CreateContainer(f.ctx, caller, f.project.ID, create)), "CONTAINER_CREATE_DISPATCH_FAILED"},
		"operate": {second(here.agent.Operate(f.ctx, caller, far.ID, agent.OperationStop, 0)), "CONTAINER_HOST_COMMAND_FAILED"},
		"delete":  {here.agent.DeleteContainer(f.ctx, caller, far.ID), "EXTERNAL_SERVICE_ERROR"},
		"copy to": {second(here.agent.Copy(f.ctx, caller, near.ID, agent.CopyRequest{TargetProjectID: f.project.ID, TargetServerID: there.id})), ""},
		"sync":    {second(here.agent.Sync(f.ctx, caller, copied.ID)), ""},
		"stats":   {second(here.agent.ContainerStats(f.ctx, caller, far.ID)), "EXTERNAL_SERVICE_ERROR"},
	} {
		if test.code != code(test.err) || !errors.Is(test.err, errdefs.ErrUnavailable) {
			t.Errorf("%s: %v (%s)", name, test.err, code(test.err))
		}
	}
	if after := f.everything(here); after != before {
		t.Errorf("refusals changed something:\n%s\nwas\n%s", after, before)
	}
}

// keepBusy has a snapshot of a container under way until it is released.
func (s *server) keepBusy(container store.Container) (release func()) {
	f := s.fleet
	begun, goOn := s.holdFreezes()
	ended := make(chan error, 1)
	go func() {
		ended <- second(s.agent.CreateSnapshot(f.ctx, caller, container.ID, agent.CreateSnapshotRequest{}))
	}()
	f.wait(begun)
	f.catchUp()
	return func() {
		goOn()
		f.must(<-ended)
	}
}

// Nobody shuts others out of a server, nor anybody out of what is there: a user has a share, and power operations and deletions are taken on beyond it.
func TestOperationsAreShared(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	busy, idle := f.create(here, "busy"), f.create(here, "idle")
	other := guest(1)
	theirs, err := here.agent.CreateProject(f.ctx, other, agent.CreateProjectRequest{Alias: "theirs"})
	f.must(err)
	here.maxOpen = 4
	here.restart()
	release := here.keepBusy(busy)
	if err := second(here.agent.CreateSnapshot(f.ctx, caller, idle.ID, agent.CreateSnapshotRequest{})); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("beyond a user's share: %v", err)
	}
	f.must(second(here.agent.Operate(f.ctx, caller, idle.ID, agent.OperationStop, 0)))
	made, err := here.agent.CreateContainer(f.ctx, other, theirs.ID, agent.CreateContainerRequest{ServerID: here.id, Image: "busybox"})
	f.must(err)
	f.settled(made.View.Container.ID, store.StatusRunning)
	f.must(here.agent.DeleteContainer(f.ctx, caller, idle.ID))
	release()
}

// A server takes on only so many operations at a time; one more is refused as if it were away, and changes nothing.
func TestServersWithTooManyOperations(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	busy, idle := f.create(here, "busy"), f.create(here, "idle")
	here.maxOpen = 1
	here.restart()
	release := here.keepBusy(busy)
	before := f.everything(here)
	for name, test := range map[string]struct {
		err  error
		code string
	}{
		"create":   {second(here.agent.CreateContainer(f.ctx, caller, f.project.ID, agent.CreateContainerRequest{ServerID: here.id})), "CONTAINER_CREATE_DISPATCH_FAILED"},
		"copy":     {second(here.agent.Copy(f.ctx, caller, idle.ID, agent.CopyRequest{TargetProjectID: f.project.ID})), ""},
		"snapshot": {second(here.agent.CreateSnapshot(f.ctx, caller, idle.ID, agent.CreateSnapshotRequest{})), ""},
	} {
		if code(test.err) != test.code || !errors.Is(test.err, errdefs.ErrUnavailable) {
			t.Errorf("%s: %v (%s)", name, test.err, code(test.err))
		}
	}
	if after := f.everything(here); after != before {
		t.Errorf("refusals changed something:\n%s\nwas\n%s", after, before)
	}
	release()
	f.must(second(here.agent.CreateSnapshot(f.ctx, caller, idle.ID, agent.CreateSnapshotRequest{})))
}

func TestStatusLogs(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	container := f.create(there, "container")
	f.must(second(here.agent.Operate(f.ctx, caller, container.ID, agent.OperationStop, 0)))
	f.must(there.runtime.Start(f.ctx, agent.InstanceName(container.ID))) // by an admin
	for f.view(there, container).Status != store.StatusRunning {
		time.Sleep(2 * time.Millisecond)
	}
	f.catchUp() // another server answers
	page, err := here.agent.StatusLogs(f.ctx, caller, container.ID, agent.ListQuery{Ascending: true})
	f.must(err)
	want := []agent.StatusLog{
		{To: store.StatusCreating, Command: "create"},
		{From: store.StatusCreating, To: store.StatusRunning, Command: "create"},
		{From: store.StatusRunning, To: store.StatusStopped, Command: "stop"},
		{From: store.StatusStopped, To: store.StatusRunning},
	}
	if page.Total != len(want) || len(page.Logs) != len(want) {
		t.Fatalf("logs %+v", page)
	}
	for i, log := range page.Logs {
		if log.From != want[i].From || log.To != want[i].To || log.Command != want[i].Command || (i > 0) != (log.Lasted != nil) || log.ID == "" {
			t.Errorf("log %d: %+v, want %+v", i, log, want[i])
		}
	}
	page, err = there.agent.StatusLogs(f.ctx, caller, container.ID, agent.ListQuery{Page: 2, Limit: 3})
	f.must(err)
	if page.Total != 4 || len(page.Logs) != 1 || page.Logs[0].To != store.StatusCreating {
		t.Errorf("last page, newest first: %+v", page)
	}
	if _, err := here.agent.StatusLogs(f.ctx, agent.Caller{UserID: stranger}, container.ID, agent.ListQuery{}); code(err) != "CONTAINER_NOT_FOUND" {
		t.Errorf("for a stranger: %v", err)
	}
}

// A request in a realm sees, makes and changes only what belongs to it.
func TestRealms(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0].agent
	const realm, other = "64c1aa00b2d34e5f60718501", "64c1aa00b2d34e5f60718502"
	within, beside := caller, caller
	within.RealmID, beside.RealmID = realm, other
	outside := f.create(f.servers[0], "outside")
	project, err := here.CreateProject(f.ctx, within, agent.CreateProjectRequest{Alias: "realm", RealmIDs: []string{other}})
	f.must(err)
	if len(project.RealmIDs) != 2 || project.RealmIDs[1] != realm {
		t.Errorf("made in realms %v", project.RealmIDs)
	}
	made, err := here.CreateContainer(f.ctx, within, project.ID, agent.CreateContainerRequest{ServerID: f.servers[0].id, Image: "busybox", Name: "inside"})
	f.must(err)
	inside := f.settled(made.View.Container.ID, store.StatusRunning)
	if len(inside.RealmIDs) != 1 || inside.RealmIDs[0] != realm {
		t.Errorf("made in realms %v", inside.RealmIDs)
	}
	before := f.everything(f.servers[0])
	for name, test := range map[string]struct {
		err  error
		code string
	}{
		"container outside":       {second(here.Container(f.ctx, within, outside.ID)), "CONTAINER_NOT_FOUND"},
		"container beside":        {second(here.Container(f.ctx, beside, inside.ID)), "CONTAINER_NOT_FOUND"},
		"change outside":          {second(here.UpdateContainer(f.ctx, within, outside.ID, agent.UpdateContainerRequest{Name: new("new")})), "CONTAINER_NOT_FOUND"},
		"stop beside":             {second(here.Operate(f.ctx, beside, inside.ID, agent.OperationStop, 0)), "CONTAINER_NOT_FOUND"},
		"delete outside":          {here.DeleteContainer(f.ctx, within, outside.ID), "CONTAINER_NOT_FOUND"},
		"project outside":         {second(here.Project(f.ctx, within, f.project.ID)), "PROJECT_NOT_FOUND"},
		"project's change":        {second(here.UpdateProject(f.ctx, within, f.project.ID, agent.UpdateProjectRequest{Alias: "new"})), "PROJECT_NOT_FOUND"},
		"its containers":          {second(here.Containers(f.ctx, within, agent.ContainerQuery{ProjectID: f.project.ID})), "RESOURCE_NOT_FOUND"},
		"create outside":          {second(here.CreateContainer(f.ctx, within, f.project.ID, agent.CreateContainerRequest{ServerID: f.servers[0].id})), "RESOURCE_NOT_FOUND"},
		"copy of what is out":     {second(here.Copy(f.ctx, within, outside.ID, agent.CopyRequest{TargetProjectID: project.ID})), "SOURCE_CONTAINER_NOT_FOUND"},
		"copy to where it is not": {second(here.Copy(f.ctx, within, inside.ID, agent.CopyRequest{TargetProjectID: f.project.ID})), "INSUFFICIENT_PERMISSIONS"},
	} {
		if code(test.err) != test.code {
			t.Errorf("%s: %v, want %s", name, test.err, test.code)
		}
	}
	if after := f.everything(f.servers[0]); after != before {
		t.Errorf("refusals changed something:\n%s\nwas\n%s", after, before)
	}
	for name, test := range map[string]struct {
		who   agent.Caller
		query agent.ContainerQuery
		want  int
	}{
		"everywhere":     {caller, agent.ContainerQuery{}, 2},
		"in the realm":   {within, agent.ContainerQuery{}, 1},
		"filtered":       {caller, agent.ContainerQuery{ListQuery: agent.ListQuery{RealmID: realm}}, 1},
		"in two realms":  {within, agent.ContainerQuery{ListQuery: agent.ListQuery{RealmID: other}}, 0},
		"in the other":   {beside, agent.ContainerQuery{}, 0},
		"of the project": {within, agent.ContainerQuery{ProjectID: project.ID}, 1},
	} {
		if page, err := here.Containers(f.ctx, test.who, test.query); err != nil || page.Total != test.want {
			t.Errorf("%s: %d containers, %v; want %d", name, page.Total, err, test.want)
		}
	}
	for who, want := range map[string]int{"": 2, realm: 1, other: 1} {
		asks := caller
		asks.RealmID = who
		if page, err := here.Projects(f.ctx, asks, agent.ListQuery{}); err != nil || page.Total != want {
			t.Errorf("in %q: %d projects, %v; want %d", who, page.Total, err, want)
		}
	}
	// A copy whose source is in no realm of its own.
	copied, err := here.Copy(f.ctx, caller, outside.ID, agent.CopyRequest{TargetProjectID: project.ID})
	f.must(err)
	f.settled(copied.View.Container.ID, store.StatusRunning)
	if err := second(here.Sync(f.ctx, within, copied.View.Container.ID)); code(err) != "INSUFFICIENT_PERMISSIONS" {
		t.Errorf("sync across realms: %v", err)
	}
}

// Over HTTP the host names the realm.
func TestRealmOfARequest(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0].agent
	const realm = "64c1aa00b2d34e5f60718501"
	project, err := here.CreateProject(f.ctx, caller, agent.CreateProjectRequest{Alias: "in the realm", RealmIDs: []string{realm}})
	f.must(err)
	server := httptest.NewServer(api.New(here, roleTokens{}, api.Options{}))
	defer server.Close()
	ask := func(host, method, path, body string) (int, string) {
		r, err := http.NewRequestWithContext(f.ctx, method, server.URL+"/api/v1/projects"+path, strings.NewReader(body))
		f.must(err)
		r.Header.Set("Authorization", "Bearer owner")
		r.Host = host
		response, err := server.Client().Do(r)
		f.must(err)
		defer func() { _ = response.Body.Close() }()
		answer, err := io.ReadAll(response.Body)
		f.must(err)
		return response.StatusCode, string(answer)
	}
	const in, beside = realm + ".api.example.org", "64c1aa00b2d34e5f60718502.api.example.org"
	for _, test := range []struct {
		host, path string
		status     int
	}{
		{in, "/" + project.ID, 200}, {in, "/" + f.project.ID, 404}, {beside, "/" + project.ID, 404}, {"api.example.org", "/" + f.project.ID, 200},
	} {
		if status, answer := ask(test.host, http.MethodGet, test.path, ""); status != test.status {
			t.Errorf("%s of %s: %d, want %d: %s", test.path, test.host, status, test.status, answer)
		}
	}
	if _, list := ask(in, http.MethodGet, "", ""); !strings.Contains(list, project.ID) || strings.Contains(list, f.project.ID) {
		t.Errorf("list in the realm: %s", list)
	}
	if status, made := ask(in, http.MethodPost, "", `{"alias":"made in it"}`); status != 201 || !strings.Contains(made, `"realm_ids":["`+realm+`"]`) {
		t.Errorf("made in the realm: %d %s", status, made)
	}
}
