package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// ErrOutcomeUnknown is a transaction that was sent to etcd, whose answer got lost, and of which nothing could be found out
// in time: it may be written, or be written yet.
var ErrOutcomeUnknown = fmt.Errorf("etcd's answer is lost, the outcome is not known: %w", errdefs.ErrUnavailable)

// settlePause is the pause between two attempts to find out what came of a transaction.
const settlePause = 100 * time.Millisecond

// settle finds out what came of the transaction whose answer got lost: the revision that it was written at, or 0 when it is not and
// the function can run again. A request is answered either way then: that of a user who is told to try again would meet what it
// had made itself.
func (a *attempt) settle(ctx context.Context) (revision int64, err error) {
	for {
		revision, err = a.store.outcome(ctx, a.lost)
		switch {
		case err == nil:
			a.lost = nil
			return revision, nil
		case errors.Is(err, errReplaced):
			return 0, fmt.Errorf("update: %w", err) // what it was sent to is gone
		case !errors.Is(err, errdefs.ErrUnavailable):
			return 0, fmt.Errorf("update: %w: %v", ErrOutcomeUnknown, err) // of one class only
		}
		select {
		case <-a.store.mirror.closed:
			return 0, fmt.Errorf("update: %w: %v", ErrOutcomeUnknown, errClosed)
		case <-ctx.Done():
			return 0, fmt.Errorf("update: %w: %v", ErrOutcomeUnknown, err)
		case <-time.After(settlePause):
		}
	}
}

// outcome returns the revision that a transaction was written at, or 0 once it is certain that it neither is nor will be. One that
// only removes counts as not written, and as one that may run again.
func (s *Store) outcome(ctx context.Context, tx *Tx) (revision int64, err error) {
	fenced := s.fence(ctx, tx)
	if fenced != nil && !errors.Is(fenced, ErrFull) {
		return 0, fenced
	}
	if revision, err = s.writtenSince(ctx, tx); err != nil || revision > 0 {
		return revision, err
	}
	return 0, fenced
}

// writtenSince returns the revision that a transaction was written at, or 0 if it is not written now.
func (s *Store) writtenSince(ctx context.Context, tx *Tx) (revision int64, err error) {
	for _, key := range slices.Sorted(maps.Keys(tx.writes)) {
		if tx.writes[key] == "" {
			continue // what is removed leaves nothing to recognize
		}
		version, err := s.version(ctx, key, 0)
		for ; err == nil && version != nil && version.ModRevision > tx.reads[key]; version, err = s.version(ctx, key, version.ModRevision-1) {
			if string(version.Value) != tx.writes[key] {
				continue
			}
			if written, err := s.writtenAt(ctx, tx, version.ModRevision); written || err != nil {
				return version.ModRevision, err
			}
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// fence makes sure that a transaction which is still under way somewhere cannot be written any more: it touches a key that
// the transaction read, and compares, without changing it. That the store is still the one it was sent to is looked at, too.
func (s *Store) fence(ctx context.Context, tx *Tx) error {
	key := slices.MinFunc(slices.Collect(maps.Keys(tx.reads)), func(a, b string) int {
		return cmp.Or(cmp.Compare(tx.reads[b], tx.reads[a]), cmp.Compare(a, b)) // the newest: one that exists
	})
	if tx.reads[key] == 0 {
		return fmt.Errorf("a transaction that read nothing that exists cannot be fenced: %w", errdefs.ErrStale)
	}
	whose := clientv3.OpGet(s.keys.storeID())
	response, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", tx.reads[key])).
		Then(whose, clientv3.OpPut(key, "", clientv3.WithIgnoreValue(), clientv3.WithIgnoreLease())).
		Else(whose). // it is another one by now, which is as good
		Commit()
	if err != nil {
		return etcdError("fence", err)
	}
	id := response.Responses[0].GetResponseRange().Kvs
	if len(id) == 0 || string(id[0].Value) != s.id || response.Header.Revision < tx.newestRead() {
		return fmt.Errorf("fence: %w: %w", errdefs.ErrCorrupt, errReplaced)
	}
	return nil
}

// writtenAt tells whether all that a transaction writes was written at one revision.
func (s *Store) writtenAt(ctx context.Context, tx *Tx, revision int64) (bool, error) {
	for key, value := range tx.writes {
		version, err := s.version(ctx, key, revision)
		switch {
		case err != nil:
			return false, err
		case value == "" && version == nil:
		case version == nil, version.ModRevision != revision, string(version.Value) != value:
			return false, nil
		}
	}
	return true, nil
}

// version returns a key as it was at a revision, 0 for now; nil when it did not exist.
func (s *Store) version(ctx context.Context, key string, revision int64) (*mvccpb.KeyValue, error) {
	response, err := s.client.Get(ctx, key, clientv3.WithRev(revision))
	if err != nil {
		return nil, etcdError("read "+key, err)
	}
	if len(response.Kvs) == 0 {
		return nil, nil
	}
	return response.Kvs[0], nil
}
