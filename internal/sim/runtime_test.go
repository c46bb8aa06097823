package sim_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/agent/conformance"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/sim"
)

// newRuntime opens a runtime with a pool of its own.
func newRuntime(t testing.TB, options sim.Options) (*sim.Runtime, *sim.Pool) {
	t.Helper()
	pool := newPool(t, options)
	runtime, err := sim.NewRuntime(pool, t.TempDir(), sim.RuntimeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runtime.Close() })
	return runtime, pool
}

func TestRuntimeConforms(t *testing.T) {
	runtime, pool := newRuntime(t, sim.Options{})
	conformance.Runtime(t, func(*testing.T) (agent.Runtime, agent.Pool) { return runtime, pool })
	inv, err := pool.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range inv.Datasets {
		if len(d.Name) > len("containers/") && d.Name[:len("containers/")] == "containers/" || len(d.Name) > len("hoody/") && d.Name[:6] == "hoody/" {
			t.Errorf("the suite left %s", d.Name)
		}
	}
}

// spec is an instance as the agent makes it.
func spec(id string) agent.InstanceSpec {
	return agent.InstanceSpec{Name: agent.InstanceName(id), ContainerID: id}
}

// launch makes an instance and starts it.
func launch(t testing.TB, runtime *sim.Runtime, spec agent.InstanceSpec, image string) {
	t.Helper()
	if err := runtime.CreateFromImage(t.Context(), spec, image); err != nil {
		t.Fatal(err)
	}
	if err := runtime.Start(t.Context(), spec.Name); err != nil {
		t.Fatal(err)
	}
}

// remove lifts an instance's protection and deletes it.
func remove(t testing.TB, runtime *sim.Runtime, name string) error {
	t.Helper()
	if err := runtime.Protect(t.Context(), name, false); err != nil {
		return err
	}
	return runtime.Delete(t.Context(), name)
}

func wantStatus(t testing.TB, runtime *sim.Runtime, name string, want agent.InstanceStatus) {
	t.Helper()
	if i, err := runtime.Instance(t.Context(), name); err != nil || i.Status != want {
		t.Errorf("%s is %s, %v; want %s", name, i.Status, err, want)
	}
}

func TestInstancesOutliveTheProcess(t *testing.T) {
	poolDir, dir := t.TempDir(), t.TempDir()
	pool := openPool(t, poolDir, sim.Options{})
	runtime, err := sim.NewRuntime(pool, dir, sim.RuntimeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	launch(t, runtime, spec("runs"), "busybox")
	launch(t, runtime, spec("stopped"), "busybox")
	if err := runtime.ForceStop(t.Context(), "hoody-stopped"); err != nil {
		t.Fatal(err)
	}
	if err := pool.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := runtime.Start(t.Context(), "hoody-stopped"); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("start in a dead process: %v", err)
	}

	pool = openPool(t, poolDir, sim.Options{})
	if runtime, err = sim.NewRuntime(pool, dir, sim.RuntimeOptions{}); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, runtime, "hoody-runs", agent.InstanceRunning)
	wantStatus(t, runtime, "hoody-stopped", agent.InstanceStopped)
	if mounted, err := pool.Mounted(t.Context(), "containers/hoody-runs"); err != nil || !mounted {
		t.Errorf("mounted: %v, %v", mounted, err)
	}
}

func TestPowerCut(t *testing.T) {
	runtime, pool := newRuntime(t, sim.Options{})
	launch(t, runtime, spec("auto"), "busybox")
	launch(t, runtime, spec("manual"), "busybox")
	if err := runtime.Configure(t.Context(), "hoody-auto", map[string]string{agent.ConfigAutostart: "true"}); err != nil {
		t.Fatal(err)
	}
	events, err := runtime.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := runtime.PowerCut(); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, runtime, "hoody-auto", agent.InstanceStopped)
	if mounted, err := pool.Mounted(t.Context(), "containers/hoody-auto"); err != nil || mounted {
		t.Errorf("mounted: %v, %v", mounted, err)
	}
	if len(events) != 0 {
		t.Errorf("a power cut says %v", <-events)
	}
	if err := runtime.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, runtime, "hoody-auto", agent.InstanceRunning)
	wantStatus(t, runtime, "hoody-manual", agent.InstanceStopped)
}

// TestStartsLeaveTraces tells apart what the runtime writes and what the container does.
func TestStartsLeaveTraces(t *testing.T) {
	runtime, pool := newRuntime(t, sim.Options{})
	err := runtime.AddImage(t.Context(), "loud", func(root *os.Root) error { return root.Mkdir("bin", 0o755) }, sim.Noisy)
	if err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string][]string{
		"busybox": {"backup.yaml"},
		"loud":    {"backup.yaml", "rootfs", "rootfs/var", "rootfs/var/log", "rootfs/var/log/boot.log"},
	} {
		instance := spec(image)
		dataset := agent.InstanceDataset(instance.Name)
		if err := runtime.CreateFromImage(t.Context(), instance, image); err != nil {
			t.Fatal(err)
		}
		snapshot(t, pool, dataset, "marker")
		if err := runtime.Start(t.Context(), instance.Name); err != nil {
			t.Fatal(err)
		}
		if n, err := pool.Written(t.Context(), dataset+"@marker"); err != nil || n == 0 {
			t.Errorf("%s: written %d, %v", image, n, err)
		}
		changes, err := pool.Diff(t.Context(), dataset+"@marker", 100)
		var paths []string
		for _, c := range changes {
			paths = append(paths, c.Path)
		}
		if diff := cmp.Diff(want, paths); err != nil || diff != "" {
			t.Errorf("%s, %v (-want +got):\n%s", image, err, diff)
		}
	}
	log := get(t, pool, "containers/hoody-loud", "rootfs/var/log/boot.log")
	if !strings.Contains(log, "boot 1 of hoody-loud") {
		t.Errorf("log %q", log)
	}
}

// TestDeletedWithClones follows what Incus does with a dataset that others stand on.
func TestDeletedWithClones(t *testing.T) {
	runtime, pool := newRuntime(t, sim.Options{})
	ctx := t.Context()
	if err := runtime.CreateFromImage(ctx, spec("source"), "busybox"); err != nil {
		t.Fatal(err)
	}
	snapshot(t, pool, "containers/hoody-source", "s")
	// The copy's files are a clone of the source's.
	if err := runtime.CreateEmpty(ctx, spec("copy")); err != nil {
		t.Fatal(err)
	}
	if err := pool.Destroy(ctx, "containers/hoody-copy"); err != nil {
		t.Fatal(err)
	}
	if err := pool.Clone(ctx, "containers/hoody-source@s", "containers/hoody-copy", nil); err != nil {
		t.Fatal(err)
	}
	if err := remove(t, runtime, "hoody-source"); err != nil {
		t.Fatal(err)
	}
	d, err := pool.Dataset(ctx, "containers/hoody-copy")
	if err != nil || !strings.HasPrefix(d.Origin, "deleted/containers/") {
		t.Fatalf("copy %+v, %v", d, err)
	}
	if err := remove(t, runtime, "hoody-copy"); err != nil {
		t.Fatal(err)
	}
	inv, err := pool.Inventory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range inv.Datasets {
		if strings.HasPrefix(d.Name, "deleted/containers/") || strings.HasPrefix(d.Name, "containers/hoody") {
			t.Errorf("left: %s", d.Name)
		}
	}
}

func TestRuntimesOwnSnapshots(t *testing.T) {
	runtime, pool := newRuntime(t, sim.Options{})
	ctx := t.Context()
	if err := runtime.CreateFromImage(ctx, spec("a"), "debian/13"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"daily", "again"} {
		if err := runtime.AddSnapshot(ctx, "hoody-a", name); err != nil {
			t.Fatal(err)
		}
	}
	if i, err := runtime.Instance(ctx, "hoody-a"); err != nil || !slices.Equal(i.Snapshots, []string{"daily", "again"}) {
		t.Errorf("%+v, %v", i, err)
	}
	for range 2 {
		if err := runtime.DeleteSnapshot(ctx, "hoody-a", "daily"); err != nil {
			t.Fatal(err)
		}
	}
	d, err := pool.Dataset(ctx, "containers/hoody-a")
	if err != nil || len(d.Snapshots) != 1 || d.Snapshots[0].Name != "snapshot-again" {
		t.Errorf("%+v, %v", d, err)
	}
	if err := pool.Clone(ctx, "containers/hoody-a@snapshot-again", "containers/clone", nil); err != nil {
		t.Fatal(err)
	}
	if err := runtime.DeleteSnapshot(ctx, "hoody-a", "again"); err != nil {
		t.Fatal(err)
	}
	if d, err = pool.Dataset(ctx, "containers/clone"); err != nil || !strings.HasPrefix(d.Origin, "containers/hoody-a@deleted-") {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestDeafInstance(t *testing.T) {
	runtime, _ := newRuntime(t, sim.Options{})
	launch(t, runtime, spec("a"), "busybox")
	if err := runtime.SetDeaf("hoody-a", true); err != nil {
		t.Fatal(err)
	}
	if err := runtime.Stop(t.Context(), "hoody-a", time.Hour); !errors.Is(err, errdefs.ErrBusy) {
		t.Errorf("stop: %v", err)
	}
	wantStatus(t, runtime, "hoody-a", agent.InstanceRunning)
	if err := runtime.ForceStop(t.Context(), "hoody-a"); err != nil {
		t.Error(err)
	}
}

// TestSlowListener loses events and is told so.
func TestSlowListener(t *testing.T) {
	runtime, _ := newRuntime(t, sim.Options{})
	if err := runtime.CreateEmpty(t.Context(), spec("a")); err != nil {
		t.Fatal(err)
	}
	events, err := runtime.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range cap(events) + 10 {
		if err := runtime.Protect(t.Context(), "hoody-a", true); err != nil {
			t.Fatal(err)
		}
	}
	var last agent.RuntimeEvent
	for range cap(events) {
		last = <-events
	}
	if last.Kind != agent.EventResync {
		t.Errorf("the last of many is %+v", last)
	}
	if err := runtime.Protect(t.Context(), "hoody-a", false); err != nil {
		t.Fatal(err)
	}
	if next := <-events; next.Kind != agent.EventUpdated {
		t.Errorf("afterwards comes %+v", next)
	}
}

// TestHostileFilesDoNotBoot starts instances whose files arrived as links that lead out.
func TestHostileFilesDoNotBoot(t *testing.T) {
	runtime, pool := newRuntime(t, sim.Options{})
	outside := t.TempDir()
	for name, prepare := range map[string]func(root *os.Root) error{
		"rootfs": func(root *os.Root) error {
			return errors.Join(root.RemoveAll("rootfs"), root.Symlink(outside, "rootfs"))
		},
		"backup": func(root *os.Root) error {
			return errors.Join(root.Remove("backup.yaml"), root.Symlink(outside+"/taken", "backup.yaml"))
		},
	} {
		if err := runtime.CreateEmpty(t.Context(), spec(name)); err != nil {
			t.Fatal(err)
		}
		mount, err := pool.Mount(t.Context(), "containers/hoody-"+name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(prepare(mount.Root()), mount.Unmount(t.Context())); err != nil {
			t.Fatal(err)
		}
		err = runtime.Start(t.Context(), "hoody-"+name)
		if refused := errors.Is(err, errdefs.ErrFailedPrecondition); refused != (name == "rootfs") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
		t.Errorf("written outside: %v, %v", left, err)
	}
}

// TestCreationsThatFail are undone, unless the process dies: then the record stays and can be deleted.
func TestCreationsThatFail(t *testing.T) {
	poolDir, dir := t.TempDir(), t.TempDir()
	for _, kill := range []bool{false, true} {
		var pool *sim.Pool
		armed := true
		pool = openPool(t, poolDir, sim.Options{Fault: func(op, _ string) error {
			switch {
			case op != "create:before" || !armed:
				return nil
			case kill:
				return errors.Join(pool.Kill(), errDied)
			}
			return errDied
		}})
		runtime, err := sim.NewRuntime(pool, dir, sim.RuntimeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := runtime.CreateEmpty(t.Context(), spec("a")); !errors.Is(err, errDied) {
			t.Fatal(err)
		}
		armed = false
		if kill {
			pool = openPool(t, poolDir, sim.Options{})
			if runtime, err = sim.NewRuntime(pool, dir, sim.RuntimeOptions{}); err != nil {
				t.Fatal(err)
			}
			wantStatus(t, runtime, "hoody-a", agent.InstanceStopped)
			if err := remove(t, runtime, "hoody-a"); err != nil {
				t.Fatal(err)
			}
		}
		if err := runtime.CreateEmpty(t.Context(), spec("a")); err != nil {
			t.Errorf("after a failed creation: %v", err)
		}
		if err := errors.Join(remove(t, runtime, "hoody-a"), runtime.Close(), pool.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
