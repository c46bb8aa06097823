package store

import (
	"errors"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// awaitAlive waits for the server's liveness by the changes that announce it.
func awaitAlive(t testing.TB, s *Store, server string, want bool) {
	t.Helper()
	changes := s.Mirror().Subscribe(KindServer)
	defer changes.Close()
	for ctx := testContext(t); ; {
		if alive, _ := s.Mirror().Alive(server); alive == want {
			return
		}
		select {
		case <-changes.Changes():
		case <-ctx.Done():
			t.Fatalf("server %s never became alive=%v", server, want)
		}
	}
}

func register(t testing.TB, s *Store, server Server) *Lease {
	t.Helper()
	lease, err := s.Register(testContext(t), server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lease.Close() })
	return lease
}

func TestRegister(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	watcher := beside(t, s)
	first := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if alive, seen := s.Mirror().Alive("s1"); alive || !seen.IsZero() {
		t.Errorf("alive before it exists: %v, %v", alive, seen)
	}
	lease := register(t, s, Server{ID: "s1", CreatedAt: first})
	if alive, _ := s.Mirror().Alive("s1"); !alive {
		t.Error("not alive in its own mirror after Register")
	}
	awaitAlive(t, watcher, "s1", true)
	if err := lease.Close(); err != nil {
		t.Fatal(err)
	}
	awaitAlive(t, watcher, "s1", false)
	if _, seen := watcher.Mirror().Alive("s1"); time.Since(seen) > bound {
		t.Errorf("last seen %v", seen)
	}
	register(t, s, Server{ID: "s1", Name: "renamed", CreatedAt: first.Add(time.Hour)})
	server, _ := s.Mirror().Server("s1")
	if !server.CreatedAt.Equal(first) || server.Name != "renamed" {
		t.Errorf("registered again: %+v", server)
	}
	if err := lease.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	nameless := beside(t, s, func(o *Options) { o.Instance = "" })
	if _, err := nameless.Register(testContext(t), Server{ID: "s2"}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("without an instance token: %v", err)
	}
}

func TestLostLeaseIsTakenOutAgain(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t, func(o *Options) { o.LeaseTTL = time.Second })
	lease := register(t, s, Server{ID: "s1"})
	lost := lease.id
	if _, err := s.client.Revoke(testContext(t), lost); err != nil { // as if it had expired
		t.Fatal(err)
	}
	eventually(t, "another lease", func() bool {
		answer, err := s.client.Get(testContext(t), s.keys.record(kindAlive, "s1"))
		return err == nil && len(answer.Kvs) == 1 && answer.Kvs[0].Lease != int64(lost)
	})
	if err := lease.Close(); err != nil {
		t.Fatal(err)
	}
	awaitAlive(t, s, "s1", false)
}

func TestLeaseLostToAnotherHost(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t, func(o *Options) { o.LeaseTTL = time.Second })
	lease := register(t, s, Server{ID: "s1"})
	// What another host would do at the moment that the lease has run out: one transaction, so no gap to race for.
	taken, err := encode("presence", presence{Instance: "machine-2"})
	if err != nil {
		t.Fatal(err)
	}
	update(t, s, func(tx *Tx) error { tx.put(tx.keys.record(kindAlive, "s1"), taken); return nil })
	if _, err := s.client.Revoke(testContext(t), lease.id); err != nil {
		t.Fatal(err)
	}
	select {
	case <-lease.Lost():
	case <-testContext(t).Done():
		t.Fatal("never told")
	}
	if err := lease.Close(); err != nil {
		t.Error(err)
	}
	if alive, _ := s.Mirror().Alive("s1"); !alive {
		t.Error("closing a lost lease took the other host's presence away")
	}
}

// A host that was cloned has the same instance token: who registers first must learn of the second.
func TestLeaseLostToAClone(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t, func(o *Options) { o.LeaseTTL = time.Second })
	lease := register(t, s, Server{ID: "s1"})
	clone := beside(t, s, func(o *Options) { o.LeaseTTL = time.Second })
	second := register(t, clone, Server{ID: "s1"})
	select {
	case <-lease.Lost():
	case <-testContext(t).Done():
		t.Fatal("never told")
	}
	if !errors.Is(lease.Cause(), ErrOtherProcess) {
		t.Errorf("lost because of %v", lease.Cause())
	}
	select {
	case <-second.Lost():
		t.Error("the second is told to stop, too")
	default:
	}
	if err := lease.Close(); err != nil {
		t.Error(err)
	}
	if alive, _ := clone.Mirror().Alive("s1"); !alive {
		t.Error("closing a lost lease took the other's presence away")
	}
}

// The lease alone keeps nobody alive in the others' eyes.
func TestAliveKeyThatIsGoneIsPutAgain(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t, func(o *Options) { o.LeaseTTL = time.Second })
	register(t, s, Server{ID: "s1"})
	deleted, err := s.client.Delete(testContext(t), s.keys.record(kindAlive, "s1"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key to be put again", func() bool {
		held, err := s.client.Get(testContext(t), s.keys.record(kindAlive, "s1"))
		return err == nil && len(held.Kvs) == 1 && held.Kvs[0].CreateRevision > deleted.Header.Revision
	})
}
