package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func (p *program) idCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "id",
		Short: "Print this server's id, making one if it has none",
		Long: "Print this server's id. A server without one gets it now and keeps it in the state directory, so that its\n" +
			"certificate can be issued before the agent's first start.",
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			id, err := p.serverID()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.stdout, id)
			return err
		},
	}
}

func (p *program) serverID() (string, error) {
	cfg, err := p.loadConfig()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return "", fmt.Errorf("make state directory: %w", err)
	}
	return cfg.ServerID()
}
