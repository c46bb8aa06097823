package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/hoodynetwork/hoody-agent/internal/admin"
	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// The exit codes that the package comment documents.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitForced  = 3
	exitAbsent  = 4
	exitProblem = 5
	exitTwice   = 6
	exitConfig  = 78
)

// errUsage marks what the caller did wrong on the command line, errConfig what is wrong in the configuration.
var (
	errUsage   = errors.New("wrong usage")
	errConfig  = errors.New("the configuration is not valid")
	errProblem = errors.New("something is wrong") // said already; nothing is left to print
)

// program is what commands share: where they write, what they read, and how they find the configuration. Commands reach
// the process's surroundings through it only, which is what makes them testable.
type program struct {
	stdout, stderr io.Writer
	environ        []string
	terminal       bool // people read stderr
	screen         bool // people read stdout
	configPath     string
	configNamed    bool // by the caller; then the file must exist
}

func newProgram() *program {
	return &program{
		stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ(),
		terminal: isTerminal(os.Stderr), screen: isTerminal(os.Stdout),
	}
}

// execute runs the command that args name and returns the exit code.
func (p *program) execute(args []string) int {
	root := p.rootCommand()
	root.SetArgs(args)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(context.Background())
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errConfig):
		fmt.Fprintf(p.stderr, "hoody-agent: %v\n", err)
		return exitConfig
	case errors.Is(err, errUsage):
		fmt.Fprintf(p.stderr, "hoody-agent: %v\nhoody-agent --help tells what there is\n", err)
		return exitUsage
	case errors.Is(err, errProblem):
		return exitProblem
	case errors.Is(err, store.ErrOtherProcess):
		fmt.Fprintf(p.stderr, "hoody-agent: %v\n", err)
		return exitTwice
	default:
		fmt.Fprintf(p.stderr, "hoody-agent: %v\n", err)
		if errors.Is(err, admin.ErrNoAgent) {
			return exitAbsent
		}
		return exitFailed
	}
}

func (p *program) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:     "hoody-agent",
		Version: buildOf(version, debug.ReadBuildInfo).String(),
		Short:   "Copy, sync and snapshot containers between hosts with ZFS and Incus",
		// execute prints errors, once; a failed command is no reason to print its usage.
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.PersistentFlags().StringVarP(&p.configPath, "config", "c", config.DefaultPath, "configuration `file`")
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) { p.configNamed = cmd.Flags().Changed("config") }
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError(err) })
	root.AddCommand(
		p.runCommand(), p.configCommand(), p.pkiCommand(), p.tokenCommand(), p.idCommand(), p.versionCommand(),
		p.statusCommand(), p.jobsCommand(), p.containersCommand(), p.lineageCommand(), p.findingsCommand(), p.verifyCommand(),
		p.cancelCommand(), p.drainCommand(), p.gcCommand(), p.doctorCommand(), p.joinCommand(), p.recoverCommand(),
		p.devCommand(), p.demoCommand(), p.documentationCommand())
	return root
}

// loadConfig returns the configuration, or an errConfig that lists everything wrong with it.
func (p *program) loadConfig() (config.Config, error) {
	path := p.configPath
	if _, err := os.Stat(path); !p.configNamed && errors.Is(err, fs.ErrNotExist) {
		path = "" // nobody asked for that file; the defaults do without
	}
	cfg, err := config.Load(path, p.environ)
	if err != nil {
		return cfg, fmt.Errorf("%w:\n%w", errConfig, err)
	}
	return cfg, nil
}

func (p *program) say(format string, args ...any) error {
	_, err := fmt.Fprintf(p.stdout, format, args...)
	return err
}

// usageError marks err; cobra has no type of its own for what it finds wrong.
func usageError(err error) error { return fmt.Errorf("%w: %w", errUsage, err) }

// noArguments refuses arguments. On a command that only groups others, an argument is a command that does not exist.
func noArguments(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case cmd.HasSubCommands():
		return usageError(fmt.Errorf("%s has no command %q", cmd.CommandPath(), args[0]))
	default:
		return usageError(fmt.Errorf("%s takes no argument %q", cmd.CommandPath(), args[0]))
	}
}

// oneArgument takes exactly one argument, which is called name.
func oneArgument(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError(fmt.Errorf("%s takes one %s, not %d", cmd.CommandPath(), name, len(args)))
		}
		return nil
	}
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}
