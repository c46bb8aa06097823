package conformance

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// image is one that every runtime under test holds. Its init is small, and may not heed a request to shut down.
const image = "busybox"

// Runtime checks a container runtime and how it works on its pool. open is called once for each test.
func Runtime(t *testing.T, open func(t *testing.T) (agent.Runtime, agent.Pool)) {
	for _, test := range []struct {
		name string
		run  func(h *host)
	}{
		{"Check", func(h *host) { h.ok(h.runtime.Check(h.ctx), "check") }},
		{"CreateEmpty", createEmpty},
		{"CreateFromImage", createFromImage},
		{"Delete", deleteInstance},
		{"DeleteWithoutDataset", deleteWithoutDataset},
		{"Protection", protection},
		{"Configure", configure},
		{"States", states},
		{"Stats", stats},
		{"Stop", stop},
		{"StartFails", startFails},
		{"Missing", missing},
		{"SnapshotRecords", snapshotRecords},
		{"RunningIsMounted", runningIsMounted},
		{"Swap", swapUnderInstance},
		{"FirstCopy", firstCopy},
		{"Events", events},
	} {
		t.Run(test.name, func(t *testing.T) {
			runtime, pool := open(t)
			test.run(&host{sandbox: newSandbox(t, pool), runtime: runtime})
		})
	}
}

// host is a sandbox with a runtime.
type host struct {
	*sandbox
	runtime agent.Runtime
}

// spec describes an instance that is removed after the test.
func (h *host) spec() agent.InstanceSpec {
	id := strings.ToLower(ulid.Make().String())
	spec := agent.InstanceSpec{
		Name: agent.InstanceName(id), ContainerID: id, Description: "conformance test",
		Env:    map[string]string{"GREETING": "hello, world"},
		Config: map[string]string{"limits.processes": "100"},
	}
	h.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.runtime.Protect(ctx, spec.Name, false); errors.Is(err, errdefs.ErrNotFound) {
			return
		}
		_ = h.runtime.ForceStop(ctx, spec.Name) // Delete tells if it did not work
		if err := h.runtime.Delete(ctx, spec.Name); err != nil {
			h.Errorf("clean up: %v", err)
		}
	})
	return spec
}

// launch makes an instance from the image, which tests may delete: it is not protected.
func (h *host) launch() (name, dataset string) {
	h.Helper()
	spec := h.spec()
	h.ok(h.runtime.CreateFromImage(h.ctx, spec, image), "create %s", spec.Name)
	h.ok(h.runtime.Protect(h.ctx, spec.Name, false), "lift the protection of %s", spec.Name)
	return spec.Name, agent.InstanceDataset(spec.Name)
}

// has wants an instance to be in a state.
func (h *host) has(name string, want agent.InstanceStatus) {
	h.Helper()
	got, err := h.runtime.Instance(h.ctx, name)
	h.ok(err, "instance %s", name)
	if got.Status != want {
		h.Errorf("instance is %s, want %s", got.Status, want)
	}
}

// settle waits until nothing has the dataset mounted: a runtime may keep a stopped instance's files for a moment.
func (h *host) settle(dataset string) {
	h.Helper()
	h.until(dataset+" is unmounted", func() bool {
		mounted, err := h.pool.Mounted(h.ctx, dataset)
		h.ok(err, "mounts of %s", dataset)
		return !mounted
	})
}

// gone wants neither instance nor dataset.
func (h *host) gone(name string) {
	h.Helper()
	_, err := h.runtime.Instance(h.ctx, name)
	h.fails(err, "read a deleted instance", errdefs.ErrNotFound)
	_, err = h.pool.Dataset(h.ctx, agent.InstanceDataset(name))
	h.fails(err, "read a deleted instance's dataset", errdefs.ErrNotFound)
}

func createEmpty(h *host) {
	spec := h.spec()
	h.ok(h.runtime.CreateEmpty(h.ctx, spec), "create")
	got, err := h.runtime.Instance(h.ctx, spec.Name)
	h.ok(err, "instance")
	if got.Name != spec.Name || got.ContainerID != spec.ContainerID || got.Status != agent.InstanceStopped || got.Autostart {
		h.Errorf("instance %+v", got)
	}
	if !maps.Equal(got.Env, spec.Env) || got.Config["limits.processes"] != "100" || len(got.Snapshots) != 0 || len(got.Unsupported) != 0 {
		h.Errorf("instance %+v", got)
	}
	for key := range got.Config {
		if strings.HasPrefix(key, "volatile.") || strings.HasPrefix(key, "environment.") || strings.HasPrefix(key, "user.") {
			h.Errorf("%s is no portable key", key)
		}
	}
	d := h.dataset(agent.InstanceDataset(spec.Name))
	if d.Origin != "" || d.Volume {
		h.Errorf("stub %+v", d)
	}
	h.fails(h.runtime.CreateEmpty(h.ctx, spec), "create twice", errdefs.ErrAlreadyExists)
	h.fails(h.runtime.CreateFromImage(h.ctx, spec, image), "create twice", errdefs.ErrAlreadyExists)

	other := h.spec()
	other.IDMap = "[]"
	h.ok(h.runtime.CreateEmpty(h.ctx, other), "create another")
	got, err = h.runtime.Instance(h.ctx, other.Name)
	if err != nil || got.IDMap != "[]" {
		h.Errorf("instance %+v, %v", got, err)
	}
	all, err := h.runtime.Instances(h.ctx)
	h.ok(err, "instances")
	found := 0
	for _, i := range all {
		if i.ContainerID == "" {
			h.Errorf("%s is not the agent's", i.Name)
		}
		if i.Name == spec.Name || i.Name == other.Name {
			found++
		}
	}
	if found != 2 {
		h.Errorf("%d of 2 instances are listed", found)
	}
}

func createFromImage(h *host) {
	_, dataset := h.launch()
	h.settle(dataset)
	h.with(dataset, func(m agent.Mount) error {
		info, err := m.Root().Lstat("rootfs")
		if err == nil && !info.IsDir() {
			h.Errorf("rootfs is %v", info.Mode())
		}
		if err == nil {
			_, err = m.Root().Lstat("rootfs/bin")
		}
		return err
	})
	unknown := h.spec()
	h.fails(h.runtime.CreateFromImage(h.ctx, unknown, "no/such-image"), "create from an unknown image", errdefs.ErrNotFound)
	h.gone(unknown.Name)
}

func deleteInstance(h *host) {
	name, dataset := h.launch()
	h.snapshot(dataset, "hoody-1") // goes along
	h.ok(h.runtime.Start(h.ctx, name), "start")
	h.fails(h.runtime.Delete(h.ctx, name), "delete a running instance", errdefs.ErrFailedPrecondition)
	h.ok(h.runtime.ForceStop(h.ctx, name), "force stop")
	h.ok(h.runtime.Delete(h.ctx, name), "delete")
	h.gone(name)
	h.ok(h.runtime.Delete(h.ctx, name), "delete again")
}

func protection(h *host) {
	spec := h.spec()
	h.ok(h.runtime.CreateEmpty(h.ctx, spec), "create")
	h.fails(h.runtime.Delete(h.ctx, spec.Name), "delete a protected instance", errdefs.ErrFailedPrecondition)
	h.dataset(agent.InstanceDataset(spec.Name))
	h.ok(h.runtime.Protect(h.ctx, spec.Name, false), "lift the protection")
	h.ok(h.runtime.Protect(h.ctx, spec.Name, true), "protect")
	h.fails(h.runtime.Delete(h.ctx, spec.Name), "delete a protected instance", errdefs.ErrFailedPrecondition)
	h.ok(h.runtime.Protect(h.ctx, spec.Name, false), "lift the protection")
	h.ok(h.runtime.Delete(h.ctx, spec.Name), "delete")
}

func configure(h *host) {
	spec := h.spec()
	h.ok(h.runtime.CreateEmpty(h.ctx, spec), "create")
	h.ok(h.runtime.Configure(h.ctx, spec.Name, map[string]string{
		"limits.processes": "", "limits.cpu.priority": "3", "environment.GREETING": "", "environment.TZ": "UTC",
		"boot.autostart": "true", "volatile.last_state.idmap": "[]",
	}), "configure")
	got, err := h.runtime.Instance(h.ctx, spec.Name)
	h.ok(err, "instance")
	if _, set := got.Config["limits.processes"]; set || got.Config["limits.cpu.priority"] != "3" {
		h.Errorf("config %v", got.Config)
	}
	if !maps.Equal(got.Env, map[string]string{"TZ": "UTC"}) || !got.Autostart || got.IDMap != "[]" || got.ContainerID != spec.ContainerID {
		h.Errorf("instance %+v", got)
	}
	if got.Description != spec.Description {
		h.Errorf("description %q", got.Description)
	}
	for range 2 {
		h.ok(h.runtime.Describe(h.ctx, spec.Name, "another"), "describe")
		if got, err = h.runtime.Instance(h.ctx, spec.Name); err != nil || got.Description != "another" || !maps.Equal(got.Env, map[string]string{"TZ": "UTC"}) {
			h.Errorf("instance %+v, %v", got, err)
		}
	}
	for name, value := range map[string]string{"X": "a\nlxc.hook.pre-start = /bin/true", "LD_PRELOAD": "/x.so", "PATH": "/proc/1/root/bin"} {
		h.fails(h.runtime.Configure(h.ctx, spec.Name, map[string]string{"environment." + name: value}), "configure "+name, errdefs.ErrInvalid)
		other := h.spec()
		other.Env = map[string]string{name: value}
		h.fails(h.runtime.CreateEmpty(h.ctx, other), "create with "+name, errdefs.ErrInvalid)
	}
	h.ok(h.runtime.Configure(h.ctx, spec.Name, map[string]string{"limits.processes": "", "boot.autostart": "false"}), "remove what is not set")
	if got, err = h.runtime.Instance(h.ctx, spec.Name); err != nil || got.Autostart || got.Config["limits.cpu.priority"] != "3" {
		h.Errorf("instance %+v, %v", got, err)
	}
}

func states(h *host) {
	name, _ := h.launch()
	h.has(name, agent.InstanceStopped)
	h.fails(h.runtime.Pause(h.ctx, name), "pause a stopped instance", errdefs.ErrFailedPrecondition)
	h.fails(h.runtime.Resume(h.ctx, name), "resume a stopped instance", errdefs.ErrFailedPrecondition)
	h.ok(h.runtime.Stop(h.ctx, name, time.Second), "stop a stopped instance")
	h.ok(h.runtime.ForceStop(h.ctx, name), "force a stopped instance to stop")
	for range 2 {
		h.ok(h.runtime.Start(h.ctx, name), "start")
		h.has(name, agent.InstanceRunning)
	}
	h.ok(h.runtime.Pause(h.ctx, name), "pause")
	h.has(name, agent.InstancePaused)
	h.fails(h.runtime.Start(h.ctx, name), "start a paused instance", errdefs.ErrFailedPrecondition)
	h.ok(h.runtime.Resume(h.ctx, name), "resume")
	h.has(name, agent.InstanceRunning)
	h.ok(h.runtime.Pause(h.ctx, name), "pause again")
	h.ok(h.runtime.ForceStop(h.ctx, name), "force a paused instance to stop")
	h.has(name, agent.InstanceStopped)
}

// stats wants an instance to be measured in every state.
func stats(h *host) {
	name, _ := h.launch()
	got, err := h.runtime.Stats(h.ctx, name)
	h.ok(err, "stats")
	if got.Status != agent.InstanceStopped || got.CPU != nil || got.Memory != nil || got.Processes != 0 || !got.StartedAt.IsZero() {
		h.Errorf("stopped: %+v", got)
	}
	h.ok(h.runtime.Start(h.ctx, name), "start")
	got, err = h.runtime.Stats(h.ctx, name)
	h.ok(err, "stats")
	if got.Status != agent.InstanceRunning || got.CPU == nil || got.Memory == nil || got.Processes < 1 || got.DiskUsage <= 0 {
		h.Errorf("running: %+v", got)
	}
	h.ok(h.runtime.Pause(h.ctx, name), "pause")
	got, err = h.runtime.Stats(h.ctx, name)
	h.ok(err, "stats")
	if got.Status != agent.InstancePaused || got.CPU == nil || got.Memory == nil {
		h.Errorf("paused: %+v", got)
	}
	_, err = h.runtime.Stats(h.ctx, agent.InstanceName("none"))
	h.fails(err, "stats of a missing instance", errdefs.ErrNotFound)
}

// stop takes both answers that an init may cause; the state has to agree with the answer.
func stop(h *host) {
	name, dataset := h.launch()
	h.ok(h.runtime.Start(h.ctx, name), "start")
	switch err := h.runtime.Stop(h.ctx, name, 5*time.Second); {
	case err == nil:
		h.has(name, agent.InstanceStopped)
	case errors.Is(err, errdefs.ErrBusy):
		h.ok(h.runtime.ForceStop(h.ctx, name), "force stop")
	default:
		h.Errorf("stop: %v", err)
	}
	h.has(name, agent.InstanceStopped)
	h.settle(dataset)
}

func missing(h *host) {
	none := agent.InstanceName(strings.ToLower(ulid.Make().String()))
	_, err := h.runtime.Instance(h.ctx, none)
	for what, err := range map[string]error{
		"instance":   err,
		"start":      h.runtime.Start(h.ctx, none),
		"stop":       h.runtime.Stop(h.ctx, none, time.Second),
		"force stop": h.runtime.ForceStop(h.ctx, none),
		"pause":      h.runtime.Pause(h.ctx, none),
		"resume":     h.runtime.Resume(h.ctx, none),
		"configure":  h.runtime.Configure(h.ctx, none, map[string]string{"limits.processes": "9"}),
		"describe":   h.runtime.Describe(h.ctx, none, "x"),
		"protect":    h.runtime.Protect(h.ctx, none, true),
	} {
		h.fails(err, what+" of a missing instance", errdefs.ErrNotFound)
	}
}

// snapshotRecords covers what can be asked of a runtime that made no snapshot; adopting one needs somebody who makes it.
func snapshotRecords(h *host) {
	name, dataset := h.launch()
	h.snapshot(dataset, "hoody-1")
	h.ok(h.runtime.DeleteSnapshot(h.ctx, name, "none"), "delete a missing snapshot")
	h.ok(h.runtime.DeleteSnapshot(h.ctx, name, "hoody-1"), "delete a snapshot that is not the runtime's")
	if got := h.dataset(dataset).Snapshots; len(got) != 1 || got[0].Name != "hoody-1" {
		h.Errorf("snapshots %+v", got)
	}
	none := agent.InstanceName(strings.ToLower(ulid.Make().String()))
	h.ok(h.runtime.DeleteSnapshot(h.ctx, none, "x"), "delete a snapshot of a missing instance")
}

func events(h *host) {
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	channel, err := h.runtime.Events(ctx)
	h.ok(err, "events")
	name, _ := h.launch()
	h.ok(h.runtime.Start(h.ctx, name), "start")
	h.ok(h.runtime.Pause(h.ctx, name), "pause")
	h.ok(h.runtime.Resume(h.ctx, name), "resume")
	h.ok(h.runtime.ForceStop(h.ctx, name), "force stop")
	h.ok(h.runtime.Configure(h.ctx, name, map[string]string{"limits.processes": "50"}), "configure")
	h.ok(h.runtime.Delete(h.ctx, name), "delete")
	wanted := map[agent.EventKind]bool{
		agent.EventCreated: true, agent.EventStarted: true, agent.EventPaused: true, agent.EventResumed: true,
		agent.EventStopped: true, agent.EventUpdated: true, agent.EventDeleted: true,
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for len(wanted) > 0 {
		select {
		case event, open := <-channel:
			if !open {
				h.Fatal("the channel closes before its context ends")
			}
			if event.Kind == agent.EventResync {
				clear(wanted) // it stands for all that may be missing
			}
			early := event.Kind == agent.EventUpdated && wanted[agent.EventStopped] // of the protection that launch lifts
			if event.Instance == name && !early {
				delete(wanted, event.Kind)
			}
		case <-deadline.C:
			h.Fatalf("never reported: %v", wanted)
		}
	}
	cancel()
	for open := true; open; {
		select {
		case _, open = <-channel:
		case <-deadline.C:
			h.Fatal("the channel stays open after its context")
		}
	}
}
