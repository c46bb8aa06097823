package main

import (
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/hoodynetwork/hoody-agent/internal/admin"
)

func (p *program) containersCommand() *cobra.Command {
	a := asking{p: p}
	return a.register(&cobra.Command{
		Use:   "containers",
		Short: "List this server's containers",
		Long: "List this server's containers. USED is what only a container's files hold, SIZE what they amount to: the\n" +
			"difference is shared with others.\n\nExit codes: 0 listed, 4 no agent answers.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			containers, err := client.Containers(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(containers, func(w io.Writer) { printContainers(w, containers, time.Now()) })
		},
	})
}

func printContainers(w io.Writer, containers []admin.Container, now time.Time) {
	var rows [][]string
	for _, c := range containers {
		source, last := "-", "-"
		if c.Source != nil {
			source = c.Source.String()
		}
		if c.Last != nil {
			last = c.Last.Kind + " " + c.Last.State + " " + ago(now, c.Last.FinishedAt) + " ago"
		}
		status := c.Status
		if c.Failure != "" {
			status += ": " + c.Failure
		}
		rows = append(rows, []string{
			c.ID, c.Name, c.Project.String(), status, source, strconv.Itoa(c.Snapshots), humanBytes(c.Used), humanBytes(c.Referenced), last,
		})
	}
	table(w, []string{"ID", "NAME", "PROJECT", "STATUS", "COPY OF", "SNAPSHOTS", "USED", "SIZE", "LAST OPERATION"}, rows)
}
