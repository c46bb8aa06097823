package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

// restoreAndUndo: a copy goes back to what it was copied with and forth again, and a sync that took too much is taken back.
func (s *story) restoreAndUndo(ctx context.Context) error {
	if err := s.restore(ctx, s.local, firstAlias, "version 1"); err != nil {
		return err
	}
	if err := s.restore(ctx, s.local, s.second.Name, "version 2"); err != nil {
		return err
	}
	listed, err := s.here.API.Snapshots(ctx, s.local.ID)
	if err != nil {
		return err
	}
	s.fact(s.both(listed), "it lists both as before: a restore takes nothing away")
	if _, err := s.sync(ctx, s.local); err != nil {
		return err
	}
	if err := s.same(ctx, s.source.box, s.local.box, "a sync brings it back to what the source holds"); err != nil {
		return err
	}

	if err := s.local.write(ctx, localFile, "made on the copy\n"); err != nil {
		return err
	}
	if _, err := s.sync(ctx, s.local); err != nil {
		return err
	}
	if listed, err = s.here.API.Snapshots(ctx, s.local.ID); err != nil {
		return err
	}
	at := slices.IndexFunc(listed, func(snapshot contract.Snapshot) bool { return snapshot.Undo != nil && *snapshot.Undo })
	if at < 0 {
		return fmt.Errorf("the sync of the changed %s kept nothing", s.local.Name)
	}
	if _, err := s.here.API.Restore(ctx, s.local.ID, listed[at].Name); err != nil {
		return err
	}
	local, err := s.local.read(ctx, localFile)
	if err != nil {
		return err
	}
	s.fact(local == "made on the copy", "a sync displaced local changes, and kept them as %s: restored, they are there again", listed[at].Name)
	if _, err := s.sync(ctx, s.local); err != nil {
		return err
	}
	return s.same(ctx, s.source.box, s.local.box, "synced once more, it holds the source's files")
}

// restore restores a snapshot of a copy and tells what that did.
func (s *story) restore(ctx context.Context, copied made, name, want string) error {
	began := time.Now()
	if _, err := copied.server.API.Restore(ctx, copied.ID, name); err != nil {
		return err
	}
	container, err := copied.server.API.Container(ctx, copied.ID)
	if err != nil {
		return err
	}
	content, err := copied.read(ctx, smallFile)
	if err != nil {
		return err
	}
	did := outcomeOf(container, began)
	s.fact(content == want && container.Status == contract.ContainerStatusRunning, "%s restored to %s: it runs and holds %s (%s, down for %s)",
		copied.Name, name, content, span(did.took), span(did.down))
	return nil
}
