package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hoodynetwork/hoody-agent/internal/admin"
)

func (p *program) statusCommand() *cobra.Command {
	a := asking{p: p}
	return a.register(&cobra.Command{
		Use:   "status",
		Short: "Show the agent at a glance: server, pool, health, running jobs",
		Long: "Show the running agent at a glance.\n\n" +
			"Exit codes: 0 it can do its work, 4 no agent answers, 5 something keeps it from its work.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			status, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			if err := a.show(status, func(w io.Writer) { printStatus(w, status, time.Now()) }); err != nil {
				return err
			}
			if !status.Ready {
				return errProblem
			}
			return nil
		},
	})
}

func printStatus(w io.Writer, s admin.Status, now time.Time) {
	line := func(key, format string, args ...any) {
		fmt.Fprintf(w, "%-12s%s\n", key, oneLine(fmt.Sprintf(format, args...)))
	}
	line("server", "%s (%s)", s.Server.Name, s.Server.ID)
	line("agent", "%s, up %s, API at %s", s.Server.Version, ago(now, s.Server.StartedAt), s.Server.API)
	line("pool", "%s", poolLine(s.Pool))
	if s.Store.Stale {
		line("store", "has not answered for %s; reads are that old", ago(now, s.Store.StaleSince))
	} else {
		line("store", "ok, revision %d", s.Store.Revision)
	}
	line("containers", "%s", countsLine(s.Containers))
	for _, other := range s.Fleet {
		state := "alive"
		if !other.Alive {
			state = "not alive, last seen " + ago(now, other.LastSeen) + " ago"
		}
		if other.Draining {
			state += ", draining"
		}
		line("fleet", "%s (%s), %s, %d containers", other.Name, other.ID, state, other.Containers)
	}
	switch {
	case len(s.Health) == 0:
		line("health", "ok")
	case s.Ready:
		line("health", "degraded")
	default:
		line("health", "NOT READY")
	}
	for _, state := range s.Health {
		fmt.Fprintf(w, "  %s for %s: %s\n", state.Code, ago(now, state.Since), oneLine(state.Text))
		if state.Hint != "" {
			fmt.Fprintf(w, "    -> %s\n", oneLine(state.Hint))
		}
	}
	if len(s.Jobs) > 0 {
		fmt.Fprintln(w)
		printJobs(w, s.Jobs, false, now)
	}
}

func poolLine(pool admin.Pool) string {
	if pool.Health == "" {
		return "not known" // yet, or it does not answer
	}
	parts := []string{}
	for _, part := range []string{pool.Root, pool.Health} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if pool.Size > 0 { // a suspended pool does not tell
		parts = append(parts, fmt.Sprintf("%s free of %s (%.0f %% used)", humanBytes(pool.Free), humanBytes(pool.Size), 100*pool.Used()))
	}
	if pool.Fragmentation >= 0 {
		parts = append(parts, fmt.Sprintf("fragmentation %d %%", pool.Fragmentation))
	}
	return strings.Join(parts, ", ")
}

// countsLine is "10 running, 2 stopped".
func countsLine(counts map[string]int) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[key], key))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
