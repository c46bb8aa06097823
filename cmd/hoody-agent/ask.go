package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/hoodynetwork/hoody-agent/internal/admin"
	"github.com/hoodynetwork/hoody-agent/internal/config"
)

// asking is what the commands that ask a running agent have in common.
type asking struct {
	p      *program
	socket string
	output string
}

const (
	outputTable = "table"
	outputJSON  = "json"
)

// register adds the flags to a command.
func (a *asking) register(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&a.socket, "socket", "", "the agent's admin `socket`; without, as the configuration says")
	a.registerOutput(cmd)
	return cmd
}

// registerOutput and checkOutput are for commands that show something and do without a running agent.
func (a *asking) registerOutput(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&a.output, "output", "o", outputTable, "table, for people, or json, for programs")
}

func (a *asking) checkOutput() error {
	if !slices.Contains([]string{outputTable, outputJSON}, a.output) {
		return usageError(fmt.Errorf("--output must be table or json, is %q", a.output))
	}
	return nil
}

// client returns a client of the agent.
func (a *asking) client() (*admin.Client, error) {
	if err := a.checkOutput(); err != nil {
		return nil, err
	}
	if a.socket != "" {
		return admin.NewClient(a.socket), nil
	}
	cfg, err := a.p.loadConfig()
	if errors.Is(err, fs.ErrPermission) && !a.p.configNamed {
		cfg, err = config.Default(), nil // the group may use the socket, but not read the file
	}
	if err != nil {
		return nil, err
	}
	return admin.NewClient(cfg.AdminSocket()), nil
}

// show prints the answer: as JSON, or as people like it.
func (a *asking) show(value any, people func(w io.Writer)) error {
	if a.output == outputJSON {
		encoder := json.NewEncoder(a.p.stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(value)
	}
	var text strings.Builder
	people(&text)
	_, err := io.WriteString(a.p.stdout, text.String())
	return err
}

// table prints rows in columns under a heading.
func table(w io.Writer, heading []string, rows [][]string) {
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{heading}, rows...) {
		for i, cell := range row {
			row[i] = oneLine(cell)
		}
		fmt.Fprintln(columns, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	_ = columns.Flush() // into memory
}

// oneLine keeps a cell from breaking the table, and what comes from elsewhere from steering the terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}
