package agent_test

import (
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// A request that is sent again, to the same agent or another one, does nothing and is answered with what the first made.
func TestARequestWithAKeyCountsOnce(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	copied := f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)

	type outcome struct{ id, private string }
	for _, test := range []struct {
		name string
		do   func(a *agent.Agent, caller agent.Caller) (outcome, error)
	}{
		{"project", func(a *agent.Agent, caller agent.Caller) (outcome, error) {
			made, err := a.CreateProject(f.ctx, caller, agent.CreateProjectRequest{Alias: "once"})
			return outcome{id: made.ID}, err
		}},
		{"permission", func(a *agent.Agent, caller agent.Caller) (outcome, error) {
			made, err := a.AddPermission(f.ctx, caller, f.project.ID, agent.AddPermissionRequest{UserID: stranger, Level: store.PermissionRead})
			return outcome{id: made.ID}, err
		}},
		{"create", func(a *agent.Agent, caller agent.Caller) (outcome, error) {
			made, err := a.CreateContainer(f.ctx, caller, f.project.ID, agent.CreateContainerRequest{ServerID: here.id, Name: "once", Image: "busybox"})
			return outcome{made.View.Container.ID, made.PrivateKey}, err
		}},
		{"copy", func(a *agent.Agent, caller agent.Caller) (outcome, error) {
			made, err := a.Copy(f.ctx, caller, source.ID, agent.CopyRequest{TargetProjectID: f.project.ID, Name: "once more"})
			return outcome{made.View.Container.ID + made.JobID, made.PrivateKey}, err
		}},
		{"sync", func(a *agent.Agent, caller agent.Caller) (outcome, error) {
			made, err := a.Sync(f.ctx, caller, copied.ID)
			return outcome{id: made.SourceID + made.JobID}, err
		}},
		{"snapshot", func(a *agent.Agent, caller agent.Caller) (outcome, error) {
			made, err := a.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{})
			return outcome{id: made.Snapshot.Name}, err
		}},
		{"restart", func(a *agent.Agent, caller agent.Caller) (outcome, error) {
			made, err := a.Operate(f.ctx, caller, source.ID, agent.OperationRestart, 0)
			return outcome{id: made.OperationID + made.ProjectID + made.Message}, err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			once := func(key, digest string) agent.Caller {
				return agent.Caller{UserID: owner, Once: &agent.Once{Scope: test.name, Key: key, Digest: digest}}
			}
			first, err := test.do(here.agent, once("k", "d"))
			f.must(err)
			f.must(second(f.records.Barrier(f.ctx)))
			for _, open := range f.records.Mirror().Containers() {
				f.ended(open.ID)
			}
			before := f.everything(here)
			for _, a := range []*agent.Agent{here.agent, there.agent} {
				again := once("k", "d")
				repeated, err := test.do(a, again)
				f.must(err)
				if repeated.id != first.id || repeated.private != "" || !again.Once.Repeated {
					t.Errorf("the repetition is answered %+v, repeated %t; the first %+v", repeated, again.Once.Repeated, first)
				}
			}
			if _, err := test.do(there.agent, once("k", "another")); code(err) != "IDEMPOTENCY_KEY_REUSED" || errdefs.ClassOf(err) != errdefs.ErrUnprocessable {
				t.Errorf("another request with the same key: %v", err)
			}
			if after := f.everything(here); after != before {
				t.Errorf("repetitions changed something:\n%s\nwas\n%s", after, before)
			}
		})
	}
}

func TestRepetitionsOfWhatIsGone(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	once := agent.Caller{UserID: owner, Once: &agent.Once{Scope: "projects", Key: "k", Digest: "d"}}
	made, err := here.agent.CreateProject(f.ctx, once, agent.CreateProjectRequest{Alias: "once"})
	f.must(err)
	f.must(second(here.agent.DeleteProject(f.ctx, caller, made.ID)))
	again := agent.Caller{UserID: owner, Once: &agent.Once{Scope: "projects", Key: "k", Digest: "d"}}
	if _, err := here.agent.CreateProject(f.ctx, again, agent.CreateProjectRequest{Alias: "once"}); code(err) != "PROJECT_NOT_FOUND" {
		t.Errorf("%v, want PROJECT_NOT_FOUND", err)
	}
}

func TestARepetitionShowsNothingToWhoLostSight(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	grant := f.grant(f.project, guest(1), store.PermissionEdit)
	once := func() agent.Caller {
		return agent.Caller{UserID: guest(1).UserID, Once: &agent.Once{Key: "k", Digest: "d"}}
	}
	f.must(second(here.agent.CreateSnapshot(f.ctx, once(), source.ID, agent.CreateSnapshotRequest{})))
	f.must(here.agent.RemovePermission(f.ctx, caller, f.project.ID, grant.ID))
	if _, err := here.agent.CreateSnapshot(f.ctx, once(), source.ID, agent.CreateSnapshotRequest{}); code(err) != "CONTAINER_NOT_FOUND" {
		t.Errorf("answered %v", err)
	}
}

func TestABanCountsAtOnceEverywhere(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0].agent, f.servers[1].agent
	container := f.create(f.servers[0], "container")
	operator := agent.Caller{UserID: stranger, Operator: true}
	if _, err := here.BanUser(f.ctx, caller, owner, ""); code(err) != "INSUFFICIENT_PERMISSIONS" {
		t.Errorf("a user banned somebody: %v", err)
	}
	for range 5 {
		f.must(second(here.BanUser(f.ctx, operator, owner, "spam")))
		// Elsewhere, too, from the next change on, whether its mirror knows it already or not.
		for name, err := range map[string]error{
			"rename":   second(there.UpdateProject(f.ctx, caller, f.project.ID, agent.UpdateProjectRequest{Alias: "new"})),
			"project":  second(there.CreateProject(f.ctx, caller, agent.CreateProjectRequest{Alias: "more"})),
			"snapshot": second(there.CreateSnapshot(f.ctx, caller, container.ID, agent.CreateSnapshotRequest{})),
			"copy":     second(there.Copy(f.ctx, caller, container.ID, agent.CopyRequest{TargetProjectID: f.project.ID})),
			"stop":     second(there.Operate(f.ctx, caller, container.ID, agent.OperationStop, 0)),
			"delete":   there.DeleteContainer(f.ctx, caller, container.ID),
			"variable": second(there.ChangeEnvironment(f.ctx, caller, container.ID, map[string]string{"NAME": "value"})),
			"read":     here.Admit(caller),
		} {
			if code(err) != "ACCOUNT_BANNED" {
				t.Errorf("%s by a banned user: %v", name, err)
			}
		}
		f.must(second(there.UpdateProject(f.ctx, agent.Caller{UserID: owner, ActingOperator: stranger}, f.project.ID, agent.UpdateProjectRequest{Alias: "project"})))
		f.must(second(here.UnbanUser(f.ctx, operator, owner)))
		f.must(second(there.UpdateProject(f.ctx, caller, f.project.ID, agent.UpdateProjectRequest{Alias: "project"})))
	}
}
