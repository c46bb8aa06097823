package zfs

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Status is how the pool as a whole is.
type Status struct {
	Health        string  // ONLINE, DEGRADED, SUSPENDED, … (zpoolconcepts(7))
	Used          float64 // part of the pool that is allocated, 0 to 1
	Fragmentation int     // of the free space, in percent; -1 where the pool keeps no such figure
}

// Status reports how the pool that the root dataset is in is.
func (p *Pool) Status(ctx context.Context) (Status, error) {
	name, _, _ := strings.Cut(p.root, "/")
	line, err := p.runner.value(ctx, "zpool", "list", "-Hp", "-o", "health,size,allocated,fragmentation", name)
	if err != nil {
		return Status{}, fmt.Errorf("status of pool %s: %w", name, err)
	}
	status, err := parseStatus(line)
	if err != nil {
		return Status{}, fmt.Errorf("status of pool %s: %w", name, err)
	}
	return status, nil
}

func parseStatus(line string) (Status, error) {
	columns := strings.Split(line, "\t")
	if len(columns) != 4 {
		return Status{}, fmt.Errorf("zpool list printed %q: %w", line, errdefs.ErrInternal)
	}
	status := Status{Health: columns[0], Fragmentation: -1}
	if columns[1] == "-" { // of a faulted pool nothing else is known
		return status, nil
	}
	size, err := strconv.ParseUint(columns[1], 10, 64)
	if err != nil || size == 0 {
		return Status{}, fmt.Errorf("zpool list printed the size %q: %w", columns[1], errdefs.ErrInternal)
	}
	allocated, err := strconv.ParseUint(columns[2], 10, 64)
	if err != nil {
		return Status{}, fmt.Errorf("zpool list printed as allocated %q: %w", columns[2], errdefs.ErrInternal)
	}
	status.Used = float64(allocated) / float64(size)
	if fragmentation, err := strconv.Atoi(strings.TrimSuffix(columns[3], "%")); err == nil {
		status.Fragmentation = fragmentation
	}
	return status, nil
}

// Versions returns what the commands and the kernel module call themselves: "zfs-2.3.9-1" and "zfs-kmod-2.3.9-1".
func Versions(ctx context.Context) (commands, module string, err error) {
	var lines []string
	err = newRunner(DefaultGrace, nil, zap.NewNop()).lines(ctx, func(line string) error {
		lines = append(lines, line)
		return nil
	}, "zfs", "version")
	if err != nil {
		return "", "", fmt.Errorf("version of zfs: %w", err)
	}
	if len(lines) < 2 {
		return "", "", fmt.Errorf("zfs version printed %d lines, want those of commands and module: %w", len(lines), errdefs.ErrUnavailable)
	}
	return lines[0], lines[1], nil
}
