package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/health"
)

func (p *program) recoverCommand() *cobra.Command {
	var apply bool
	a := asking{p: p}
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Put the records in order after the store was lost, put back or swapped",
		Long: "Compare the store's records with what is in the pool and in Incus, and say what can be put in order. It is for an\n" +
			"agent that does not trust its records: the store is empty, older than the pool, or another one; or the state\n" +
			"directory is gone. The agent must be stopped; containers may run.\n\n" +
			"Without --apply nothing is changed. With it the records are written and the pool is stamped as belonging to them;\n" +
			"no dataset, snapshot or instance is ever removed.\n\n" +
			"Exit codes: 0 done, or nothing in the way of it; 1 failed; 5 something is in the way; 78 configuration not valid. It waits for\n" +
			"Incus and the store; interrupt it if they are not to come.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			cfg, err := p.checkedConfig()
			if err != nil {
				return err
			}
			log, err := newLogger(config.Log{Level: "warn", Format: "auto"}, logTarget{out: p.stderr, terminal: p.terminal})
			if err != nil {
				return err
			}
			ctx, release := untilSignal(cmd.Context(), func() { os.Exit(exitForced) })
			defer release()
			plan, err := recoverServer(ctx, cfg, log, openHost, apply)
			if plan == nil {
				return err
			}
			if len(plan.Obstacles) > 0 { // they are printed with the plan
				err = errProblem
			}
			shown := a.show(plan, func(w io.Writer) { printRecovery(w, *plan, apply && err == nil) })
			return errors.Join(shown, err)
		},
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "write the records, and stamp the pool")
	a.registerOutput(cmd)
	return cmd
}

// recoverServer plans the recovery of this host's records, and applies the plan if it is told to. The plan is returned with
// an error of its application, too; nil when there is none.
func recoverServer(ctx context.Context, cfg config.Config, log *zap.Logger, open func(context.Context, daemon) (host, error), apply bool) (plan *agent.Recovery, err error) {
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	unlock, err := lockStateDir(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	b := buildOf(version, debug.ReadBuildInfo)
	d := daemon{
		cfg: cfg, build: b, log: log, metrics: newMetrics(b), health: health.New(log), started: time.Now().UTC(),
	}
	h, err := open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	var formerID string
	if d.serverID, formerID, err = recoveredID(ctx, cfg, h.pool); err != nil {
		return nil, err
	}
	records, err := openStore(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	r := agent.Recoverer{
		Server: serverRecord(cfg, d.serverID, b.version), FormerID: formerID, Store: records, Pool: h.pool, Runtime: h.runtime, Logger: log.Named("recover"),
	}
	found, err := r.Plan(ctx)
	if err != nil {
		return nil, err
	}
	if !apply {
		return &found, nil
	}
	if err := r.Apply(ctx, found); err != nil {
		return &found, err
	}
	return &found, cfg.KeepServerID(d.serverID)
}

// recoveredID is the id that the pool says this server has, and the one that an agent made up meanwhile for want of it.
func recoveredID(ctx context.Context, cfg config.Config, pool agent.Pool) (id, former string, err error) {
	stamped, err := agent.StampedServer(ctx, pool)
	if errors.Is(err, errdefs.ErrCorrupt) {
		if id, known := cfg.KnownServerID(); id != "" || known != nil {
			return id, "", known
		}
		return "", "", fmt.Errorf("%w; set server.id in the configuration to the id that this server had", err)
	}
	if err != nil {
		return "", "", err
	}
	if stamped == "" {
		id, err = cfg.ServerID()
		return id, "", err
	}
	if cfg.Server.ID != "" && cfg.Server.ID != stamped {
		return "", "", fmt.Errorf("the pool belongs to server %s: set server.id to that in the configuration (it is %s), or leave it out", stamped, cfg.Server.ID)
	}
	kept, err := cfg.KeptServerID()
	if kept == stamped {
		kept = ""
	}
	return stamped, kept, err
}

func printRecovery(w io.Writer, r agent.Recovery, applied bool) {
	fmt.Fprintf(w, "server %s, store %s\n", r.ServerID, r.StoreID)
	if r.Distrust == nil {
		fmt.Fprintln(w, "records and pool belong together")
	} else {
		fmt.Fprintf(w, "records and pool do not belong together: %s\n", oneLine(r.Distrust.Text))
	}
	if len(r.Containers) > 0 {
		fmt.Fprintln(w)
		var rows [][]string
		for _, c := range r.Containers {
			rows = append(rows, []string{c.ID, cmp.Or(c.Name, "-"), string(c.Verdict), cmp.Or(string(c.Status), "-"), strconv.Itoa(c.Snapshots)})
		}
		table(w, []string{"CONTAINER", "NAME", "RECORD", "STATUS", "SNAPSHOTS"}, rows)
	}
	for _, c := range r.Containers {
		for _, line := range detailsOf(c) {
			fmt.Fprintf(w, "%s: %s\n", cmp.Or(oneLine(c.Name), c.ID), oneLine(line))
		}
	}
	for _, job := range r.Jobs {
		fmt.Fprintf(w, "%s of container %s (job %s) is ended: nobody can tell how far it came\n", job.Kind, job.ContainerID, job.ID)
	}
	for _, note := range r.Notes {
		fmt.Fprintln(w, oneLine(note))
	}
	for _, obstacle := range r.Obstacles {
		fmt.Fprintln(w, "in the way:", oneLine(obstacle))
	}
	switch {
	case applied:
		fmt.Fprintln(w, "\nDone. Start the agent.")
	case len(r.Obstacles) == 0:
		fmt.Fprintln(w, "\nNothing was changed. With --apply the records are written and the pool is stamped.")
	}
}

func detailsOf(c agent.RecoveredContainer) (lines []string) {
	if len(c.Changes) > 0 {
		lines = append(lines, "corrected: "+strings.Join(c.Changes, ", "))
	}
	if c.PutBack != "" {
		lines = append(lines, "its files are put back from "+c.PutBack)
	}
	if len(c.Unknown) > 0 {
		lines = append(lines, "not known: "+strings.Join(c.Unknown, "; "))
	}
	return append(lines, c.Conflicts...)
}
