//go:build e2e

package modeltest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/modeltest"
	"github.com/hoodynetwork/hoody-agent/internal/sim"
	"github.com/hoodynetwork/hoody-agent/internal/zfs"
)

// TestRealPrograms runs PROGRAMS random programs of STEPS steps on three roots in a real pool, with the stand-in of a
// runtime. It runs as root; HOODY_TEST_DATASET names the dataset below which it makes what it needs.
func TestRealPrograms(t *testing.T) {
	dataset := os.Getenv("HOODY_TEST_DATASET")
	if dataset == "" {
		t.Skip("HOODY_TEST_DATASET names no dataset")
	}
	made, commands := 0, &tally{}
	// Each look into a real pool is a command or two, a tenth of a second each on a slow host: three agents that collect every
	// few seconds would keep it busy with nothing else. Programs collect themselves, too.
	base := &modeltest.Base{Dir: t.TempDir(), RecordPace: 3 * time.Second, CollectPace: time.Minute, Sparing: true, Patience: 10 * time.Minute, Host: func(dir string) (modeltest.Host, error) {
		made++
		h := &zfsHost{root: fmt.Sprintf("%s/h%d-%d", dataset, os.Getpid(), made), dir: dir, observe: commands.add}
		t.Cleanup(func() { _ = exec.Command("zfs", "destroy", "-R", h.root).Run() })
		return h, exec.Command("zfs", "create", "-p", "-o", "canmount=off", "-o", "mountpoint=none", h.root).Run()
	}}
	if err := base.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(base.Close)
	seed, steps := setting(t, "SEED", 1), int(setting(t, "STEPS", 30))
	for i := range setting(t, "PROGRAMS", 2) {
		t.Run(fmt.Sprintf("seed %d", seed+i), func(t *testing.T) {
			program, began := modeltest.Generate(seed+i, steps), time.Now()
			if err := base.Run(t.Context(), program, zap.NewNop()); err != nil {
				t.Errorf("%v\n%s", err, program)
			}
			t.Logf("%d steps in %.1f s; commands and their seconds: %s", steps, time.Since(began).Seconds(), commands.take())
		})
	}
}

// tally counts commands, and how long each kind of them took.
type tally struct {
	mu    sync.Mutex
	count map[string]int
	took  map[string]time.Duration
}

func (t *tally) add(command string, took time.Duration, _ error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count == nil {
		t.count, t.took = make(map[string]int), make(map[string]time.Duration)
	}
	t.count[command]++
	t.took[command] += took
}

// take says what was counted and begins anew.
func (t *tally) take() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var said []string
	for _, command := range slices.Sorted(maps.Keys(t.count)) {
		said = append(said, fmt.Sprintf("%s %d (%.0f s)", command, t.count[command], t.took[command].Seconds()))
	}
	t.count, t.took = nil, nil
	return strings.Join(said, ", ")
}

// zfsHost is a host with a real pool: a root in one that others share.
type zfsHost struct {
	root, dir string
	observe   func(command string, took time.Duration, err error)
	runtime   *sim.Runtime
	pool      *zfs.Pool
}

func (h *zfsHost) Open(ctx context.Context, fault func(op, object string) error) (agent.Pool, modeltest.Runtime, error) {
	var err error
	if h.pool, err = zfs.Open(ctx, h.root, zfs.Options{StateDir: filepath.Join(h.dir, "state"), Observe: h.observe}); err != nil {
		return nil, nil, err
	}
	pool := faultyPool{h.pool, fault}
	if h.runtime, err = sim.NewRuntimeOn(pool, fault, filepath.Join(h.dir, "runtime"), sim.RuntimeOptions{}); err != nil {
		return nil, nil, err
	}
	err = h.runtime.AddImage(ctx, modeltest.Image, modeltest.FillImage)
	if err != nil && !errors.Is(err, errdefs.ErrAlreadyExists) {
		return nil, nil, err
	}
	return pool, h.runtime, nil
}

// Kill leaves alone what a command does already: ZFS does it or not, and the next agent looks.
func (h *zfsHost) Kill() {
	if h.runtime != nil {
		_ = h.runtime.Close()
	}
}

// faultyPool asks before and after every effect on a pool.
type faultyPool struct {
	agent.Pool
	fault func(op, object string) error
}

func (p faultyPool) around(op, object string, effect func() error) error {
	if err := p.fault(op+":before", object); err != nil {
		return err
	}
	if err := effect(); err != nil {
		return err
	}
	return p.fault(op+":after", object)
}

func (p faultyPool) Create(ctx context.Context, dataset string, properties agent.Properties) error {
	return p.around("create", dataset, func() error { return p.Pool.Create(ctx, dataset, properties) })
}

func (p faultyPool) Clone(ctx context.Context, snapshot, dataset string, properties agent.Properties) error {
	return p.around("clone", dataset, func() error { return p.Pool.Clone(ctx, snapshot, dataset, properties) })
}

func (p faultyPool) Rename(ctx context.Context, from, to string) error {
	return p.around("rename", from, func() error { return p.Pool.Rename(ctx, from, to) })
}

func (p faultyPool) SetProperties(ctx context.Context, dataset string, properties agent.Properties) error {
	return p.around("set", dataset, func() error { return p.Pool.SetProperties(ctx, dataset, properties) })
}

func (p faultyPool) Promote(ctx context.Context, dataset string) error {
	return p.around("promote", dataset, func() error { return p.Pool.Promote(ctx, dataset) })
}

func (p faultyPool) Rollback(ctx context.Context, snapshot string) error {
	return p.around("rollback", snapshot, func() error { return p.Pool.Rollback(ctx, snapshot) })
}

func (p faultyPool) Snapshot(ctx context.Context, dataset, name string) (made lineage.Snapshot, err error) {
	err = p.around("snapshot", dataset+"@"+name, func() (err error) { made, err = p.Pool.Snapshot(ctx, dataset, name); return err })
	return made, err
}

func (p faultyPool) RenameSnapshot(ctx context.Context, snapshot, name string) error {
	return p.around("rename-snapshot", snapshot, func() error { return p.Pool.RenameSnapshot(ctx, snapshot, name) })
}

func (p faultyPool) Bookmark(ctx context.Context, snapshot, name string) error {
	return p.around("bookmark", snapshot, func() error { return p.Pool.Bookmark(ctx, snapshot, name) })
}

func (p faultyPool) Destroy(ctx context.Context, dataset string) error {
	return p.around("destroy", dataset, func() error { return p.Pool.Destroy(ctx, dataset) })
}

func (p faultyPool) DestroySnapshot(ctx context.Context, snapshot string) error {
	return p.around("destroy-snapshot", snapshot, func() error { return p.Pool.DestroySnapshot(ctx, snapshot) })
}

func (p faultyPool) Receive(ctx context.Context, spec agent.ReceiveSpec, stream io.Reader) error {
	return p.around("receive", spec.To, func() error { return p.Pool.Receive(ctx, spec, stream) })
}

func (p faultyPool) AbortReceive(ctx context.Context, dataset string) error {
	return p.around("abort-receive", dataset, func() error { return p.Pool.AbortReceive(ctx, dataset) })
}
