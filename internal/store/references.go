package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// References are all records that can refer to what is in a pool, as of one revision: a reference that one transaction moves
// from one record to another is in one of them. The records are shared and must not be changed.
type References struct {
	Containers []*Container
	Histories  []*History
	Jobs       []*Job
	Tombstones []Tombstone // read after the others: what is deleted meanwhile counts as still referred to
}

// References reads them linearizably. What may not be acted on is an error: an etcd that does not answer
// (errdefs.ErrUnavailable), and one that holds another store, an older state of this one or a record that cannot be read
// (errdefs.ErrCorrupt).
func (s *Store) References(ctx context.Context) (References, error) {
	if _, err := s.Barrier(ctx); err != nil {
		return References{}, fmt.Errorf("read references: %w", err)
	}
	s.mirror.mu.RLock()
	refs := References{
		Containers: s.mirror.content.containers.ordered.all(),
		Histories:  s.mirror.content.histories.ordered.all(),
		Jobs:       s.mirror.content.jobs.ordered.all(),
	}
	unreadable := maps.Clone(s.mirror.content.unreadable)
	s.mirror.mu.RUnlock()
	if len(unreadable) > 0 {
		first := slices.Min(slices.Collect(maps.Keys(unreadable)))
		return References{}, fmt.Errorf("read references: %d records cannot be read, %s for one: %w: %w", len(unreadable), first, errdefs.ErrCorrupt, unreadable[first])
	}
	var err error
	if refs.Tombstones, err = s.Tombstones(ctx); err != nil {
		return References{}, errors.Join(err, ctx.Err())
	}
	return refs, nil
}
