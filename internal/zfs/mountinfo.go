package zfs

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// mountEntry is one ZFS mount of this mount namespace.
type mountEntry struct {
	source string // full name of the dataset or snapshot, by its present name: a rename shows at once
	point  string // where
}

// Mounted tells whether a dataset is mounted in the agent's mount namespace, which is the host's, where Incus mounts
// instances. A mount that lives on in another namespace only is not seen; ZFS refuses to destroy such a dataset.
func (p *Pool) Mounted(_ context.Context, dataset string) (bool, error) {
	full, err := p.dataset(dataset)
	if err != nil {
		return false, fmt.Errorf("mounted: %w", err)
	}
	p.busy.retry()
	mounts, err := p.mountsOf(full)
	if err != nil {
		return false, fmt.Errorf("mounted %s: %w", dataset, err)
	}
	return len(mounts) > 0, nil
}

// mountsOf returns the mount points of a dataset, oldest mount first.
func (p *Pool) mountsOf(full string) ([]string, error) {
	entries, err := p.mounts()
	if err != nil {
		return nil, err
	}
	var points []string
	for _, e := range entries {
		if e.source == full {
			points = append(points, e.point)
		}
	}
	return points, nil
}

// writeBack lets the kernel write what programs have stored through mappings of a dataset's files: ZFS does not have it yet, and so
// neither has a snapshot. Afterwards each further store is noticed. A mount that is gone meanwhile has nothing to write, and without
// this a snapshot is what it always was, so a failure is only told. It is a command because it may wait for a disk for ever.
func (p *Pool) writeBack(ctx context.Context, mounts []string) {
	if len(mounts) == 0 {
		return
	}
	if err := p.runner.run(ctx, append([]string{"sync", "-f"}, mounts...)...); err != nil {
		p.log.Info("mapped files not written back", zap.Strings("mounts", mounts), zap.Error(err))
	}
}

func (p *Pool) mounts() ([]mountEntry, error) {
	file, err := os.Open(p.mountinfo)
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	defer file.Close()
	return parseMountinfo(file)
}

// parseMountinfo reads the ZFS mounts of a mountinfo file (proc_pid_mountinfo(5)): "id parent major:minor root point
// options optional… - type source options", with space, tab, newline and backslash as octal escapes.
func parseMountinfo(file io.Reader) ([]mountEntry, error) {
	var entries []mountEntry
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 64<<10) // overlay mounts have long options
	for scanner.Scan() {
		before, after, ok := strings.Cut(scanner.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 2 {
			return nil, fmt.Errorf("mountinfo: unexpected line %q: %w", scanner.Text(), errdefs.ErrInternal)
		}
		if right[0] != "zfs" {
			continue
		}
		point, err := unescape(left[4], 3)
		if err != nil {
			return nil, fmt.Errorf("mountinfo: %q: %w", left[4], err)
		}
		source, err := unescape(right[1], 3)
		if err != nil {
			return nil, fmt.Errorf("mountinfo: %q: %w", right[1], err)
		}
		entries = append(entries, mountEntry{source: source, point: point})
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("mountinfo: %w", err)
	}
	return entries, nil
}
