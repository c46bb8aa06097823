package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// devFlags are those of `hoody-agent dev`.
type devFlags struct {
	dir     string
	servers int
	port    int
	level   string
}

func (p *program) devCommand() *cobra.Command {
	f := devFlags{servers: 2, level: "warn"}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a fleet of agents on simulated hosts, to try the API",
		Long: "Run several agents in this process until it is interrupted. Storage and containers are simulated; the API, the\n" +
			"store, the traffic between agents and everything that they do are real. It needs neither root nor ZFS nor Incus.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.servers < 1 || f.servers > 20 {
				return usageError(fmt.Errorf("--servers must be between 1 and 20, is %d", f.servers))
			}
			if f.port < 0 || f.port+f.servers > 1<<16 {
				return usageError(fmt.Errorf("--port must be a port with room for %d servers, is %d", f.servers, f.port))
			}
			ctx, release := untilSignal(cmd.Context(), func() { os.Exit(exitForced) })
			defer release()
			return p.runFleet(ctx, f)
		},
	}
	cmd.Flags().StringVar(&f.dir, "dir", "", "`directory` to keep everything in and continue from; without, a temporary one")
	cmd.Flags().IntVar(&f.servers, "servers", f.servers, "how many servers")
	cmd.Flags().IntVar(&f.port, "port", 0, "`port` of the first server's API, the others' follow; without, free ones")
	cmd.Flags().StringVar(&f.level, "log-level", f.level, "debug, info, warn or error")
	return cmd
}

// runFleet runs a fleet until ctx ends.
func (p *program) runFleet(ctx context.Context, flags devFlags) (err error) {
	log, err := p.fleetLog(flags.level)
	if err != nil {
		return err
	}
	dir := flags.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "hoody-dev-"); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	f, err := openFleet(ctx, fleetOptions{dir: dir, servers: flags.servers, port: flags.port, log: log})
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // told to stop before everything was there
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if err := p.say("%s", f.welcome(flags.dir != "")); err != nil {
		return err
	}
	return f.wait(ctx)
}

// welcome is what somebody needs to know who starts a fleet.
func (f *fleet) welcome(kept bool) string {
	var text strings.Builder
	for _, server := range f.servers {
		fmt.Fprintf(&text, "%-10s %s  server id %s\n", server.cfg.Server.Name, server.api.Base, server.id)
	}
	fate := "removed at the end"
	if kept {
		fate = "kept, continued at the next start"
	}
	fmt.Fprintf(&text, "\nWhat an admin sees: hoody-agent status --socket %s\n", f.servers[0].cfg.AdminSocket())
	fmt.Fprintf(&text, "Everything is in %s (%s). Images: busybox, debian/13. Ctrl-C ends it.\n\n", f.dir, fate)
	first := f.servers[0]
	fmt.Fprintf(&text, `export HOODY_TOKEN=%s API=%s/api/v1

# The servers; a project; a container in it.
curl -sS -H "Authorization: Bearer $HOODY_TOKEN" $API/servers
PROJECT=$(curl -sS -H "Authorization: Bearer $HOODY_TOKEN" -d '{"alias": "production"}' $API/projects | grep -o '[0-9a-f]\{24\}' | head -n 1)
curl -sS -H "Authorization: Bearer $HOODY_TOKEN" -d '{"server_id": "%s", "name": "web", "container_image": "debian/13"}' $API/projects/$PROJECT/containers
`, f.token, first.api.Base, first.id)
	return text.String()
}
