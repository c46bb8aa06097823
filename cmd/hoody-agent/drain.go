package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (p *program) drainCommand() *cobra.Command {
	a := asking{p: p}
	var off bool
	cmd := a.register(&cobra.Command{
		Use:   "drain",
		Short: "Keep new containers off this server",
		Long: "Keep new containers off this server: creates and copies to it are refused until `drain --off`. What was accepted\n" +
			"before runs to its end, and what is here goes on. The state outlasts restarts.\n\n" +
			"Exit codes: 0 done, 1 failed, 4 no agent answers.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			drained, err := client.Drain(cmd.Context(), !off)
			if err != nil {
				return err
			}
			return a.show(drained, func(w io.Writer) {
				if off {
					fmt.Fprintln(w, "takes new containers")
					return
				}
				fmt.Fprintf(w, "takes no new containers; %d operations still run\n", drained.OpenJobs)
			})
		},
	})
	cmd.Flags().BoolVar(&off, "off", false, "take new containers again")
	return cmd
}
