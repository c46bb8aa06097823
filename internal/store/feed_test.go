package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestMirrorOutlivesAnEtcdRestart(t *testing.T) {
	t.Parallel()
	etcd := newRemote(t)
	s := etcd.open()
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1", Alias: "before"}) })

	etcd.stop()
	eventually(t, "the mirror to notice", func() bool { _, stale := s.Mirror().Stale(); return stale })
	if since, _ := s.Mirror().Stale(); since.IsZero() || since.After(time.Now()) {
		t.Errorf("stale since %v", since)
	}
	if project, ok := s.Mirror().Project("p1"); !ok || project.Alias != "before" {
		t.Errorf("the mirror forgot: %+v", project)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.Update(ctx, func(tx *Tx) error { return tx.PutProject(Project{ID: "p2"}) }); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("update without etcd: %v", err)
	}
	if _, err := s.Barrier(ctx); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("barrier without etcd: %v", err)
	}

	etcd.start()
	eventually(t, "the mirror to be current again", func() bool { _, stale := s.Mirror().Stale(); return !stale })
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1", Alias: "after"}) })
	if project, _ := s.Mirror().Project("p1"); project.Alias != "after" {
		t.Errorf("after the restart the mirror has %+v", project)
	}
}

// While a store is cut off, records come and go and etcd compacts the history of it: the store has to load anew.
func TestMirrorReloadsAfterCompaction(t *testing.T) {
	t.Parallel()
	etcd := newRemote(t)
	s := etcd.open()
	update(t, s, func(tx *Tx) error {
		return errors.Join(
			tx.PutProject(Project{ID: "stays", UserID: "u1"}), tx.PutProject(Project{ID: "goes", UserID: "u1"}),
			tx.PutServer(Server{ID: "s9"}))
	})
	changes := s.Mirror().Subscribe(KindProject)
	defer changes.Close()
	etcd.stop()

	meanwhile := open(t, Options{Embedded: &EmbeddedOptions{Dir: etcd.options.Dir}})
	update(t, meanwhile, func(tx *Tx) error { return tx.DeleteProject("goes") })
	last := update(t, meanwhile, func(tx *Tx) error { return tx.PutProject(Project{ID: "comes", UserID: "u1"}) })
	if _, err := meanwhile.client.Compact(testContext(t), last, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if err := meanwhile.Close(); err != nil {
		t.Fatal(err)
	}

	etcd.start()
	if err := s.Mirror().waitRevision(testContext(t), last); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, project := range s.Mirror().ProjectsOf("u1") {
		ids = append(ids, project.ID)
	}
	if got := fmt.Sprint(ids); got != "[comes stays]" {
		t.Errorf("after the reload: %s", got)
	}
	select {
	case change := <-changes.Changes():
		if !change.Resync {
			t.Errorf("first change is %+v, want a resync", change)
		}
	case <-testContext(t).Done():
		t.Error("no resync")
	}
	// Changes are followed again.
	update(t, s, func(tx *Tx) error { return tx.DeleteProject("stays") })
	change := <-changes.Changes()
	if old, new := Records[Project](change); old == nil || old.ID != "stays" || new != nil {
		t.Errorf("change after the reload: %+v", change)
	}
}

func TestMirrorRefusesAnotherStore(t *testing.T) {
	t.Parallel()
	etcd := newRemote(t)
	s := etcd.open()
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1"}) })
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p2"}) })
	etcd.stop()
	etcd.options.Dir = t.TempDir() // somebody wiped it
	etcd.start()

	intruder := etcd.open()
	if intruder.StoreID() == s.StoreID() {
		t.Fatal("two stores with one id")
	}
	eventually(t, "the mirror to notice", func() bool { return s.Mirror().intact() != nil })
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := s.Barrier(ctx); !errors.Is(err, errdefs.ErrCorrupt) {
		t.Errorf("barrier on another store: %v", err)
	}
	if _, err := s.Update(ctx, func(tx *Tx) error { return tx.DeleteProject("p1") }); !errors.Is(err, errdefs.ErrCorrupt) {
		t.Errorf("update of another store: %v", err)
	}
	if got := len(s.Mirror().Projects()); got != 2 {
		t.Errorf("the mirror has %d projects of 2", got)
	}
}

// A backup that was put back has the cluster's id. Once it has grown past the mirror it is not followed as if nothing had happened.
func TestAnOlderStateThatGrowsPastTheMirror(t *testing.T) {
	t.Parallel()
	etcd := newRemote(t)
	s := etcd.open()
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "before", UserID: "u1"}) })
	etcd.stop()
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(etcd.options.Dir)); err != nil {
		t.Fatal(err)
	}
	etcd.start()
	for i := range 20 {
		update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: fmt.Sprint("lost-", i), UserID: "u1"}) })
	}
	last := s.Mirror().Revision()
	etcd.stop()
	etcd.options.Dir = backup
	etcd.start()
	eventually(t, "the mirror to notice", func() bool { return s.Mirror().intact() != nil })
	loads := s.Mirror().Loads()
	other := etcd.open()
	for i := 0; other.Mirror().Revision() <= last; i++ {
		update(t, other, func(tx *Tx) error { return tx.PutProject(Project{ID: fmt.Sprint("new-", i), UserID: "u1"}) })
	}
	newest := update(t, other, func(tx *Tx) error { return tx.PutProject(Project{ID: "last", UserID: "u1"}) })
	if err := s.Mirror().waitRevision(testContext(t), newest); err != nil {
		t.Fatal(err)
	}
	if got, want := len(s.Mirror().ProjectsOf("u1")), len(other.Mirror().ProjectsOf("u1")); got != want || s.Mirror().Loads() == loads {
		t.Errorf("the mirror shows %d projects after %d loads, the store has %d; it had been loaded %d times", got, s.Mirror().Loads(), want, loads)
	}
}

// A revision that belongs to keys outside the prefix brings no event; waiting for it must still end.
func TestWaitForRevisionOfOthers(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	response, err := s.client.Put(testContext(t), "/elsewhere", "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Mirror().waitRevision(testContext(t), response.Header.Revision); err != nil {
		t.Error(err)
	}
	if revision, err := s.Barrier(testContext(t)); err != nil || revision < response.Header.Revision {
		t.Errorf("barrier at %d, %v", revision, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Mirror().waitRevision(ctx, 1<<40); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("a revision that never comes: %v", err)
	}
}

func TestUnreadableRecords(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	update(t, s, func(tx *Tx) error { return tx.PutContainer(Container{ID: "c1"}) })
	key := s.keys.record(KindContainer, "c1")
	for _, value := range []string{"not json", `{"id":"c2"}`} {
		response, err := s.client.Put(testContext(t), key, value)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Store{s, beside(t, s)} { // from an event, and from a load
			if err := s.Mirror().waitRevision(testContext(t), response.Header.Revision); err != nil {
				t.Fatal(err)
			}
			if err := s.Mirror().Unreadable()[key]; !errors.Is(err, errdefs.ErrCorrupt) {
				t.Errorf("%s: %v", value, err)
			}
			if _, ok := s.Mirror().Container("c1"); ok {
				t.Errorf("%s: still served", value)
			}
		}
	}
	if _, err := s.client.Delete(testContext(t), key); err != nil {
		t.Fatal(err)
	}
	update(t, s, func(tx *Tx) error { return tx.PutContainer(Container{ID: "c1"}) })
	if left := s.Mirror().Unreadable(); len(left) > 0 {
		t.Errorf("still unreadable: %v", left)
	}
}
