package store

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func putEvents(t *testing.T, s *Store, ids ...string) {
	t.Helper()
	if _, err := s.Update(testContext(t), func(tx *Tx) error {
		for _, id := range ids {
			if err := tx.PutEvent(Event{ID: id, Type: "test"}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func eventIDs(events []*Event) []string {
	var ids []string
	for _, event := range events {
		ids = append(ids, event.ID)
	}
	return ids
}

func TestEventsAreInTheOrderOfTheirTransactions(t *testing.T) {
	s := openEmbedded(t)
	other := beside(t, s)
	putEvents(t, s, "9", "8")
	putEvents(t, s, "1") // another clock is behind
	putEvents(t, other, "5")
	want := []string{"8", "9", "1", "5"}
	late := beside(t, s) // loads what the others have followed
	for name, reader := range map[string]*Store{"writer": s, "other": other, "late": late} {
		if _, err := reader.Barrier(testContext(t)); err != nil {
			t.Fatal(err)
		}
		events := reader.Mirror().Events()
		if got := eventIDs(events); !slices.Equal(got, want) {
			t.Fatalf("%s: %v, want %v", name, got, want)
		}
		for i, event := range events {
			after, known := reader.Mirror().EventsAfter(event.Position)
			if got := eventIDs(after); !known || !slices.Equal(got, want[i+1:]) {
				t.Errorf("%s: after %s: %v, known %t", name, event.ID, got, known)
			}
		}
		if after, known := reader.Mirror().EventsAfter(""); known || len(after) != len(want) {
			t.Errorf("%s: after nothing: %v, known %t", name, eventIDs(after), known)
		}
	}
}

func TestEventsAreRemovedByAgeAndNumber(t *testing.T) {
	now := time.Now()
	id := func(age time.Duration, n int) string {
		return fmt.Sprintf("%08x%016x", uint32(now.Add(-age).Unix()), n)
	}
	s := openEmbedded(t, func(o *Options) { o.MaxEvents, o.EventRetention = 3, time.Hour })
	old, young := []string{id(2*time.Hour, 1), id(61*time.Minute, 2)}, []string{id(59*time.Minute, 3), id(time.Minute, 4), id(time.Minute, 5)}
	putEvents(t, s, slices.Concat(old, young)...)
	sweep := func() []string {
		t.Helper()
		if err := s.sweepEvents(testContext(t), now); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Barrier(testContext(t)); err != nil {
			t.Fatal(err)
		}
		return eventIDs(s.Mirror().Events())
	}
	if got := sweep(); len(got) != 5 {
		t.Errorf("swept by a server that is not alive: %v", got)
	}
	lease, err := s.Register(testContext(t), Server{ID: "s1"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lease.Close() }()
	if got := sweep(); !slices.Equal(got, young) {
		t.Errorf("left by age: %v, want %v", got, young)
	}
	putEvents(t, s, id(0, 6))
	if got, want := sweep(), append(young[1:], id(0, 6)); !slices.Equal(got, want) {
		t.Errorf("left by number: %v, want %v", got, want)
	}
}

func TestATransactionTellsItsChanges(t *testing.T) {
	s := openEmbedded(t)
	if _, err := s.Update(testContext(t), func(tx *Tx) error {
		if err := tx.PutProject(Project{ID: "p1", Alias: "old"}); err != nil {
			return err
		}
		return tx.PutContainer(Container{ID: "c1"})
	}); err != nil {
		t.Fatal(err)
	}
	var changes []Change
	if _, err := s.Update(testContext(t), func(tx *Tx) error {
		project, err := tx.Project("p1")
		if err != nil {
			return err
		}
		for _, alias := range []string{"between", "new"} {
			project.Alias = alias
			if err := tx.PutProject(project); err != nil {
				return err
			}
		}
		if err := tx.DeleteContainer("c1"); err != nil {
			return err
		}
		if err := tx.PutJob(Job{ID: "j1", ServerID: "s1", History: []Snapshot{{Name: "a"}}}); err != nil {
			return err
		}
		changes, err = tx.Changes()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(changes) != 3 {
		t.Fatalf("%d changes: %+v", len(changes), changes)
	}
	if old, new := Records[Container](changes[0]); old == nil || new != nil {
		t.Errorf("container: %v, %v", old, new)
	}
	if old, new := Records[Job](changes[1]); old != nil || new == nil || new.ID != "j1" {
		t.Errorf("job: %v, %v", old, new)
	}
	if old, new := Records[Project](changes[2]); old == nil || new == nil || old.Alias != "old" || new.Alias != "new" {
		t.Errorf("project: %v, %v", old, new)
	}
}
