package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/hoodynetwork/hoody-agent/internal/admin"
)

func (p *program) lineageCommand() *cobra.Command {
	a := asking{p: p}
	return a.register(&cobra.Command{
		Use:   "lineage CONTAINER",
		Short: "Show where a container comes from, its copies, and what they share",
		Long: "Show the family of a container, given by id or name: sources, copies, and for those of this server the datasets\n" +
			"that they are built on, with the sizes that are theirs alone and that are shared.\n\n" +
			"Exit codes: 0 shown, 1 no such container, 4 no agent answers.",
		Args: oneArgument("container"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			eldest, err := client.Lineage(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(eldest, func(w io.Writer) { printRelative(w, eldest, "", "") })
		},
	})
}

// printRelative draws a relative and, below and to the right, its copies. branch leads to its first line, indent to the others.
func printRelative(w io.Writer, r admin.Relative, branch, indent string) {
	name := oneLine(r.Container.String())
	if r.Asked {
		name = "*" + name
	}
	switch {
	case r.Gone:
		fmt.Fprintf(w, "%s%s (deleted; its copies cannot sync)\n", branch, name)
	case !r.Here:
		fmt.Fprintf(w, "%s%s  %s on %s\n", branch, name, r.Status, oneLine(r.Server.String()))
	default:
		fmt.Fprintf(w, "%s%s  %s, %s of its own, %s shared\n", branch, name, r.Status, humanBytes(r.Unique), humanBytes(r.Shared))
	}
	detail := indent + "     "
	if len(r.Copies) > 0 {
		detail = indent + "│    "
	}
	for _, origin := range r.Origins {
		size := ""
		if origin.Size > 0 {
			size = fmt.Sprintf(" (%s)", humanBytes(origin.Size))
		}
		fmt.Fprintf(w, "%son %s%s\n", detail, origin.Snapshot, size)
	}
	for i, derived := range r.Copies {
		if i < len(r.Copies)-1 {
			printRelative(w, derived, indent+"├─ ", indent+"│  ")
		} else {
			printRelative(w, derived, indent+"└─ ", indent+"   ")
		}
	}
}
