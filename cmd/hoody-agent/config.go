package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hoodynetwork/hoody-agent/internal/config"
)

func (p *program) configCommand() *cobra.Command {
	return group("config", "Check and print the configuration", p.configCheckCommand(), p.configShowCommand())
}

func (p *program) configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and the files it names",
		Long: "Check the configuration: the file, the HOODY_ variables of the environment, and that the files named in it\n" +
			"can be read and keep their secrets. Every problem is listed. Nothing is started or changed.\n\n" +
			"Exit codes: 0 valid, 2 wrong usage, 78 not valid.",
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			if _, err := p.checkedConfig(); err != nil {
				return err
			}
			_, err := fmt.Fprintln(p.stdout, "configuration ok")
			return err
		},
	}
}

func (p *program) configShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Print the configuration that the agent would run with",
		Long: "Print defaults, file and environment put together, as a file that could be loaded again.\n" +
			"It holds no secrets: those are in the files that it names.",
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := p.loadConfig()
			if err != nil {
				return err
			}
			text, err := cfg.YAML()
			if err != nil {
				return err
			}
			_, err = p.stdout.Write(text)
			return err
		},
	}
}

// checkedConfig is loadConfig plus a look at the files that the configuration names.
func (p *program) checkedConfig() (config.Config, error) {
	cfg, err := p.loadConfig()
	if err != nil {
		return cfg, err
	}
	if err := cfg.CheckFiles(); err != nil {
		return cfg, fmt.Errorf("%w:\n%w", errConfig, err)
	}
	return cfg, nil
}
