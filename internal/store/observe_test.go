package store

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// What a transaction refuses is its own answer; only what etcd fails counts as a failure of the store.
func TestObserve(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	s := openEmbedded(t, func(o *Options) {
		o.Observe = func(operation string, _ time.Duration, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				operation += " failed"
			}
			seen = append(seen, operation)
		}
	})
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1", UserID: "u1"}) })
	refused := errors.New("refused")
	if _, err := s.Update(testContext(t), func(*Tx) error { return refused }); !errors.Is(err, refused) {
		t.Error(err)
	}
	if _, err := s.GetProject(testContext(t), "p2"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Error(err)
	}
	s.server.Close()
	s.opts.UpdateTimeout = 200 * time.Millisecond
	if _, err := s.GetProject(testContext(t), "p1"); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{"update", "update", "read", "read failed"}, seen); diff != "" {
		t.Error(diff)
	}
}
