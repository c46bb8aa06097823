package hosts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
)

// Push copies a local file to the host. It replaces the remote file in one step, so a program that runs
// from it is not disturbed.
func (h *Host) Push(ctx context.Context, local, remote string, mode fs.FileMode) error {
	file, err := os.Open(local)
	if err != nil {
		return fmt.Errorf("push to %s: %w", h.name, err)
	}
	defer file.Close()
	const script = `mkdir -p "$1" && cat >"$2.new" && chmod "$3" "$2.new" && mv -f "$2.new" "$2"`
	_, err = h.RunStdin(ctx, file, "sh", "-c", script, "sh", path.Dir(remote), remote, fmt.Sprintf("%o", mode.Perm()))
	if err != nil {
		return fmt.Errorf("push %s to %s: %w", local, h.name, err)
	}
	return nil
}

// Pull copies a file from the host.
func (h *Host) Pull(ctx context.Context, remote, local string) (err error) {
	file, err := os.Create(local)
	if err != nil {
		return fmt.Errorf("pull from %s: %w", h.name, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := h.Stream(ctx, Streams{Out: file}, "cat", "--", remote); err != nil {
		return fmt.Errorf("pull %s from %s: %w", remote, h.name, err)
	}
	return nil
}
