package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (p *program) cancelCommand() *cobra.Command {
	a := asking{p: p}
	return a.register(&cobra.Command{
		Use:   "cancel CONTAINER",
		Short: "Give up the copy or sync that works on a container",
		Long: "Give up the copy or sync that works on a container of any server, given by id or name: a sync leaves the copy as it\n" +
			"was, a first copy becomes failed. Its server's agent does that at once, or when it runs again; what is copied from may be\n" +
			"changed and deleted from now on. What has come to the exchange of the files ends as if nothing had been said.\n\n" +
			"Exit codes: 0 recorded, 1 there is no such container, or nothing that can be cancelled works on it, 4 no agent answers.",
		Args: oneArgument("container"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			cancelled, err := client.Cancel(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(cancelled, func(w io.Writer) {
				fmt.Fprintf(w, "operation %s on %s is given up by server %s\n",
					shortID(cancelled.Job), oneLine(cancelled.Container.String()), oneLine(cancelled.Server.String()))
			})
		},
	})
}
