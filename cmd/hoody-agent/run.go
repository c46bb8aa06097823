package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/health"
	"github.com/hoodynetwork/hoody-agent/internal/metrics"
)

func (p *program) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run the agent",
		Long: "Run the agent until SIGTERM or SIGINT, which shut it down cleanly: running jobs reach a safe point and go on\n" +
			"after the next start. Containers are not touched. A second signal ends it at once.\n\n" +
			"Exit codes: 0 clean shutdown, 1 failed, 2 wrong usage, 3 second signal, 6 the host, or a clone of it, runs twice, 78 configuration not valid.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.checkedConfig()
			if err != nil {
				return err
			}
			return p.serve(cmd.Context(), cfg, assemble)
		},
	}
}

// serve runs an agent with this process's log and signals.
func (p *program) serve(ctx context.Context, cfg config.Config, assemble assembler) error {
	journal := slices.ContainsFunc(p.environ, func(s string) bool { return strings.HasPrefix(s, "JOURNAL_STREAM=") })
	log, level, err := newLeveledLogger(cfg.Log, logTarget{out: p.stderr, terminal: p.terminal, journal: journal})
	if err != nil {
		return err
	}
	ctx, release := untilSignal(ctx, func() {
		log.Warn("second signal: ending at once")
		os.Exit(exitForced)
	})
	defer release()
	reloads := newReloader(p.checkedConfig, cfg, level, log)
	following, stop := context.WithCancel(ctx)
	var follower sync.WaitGroup
	follower.Go(func() { reloads.follow(following) })
	defer func() { stop(); follower.Wait() }()
	return runReloading(ctx, cfg, log, reloads.fresh, assemble)
}

// daemon is what an agent's parts are built with.
type daemon struct {
	cfg      config.Config
	serverID string
	build    build
	log      *zap.Logger
	metrics  *metrics.Metrics
	health   *health.Registry
	started  time.Time
}

// node is an assembled agent.
type node struct {
	api     http.Handler
	admin   http.Handler                    // on the admin socket
	checks  []health.Check                  // repeated while the agent runs
	run     func(ctx context.Context) error // does the work until ctx ends, then returns nil
	close   func() error                    // after run
	reload  func(cfg config.Config)         // takes over what can change
	ready   <-chan struct{}                 // closed when requests find all that they need
	alive   func()                          // returns unless the agent hangs; see supervisor.watch
	sources metrics.Sources

	endStreams func() // at the beginning of a shutdown: ends the answers that would not end by themselves
}

// assembler builds an agent's parts. ctx bounds the building only.
type assembler func(ctx context.Context, d daemon) (*node, error)

// run runs an agent until ctx ends and has then shut it down.
func run(ctx context.Context, cfg config.Config, log *zap.Logger, assemble assembler) error {
	return runReloading(ctx, cfg, log, nil, assemble)
}

// runReloading is run with an agent that takes over configurations while it runs.
func runReloading(ctx context.Context, cfg config.Config, log *zap.Logger, reloads <-chan config.Config, assemble assembler) (err error) {
	// The runtime directory is for everybody to pass through: the socket in it has a mode of its own.
	for dir, mode := range map[string]os.FileMode{cfg.StateDir: 0o700, cfg.RuntimeDir: 0o711} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	unlock, err := lockStateDir(cfg.StateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	id, err := cfg.ServerID()
	if err != nil {
		return err
	}
	b := buildOf(version, debug.ReadBuildInfo)
	d := daemon{
		cfg: cfg, serverID: id, build: b, log: log,
		metrics: newMetrics(b),
		health:  health.New(log.Named("health")), started: time.Now().UTC(),
	}
	log.Info("starting", zap.String("version", b.version), zap.String("server_id", id))
	warnAboutMountNamespace(log)

	n, err := assemble(ctx, d)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		log.Info("stopped before everything was there") // told to, while waiting for Incus or the store: no failure
		return nil
	}
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if err := d.metrics.Watch(n.sources); err != nil {
		return fmt.Errorf("watch agent: %w", err)
	}
	servers, err := openServers(d, n)
	if err != nil {
		return err
	}
	return supervise(ctx, d, n, servers, reloads)
}

// supervise serves until ctx ends or something fails, and ends everything in order: first no new requests, then the
// open ones are answered, then the work stops. The order matters: a request's answer may wait for a job.
func supervise(ctx context.Context, d daemon, n *node, servers *servers, reloads <-chan config.Config) error {
	systemd := supervisor{log: d.log}
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()

	group, running := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := n.run(work); err != nil {
			return fmt.Errorf("agent: %w", err)
		}
		if running.Err() == nil {
			return errors.New("agent: stopped by itself")
		}
		return nil
	})
	group.Go(func() error { d.health.Watch(work, n.checks...); return nil })
	d.health.Set(health.Starting, &health.Problem{
		Blocks: true, Text: "the server is not registered yet", Hint: "it registers as soon as the store takes writes; until then requests about it are refused",
	})
	group.Go(servers.serve)
	group.Go(func() error {
		for {
			select {
			case <-running.Done():
				return nil
			case cfg := <-reloads:
				n.reload(cfg)
			}
		}
	})
	group.Go(func() error {
		<-running.Done()
		d.log.Info("stopping")
		d.health.Set(health.Stopping, &health.Problem{Blocks: true, Text: "the agent is stopping", Hint: "ask again when it has started"})
		systemd.stopping()
		servers.shutdown()
		stopWork()
		return nil
	})
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWatching()
	// Watches the shutdown, too. Nobody waits for it: hanging in alive is what it is there to show.
	go systemd.watch(watching, n.alive)

	if awaitReady(running, n.ready, systemd) {
		d.health.Set(health.Starting, nil)
		systemd.ready()
		systemd.status("serving on " + servers.address())
		d.log.Info("serving", zap.String("api", servers.address()))
	}

	err := waitWithin(work, group, d.cfg.Operations.ShutdownTimeout)
	if err == nil {
		d.log.Info("stopped")
	}
	return err
}

// awaitReady tells whether the agent got ready before ctx ended. It keeps systemd from cutting the start off for a quarter of an hour, for a
// store that takes no writes; not for ever, since an upgrade waits for the start.
func awaitReady(ctx context.Context, ready <-chan struct{}, systemd supervisor) bool {
	const extendEvery, extendBy, extensions = 30 * time.Second, 90 * time.Second, 30
	extend := time.NewTicker(extendEvery)
	defer extend.Stop()
	extended := 0
	for {
		select {
		case <-ready:
			return true
		case <-ctx.Done():
			return false
		case <-extend.C:
			if extended++; extended <= extensions {
				systemd.startingStill(extendBy)
			}
		}
	}
}

// waitWithin waits for the group; once the work has been told to stop, no longer than limit.
func waitWithin(work context.Context, group *errgroup.Group, limit time.Duration) error {
	ended := make(chan error, 1)
	go func() { ended <- group.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-work.Done():
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(limit):
		return fmt.Errorf("work did not reach a safe point within %s; it continues from its journal", limit)
	}
}
