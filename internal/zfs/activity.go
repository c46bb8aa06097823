package zfs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Activity reads what changes with the files of every dataset directly below a parent, with one command that does not
// look at their snapshots. `written` and `referenced` are as of the last transaction group, some five seconds ago at most.
// snapshots_changed is the time, in seconds, at which a snapshot was last made or destroyed (zfsprops(7), since 2.2).
func (p *Pool) Activity(ctx context.Context, parent string) (map[string]agent.Activity, error) {
	full, err := p.dataset(parent)
	if err != nil {
		return nil, fmt.Errorf("activity below %s: %w", parent, err)
	}
	all := make(map[string]agent.Activity)
	err = p.runner.lines(ctx, func(line string) error {
		name, measured, err := parseActivity(line)
		if below, ok := strings.CutPrefix(name, p.root+"/"); ok && name != full && err == nil {
			all[below] = measured
		}
		return err
	}, "zfs", "list", "-Hp", "-d1", "-t", "filesystem,volume", "-o", "name,written,referenced,snapshots_changed", full)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("activity below %s: %w", parent, err)
	}
	return all, nil
}

func parseActivity(line string) (name string, measured agent.Activity, err error) {
	columns := strings.Split(line, "\t")
	if len(columns) != 4 {
		return "", agent.Activity{}, fmt.Errorf("zfs list printed %q: %w", line, errdefs.ErrInternal)
	}
	written, err := strconv.ParseUint(columns[1], 10, 64)
	if err == nil {
		measured.Written = written
		measured.Referenced, err = strconv.ParseUint(columns[2], 10, 64)
	}
	if err != nil {
		return "", agent.Activity{}, fmt.Errorf("zfs list printed %q: %w", line, errdefs.ErrInternal)
	}
	measured.Snapshots = columns[3]
	return columns[0], measured, nil
}
