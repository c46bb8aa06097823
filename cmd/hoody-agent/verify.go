package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
)

func (p *program) verifyCommand() *cobra.Command {
	a := asking{p: p}
	return a.register(&cobra.Command{
		Use:   "verify CONTAINER",
		Short: "Compare the files of a copy with those of its source, by checksums of all that is in them",
		Long: "Compare a copy, given by id or name, with its source: the files of the newest snapshot that both hold, which is normally what\n" +
			"the copy's files were made from. Names, types, modes, owners, link targets, extended attributes and contents are compared;\n" +
			"what either container has changed since is no difference. Run it on the copy's server.\n\n" +
			"All of the snapshot is read on both sides, at low priority; only sums travel. Interrupting the command ends it.\n" +
			"How far it has come is shown where people read standard error.\n\n" +
			"Exit codes: 0 equal, 1 could not be compared, 4 no agent answers, 5 different.",
		Args: oneArgument("container"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			progress := p.verifyProgress()
			verification, err := client.Verify(cmd.Context(), args[0], progress.show)
			progress.clear()
			if err != nil {
				return err
			}
			if err := a.show(verification, func(w io.Writer) { printVerification(w, verification) }); err != nil {
				return err
			}
			if !verification.Equal() {
				return errProblem
			}
			return nil
		},
	})
}

// verifyProgress keeps a line on standard error that says how far a verification has come, where people read that.
func (p *program) verifyProgress() *verifyProgress {
	if !p.terminal {
		return &verifyProgress{out: io.Discard}
	}
	return &verifyProgress{out: p.stderr}
}

type verifyProgress struct {
	out   io.Writer
	shown bool
}

// clearLine goes to the start of a terminal's line and empties it.
const clearLine = "\r\x1b[K"

func (v *verifyProgress) show(entries, bytes uint64) {
	v.shown = true
	fmt.Fprintf(v.out, clearLine+"%d files and directories, %s compared so far", entries, humanBytes(bytes))
}

func (v *verifyProgress) clear() {
	if v.shown {
		fmt.Fprint(v.out, clearLine)
	}
}

func printVerification(w io.Writer, v agent.Verification) {
	if v.Equal() {
		fmt.Fprint(w, "equal: ")
	} else {
		rows := make([][]string, len(v.Differences))
		for i, d := range v.Differences {
			rows[i] = []string{d.Path, orMissing(d.Here), orMissing(d.There)}
		}
		table(w, []string{"PATH", "COPY", "SOURCE"}, rows)
		fmt.Fprintf(w, "\ndifferent: %d paths, ", uint64(len(v.Differences))+v.Omitted)
	}
	fmt.Fprintf(w, "%d files and directories, %s, in %s\n", v.Entries, humanBytes(v.Bytes), humanDuration(v.Took))
	of := "what the copy's files were made from"
	if !v.Current {
		of = "of their common history"
	}
	fmt.Fprintf(w, "compared: snapshot %s, %s\n", v.Snapshot, of)
	if v.Shared {
		fmt.Fprintln(w, "copy and source share the snapshot: it was read whole, there was nothing to compare it with")
	}
}

func orMissing(text string) string {
	if text == "" {
		return "missing"
	}
	return text
}
