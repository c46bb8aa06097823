package zfs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Written returns how many bytes were written to the snapshot's dataset since the snapshot.
//
// ZFS counts what transaction groups have brought to disk: five seconds of a busy container's writes are not in the
// property yet, though a snapshot taken now would hold them (tried). So the open group is written out first. A store
// through a mapping that the kernel has not written back is in neither. That something was stored is seen nevertheless: Snapshot has
// earlier stores written back, after which each further one is noticed. A mount alone, even one without writes, counts as 1 KiB (tried).
func (p *Pool) Written(ctx context.Context, snapshot string) (uint64, error) {
	full, dataset, err := p.snapshot(snapshot)
	if err != nil {
		return 0, fmt.Errorf("written: %w", err)
	}
	pool, _, _ := strings.Cut(p.root, "/")
	if err := p.runner.run(ctx, "zpool", "sync", pool); err != nil {
		return 0, fmt.Errorf("written since %s: %w", snapshot, err)
	}
	written, err := p.written(ctx, full, dataset)
	if err != nil {
		return 0, fmt.Errorf("written since %s: %w", snapshot, err)
	}
	return written, nil
}

// WrittenLately returns, by short name, how many bytes were written to a dataset since each of some snapshots, as ZFS has counted so far:
// the open transaction group is missing, and nobody waits for it. It is one command. A snapshot that is gone is left out.
func (p *Pool) WrittenLately(ctx context.Context, dataset string, snapshots []string) (map[string]uint64, error) {
	full, err := p.dataset(dataset)
	if err != nil {
		return nil, fmt.Errorf("written: %w", err)
	}
	properties := make([]string, 0, len(snapshots))
	for _, name := range snapshots {
		if _, _, err := p.snapshot(dataset + "@" + name); err != nil {
			return nil, fmt.Errorf("written: %w", err)
		}
		properties = append(properties, "written@"+name)
	}
	written := make(map[string]uint64, len(snapshots))
	err = p.runner.lines(ctx, func(line string) error {
		property, value, ok := strings.Cut(line, "\t")
		name, of := strings.CutPrefix(property, "written@")
		if ok && of && value == "-" {
			return nil
		}
		bytes, err := strconv.ParseUint(value, 10, 64)
		if !ok || !of || err != nil {
			return fmt.Errorf("zfs get printed %q: %w", line, errdefs.ErrInternal)
		}
		written[name] = bytes
		return nil
	}, "zfs", "get", "-Hp", "-o", "property,value", strings.Join(properties, ","), full)
	if err != nil {
		return nil, fmt.Errorf("written to %s: %w", dataset, err)
	}
	return written, nil
}

func (p *Pool) written(ctx context.Context, full, dataset string) (uint64, error) {
	_, name, _ := splitVersion(full)
	value, err := p.runner.value(ctx, "zfs", "get", "-Hp", "-o", "value", "written@"+name, dataset)
	if err != nil {
		return 0, err
	}
	if value == "-" { // how zfs get says that there is no such snapshot
		return 0, fmt.Errorf("snapshot does not exist: %w", errdefs.ErrNotFound)
	}
	written, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("zfs get printed %q: %w", value, errdefs.ErrInternal)
	}
	return written, nil
}

// Diff lists what zfs diff reports as changed in the snapshot's dataset since the snapshot; ErrExhausted, with the first
// limit changes, when there are more. A rename is two changes: the old path and the new one.
//
// zfs diff needs the dataset mounted. Where it is mounted already that mount serves, otherwise it is mounted privately
// meanwhile; not read-only, since Incus could not mount it beside that (EBUSY, tried). While it compares, ZFS holds a temporary
// snapshot that is marked for deferred destruction. Contents are not compared: a file that was written with what it held counts
// as modified, and so does one whose access time changed.
//
// What zfs diff complains about and passes over is listed as a change without a name. It leaves out without a word: a file that was written
// through a name that it cannot find any more (several hard links, the last made of them removed: OpenZFS issue 16753), and what the
// kernel wrote back of a mapping after a snapshot for a store before it (zfs_putpage keeps the times).
func (p *Pool) Diff(ctx context.Context, snapshot string, limit int) (changes []agent.Change, err error) {
	full, dataset, err := p.snapshot(snapshot)
	if err != nil {
		return nil, fmt.Errorf("diff: %w", err)
	}
	changes, err = p.diff(ctx, full, dataset, limit)
	if errors.Is(err, errdefs.ErrStale) { // unmounted between our look and that of zfs
		changes, err = p.diff(ctx, full, dataset, limit)
	}
	if err != nil {
		return changes, fmt.Errorf("diff since %s: %w", snapshot, err)
	}
	return changes, nil
}

func (p *Pool) diff(ctx context.Context, full, dataset string, limit int) (changes []agent.Change, err error) {
	mounts, err := p.mountsOf(dataset)
	if err != nil {
		return nil, err
	}
	if len(mounts) == 0 {
		private, err := p.mount(ctx, dataset, 0)
		if err != nil {
			return nil, err
		}
		defer func() {
			if unmountErr := private.Unmount(context.WithoutCancel(ctx)); unmountErr != nil {
				p.log.Warn("private mount stays until the next start", zap.Error(unmountErr))
			}
		}()
		mounts = []string{private.path}
	}
	p.writeBack(ctx, mounts)
	warnings, err := p.runner.linesAndWarnings(ctx, func(line string) error {
		found, err := parseChange(line, mounts)
		if err != nil {
			return err
		}
		for _, change := range found {
			if len(changes) >= limit {
				return fmt.Errorf("more than %d changes: %w", limit, errdefs.ErrExhausted)
			}
			changes = append(changes, change)
		}
		return nil
	}, "zfs", "diff", "-H", full, dataset)
	if err == nil && warnings != "" {
		p.log.Warn("zfs diff passed over something, which counts as changed", zap.String("snapshot", full), zap.String("warnings", warnings))
		changes = append(changes, agent.Change{Path: nameless, Kind: agent.ChangeModified})
	}
	return changes, err
}

// nameless stands for a file that has no name (any more).
const nameless = "(nameless)"

// deleteQueue is what zfs diff puts behind the mount point for a file that was deleted and is still open (get_stats_for_obj in
// libzfs_diff.c).
const deleteQueue = "(on_delete_queue)"

// changeKinds are the first column of zfs diff.
var changeKinds = map[string]agent.ChangeKind{
	"+": agent.ChangeAdded,
	"-": agent.ChangeRemoved,
	"M": agent.ChangeModified,
	"R": agent.ChangeRenamed,
}

// parseChange reads one line of zfs diff -H: kind and path, for a rename also the new path, for a changed number of hard
// links also that number as "(+1)".
func parseChange(line string, mounts []string) ([]agent.Change, error) {
	columns := strings.Split(line, "\t")
	kind, known := changeKinds[columns[0]]
	if !known || len(columns) < 2 {
		return nil, fmt.Errorf("zfs diff: unexpected line %q: %w", line, errdefs.ErrInternal)
	}
	paths := columns[1:2]
	if kind == agent.ChangeRenamed {
		if len(columns) != 3 {
			return nil, fmt.Errorf("zfs diff: unexpected line %q: %w", line, errdefs.ErrInternal)
		}
		paths = columns[1:3]
	}
	changes := make([]agent.Change, 0, len(paths))
	for _, escaped := range paths {
		path, err := unescape(escaped, 4)
		if err != nil {
			return nil, fmt.Errorf("zfs diff: path in %q: %w", line, err)
		}
		inside, err := below(path, mounts)
		if err != nil {
			return nil, fmt.Errorf("zfs diff: %w", err)
		}
		changes = append(changes, agent.Change{Path: inside, Kind: kind})
	}
	return changes, nil
}

// below makes a path relative to the mount point that it lies in; the mount point itself is ".".
func below(path string, mounts []string) (string, error) {
	for _, mount := range mounts {
		mount = strings.TrimSuffix(mount, "/")
		if rest, ok := strings.CutPrefix(path, mount); ok {
			switch {
			case rest == "" || rest == "/":
				return ".", nil
			case rest == deleteQueue:
				return nameless, nil
			case rest[0] == '/':
				return rest[1:], nil
			}
		}
	}
	return "", fmt.Errorf("path %q lies in none of the mounts %q: %w", path, mounts, errdefs.ErrInternal)
}

// unescape replaces "\0ooo", a byte as digits octal digits: zfs diff prints four, the kernel's mountinfo three.
func unescape(text string, digits int) (string, error) {
	if !strings.Contains(text, `\`) {
		return text, nil
	}
	plain := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			plain = append(plain, text[i])
			continue
		}
		if i+digits >= len(text) {
			return "", errors.Join(errdefs.ErrInternal, errors.New("cut escape"))
		}
		value, err := strconv.ParseUint(text[i+1:i+1+digits], 8, 8)
		if err != nil {
			return "", errors.Join(errdefs.ErrInternal, err)
		}
		plain = append(plain, byte(value))
		i += digits
	}
	return string(plain), nil
}
