package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestUpdateReadsItsOwnWrites(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	revision := update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1", UserID: "u1", Alias: "one"}) })
	project, ok := s.Mirror().Project("p1")
	if !ok || project.Alias != "one" {
		t.Fatalf("the mirror has %+v, %v after the update returned", project, ok)
	}
	if again := update(t, s, func(tx *Tx) error { return tx.PutProject(*project) }); again != revision {
		t.Errorf("writing what is there already: revision %d, want the one it was written at, %d", again, revision)
	}
	_, err := s.Update(testContext(t), func(tx *Tx) error {
		_, err := tx.Container("c1")
		return err
	})
	if !errors.Is(err, errdefs.ErrNotFound) || err.Error() != "container c1 does not exist" {
		t.Errorf("reading a missing container: %v", err)
	}
	if _, err := s.GetProject(testContext(t), "p1"); err != nil {
		t.Error(err)
	}
	if _, err := s.GetContainer(testContext(t), "c1"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("linearizable read of a missing container: %v", err)
	}
}

// Two agents, 25 creators each, one name: one container gets it, and the project's count stays right.
func TestUniqueNameAmongConcurrentCreators(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	stores := []*Store{s, beside(t, s)}
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1"}) })

	create := func(s *Store, id, name string) error {
		_, err := s.Update(testContext(t), func(tx *Tx) error {
			project, err := tx.Project("p1")
			if err != nil {
				return err
			}
			project.Containers++
			if err := tx.ClaimUnique(UniqueContainerName, "p1", name, id); err != nil {
				return err
			}
			return errors.Join(tx.PutProject(project), tx.PutContainer(Container{ID: id, ProjectID: "p1", Name: name}))
		})
		return err
	}
	const creators = 50
	var won, own atomic.Int32
	var group sync.WaitGroup
	for i := range creators {
		group.Go(func() {
			s, id := stores[i%len(stores)], fmt.Sprintf("c%02d", i)
			switch err := create(s, id, "web"); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, errdefs.ErrAlreadyExists):
				t.Errorf("%s: %v", id, err)
			}
			// The same crowd with names of their own meets in the project's count only, and all get through.
			if err := create(s, id+"b", "web-"+id); err != nil {
				t.Errorf("%s: %v", id, err)
			}
			own.Add(1)
		})
	}
	group.Wait()
	if won.Load() != 1 {
		t.Errorf("%d creators got the name, want 1", won.Load())
	}
	project, err := s.GetProject(testContext(t), "p1")
	if err != nil || project.Containers != creators+1 {
		t.Errorf("the project counts %d containers, %v, want %d", project.Containers, err, creators+1)
	}
	if _, err := s.Barrier(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if got := len(s.Mirror().ContainersInProject("p1")); got != creators+1 {
		t.Errorf("the mirror has %d containers, want %d", got, creators+1)
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	claim := func(scope, value, owner string) error {
		_, err := s.Update(testContext(t), func(tx *Tx) error { return tx.ClaimUnique(UniqueProjectAlias, scope, value, owner) })
		return err
	}
	release := func(scope, value, owner string) {
		update(t, s, func(tx *Tx) error { return tx.ReleaseUnique(UniqueProjectAlias, scope, value, owner) })
	}
	check := func(what string, got, want error) {
		t.Helper()
		if !errors.Is(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	check("first claim", claim("u1", "a/b", "p1"), nil)
	check("the same owner again", claim("u1", "a/b", "p1"), nil)
	check("another owner", claim("u1", "a/b", "p2"), errdefs.ErrAlreadyExists)
	check("the same text across scope and value", claim("u1/a", "b", "p2"), nil)
	check("another scope", claim("u2", "a/b", "p2"), nil)
	release("u1", "a/b", "p2")
	check("after another's release", claim("u1", "a/b", "p2"), errdefs.ErrAlreadyExists)
	release("u1", "a/b", "p1")
	check("after the owner's release", claim("u1", "a/b", "p2"), nil)
	check("nothing", claim("u1", "", "p2"), errdefs.ErrInvalid)
	if owner, ok := s.Mirror().UniqueOwner(UniqueProjectAlias, "u1", "a/b"); !ok || owner != "p2" {
		t.Errorf("the mirror's owner is %q, %v", owner, ok)
	}
}

func TestOneOperationPerContainer(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	other := beside(t, s)
	for round := range 20 {
		id := fmt.Sprintf("c%d", round)
		update(t, s, func(tx *Tx) error { return tx.PutContainer(Container{ID: id}) })
		start := make(chan struct{})
		var won atomic.Int32
		var group sync.WaitGroup
		for i, s := range []*Store{s, other} {
			group.Go(func() {
				<-start
				_, err := s.Update(testContext(t), func(tx *Tx) error {
					container, err := tx.Container(id)
					if err != nil {
						return err
					}
					if container.JobID != "" {
						return fmt.Errorf("job %s: %w", container.JobID, errdefs.ErrBusy)
					}
					container.JobID = fmt.Sprintf("job%d", i)
					return tx.PutContainer(container)
				})
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, errdefs.ErrBusy):
					t.Error(err)
				}
			})
		}
		close(start)
		group.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d operations took %s, want 1", won.Load(), id)
		}
	}
}

func TestUpdateRefusesWhatEtcdWould(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	before := s.Mirror().Revision()
	put := func(containers, bytes int) error {
		_, err := s.Update(testContext(t), func(tx *Tx) error {
			for i := range containers {
				if err := tx.PutContainer(Container{ID: fmt.Sprintf("c%d", i), Image: strings.Repeat("x", bytes)}); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	}
	for _, c := range []struct {
		containers, bytes int
		want              error
	}{
		{65, 1, errdefs.ErrExhausted},
		{1, maxBytes, errdefs.ErrExhausted},
		{3, maxBytes / 3, errdefs.ErrExhausted},
	} {
		if err := put(c.containers, c.bytes); !errors.Is(err, c.want) || !strings.Contains(err.Error(), "limit") {
			t.Errorf("%d containers of %d bytes: %v, want %v", c.containers, c.bytes, err, c.want)
		}
	}
	if after := s.Mirror().Revision(); after != before {
		t.Errorf("refused transactions moved the revision from %d to %d", before, after)
	}
	// What passes our check must pass etcd's: just below either limit.
	if err := put(64, 1); err != nil {
		t.Errorf("64 containers: %v", err)
	}
	if err := put(1, maxBytes-2048); err != nil {
		t.Errorf("one container just below the limit: %v", err)
	}
	_, err := s.Update(testContext(t), func(tx *Tx) error { return tx.PutContainer(Container{ID: "a/b"}) })
	if !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("an id with a slash: %v", err)
	}
}

func TestUpdateEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	ctx, cancel := context.WithCancel(testContext(t))
	runs := 0
	_, err := s.Update(ctx, func(tx *Tx) error {
		runs++
		cancel()
		return tx.PutProject(Project{ID: "p1"})
	})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, errdefs.ErrUnavailable) || runs != 1 {
		t.Errorf("cancelled in the middle: %v after %d runs", err, runs)
	}
	if _, err := s.Update(ctx, func(*Tx) error { t.Error("ran"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	if _, err := s.GetProject(testContext(t), "p1"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a cancelled update wrote: %v", err)
	}
}

func TestUpdateGivesUpOnEndlessConflicts(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	other := beside(t, s)
	bump := func(tx *Tx) error {
		project, err := tx.Project("p1")
		if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
		project.ID, project.Containers = "p1", project.Containers+1
		return tx.PutProject(project)
	}
	_, err := s.Update(testContext(t), func(tx *Tx) error {
		if err := bump(tx); err != nil {
			return err
		}
		_, err := other.Update(testContext(t), bump) // always in between
		return err
	})
	if !errors.Is(err, errdefs.ErrBusy) || !errors.Is(err, errConflicts) {
		t.Errorf("endless conflicts: %v", err)
	}
	if project, err := other.GetProject(testContext(t), "p1"); err != nil || project.Containers != maxAttempts {
		t.Errorf("the others' %d writes: %d, %v", maxAttempts, project.Containers, err)
	}
}

// A crowd on one record takes longer than one transaction may, and each of it has its turn.
func TestACrowdIsNotATimeout(t *testing.T) {
	t.Parallel()
	const writers, each = 40, 80 * time.Millisecond
	s := openEmbedded(t, func(o *Options) { o.UpdateTimeout = writers * each / 2 })
	var group errgroup.Group
	for range writers {
		group.Go(func() error {
			_, err := s.Update(testContext(t), func(tx *Tx) error {
				project, err := tx.Project("p1")
				if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
					return err
				}
				time.Sleep(each) // what etcd takes when it is busy
				project.ID, project.Containers = "p1", project.Containers+1
				return tx.PutProject(project)
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if project, err := s.GetProject(testContext(t), "p1"); err != nil || project.Containers != writers {
		t.Errorf("%d writes, %v", project.Containers, err)
	}
}

func TestUpdateReturnsTheFunctionsError(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	mine := errors.New("mine")
	revision, err := s.Update(testContext(t), func(tx *Tx) error {
		if err := tx.PutProject(Project{ID: "p1"}); err != nil {
			return err
		}
		return mine
	})
	if err != mine || revision != 0 {
		t.Errorf("got %d, %v", revision, err)
	}
	if _, ok := s.Mirror().Project("p1"); ok {
		t.Error("a failed update wrote")
	}
}
