package conformance

import (
	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// deleteWithoutDataset is how the agent deletes: files first aside, where others may stand on them.
func deleteWithoutDataset(h *host) {
	name, dataset := h.launch()
	aside := h.name("generations/kept")
	h.write(dataset, "rootfs/keep", []byte("me"))
	h.snapshot(dataset, "hoody-1")
	clone := h.clone(dataset+"@hoody-1", "clone")
	h.settle(dataset)
	h.ok(h.pool.Rename(h.ctx, dataset, aside), "rename aside")
	h.ok(h.runtime.Delete(h.ctx, name), "delete")
	h.gone(name)
	h.holds(aside, "rootfs/keep", []byte("me"))
	h.holds(clone, "rootfs/keep", []byte("me"))
}

func runningIsMounted(h *host) {
	name, dataset := h.launch()
	h.settle(dataset)
	h.ok(h.runtime.Start(h.ctx, name), "start")
	mounted, err := h.pool.Mounted(h.ctx, dataset)
	if err != nil || !mounted {
		h.Errorf("running, mounted: %v, %v", mounted, err)
	}
	h.fails(h.pool.Destroy(h.ctx, dataset), "destroy the files of a running instance", errdefs.ErrBusy)
	// A freeze is a snapshot of a running instance.
	h.snapshot(dataset, "hoody-1")
	h.with(dataset, func(m agent.Mount) error { _, err := m.Root().Stat("rootfs/bin"); return err })
	h.has(name, agent.InstanceRunning)
	h.ok(h.runtime.ForceStop(h.ctx, name), "force stop")
	h.settle(dataset)
}

// swapUnderInstance puts another generation under an instance, and back.
func swapUnderInstance(h *host) {
	name, dataset := h.launch()
	h.snapshot(dataset, "hoody-1")
	next, aside := h.clone(dataset+"@hoody-1", "incoming/next"), h.name("generations/old")
	h.write(next, "rootfs/etc/generation", []byte("next"))
	h.ok(h.runtime.Start(h.ctx, name), "start")
	h.ok(h.runtime.ForceStop(h.ctx, name), "force stop")
	h.settle(dataset)
	h.ok(h.pool.Rename(h.ctx, dataset, aside), "rename aside")
	h.ok(h.pool.Rename(h.ctx, next, dataset), "rename in")
	h.ok(h.runtime.Start(h.ctx, name), "start on the new generation")
	h.has(name, agent.InstanceRunning)
	for of, want := range map[string]bool{dataset: true, aside: false} {
		mounted, err := h.pool.Mounted(h.ctx, of)
		if err != nil || mounted != want {
			h.Errorf("%s is mounted: %v, %v; want %v", of, mounted, err, want)
		}
	}
	h.holds(dataset, "rootfs/etc/generation", []byte("next"))
	h.ok(h.runtime.ForceStop(h.ctx, name), "force stop again")
	h.settle(dataset)
	h.ok(h.pool.Rename(h.ctx, dataset, next), "rename out")
	h.ok(h.pool.Rename(h.ctx, aside, dataset), "rename back")
	h.ok(h.runtime.Start(h.ctx, name), "start on the old generation")
	h.holds(dataset, "rootfs/etc/generation", nil)
	h.ok(h.runtime.ForceStop(h.ctx, name), "force stop at last")
	// The old generation is the clone's origin, so it goes after it.
	h.ok(h.pool.Destroy(h.ctx, next), "destroy the new generation")
}

// firstCopy puts the files of a copy in place of an empty instance's stub.
func firstCopy(h *host) {
	_, source := h.launch()
	h.settle(source)
	h.write(source, "rootfs/etc/copied", []byte("yes"))
	h.snapshot(source, "hoody-1")
	files := h.clone(source+"@hoody-1", "incoming/copy")
	spec := h.spec()
	h.ok(h.runtime.CreateEmpty(h.ctx, spec), "create the copy")
	dataset := agent.InstanceDataset(spec.Name)
	h.settle(dataset)
	h.ok(h.pool.Rename(h.ctx, dataset, h.name("generations/stub")), "rename the stub aside")
	h.ok(h.pool.Rename(h.ctx, files, dataset), "rename in")
	h.ok(h.runtime.Start(h.ctx, spec.Name), "start the copy")
	h.has(spec.Name, agent.InstanceRunning)
	h.holds(dataset, "rootfs/etc/copied", []byte("yes"))
	h.ok(h.runtime.ForceStop(h.ctx, spec.Name), "force stop")
	h.ok(h.runtime.Protect(h.ctx, spec.Name, false), "lift the protection")
	h.ok(h.runtime.Delete(h.ctx, spec.Name), "delete the copy")
	h.gone(spec.Name)
}

func startFails(h *host) {
	name, dataset := h.launch()
	aside := h.name("aside")
	h.settle(dataset)
	h.ok(h.pool.Rename(h.ctx, dataset, aside), "rename aside")
	h.fails(h.runtime.Start(h.ctx, name), "start without files")
	if i, err := h.runtime.Instance(h.ctx, name); err != nil || i.Status == agent.InstanceRunning {
		h.Errorf("after a failed start: %+v, %v", i, err)
	}
	h.ok(h.pool.Rename(h.ctx, aside, dataset), "rename back")
	h.ok(h.runtime.Start(h.ctx, name), "start with files")
}
