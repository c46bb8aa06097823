package modeltest

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/sim"
)

// Host is what a server's agent works with and what outlives it: disks, and instances on them.
type Host interface {
	// Open gives a new agent the host's pool and runtime. fault is asked before and after every effect on them.
	Open(ctx context.Context, fault func(op, object string) error) (agent.Pool, Runtime, error)
	// Kill does what the death of the agent's process does: what it had under way reaches the disks no more.
	Kill()
}

// Runtime is an agent's runtime with what people do to it behind the agent's back.
type Runtime interface {
	agent.Runtime
	AddSnapshot(ctx context.Context, instance, snapshot string) error
}

// Image is what all containers are made from: small, and with nothing that changes by itself.
const Image = "model"

// SimHost is a Host on the stand-ins, in a directory.
type SimHost struct {
	Dir     string
	pool    *sim.Pool
	runtime *sim.Runtime
}

// Open implements Host.
func (h *SimHost) Open(ctx context.Context, fault func(op, object string) error) (agent.Pool, Runtime, error) {
	var err error
	if h.pool, err = sim.NewPool(filepath.Join(h.Dir, "pool"), sim.Options{Fault: fault}); err != nil {
		return nil, nil, err
	}
	if h.runtime, err = sim.NewRuntime(h.pool, filepath.Join(h.Dir, "runtime"), sim.RuntimeOptions{}); err != nil {
		return nil, nil, err
	}
	err = h.runtime.AddImage(ctx, Image, FillImage)
	if err != nil && !errors.Is(err, errdefs.ErrAlreadyExists) {
		return nil, nil, err
	}
	return h.pool, h.runtime, nil
}

// FillImage makes its root file system.
func FillImage(root *os.Root) error {
	if err := root.Mkdir("etc", 0o755); err != nil {
		return err
	}
	if err := root.Mkdir("root", 0o700); err != nil {
		return err
	}
	return root.WriteFile("etc/hostname", []byte("model\n"), 0o644)
}

// Kill implements Host.
func (h *SimHost) Kill() {
	if h.pool != nil {
		_ = h.pool.Kill()
	}
	if h.runtime != nil {
		_ = h.runtime.Close()
	}
}
