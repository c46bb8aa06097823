package store

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Tombstone returns what was deleted of a container on purpose so far; errdefs.ErrNotFound for nothing.
func (tx *Tx) Tombstone(containerID string) (Tombstone, error) {
	return getRecord[Tombstone](tx, kindTombstone, containerID)
}

// PutTombstone records what was deleted of a container on purpose: some of its snapshots, or it with all it listed. It
// replaces the record.
func (tx *Tx) PutTombstone(t Tombstone) error { return putRecord(tx, kindTombstone, t.ContainerID, t) }

// DeleteTombstone removes the record once nothing of the container is left to sweep; a missing one is fine.
func (tx *Tx) DeleteTombstone(containerID string) error {
	return tx.deleteRecord(kindTombstone, containerID)
}

// Tombstones reads all tombstones from etcd, linearizably. An unreadable one is an error (errdefs.ErrCorrupt), and so is
// an etcd that does not answer (errdefs.ErrUnavailable) or holds another store: what it says must not be acted on.
func (s *Store) Tombstones(ctx context.Context) ([]Tombstone, error) {
	if err := s.mirror.intact(); err != nil {
		return nil, err
	}
	var all []Tombstone
	var unreadable error
	err := s.bounded(ctx, func(ctx context.Context) error {
		_, err := readAll(ctx, s.client.Get, s.keys.kind(kindTombstone), 0, func(kv *mvccpb.KeyValue) {
			tombstone, err := decode[Tombstone](string(kv.Key), kv.Value)
			if err != nil {
				unreadable = errors.Join(unreadable, err)
				return
			}
			all = append(all, *tombstone)
		})
		return etcdError("read tombstones", err)
	})
	if err := errors.Join(err, unreadable); err != nil {
		return nil, err
	}
	return all, nil
}
