//go:build e2e

package lxc_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// TestRealCheckout replaces the dataset of an empty instance by a clone of another's, as a copy does.
func TestRealCheckout(t *testing.T) {
	runtime, ctx := open(t)
	source := launch(t, runtime, ctx)
	sh(t, "incus", "exec", source, "--", "sh", "-c", "echo from the source > /note")
	must(t, runtime.ForceStop(ctx, source))
	state, err := runtime.Instance(ctx, source)
	must(t, err)
	from := dataset(t, runtime, ctx, source)
	sh(t, "zfs", "snapshot", from+"@hoody-test")

	spec := newSpec(t, runtime)
	spec.IDMap = state.IDMap
	spec.Env = map[string]string{"GREETING": "hello"}
	spec.Config = map[string]string{"limits.processes": "200"}
	must(t, runtime.CreateEmpty(ctx, spec))
	to := dataset(t, runtime, ctx, spec.Name)
	aside := strings.TrimSuffix(to, spec.Name) + "17c0-aside-" + spec.Name
	sh(t, "zfs", "rename", to, aside)
	sh(t, "zfs", "clone", "-o", "mountpoint=legacy", "-o", "canmount=noauto", from+"@hoody-test", to)
	sh(t, "zfs", "destroy", "-r", aside)
	must(t, runtime.Start(ctx, spec.Name))
	if got := sh(t, "incus", "exec", spec.Name, "--", "sh", "-c", "cat /note; echo $GREETING"); got != "from the source\nhello" {
		t.Errorf("in the copy: %q", got)
	}
	copied, err := runtime.Instance(ctx, spec.Name)
	must(t, err)
	t.Logf("source id map %s, copy's %s", state.IDMap, copied.IDMap)
	if copied.IDMap != state.IDMap || copied.ContainerID != spec.ContainerID || copied.Env["GREETING"] != "hello" ||
		copied.Config["limits.processes"] != "200" || len(copied.Unsupported) != 0 {
		t.Errorf("copy is %+v", copied)
	}
	if left := sh(t, "incus", "config", "get", spec.Name, "volatile.apply_template"); left != "" {
		t.Errorf("templates still to apply: %q", left)
	}
	all, err := runtime.Instances(ctx)
	must(t, err)
	for _, name := range []string{source, spec.Name} {
		if !slices.ContainsFunc(all, func(i agent.Instance) bool { return i.Name == name }) {
			t.Errorf("%s is not among %d instances", name, len(all))
		}
	}
	must(t, runtime.ForceStop(ctx, spec.Name))
	must(t, runtime.Protect(ctx, spec.Name, false))
	must(t, runtime.Delete(ctx, spec.Name))
}

// TestRealDeleteWithoutDataset renames the dataset away first: Incus must not miss it.
func TestRealDeleteWithoutDataset(t *testing.T) {
	runtime, ctx := open(t)
	name := launch(t, runtime, ctx)
	sh(t, "incus", "snapshot", "create", name, "first")
	sh(t, "incus", "snapshot", "create", name, "second")
	must(t, runtime.ForceStop(ctx, name))
	from := dataset(t, runtime, ctx, name)
	aside := strings.TrimSuffix(from, name) + "17c0-aside-" + name
	sh(t, "zfs", "rename", from, aside)
	t.Cleanup(func() { sh(t, "zfs", "destroy", "-r", aside) })
	must(t, runtime.DeleteSnapshot(ctx, name, "first"))
	must(t, runtime.DeleteSnapshot(ctx, name, "first"))
	must(t, runtime.Protect(ctx, name, true))
	must(t, runtime.Protect(ctx, name, false))
	must(t, runtime.Delete(ctx, name))
	want := aside + "@snapshot-first\n" + aside + "@snapshot-second"
	if got := sh(t, "zfs", "list", "-H", "-t", "snapshot", "-o", "name", "-s", "createtxg", aside); got != want {
		t.Errorf("left: %q", got)
	}
	if left := sh(t, "find", "/var/lib/incus/storage-pools", "-name", name); left != "" {
		t.Errorf("left: %s", left)
	}
}

func TestRealConfigure(t *testing.T) {
	runtime, ctx := open(t)
	name := launch(t, runtime, ctx)
	must(t, runtime.Configure(ctx, name, map[string]string{"environment.COLOUR": "blue", "limits.memory": "256MiB", "boot.autostart": "true"}))
	if got := sh(t, "incus", "exec", name, "--", "sh", "-c", "echo $COLOUR"); got != "blue" {
		t.Errorf("a new process sees %q", got)
	}
	got, err := runtime.Instance(ctx, name)
	must(t, err)
	if got.Env["COLOUR"] != "blue" || got.Config["limits.memory"] != "256MiB" || !got.Autostart {
		t.Errorf("got %+v", got)
	}
	must(t, runtime.Configure(ctx, name, map[string]string{"environment.COLOUR": "", "boot.autostart": "false"}))
	got, err = runtime.Instance(ctx, name)
	must(t, err)
	if _, there := got.Env["COLOUR"]; there || got.Autostart || got.Config["limits.memory"] != "256MiB" {
		t.Errorf("got %+v", got)
	}
	if out := sh(t, "incus", "query", "/1.0/instances/"+name); !strings.Contains(out, `"description": "a test's"`) {
		t.Errorf("the description is lost: %s", out)
	}
	wantClass(t, runtime.Configure(ctx, name, map[string]string{"no.such.key": "1"}), errdefs.ErrInvalid)
	wantClass(t, runtime.Configure(ctx, name, map[string]string{"limits.memory": "plenty"}), errdefs.ErrInvalid)
}

// TestRealSchedule: no profile may make Incus take snapshots of an instance of ours.
func TestRealSchedule(t *testing.T) {
	runtime, ctx := open(t)
	spec := newSpec(t, runtime)
	must(t, runtime.CreateEmpty(ctx, spec))
	profile := "hoody-17c0-schedule"
	sh(t, "incus", "profile", "create", profile)
	t.Cleanup(func() {
		sh(t, "incus", "profile", "remove", spec.Name, profile)
		sh(t, "incus", "profile", "delete", profile)
	})
	sh(t, "incus", "profile", "set", profile, "snapshots.schedule=@daily")
	sh(t, "incus", "profile", "add", spec.Name, profile)
	must(t, runtime.Configure(ctx, spec.Name, map[string]string{"user.x": "y"}))
	if got := sh(t, "incus", "config", "get", "--expanded", spec.Name, "snapshots.schedule"); got != "@never" {
		t.Errorf("schedule is %q", got)
	}
}

func TestRealRootLimits(t *testing.T) {
	runtime, ctx := open(t)
	name := launch(t, runtime, ctx)
	got, err := runtime.Instance(ctx, name)
	must(t, err)
	if got.RootLimits != nil {
		t.Errorf("limits without a size: %v", got.RootLimits)
	}
	sh(t, "incus", "config", "device", "set", name, "root", "size=64MiB")
	got, err = runtime.Instance(ctx, name)
	must(t, err)
	for key, value := range got.RootLimits {
		if is := sh(t, "zfs", "get", "-Hpo", "value", key, dataset(t, runtime, ctx, name)); is != value {
			t.Errorf("%s is %s, we say %s", key, is, value)
		}
	}
	if len(got.RootLimits) != 1 || got.RootLimits["refquota"] != "67108864" {
		t.Errorf("limits %v", got.RootLimits)
	}
}

func TestRealUnsupported(t *testing.T) {
	runtime, ctx := open(t)
	name := launch(t, runtime, ctx)
	volume := "hoody-17c0-" + name
	sh(t, "incus", "storage", "volume", "create", "default", volume)
	t.Cleanup(func() { sh(t, "incus", "storage", "volume", "delete", "default", volume) })
	sh(t, "incus", "storage", "volume", "attach", "default", volume, name, "/data")
	got, err := runtime.Instance(ctx, name)
	must(t, err)
	t.Log(got.Unsupported)
	if len(got.Unsupported) != 1 || !strings.Contains(got.Unsupported[0], volume) {
		t.Errorf("unsupported %q", got.Unsupported)
	}
	sh(t, "incus", "storage", "volume", "detach", "default", volume, name)
}

// TestRealVirtualMachine makes Incus believe that a container is one: without KVM it refuses to make one.
func TestRealVirtualMachine(t *testing.T) {
	runtime, ctx := open(t)
	spec := newSpec(t, runtime)
	must(t, runtime.CreateEmpty(ctx, spec))
	become := func(kind string) {
		sh(t, "incus", "admin", "sql", "global", "UPDATE instances SET type="+kind+" WHERE name='"+spec.Name+"'")
	}
	become("1")
	t.Cleanup(func() { become("0") })
	got, err := runtime.Instance(ctx, spec.Name)
	must(t, err)
	if len(got.Unsupported) != 1 || !strings.Contains(got.Unsupported[0], "virtual machine") {
		t.Errorf("unsupported %q", got.Unsupported)
	}
}

func TestRealSnapshots(t *testing.T) {
	runtime, ctx := open(t)
	name := launch(t, runtime, ctx)
	for _, snapshot := range []string{"zulu", "alpha"} {
		sh(t, "incus", "snapshot", "create", name, snapshot)
	}
	got, err := runtime.Instance(ctx, name)
	must(t, err)
	if !slices.Equal(got.Snapshots, []string{"zulu", "alpha"}) {
		t.Errorf("snapshots %v", got.Snapshots)
	}
	all, err := runtime.Instances(ctx)
	must(t, err)
	if !slices.ContainsFunc(all, func(i agent.Instance) bool { return i.Name == name && slices.Equal(i.Snapshots, got.Snapshots) }) {
		t.Errorf("the list says otherwise: %+v", all)
	}
	must(t, runtime.DeleteSnapshot(ctx, name, "zulu"))
	got, err = runtime.Instance(ctx, name)
	must(t, err)
	if !slices.Equal(got.Snapshots, []string{"alpha"}) {
		t.Errorf("snapshots %v", got.Snapshots)
	}
}
