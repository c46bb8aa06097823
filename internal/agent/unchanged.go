package agent

import (
	"context"
	"errors"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// How many bytes may be written to a dataset that counts as unchanged. A list of changes does not tell everything (Pool.Diff), so these
// are as low as what is known to be noise allows.
const (
	maxNoise  = 1 << 20  // with the runtime's own files, such as backup.yaml: past it no list of changes is asked for
	maxSilent = 64 << 10 // with no file at all, as a mount does
)

// unchangedSince tells whether a container's files are as they were in a snapshot of its dataset. Nothing written is
// the fast answer. A start through Incus rewrites backup.yaml, so otherwise a bounded list of changes decides; what the
// bound cuts off counts as changed.
func (a *Agent) unchangedSince(ctx context.Context, snapshot string) (bool, error) {
	written, err := a.pool.Written(ctx, snapshot)
	if err != nil {
		return false, err
	}
	if written == 0 {
		return true, nil
	}
	if written > maxNoise {
		return false, nil
	}
	changes, err := a.pool.Diff(ctx, snapshot, a.options.DiffLimit)
	if errors.Is(err, errdefs.ErrExhausted) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, change := range changes {
		if !runtimesOwn(change.Path) {
			return false, nil
		}
	}
	return len(changes) > 0 || written <= maxSilent, nil
}

// runtimesOwn tells whether a path of an instance's dataset belongs to the runtime and not to the container.
func runtimesOwn(path string) bool {
	switch path = strings.Trim(path, "/"); path {
	case "", ".", "backup.yaml", "metadata.yaml", "templates":
		return true
	default:
		return strings.HasPrefix(path, "templates/")
	}
}
