package store

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// later puts a record into etcd as an agent of a later version would have written it.
func later(t *testing.T, s *Store, key, value string) {
	t.Helper()
	if _, err := s.client.Put(testContext(t), key, value); err != nil {
		t.Fatal(err)
	}
}

func stored(t *testing.T, s *Store, key string) (record map[string]any, revision int64) {
	t.Helper()
	got, err := s.client.Get(testContext(t), key)
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("%d values, %v", len(got.Kvs), err)
	}
	if err := json.Unmarshal(got.Kvs[0].Value, &record); err != nil {
		t.Fatal(err)
	}
	return record, got.Kvs[0].ModRevision
}

// While a fleet is upgraded agents of both versions write the same records.
func TestWhatALaterVersionWroteStays(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	key := s.keys.record(KindContainer, "c1")
	later(t, s, key, `{"id":"c1","name":"old","region":"eu","comment":"x","settings":{"revision":3,"mode":"fast"},"last_operation":{"id":"o1","note":"first"}}`)
	update(t, s, func(tx *Tx) error {
		c, err := tx.Container("c1")
		if err != nil {
			return err
		}
		c.Name, c.Comment = "new", nil
		c.LastOperation = &OperationSummary{ID: "o2"}
		return tx.PutContainer(c)
	})
	got, revision := stored(t, s, key)
	if got["name"] != "new" || got["region"] != "eu" || got["comment"] != nil || got["settings"].(map[string]any)["mode"] != "fast" {
		t.Errorf("stored: %v", got)
	}
	if operation := got["last_operation"].(map[string]any); operation["id"] != "o2" || operation["note"] != nil {
		t.Errorf("another operation has %v", operation)
	}
	update(t, s, func(tx *Tx) error {
		c, err := tx.Container("c1")
		if err != nil {
			return err
		}
		return tx.PutContainer(c)
	})
	if _, again := stored(t, s, key); again != revision {
		t.Error("an unchanged record was written")
	}
}

func TestWhatALaterVersionWroteOfSnapshotsStays(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	key := s.keys.record(KindHistory, "c1")
	later(t, s, key, `{"container_id":"c1","snapshots":[{"name":"a","guid":"1","origin":"x"},{"name":"b","guid":"2","origin":"y"}]}`)
	update(t, s, func(tx *Tx) error {
		h, err := tx.History("c1")
		if err != nil {
			return err
		}
		h.Snapshots = append(h.Snapshots[1:], Snapshot{Name: "c", GUID: 3})
		return tx.PutHistory(h)
	})
	got, _ := stored(t, s, key)
	var origins []any
	for _, snapshot := range got["snapshots"].([]any) {
		origins = append(origins, snapshot.(map[string]any)["origin"])
	}
	if diff := cmp.Diff([]any{"y", nil}, origins); diff != "" {
		t.Error(diff)
	}
}

// A job's history never changes: what a later version wrote of it stays, whoever writes the job's progress.
func TestAJobsHistoryIsNotWrittenAnew(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	history := `[{"name":"a","guid":"1","origin":"x"}]`
	path := jobPath("s1", "j1")
	later(t, s, s.keys.record(kindJobHistory, path), history)
	later(t, s, s.keys.record(KindJob, path), `{"id":"j1","server_id":"s1","state":"running","priority":"low","history_digest":"`+digest(history)+`"}`)
	update(t, s, func(tx *Tx) error {
		job, err := tx.Job("s1", "j1")
		if err != nil {
			return err
		}
		job.Attempts++
		return tx.PutJob(job)
	})
	if head, _ := stored(t, s, s.keys.record(KindJob, path)); head["priority"] != "low" || head["history_digest"] != digest(history) {
		t.Errorf("stored: %v", head)
	}
	got, err := s.client.Get(testContext(t), s.keys.record(kindJobHistory, path))
	if err != nil || string(got.Kvs[0].Value) != history {
		t.Errorf("the history is %s, %v", got.Kvs[0].Value, err)
	}
}
