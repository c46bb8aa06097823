package store

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestTombstones(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	const count = pageSize + 50 // more than one page
	for i := 0; i < count; i += 50 {
		update(t, s, func(tx *Tx) error {
			for j := i; j < i+50; j++ {
				if err := tx.PutTombstone(Tombstone{ContainerID: fmt.Sprintf("c%04d", j)}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	update(t, s, func(tx *Tx) error { return tx.DeleteTombstone("c0000") })
	all, err := beside(t, s).Tombstones(testContext(t))
	if err != nil || len(all) != count-1 || all[0].ContainerID != "c0001" {
		t.Fatalf("%d tombstones of %d, %v", len(all), count-1, err)
	}
	if _, err := s.client.Put(testContext(t), s.keys.record(kindTombstone, "c0001"), "not json"); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Tombstones(testContext(t)); !errors.Is(err, errdefs.ErrCorrupt) || all != nil {
		t.Errorf("with an unreadable tombstone: %d, %v", len(all), err)
	}
}
