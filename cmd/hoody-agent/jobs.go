package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hoodynetwork/hoody-agent/internal/admin"
)

// jobsFlags are those of `hoody-agent jobs`.
type jobsFlags struct {
	asking
	wanted admin.JobsWanted
	watch  bool
}

// refresh is how often a live view is drawn. The agent itself writes progress down every few seconds.
const refresh = time.Second

func (p *program) jobsCommand() *cobra.Command {
	f := jobsFlags{asking: asking{p: p}}
	cmd := f.register(&cobra.Command{
		Use:   "jobs",
		Short: "Show operations and how far they are",
		Long: "Show the operations of this server, or with --fleet of all. On a terminal the view is live until nothing runs any more, elsewhere it is\n" +
			"printed once.\n\nExit codes: 0 shown, 4 no agent answers.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			return f.run(cmd.Context(), client)
		},
	})
	cmd.Flags().BoolVarP(&f.wanted.All, "all", "a", false, "finished ones, too")
	cmd.Flags().BoolVar(&f.wanted.Fleet, "fleet", false, "those of all servers, whether they run or not")
	cmd.Flags().BoolVarP(&f.watch, "watch", "w", false, "go on until interrupted, also when nothing runs and off a terminal")
	return cmd
}

func (f *jobsFlags) run(ctx context.Context, client *admin.Client) error {
	live := f.watch || f.p.screen && f.output == outputTable && !f.wanted.All
	if live {
		var release func()
		ctx, release = untilSignal(ctx, func() {})
		defer release()
	}
	view := jobsView{screen: f.p.screen && f.output == outputTable, fleet: f.wanted.Fleet}
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	for {
		jobs, err := client.Jobs(ctx, f.wanted)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f.show(jobs, func(w io.Writer) { view.draw(w, jobs, time.Now()) }); err != nil {
			return err
		}
		if !live || len(jobs) == 0 && !f.watch {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// jobsView draws the table of jobs over and over.
type jobsView struct {
	screen bool // draw over the last one
	fleet  bool // tell the servers
	lines  int  // of the last one
}

func (v *jobsView) draw(w io.Writer, jobs []admin.Job, now time.Time) {
	var text strings.Builder
	printJobs(&text, jobs, v.fleet, now)
	if v.screen && v.lines > 0 {
		fmt.Fprintf(w, "\x1b[%dA\x1b[J", v.lines) // up, and clear what is below
	}
	v.lines = strings.Count(text.String(), "\n")
	_, _ = io.WriteString(w, text.String()) // into memory
}

// printJobs prints the jobs as a table, with their servers if they are of several.
func printJobs(w io.Writer, jobs []admin.Job, fleet bool, now time.Time) {
	if len(jobs) == 0 {
		fmt.Fprintln(w, "no jobs")
		return
	}
	heading := []string{"JOB", "KIND", "CONTAINER", "FROM", "STATE", "PHASE", "PROGRESS", "AGE"}
	if fleet {
		heading = append(heading, "SERVER")
	}
	var rows [][]string
	var notes []string
	for _, job := range jobs {
		row := []string{
			shortID(job.ID), job.Kind, job.Container.String(), fromOf(job), job.State, phaseOf(job), progressOf(job), ageOf(job, now),
		}
		if fleet {
			row = append(row, job.Server.String())
		}
		rows = append(rows, row)
		if job.Error != "" {
			notes = append(notes, fmt.Sprintf("%s: %s: %s", shortID(job.ID), cmp.Or(job.Class, "failed"), oneLine(job.Error)))
		}
	}
	table(w, heading, rows)
	for _, note := range notes {
		fmt.Fprintln(w, note)
	}
}

// shortID is enough of a job's id to find it in the log: the ids of one moment differ at their ends.
func shortID(id string) string { return id[max(0, len(id)-12):] }

func fromOf(job admin.Job) string {
	switch {
	case job.Source == nil:
		return "-"
	case job.From == nil:
		return job.Source.String()
	default:
		return job.Source.String() + " on " + job.From.String()
	}
}

func phaseOf(job admin.Job) string {
	if job.Attempts == 0 {
		return cmp.Or(job.Phase, "-")
	}
	return fmt.Sprintf("%s (%d failed)", job.Phase, job.Attempts)
}

func ageOf(job admin.Job, now time.Time) string {
	began := job.CreatedAt
	if job.StartedAt != nil {
		began = *job.StartedAt
	}
	if job.FinishedAt != nil {
		return "took " + humanDuration(job.FinishedAt.Sub(began))
	}
	return ago(now, began)
}

const barWidth = 20

// progressOf is a bar where the total is known, what has been moved, and how fast it goes.
func progressOf(job admin.Job) string {
	p := job.Progress
	var text strings.Builder
	switch {
	case p.NoOp:
		return "nothing to do"
	case p.BytesDone == 0 && p.BytesTotal == 0:
		return "-"
	case p.BytesTotal > 0 && job.FinishedAt == nil:
		part := min(1, float64(p.BytesDone)/float64(p.BytesTotal))
		filled := int(part * barWidth)
		fmt.Fprintf(&text, "[%s%s] %3.0f %%  %s of %s", strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled),
			100*part, humanBytes(p.BytesDone), humanBytes(p.BytesTotal))
	default:
		text.WriteString(humanBytes(p.BytesDone))
	}
	if p.BytesPerSecond > 0 && job.FinishedAt == nil {
		fmt.Fprintf(&text, "  %s/s", humanBytes(p.BytesPerSecond))
		if p.BytesTotal > p.BytesDone {
			fmt.Fprintf(&text, "  %s left", humanDuration(time.Duration((p.BytesTotal-p.BytesDone)/p.BytesPerSecond)*time.Second))
		}
	}
	return text.String()
}
