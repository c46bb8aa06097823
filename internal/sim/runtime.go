package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Configuration keys with a meaning of their own, beside those of package agent; the same as Incus's.
const (
	keyProtected = "security.protection.delete"
	keyContainer = "user.hoody.container"
)

// RuntimeOptions changes how a Runtime behaves. Its effects ask the pool's Options.Fault like the pool's own.
type RuntimeOptions struct {
	// RootSize limits the root disks of instances that are made without a limit, as Incus's default profile may. Empty for none.
	RootSize string
}

// Runtime tracks what instances would do. It keeps their files in a pool the way Incus does: a dataset each, with rootfs, metadata.yaml,
// templates and a backup.yaml that every start writes again. Nothing runs; a container's programs are whoever writes to its
// files. As with Incus, instances outlive the process: those that ran are found running.
type Runtime struct {
	pool    agent.Pool
	beside  beside
	file    string
	options RuntimeOptions
	hub     hub

	mu     sync.Mutex
	closed bool
	state  runtimeState
	mounts map[string]agent.Mount // of what runs
	busy   map[string]*sync.Mutex // per instance: one operation at a time
}

var _ agent.Runtime = (*Runtime)(nil)

// runtimeState is what is kept on disk.
type runtimeState struct {
	Instances map[string]*instance `json:"instances"`
	Images    map[string]string    `json:"images"` // alias: fingerprint
}

// instance is one instance's record.
type instance struct {
	Description string               `json:"description,omitempty"`
	Status      agent.InstanceStatus `json:"status"`
	Config      map[string]string    `json:"config"` // flat, as Incus has it
	RootSize    string               `json:"root_size,omitempty"`
	Snapshots   []string             `json:"snapshots,omitempty"`
	Unsupported []string             `json:"unsupported,omitempty"`
	Starts      int                  `json:"starts"`
	Deaf        bool                 `json:"deaf,omitempty"` // does not heed a request to shut down
}

// beside is what a runtime takes over from the stand-in of a pool, apart from the pool itself.
type beside struct {
	fault func(op, object string) error // around each effect
	alive func() error                  // not nil once the process counts as dead
	sync  bool
	now   func() time.Time
}

// NewRuntime opens the runtime whose records are in a directory, on a pool. What ran when its former process ended runs on.
func NewRuntime(pool *Pool, dir string, options RuntimeOptions) (*Runtime, error) {
	alive := func() error {
		_, err := pool.view(context.Background())
		return err
	}
	return openRuntime(pool, beside{pool.fault, alive, pool.options.Sync, pool.now}, dir, options)
}

// NewRuntimeOn is NewRuntime on any pool. fault is asked around the runtime's effects, as Options.Fault is.
func NewRuntimeOn(pool agent.Pool, fault func(op, object string) error, dir string, options RuntimeOptions) (*Runtime, error) {
	return openRuntime(pool, beside{fault, func() error { return nil }, false, time.Now}, dir, options)
}

func openRuntime(pool agent.Pool, beside beside, dir string, options RuntimeOptions) (*Runtime, error) {
	r := &Runtime{
		pool: pool, beside: beside, file: filepath.Join(dir, "instances.json"), options: options,
		state:  runtimeState{Instances: make(map[string]*instance), Images: make(map[string]string)},
		mounts: make(map[string]agent.Mount), busy: make(map[string]*sync.Mutex),
	}
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = loadJSON(r.file, &r.state)
	}
	if err != nil {
		return nil, fmt.Errorf("open runtime %s: %w", dir, err)
	}
	for name, i := range r.state.Instances {
		if i.Status != agent.InstanceRunning && i.Status != agent.InstancePaused {
			continue
		}
		mount, err := pool.Mount(context.Background(), agent.InstanceDataset(name))
		if err != nil {
			i.Status = agent.InstanceError // its files are gone from under it
			continue
		}
		r.mounts[name] = mount
	}
	return r, nil
}

// Close ends the use of the runtime as the death of the process does: instances run on, every later call is
// ErrUnavailable. The pool is closed separately.
func (r *Runtime) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	var errs []error
	for _, m := range r.mounts {
		errs = append(errs, m.Unmount(context.Background()))
	}
	clear(r.mounts)
	return errors.Join(errs...)
}

// act runs one operation on an instance, with the faults around it and no other beside it.
func (r *Runtime) act(ctx context.Context, op, name string, do func() error) error {
	r.mu.Lock()
	turn, ok := r.busy[name]
	if !ok {
		turn = new(sync.Mutex)
		r.busy[name] = turn
	}
	r.mu.Unlock()
	turn.Lock()
	defer turn.Unlock()
	return around(ctx, r.beside.fault, op, name, do)
}

// update lets change edit a copy of an instance's record and keeps it; the record must exist.
func (r *Runtime) update(name string, change func(i *instance) error) error {
	return r.commit(func(s *runtimeState) error {
		i, ok := s.Instances[name]
		if !ok {
			return fmt.Errorf("no such instance: %w", errdefs.ErrNotFound)
		}
		next := *i
		next.Config, next.Snapshots = maps.Clone(i.Config), slices.Clone(i.Snapshots)
		s.Instances[name] = &next
		return change(&next)
	})
}

// commit lets change edit a copy of the records and keeps it, or leaves all as it was. A killed pool means a dead process:
// nothing is kept then.
func (r *Runtime) commit(change func(s *runtimeState) error) error {
	if err := r.beside.alive(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return fmt.Errorf("runtime is closed: %w", errdefs.ErrUnavailable)
	}
	next := runtimeState{Instances: maps.Clone(r.state.Instances), Images: maps.Clone(r.state.Images)}
	if err := change(&next); err != nil {
		return err
	}
	if err := saveJSON(r.file, next, r.beside.sync); err != nil {
		return fmt.Errorf("save instances: %w", err)
	}
	r.state = next
	return nil
}

// look returns a copy of an instance's record.
func (r *Runtime) look(name string) (instance, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return instance{}, fmt.Errorf("runtime is closed: %w", errdefs.ErrUnavailable)
	}
	i, ok := r.state.Instances[name]
	if !ok {
		return instance{}, fmt.Errorf("no such instance: %w", errdefs.ErrNotFound)
	}
	return *i, nil
}

// Instance implements agent.Runtime.
func (r *Runtime) Instance(ctx context.Context, name string) (agent.Instance, error) {
	err := ctx.Err()
	if err == nil {
		var i instance
		if i, err = r.look(name); err == nil {
			return i.public(name), nil
		}
	}
	return agent.Instance{}, fmt.Errorf("instance %s: %w", name, err)
}

// Instances implements agent.Runtime.
func (r *Runtime) Instances(ctx context.Context) ([]agent.Instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("instances: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fmt.Errorf("instances: runtime is closed: %w", errdefs.ErrUnavailable)
	}
	var all []agent.Instance
	for _, name := range slices.Sorted(maps.Keys(r.state.Instances)) {
		if i := r.state.Instances[name]; i.Config[keyContainer] != "" {
			all = append(all, i.public(name))
		}
	}
	return all, nil
}

// public shows an instance to the agent.
func (i *instance) public(name string) agent.Instance {
	out := agent.Instance{
		Name: name, ContainerID: i.Config[keyContainer], Description: i.Description, Status: i.Status, IDMap: i.Config[agent.ConfigIDMap],
		Config: make(map[string]string), Env: make(map[string]string),
		Snapshots: slices.Clone(i.Snapshots), Unsupported: slices.Clone(i.Unsupported), RootSize: i.RootSize, RootLimits: rootLimits(i.RootSize),
	}
	out.Autostart, _ = strconv.ParseBool(i.Config[agent.ConfigAutostart])
	for key, value := range i.Config {
		if variable, ok := strings.CutPrefix(key, agent.ConfigEnvironment); ok {
			out.Env[variable] = value
		} else if key != agent.ConfigAutostart && key != keyProtected && !strings.HasPrefix(key, "volatile.") && !strings.HasPrefix(key, "user.") {
			out.Config[key] = value
		}
	}
	return out
}

// Configure implements agent.Runtime.
func (r *Runtime) Configure(ctx context.Context, name string, config map[string]string) error {
	return r.act(ctx, "configure", name, func() error {
		if err := agent.CheckVariables(config); err != nil {
			return err
		}
		err := r.update(name, func(i *instance) error {
			for key, value := range config {
				if value == "" {
					delete(i.Config, key)
				} else {
					i.Config[key] = value
				}
			}
			return nil
		})
		return r.tell(err, agent.EventUpdated, name)
	})
}

// ConfigureByHand sets a configuration key as whoever does not go through an agent: nothing is checked.
func (r *Runtime) ConfigureByHand(name, key, value string) error {
	return r.update(name, func(i *instance) error { i.Config[key] = value; return nil })
}

// Describe implements agent.Runtime.
func (r *Runtime) Describe(ctx context.Context, name, description string) error {
	return r.act(ctx, "describe", name, func() error {
		err := r.update(name, func(i *instance) error { i.Description = description; return nil })
		return r.tell(err, agent.EventUpdated, name)
	})
}

// Protect implements agent.Runtime.
func (r *Runtime) Protect(ctx context.Context, name string, on bool) error {
	return r.act(ctx, "protect", name, func() error {
		err := r.update(name, func(i *instance) error {
			i.Config[keyProtected] = strconv.FormatBool(on)
			return nil
		})
		return r.tell(err, agent.EventUpdated, name)
	})
}

// Check implements agent.Runtime.
func (r *Runtime) Check(ctx context.Context) error {
	err := errors.Join(ctx.Err(), r.beside.alive())
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	if err == nil && closed {
		err = errdefs.ErrUnavailable
	}
	if err != nil {
		return fmt.Errorf("check runtime: %w", err)
	}
	return nil
}

// tell reports an event unless err is why it did not happen.
func (r *Runtime) tell(err error, kind agent.EventKind, name string) error {
	if err == nil {
		r.hub.emit(agent.RuntimeEvent{Kind: kind, Instance: name})
	}
	return err
}
