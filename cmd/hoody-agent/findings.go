package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
)

func (p *program) findingsCommand() *cobra.Command {
	a := asking{p: p}
	return a.register(&cobra.Command{
		Use:   "findings",
		Short: "List what is not as the records say, and what to do about it",
		Long: "List what the running agent has found on this host that is not as its records say: instances, datasets and\n" +
			"snapshots that are gone, unknown or somewhere else. Nothing is destroyed because of a finding.\n\n" +
			"Exit codes: 0 listed, 1 failed, 4 no agent answers.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			findings, err := client.Findings(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(findings, func(w io.Writer) { printAgentFindings(w, findings, time.Now()) })
		},
	})
}

func printAgentFindings(w io.Writer, findings []agent.Finding, now time.Time) {
	if len(findings) == 0 {
		fmt.Fprintln(w, "nothing is out of order")
		return
	}
	for _, f := range findings {
		fmt.Fprintf(w, "%s for %s: %s\n", f.Code, ago(now, f.Since), oneLine(f.Text))
		if f.Hint != "" {
			fmt.Fprintf(w, "  -> %s\n", oneLine(f.Hint))
		}
	}
}
