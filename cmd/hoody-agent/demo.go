package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/demo"
)

func (p *program) demoCommand() *cobra.Command {
	data, level := config.Bytes(256<<20).String(), "error"
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Tell the story of copy and sync on simulated hosts",
		Long: "Start two agents on simulated hosts, as `hoody-agent dev` does, and tell the story of copy and sync through their\n" +
			"HTTP API. Every line that it prints was checked; the exit code is 0 only if all of them held. It needs neither root\n" +
			"nor ZFS nor Incus; while it runs, its temporary directory takes about 25 times the size of the data.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var size config.Bytes
			if err := size.UnmarshalText([]byte(data)); err != nil {
				return usageError(fmt.Errorf("--data %w", err))
			}
			if size < demo.MinData || size > 1<<40 {
				return usageError(fmt.Errorf("--data must be between %s and 1TiB, is %s", config.Bytes(demo.MinData), size))
			}
			log, err := p.fleetLog(level)
			if err != nil {
				return err
			}
			ctx, release := untilSignal(cmd.Context(), func() { os.Exit(exitForced) })
			defer release()
			return tellDemo(ctx, log, demo.Options{Data: int64(size), Out: p.stdout, Terminal: isTerminal(p.stdout)}, nil)
		},
	}
	cmd.Flags().StringVar(&data, "data", data, "`size` of the container's data")
	cmd.Flags().StringVar(&level, "log-level", level, "what to show of the agents' logs: debug, info, warn or error")
	return cmd
}

// tellDemo tells the story on a fleet of its own. disturb, when given, comes between the story and each host.
func tellDemo(ctx context.Context, log *zap.Logger, options demo.Options, disturb func(demo.Host) demo.Host) (err error) {
	dir, err := os.MkdirTemp("", "hoody-demo-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	f, err := openFleet(ctx, fleetOptions{dir: dir, servers: 2, log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	var stage [2]demo.Server
	for i, server := range f.servers {
		stage[i] = demo.Server{ID: server.id, Name: server.cfg.Server.Name, API: server.api, Host: server}
		if disturb != nil {
			stage[i].Host = disturb(server)
		}
	}
	return demo.Tell(ctx, stage[0], stage[1], options)
}

// fleetLog is the log of agents that share this process with what people read.
func (p *program) fleetLog(level string) (*zap.Logger, error) {
	log, err := newLogger(config.Log{Level: level, Format: "auto"}, logTarget{out: p.stderr, terminal: p.terminal})
	if err != nil {
		return nil, usageError(fmt.Errorf("--log-level: %w", err))
	}
	return log, nil
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
