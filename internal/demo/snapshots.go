package demo

import "context"

// copySnapshot: source_snapshot takes a name or an alias.
func (s *story) copySnapshot(ctx context.Context) error {
	for i, wanted := range []struct {
		what, reference, holds string
		history                int
	}{
		{"with the alias " + firstAlias, firstAlias, "version 1", 1},
		{"named " + s.second.Name, s.second.Name, "version 2", 2},
	} {
		name := []string{"from-alias", "from-name"}[i]
		copied, err := s.copy(ctx, s.source, s.there, s.other, name, map[string]any{"source_snapshot": wanted.reference})
		if err != nil {
			return err
		}
		content, err := copied.read(ctx, smallFile)
		if err != nil {
			return err
		}
		listed, err := s.there.API.Snapshots(ctx, copied.ID)
		if err != nil {
			return err
		}
		s.fact(content == wanted.holds && len(listed) == wanted.history && copied.moved == 0,
			"a copy of the one %s holds %s and lists %d of the snapshots; %s moved", wanted.what, content, len(listed), size(copied.moved))
		if err := s.there.API.Delete(ctx, copied.ID); err != nil {
			return err
		}
	}
	return nil
}
