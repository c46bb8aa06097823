package zfs

import (
	"context"
	"fmt"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Destroy removes one dataset with its own snapshots and bookmarks and any partly received state. ErrBusy, and nothing is
// destroyed, when it is mounted, has children, or when one of its snapshots has a clone or a hold.
//
// It is more than one step. Removing the snapshots is atomic: ZFS destroys all of them or none (lzc_destroy_snaps,
// libzfs_core.h). Removing the dataset follows. Between the two, and before the first, anybody may take a snapshot, clone
// or mount; ZFS refuses then (no -r, -R, -d, -f is ever used), which is ErrBusy with some or all old snapshots gone.
func (p *Pool) Destroy(ctx context.Context, dataset string) error {
	full, err := p.dataset(dataset)
	if err != nil {
		return fmt.Errorf("destroy: %w", err)
	}
	if err := p.destroyDataset(ctx, full, false); err != nil {
		return fmt.Errorf("destroy %s: %w", dataset, err)
	}
	return nil
}

// DestroyEmpty is Destroy for a dataset that has no snapshot; ErrBusy for one that has, or gets one meanwhile.
func (p *Pool) DestroyEmpty(ctx context.Context, dataset string) error {
	full, err := p.dataset(dataset)
	if err != nil {
		return fmt.Errorf("destroy: %w", err)
	}
	if err := p.destroyDataset(ctx, full, true); err != nil {
		return fmt.Errorf("destroy %s: %w", dataset, err)
	}
	return nil
}

func (p *Pool) destroyDataset(ctx context.Context, full string, empty bool) error {
	p.busy.retry()
	mounts, err := p.mountsOf(full)
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("mounted at %s: %w", mounts[0], errdefs.ErrBusy)
	}
	found, err := p.checkUnused(ctx, full)
	if err != nil {
		return err
	}
	if found.partial {
		// The hidden clone of a partly received increment keeps its base. ErrBusy here means that the receive still runs.
		if err := p.abortReceive(ctx, full); err != nil {
			return err
		}
		if found.created {
			return nil
		}
	}
	if found.snapshots && empty {
		return fmt.Errorf("has snapshots: %w", errdefs.ErrBusy)
	}
	if found.snapshots {
		if err := p.runner.run(ctx, "zfs", "destroy", full+"@%"); err != nil { // "%" alone: from the first to the last
			return err
		}
	}
	return p.library.destroy(ctx, full)
}

// remains is what a dataset that nothing depends on holds.
type remains struct {
	snapshots bool // at least one
	partial   bool // an interrupted or running receive
	created   bool // by that receive: aborting it removes the dataset
}

// checkUnused looks at a dataset that is to go; ErrBusy when something depends on it.
func (p *Pool) checkUnused(ctx context.Context, full string) (remains, error) {
	var found remains
	check := func(line string) error {
		columns := strings.Split(line, "\t")
		if len(columns) != 5 {
			return fmt.Errorf("zfs list: unexpected line %q: %w", line, errdefs.ErrInternal)
		}
		name, kind, clones, holds, token := columns[0], columns[1], dash(columns[2]), columns[3], columns[4]
		switch {
		case name == full:
			found.partial = token != "-"
		case kind != "snapshot":
			return fmt.Errorf("has child %s: %w", name, errdefs.ErrBusy)
		case clones != "" && clones != full+"/%recv": // the latter is what a partly received increment writes to
			return fmt.Errorf("%s has clones %s: %w", name, clones, errdefs.ErrBusy)
		case holds != "0":
			return fmt.Errorf("%s is held: %w", name, errdefs.ErrBusy)
		default:
			found.snapshots = true
		}
		return nil
	}
	err := p.runner.lines(ctx, check, "zfs", "list", "-Hp", "-d1", "-t", "filesystem,volume,snapshot",
		"-o", "name,type,clones,userrefs,receive_resume_token", full)
	found.created = found.partial && !found.snapshots
	return found, err
}

// DestroySnapshot removes "dataset@snapshot" or "dataset#bookmark", or fails. ErrBusy when a clone or hold depends on the
// snapshot, or when it is being sent. It never marks for later: a snapshot either stays usable or is gone.
func (p *Pool) DestroySnapshot(ctx context.Context, snapshot string) error {
	full, _, err := p.version(snapshot, "@#")
	if err != nil {
		return fmt.Errorf("destroy: %w", err)
	}
	if err := p.library.destroy(ctx, full); err != nil {
		return fmt.Errorf("destroy %s: %w", snapshot, err)
	}
	return nil
}
