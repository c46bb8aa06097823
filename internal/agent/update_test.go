package agent_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/identity"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// instance is what the runtime says of a container.
func (f *fleet) instance(container store.Container) agent.Instance {
	f.t.Helper()
	instance, err := f.serverOf(container).runtime.Instance(f.ctx, agent.InstanceName(container.ID))
	f.must(err)
	return instance
}

// applied waits until a container's instance has what its record says.
func (f *fleet) applied(id string) store.Container {
	f.t.Helper()
	for {
		container := f.ended(id)
		if !container.Settings.Pending() {
			return container
		}
		select {
		case <-f.ctx.Done():
			f.t.Fatalf("settings of %s never arrived: %+v", container.Name, container.Settings)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func newKey(t testing.TB) string {
	t.Helper()
	public, _, err := identity.NewUserKey("test")
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// Asked of any agent, a change is in the record and in the instance, on whatever server that is.
func TestUpdateReachesTheInstance(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	made, err := here.agent.CreateContainer(f.ctx, caller, f.project.ID, agent.CreateContainerRequest{
		ServerID: there.id, Name: "before", Image: "busybox", Env: map[string]string{"KEPT": "1", "GONE": "2"},
	})
	f.must(err)
	before := f.settled(made.View.Container.ID, store.StatusRunning)
	key := newKey(t)
	realms := []string{"64c1aa00b2d34e5f60718501"}
	view, err := here.agent.UpdateContainer(f.ctx, caller, before.ID, agent.UpdateContainerRequest{
		Name: new("after"), Color: new("a0b1c2"), AI: new(false), Autostart: new(false), Ramdisk: new(false), RamdiskScope: new("project"),
		Env: map[string]string{"KEPT": "1", "NEW": "3"}, SetSSHPublicKey: true, SSHPublicKey: key, SetComment: true, Comment: new("said"), RealmIDs: &realms,
	})
	f.must(err)
	want := before
	want.Name, want.Color, want.AI, want.Autostart, want.Ramdisk, want.RamdiskScope = "after", "#A0B1C2", false, false, false, "project"
	want.Env = map[string]string{"KEPT": "1", "NEW": "3"}
	want.SSHPublicKey, want.Comment, want.RealmIDs, want.InheritedKeys = key, new("said"), realms, []string{strings.Join(strings.Fields(before.SSHPublicKey)[:2], " ")}
	want.UpdatedAt, want.EditedAt, want.Settings = view.Container.UpdatedAt, view.Container.UpdatedAt, view.Container.Settings
	if asJSON(view.Container) != asJSON(want) {
		t.Errorf("changed to\n%s, want\n%s", asJSON(view.Container), asJSON(want))
	}
	if !view.Container.UpdatedAt.After(before.UpdatedAt) {
		t.Error("updated_at did not move")
	}
	if view.Container.Settings.Pending() || view.Container.Settings.DroppedEnv != nil {
		t.Errorf("settings %+v", view.Container.Settings)
	}
	instance := f.instance(view.Container)
	if instance.Autostart || instance.Description != "after" || !maps.Equal(instance.Env, want.Env) {
		t.Errorf("instance %+v", instance)
	}
	if keys := f.read(view.Container, "root/.ssh/authorized_keys"); strings.TrimSpace(keys) != key {
		t.Errorf("authorized keys %q, want %q", keys, key)
	}
	// The former name and key are free, the new ones are not.
	f.create(here, "before")
	_, err = here.agent.CreateContainer(f.ctx, caller, f.project.ID, agent.CreateContainerRequest{ServerID: here.id, Name: "other", Image: "busybox", SSHPublicKey: key})
	if code(err) != "SSH_PUBLIC_KEY_IN_USE" {
		t.Errorf("create with the new key: %v", err)
	}
	// Without a key; and nothing asked for is nothing changed, not even the time.
	view, err = there.agent.UpdateContainer(f.ctx, caller, before.ID, agent.UpdateContainerRequest{SetSSHPublicKey: true})
	f.must(err)
	if keys := f.read(view.Container, "root/.ssh/authorized_keys"); strings.TrimSpace(keys) != "" {
		t.Errorf("authorized keys %q, want none", keys)
	}
	again, err := there.agent.UpdateContainer(f.ctx, caller, before.ID, agent.UpdateContainerRequest{Name: new("after"), SetSSHPublicKey: true})
	f.must(err)
	if asJSON(again.Container) != asJSON(view.Container) {
		t.Errorf("an empty change made\n%s of\n%s", asJSON(again.Container), asJSON(view.Container))
	}
}

func TestRefusedUpdatesChangeNothing(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	container, other := f.create(here, "container"), f.create(here, "other")
	reader, nobody := guest(1), guest(2)
	f.grant(f.project, reader, store.PermissionRead)
	many := make(map[string]string)
	for i := range 257 {
		many[fmt.Sprint("V", i)] = "x"
	}
	before := f.everything(here)
	const unknown = "64c1aa00b2d34e5f6071ffff"
	update := func(who agent.Caller, id string, request agent.UpdateContainerRequest) func() error {
		return func() error { return second(here.agent.UpdateContainer(f.ctx, who, id, request)) }
	}
	env := func(who agent.Caller, id string, set map[string]string, remove ...string) func() error {
		return func() error { return second(here.agent.ChangeEnvironment(f.ctx, who, id, set, remove...)) }
	}
	for name, test := range map[string]struct {
		do    func() error
		class error
		code  string
	}{
		"unknown container":       {update(caller, unknown, agent.UpdateContainerRequest{Name: new("new")}), errdefs.ErrNotFound, "CONTAINER_NOT_FOUND"},
		"by a stranger":           {update(nobody, container.ID, agent.UpdateContainerRequest{Name: new("new")}), errdefs.ErrNotFound, "CONTAINER_NOT_FOUND"},
		"by a reader":             {update(reader, container.ID, agent.UpdateContainerRequest{Name: new("new")}), errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS"},
		"taken name":              {update(caller, container.ID, agent.UpdateContainerRequest{Color: new("123"), Name: new("other")}), errdefs.ErrAlreadyExists, "CONTAINER_NAME_IN_USE"},
		"taken key":               {update(caller, container.ID, agent.UpdateContainerRequest{Name: new("new"), SetSSHPublicKey: true, SSHPublicKey: other.SSHPublicKey}), errdefs.ErrAlreadyExists, "SSH_PUBLIC_KEY_IN_USE"},
		"variables of an unknown": {env(caller, unknown, map[string]string{"A": "1"}), errdefs.ErrNotFound, "CONTAINER_NOT_FOUND"},
		"variables by a stranger": {env(nobody, container.ID, map[string]string{"A": "1"}), errdefs.ErrNotFound, "CONTAINER_NOT_FOUND"},
		"variables by a reader":   {env(reader, container.ID, nil, "A"), errdefs.ErrPermissionDenied, "RESOURCE_ACCESS_DENIED"},
		"too many variables":      {env(caller, container.ID, many), errdefs.ErrInvalid, "VALIDATION_ERROR"},
		"read by a stranger":      {func() error { return second(here.agent.Environment(f.ctx, nobody, container.ID)) }, errdefs.ErrNotFound, "CONTAINER_NOT_FOUND"},
	} {
		err := test.do()
		if errdefs.ClassOf(err) != test.class || code(err) != test.code {
			t.Errorf("%s: %v (%v, %s), want %v, %s", name, err, errdefs.ClassOf(err), code(err), test.class, test.code)
		}
	}
	if after := f.everything(here); after != before {
		t.Errorf("refusals changed something:\n%s\nwas\n%s", after, before)
	}
	// A refused rename has claimed nothing.
	f.create(here, "new")
}

func TestEnvironmentMerges(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	container := f.create(here, "container")
	for i, step := range []struct {
		set    map[string]string
		remove []string
		want   map[string]string
	}{
		{map[string]string{"A": "1", "B": "2"}, nil, map[string]string{"A": "1", "B": "2"}},
		{map[string]string{"B": "3", "C": "4"}, nil, map[string]string{"A": "1", "B": "3", "C": "4"}},
		{nil, []string{"A"}, map[string]string{"B": "3", "C": "4"}},
		{nil, []string{"A"}, map[string]string{"B": "3", "C": "4"}},
		{nil, []string{"B"}, map[string]string{"C": "4"}},
		{nil, []string{"C"}, map[string]string{}},
	} {
		changed, err := here.agent.ChangeEnvironment(f.ctx, caller, container.ID, step.set, step.remove...)
		f.must(err)
		read, err := here.agent.Environment(f.ctx, caller, container.ID)
		f.must(err)
		instance := f.instance(container)
		if !maps.Equal(changed.Env, step.want) || !maps.Equal(read.Env, step.want) || !maps.Equal(instance.Env, step.want) || changed.Settings.Pending() {
			t.Errorf("step %d: answered %v, reads %v, instance %v, want %v; settings %+v", i, changed.Env, read.Env, instance.Env, step.want, changed.Settings)
		}
	}
}

// A change of a container whose server is away is kept, and carried to the instance when the server is back.
func TestUpdateWaitsForItsServer(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	container := f.create(there, "container")
	f.must(second(here.agent.ChangeEnvironment(f.ctx, caller, container.ID, map[string]string{"OLD": "1", "KEPT": "2"})))
	f.applied(container.ID)
	there.kill()
	f.untilGone(there)
	changed, err := here.agent.ChangeEnvironment(f.ctx, caller, container.ID, map[string]string{"NEW": "3"}, "OLD")
	f.must(err)
	if !changed.Settings.Pending() {
		t.Error("a server that is away has applied a change")
	}
	// Put back and taken out again before anybody could do it.
	f.must(second(here.agent.ChangeEnvironment(f.ctx, caller, container.ID, map[string]string{"OLD": "4"}, "NEW")))
	f.must(second(here.agent.ChangeEnvironment(f.ctx, caller, container.ID, map[string]string{"LAST": "5"}, "OLD")))
	there.start()
	f.applied(container.ID)
	if got, want := f.instance(container).Env, map[string]string{"KEPT": "2", "LAST": "5"}; !maps.Equal(got, want) {
		t.Errorf("instance has %v, want %v", got, want)
	}
}

// untilGone waits until the first server knows that another one is away.
func (f *fleet) untilGone(s *server) {
	f.t.Helper()
	for {
		if alive, _ := f.servers[0].store.Mirror().Alive(s.id); !alive {
			return
		}
		select {
		case <-f.ctx.Done():
			f.t.Fatal(f.ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// An instance that cannot be changed now is told of, not waited for, and changed later.
func TestUpdateIsTriedAgain(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	container := f.create(here, "container")
	here.setFault(func(op, _ string) error {
		if op == "configure:before" {
			return fmt.Errorf("no: %w", errdefs.ErrUnavailable)
		}
		return nil
	})
	changed, err := here.agent.ChangeEnvironment(f.ctx, caller, container.ID, map[string]string{"A": "1"})
	f.must(err)
	if !changed.Settings.Pending() || changed.Settings.Error == "" || changed.Settings.AttemptedAt == nil {
		t.Errorf("settings %+v", changed.Settings)
	}
	here.setFault(nil)
	after := f.applied(container.ID)
	if after.Settings.Error != "" || f.instance(container).Env["A"] != "1" {
		t.Errorf("settings %+v, instance %+v", after.Settings, f.instance(container))
	}
}

// A key that is withdrawn is withdrawn, whatever keeps the runtime from taking the rest.
func TestKeysDoNotWaitForTheRuntime(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	container := f.create(here, "container")
	here.setFault(func(op, _ string) error {
		if op == "configure:before" {
			return fmt.Errorf("no: %w", errdefs.ErrInvalid)
		}
		return nil
	})
	defer here.setFault(nil)
	_, err := here.agent.UpdateContainer(f.ctx, caller, container.ID, agent.UpdateContainerRequest{SetSSHPublicKey: true})
	f.must(err)
	f.until("the key is gone", func() bool {
		return !strings.Contains(f.read(container, "root/.ssh/authorized_keys"), container.SSHPublicKey)
	})
}

// Records may have variables from before they were refused. The instance does not get them, and all else works.
func TestVariablesThatNoContainerMayHave(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	container := f.create(here, "container")
	_, err := f.records.Update(f.ctx, func(tx *store.Tx) error {
		record, err := tx.Container(container.ID)
		if err != nil {
			return err
		}
		record.Env = map[string]string{"LD_PRELOAD": "/x.so", "LINES": "1\n2", "KEPT": "1"}
		return tx.PutContainer(record)
	})
	f.must(err)
	f.catchUp()
	copied := f.settled(f.copy(container, here, agent.CopyRequest{Name: "copied"}).ID, store.StatusRunning)
	_, err = here.agent.ChangeEnvironment(f.ctx, caller, container.ID, map[string]string{"A": "1"})
	f.must(err)
	f.applied(container.ID)
	// Those that an instance was given before are taken from it, by a change and by the agent's start.
	for _, c := range []store.Container{container, copied} {
		f.must(here.runtime.ConfigureByHand(agent.InstanceName(c.ID), "environment.LD_PRELOAD", "/x.so"))
	}
	_, err = here.agent.ChangeEnvironment(f.ctx, caller, container.ID, map[string]string{"A": "2"})
	f.must(err)
	f.applied(container.ID)
	here.restart()
	f.until("the start has taken it from the copy", func() bool { return f.instance(copied).Env["LD_PRELOAD"] == "" })
	for _, c := range []store.Container{container, copied} {
		env := f.instance(c).Env
		if env["KEPT"] != "1" || env["LD_PRELOAD"] != "" || env["LINES"] != "" {
			t.Errorf("%s has the variables %v", c.Name, env)
		}
	}
}

// While an operation works on a container its instance is the operation's; the change is there when it ends.
func TestUpdateDuringAnOperation(t *testing.T) {
	f := newFleet(t, 1)
	here := f.servers[0]
	source := f.create(here, "source")
	reached, proceed := make(chan struct{}), make(chan struct{})
	here.setFault(func(op, object string) error {
		if op == "rename:before" && strings.HasPrefix(object, "containers/") {
			here.setFault(func(op, _ string) error {
				if op == "configure:before" {
					return errors.New("configured in the middle of a swap")
				}
				return nil
			})
			close(reached)
			<-proceed
			here.setFault(nil)
		}
		return nil
	})
	copied := f.copy(source, here, agent.CopyRequest{Name: "copied"})
	<-reached
	view, err := here.agent.UpdateContainer(f.ctx, caller, copied.ID, agent.UpdateContainerRequest{Name: new("renamed"), Autostart: new(false), Env: map[string]string{"A": "1"}})
	f.must(err)
	if view.Container.Name != "renamed" || !view.Container.Settings.Pending() {
		t.Errorf("in the middle of a copy: %+v", view.Container)
	}
	close(proceed)
	after := f.applied(copied.ID)
	instance := f.instance(after)
	if after.Status != store.StatusRunning || instance.Autostart || instance.Description != "renamed" || instance.Env["A"] != "1" {
		t.Errorf("%s, instance %+v", after.Status, instance)
	}
}
