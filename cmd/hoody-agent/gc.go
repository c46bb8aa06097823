package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

func (p *program) gcCommand() *cobra.Command {
	a := asking{p: p}
	var apply, dryRun, all bool
	cmd := a.register(&cobra.Command{
		Use:   "gc",
		Short: "Show what garbage collection would remove, or remove it now",
		Long: "Show what nobody refers to any more, and what is odd; with --apply remove the former. The agent does the same by\n" +
			"itself from time to time. What a user made is removed only when it was deleted on purpose.\n\n" +
			"Exit codes: 0 shown or done, 1 failed, or not allowed to remove anything now, 4 no agent answers.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if apply && dryRun {
				return usageError(errors.New("--apply and --dry-run exclude each other"))
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			report, err := client.Collect(cmd.Context(), apply)
			if err != nil {
				return err
			}
			if err := a.show(report, func(w io.Writer) { printReport(w, report, all) }); err != nil {
				return err
			}
			if apply && report.ReadOnly != "" {
				return fmt.Errorf("nothing was removed: %s", report.ReadOnly)
			}
			return nil
		},
	})
	cmd.Flags().BoolVar(&apply, "apply", false, "remove it")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show it, as without any flag")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "show what stays, too")
	return cmd
}

func printReport(w io.Writer, report agent.Report, all bool) {
	var rows [][]string
	var removable uint64
	counts := make(map[lineage.Verdict]int)
	for _, object := range report.Objects {
		counts[object.Verdict]++
		if object.Verdict == lineage.VerdictRemovable {
			removable += object.Used
		}
		if all || object.Verdict != lineage.VerdictKept {
			rows = append(rows, []string{string(object.Verdict), object.Name, humanBytes(object.Used), strings.Join(object.Reasons, "; ")})
		}
	}
	if len(rows) > 0 {
		table(w, []string{"VERDICT", "OBJECT", "USED", "WHY"}, rows)
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%d kept, %d removable (at least %s), %d unlisted, %d foreign, %d deferred\n", counts[lineage.VerdictKept],
		counts[lineage.VerdictRemovable], humanBytes(removable), counts[lineage.VerdictUnlisted], counts[lineage.VerdictForeign], counts[lineage.VerdictDeferred])
	switch {
	case report.ReadOnly != "":
		fmt.Fprintf(w, "nothing may be removed now: %s\n", oneLine(report.ReadOnly))
	case report.DryRun:
		fmt.Fprintln(w, "nothing was removed; --apply removes")
	default:
		fmt.Fprintf(w, "%d removed, %s came free, in %s\n", report.Removed, humanBytes(report.Freed), humanDuration(report.Took))
	}
}
