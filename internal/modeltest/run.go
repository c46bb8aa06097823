package modeltest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
)

// deepEvery is how many steps pass between two looks into all snapshots where that takes long; elsewhere it is done after each.
const deepEvery = 10

// Run performs a program on a new fleet and returns how the fleet and the model came to differ, if they did.
func (b *Base) Run(ctx context.Context, program Program, log *zap.Logger) error {
	f, err := b.newFleet(ctx, log)
	if err != nil {
		return fmt.Errorf("start fleet: %w", err)
	}
	defer f.close()
	d := newDriver(f)
	for i, step := range program {
		log.Info("step", zap.Int("number", i+1), zap.Stringer("step", step))
		err := d.step(ctx, step)
		if err == nil {
			deep := !b.Sparing || i%deepEvery == deepEvery-1 || i == len(program)-1
			err = d.check(ctx, b.looksInto(d.model, step, i, deep), deep)
		}
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, step, err)
		}
	}
	return d.empty(ctx)
}

// looksInto tells which containers' files are looked into after a step: of all, or, where that takes long, of those that it
// names and of some other.
func (b *Base) looksInto(m *Model, step Step, number int, deep bool) func(name string) bool {
	if deep || !b.Sparing || len(m.containers) == 0 {
		return func(string) bool { return true }
	}
	names := slices.Sorted(maps.Keys(m.containers))
	touched := map[string]bool{names[number%len(names)]: true}
	for _, action := range step.Actions {
		touched[action.Container], touched[action.To] = true, true
	}
	return func(name string) bool { return touched[name] }
}

// empty deletes all containers and collects garbage: nothing that the agents made may be left.
func (d *driver) empty(ctx context.Context) error {
	var step Step
	for _, name := range slices.Sorted(maps.Keys(d.model.containers)) {
		step.Actions = append(step.Actions, Action{Op: opDelete, Container: name})
	}
	if err := d.step(ctx, step); err != nil {
		return fmt.Errorf("at the end, %s: %w", step, err)
	}
	if err := d.check(ctx, func(string) bool { return true }, false); err != nil {
		return fmt.Errorf("with all containers deleted: %w", err)
	}
	for _, s := range d.servers {
		if err := d.emptied(ctx, s); err != nil {
			return fmt.Errorf("with all containers deleted, server %d: %w", s.number, err)
		}
	}
	return nil
}

// emptied collects garbage and looks what is left.
func (d *driver) emptied(ctx context.Context, s *server) error {
	if err := d.takeForeign(ctx, s); err != nil {
		return err
	}
	report, err := s.agent.Collect(ctx, false)
	if err != nil {
		return err
	}
	if report.ReadOnly != "" {
		return fmt.Errorf("garbage is not collected: %s", report.ReadOnly)
	}
	inventory, err := s.pool.Inventory(ctx)
	if err != nil {
		return err
	}
	var wrong findings
	for _, dataset := range inventory.Datasets {
		if d.model.recovered && !strings.HasPrefix(dataset.Name, "hoody/incoming/") {
			continue // what nobody remembers to have deleted is kept, and what it stands on
		}
		if !permanent(dataset.Name) || strings.HasPrefix(dataset.Name, "hoody") && len(dataset.Snapshots)+len(dataset.Bookmarks) > 0 {
			wrong.add("%s is left (%s)", dataset.Name, verdicts(report, dataset.Name))
		}
	}
	return wrong.err()
}

// permanent tells whether a dataset stays when there are no containers.
func permanent(name string) bool {
	return slices.Contains([]string{"hoody", "hoody/incoming", "hoody/generations", "hoody/records", "containers", "images", "test", "deleted", "deleted/containers"}, name) ||
		strings.HasPrefix(name, "images/")
}

// verdicts is what a collection said of a dataset and what is in it.
func verdicts(report agent.Report, dataset string) string {
	var said []string
	for _, object := range report.Objects {
		if object.Name == dataset || strings.HasPrefix(object.Name, dataset+"@") || strings.HasPrefix(object.Name, dataset+"#") {
			said = append(said, fmt.Sprintf("%s %s: %s", strings.TrimPrefix(object.Name, dataset), object.Verdict, strings.Join(object.Reasons, ", ")))
		}
	}
	return strings.Join(said, "; ")
}

// Shrink drops steps from a failing program as long as it fails, within a number of runs.
func (b *Base) Shrink(ctx context.Context, program Program, runs int) Program {
	for size := len(program) / 2; size > 0; {
		dropped := false
		for from := 0; from+size <= len(program) && runs > 0; runs-- {
			shorter := program.without(from, from+size)
			if ctx.Err() == nil && b.Run(ctx, shorter, zap.NewNop()) != nil && ctx.Err() == nil {
				program, dropped = shorter, true
			} else {
				from += size
			}
		}
		if !dropped || size > 1 {
			size /= 2
		}
	}
	return program
}
