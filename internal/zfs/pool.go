package zfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// DefaultGrace is how long a command may take to end by itself once its context is done.
const DefaultGrace = 10 * time.Second

// mountinfoFile tells what is mounted where this process runs (proc_pid_mountinfo(5)).
const mountinfoFile = "/proc/self/mountinfo"

// Options configure a Pool. The zero value is usable as long as nothing is mounted.
type Options struct {
	// StateDir is the agent's state directory, absolute. Private mounts live in its subdirectory "mounts".
	StateDir string
	// Grace is how long a command may take to end after its context is done, before it is killed; a killed one gets as
	// long again, then it is left behind (see Pool.Close). Zero means DefaultGrace.
	Grace time.Duration
	// Observe is told of every command that ended: the program and its verb ("zfs list"), how long it took, and its error,
	// which is a *CommandError and wraps context.Canceled when somebody ended it. Answers count as errors, too: a look for
	// a dataset that is not there is ErrNotFound. It is called concurrently. Nil means nobody listens.
	Observe func(command string, took time.Duration, err error)
	// IdlePriority lets zfs send and receive run where everybody else goes first: nice 10, and the idle class of ioprio_set(2),
	// which disk schedulers heed and OpenZFS's own does not.
	IdlePriority bool
	// Log gets every command at debug level and what an operator should know at warn level. Nil means no log.
	Log *zap.Logger
}

// Pool is agent.Pool on a ZFS dataset and everything below it. It keeps no state about what ZFS holds: every answer
// comes from ZFS, and two Pools on the same root do not disturb each other more than two shells would.
type Pool struct {
	root      string
	runner    *runner
	library   *library
	log       *zap.Logger
	mountDir  string // empty: private mounts are not possible
	mountinfo string // mountinfoFile, unless a test says otherwise
	features  knownFeatures
	idle      bool // streams run at idle priority
	busy      busyMounts

	inventories *shared[lineage.Inventory]
}

var _ agent.Pool = (*Pool)(nil)

// Open returns the Pool of a root dataset such as "tank/incus". The root has to exist: ErrNotFound.
//
// The go-zfs library runs zfs with the environment of this process, so Open sets LC_ALL=C in it: error texts are
// matched, and part of them are the C library's, which are translated.
func Open(ctx context.Context, root string, opts Options) (*Pool, error) {
	if err := checkDataset(root); err != nil {
		return nil, fmt.Errorf("open pool: %w", err)
	}
	if opts.Grace <= 0 {
		opts.Grace = DefaultGrace
	}
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	mountDir := ""
	if opts.StateDir != "" {
		if !filepath.IsAbs(opts.StateDir) {
			return nil, fmt.Errorf("open pool %s: state directory %q is not absolute: %w", root, opts.StateDir, errdefs.ErrInvalid)
		}
		// Mounts are known by their real paths.
		stateDir, err := filepath.EvalSymlinks(opts.StateDir)
		if errors.Is(err, fs.ErrNotExist) {
			stateDir, err = opts.StateDir, nil
		}
		if err != nil {
			return nil, fmt.Errorf("open pool %s: %w", root, err)
		}
		mountDir = filepath.Join(stateDir, "mounts")
	}
	for _, program := range []string{"zfs", "zpool"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("open pool %s: %w", root, errors.Join(errdefs.ErrUnavailable, err))
		}
	}
	if err := os.Setenv("LC_ALL", "C"); err != nil {
		return nil, fmt.Errorf("open pool %s: %w", root, err)
	}
	runner := newRunner(opts.Grace, opts.Observe, opts.Log)
	pool := &Pool{
		root:      root,
		runner:    runner,
		library:   &library{runner: runner},
		log:       opts.Log,
		mountDir:  mountDir,
		mountinfo: mountinfoFile,
		idle:      opts.IdlePriority,
	}
	pool.inventories = newShared(pool.inventory)
	if _, err := pool.library.get(ctx, root); err != nil {
		return nil, fmt.Errorf("open pool %s: %w", root, err)
	}
	return pool, nil
}

// Close waits for commands that were left behind: cancelled, killed and still not gone, because the kernel does not let
// a process go while it waits for a hanging disk. With none of those it returns at once. It does not unmount.
func (p *Pool) Close(ctx context.Context) error {
	gone := make(chan struct{})
	go func() { // ends with the last command; as unwaitable as the command itself
		p.runner.running.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close pool %s: commands still run: %w", p.root, context.Cause(ctx))
	}
}

// Space reports what the root dataset uses and may still use, in bytes. That is the pool's own size and free space,
// less what other datasets of the pool, reservations and quotas take from it (zfsprops(7): available).
func (p *Pool) Space(ctx context.Context) (agent.Space, error) {
	root, err := p.library.get(ctx, p.root)
	if err != nil {
		return agent.Space{}, fmt.Errorf("space of %s: %w", p.root, rootAway(err))
	}
	return agent.Space{Size: root.Used + root.Avail, Free: root.Avail}, nil
}

// Encrypted tells whether new datasets below the root are encrypted (zfsprops(7): encryption, inherited).
func (p *Pool) Encrypted(ctx context.Context) (bool, error) {
	encryption, err := p.library.property(ctx, p.root, "encryption")
	if err != nil {
		return false, fmt.Errorf("encryption of %s: %w", p.root, rootAway(err))
	}
	return encryption != "off" && encryption != "-", nil
}
