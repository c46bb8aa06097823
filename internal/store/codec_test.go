package store

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func longHistory(entries int) []Snapshot {
	list := make([]Snapshot, entries)
	for i := range list {
		alias := fmt.Sprintf("alias of %d", i)
		list[i] = Snapshot{
			Name: fmt.Sprintf("snapshot-%d", i), Alias: &alias, GUID: 1 << 60, Size: 1 << 40,
			CreatedAt: time.Unix(1700000000, 0).UTC(),
		}
	}
	return list
}

// The history of a job is written once, however often its progress is.
func TestJobHistoryIsWrittenOnce(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	job := Job{ID: "j1", ServerID: "s1", State: JobRunning, History: longHistory(1000), CreatedAt: time.Unix(1700000000, 0).UTC()}
	update(t, s, func(tx *Tx) error { return tx.PutJob(job) })
	historyKey := s.keys.record(kindJobHistory, "s1/j1")

	written := func() (version int64) {
		t.Helper()
		response, err := s.client.Get(testContext(t), historyKey)
		if err != nil {
			t.Fatal(err)
		}
		if len(response.Kvs) == 0 {
			return 0
		}
		return response.Kvs[0].Version
	}
	same := func(where string, got Job) {
		t.Helper()
		if !reflect.DeepEqual(got, job) {
			t.Errorf("%s has another job: %d snapshots, %+v", where, len(got.History), got.Progress)
		}
	}
	for i := range 5 {
		update(t, s, func(tx *Tx) error {
			stored, err := tx.Job("s1", "j1")
			if err != nil {
				return err
			}
			same("the transaction", stored)
			stored.Progress.BytesDone = uint64(i)
			return tx.PutJob(stored)
		})
		job.Progress.BytesDone = uint64(i)
		mirrored, _ := s.Mirror().Job("j1")
		same("the mirror", *mirrored)
	}
	if got := written(); got != 1 {
		t.Errorf("the history was written %d times", got)
	}
	loaded, _ := beside(t, s).Mirror().Job("j1")
	same("a fresh mirror", *loaded)

	job.History = job.History[:10]
	update(t, s, func(tx *Tx) error { return tx.PutJob(job) })
	mirrored, _ := s.Mirror().Job("j1")
	same("the mirror, after the history changed,", *mirrored)
	if got := written(); got != 2 {
		t.Errorf("the changed history was written %d times in all", got)
	}

	job.History = nil
	update(t, s, func(tx *Tx) error { return tx.PutJob(job) })
	if got := written(); got != 0 {
		t.Error("a history without a job")
	}
	job.History = longHistory(3)
	update(t, s, func(tx *Tx) error { return tx.PutJob(job) })
	update(t, s, func(tx *Tx) error { return tx.DeleteJob("s1", "j1") })
	left, err := s.client.Get(testContext(t), s.keys.kind(kindJobHistory), clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || left.Count != 0 {
		t.Errorf("%d histories left after the job, %v", left.Count, err)
	}
}

// A container's full history and the job that brings it fit one transaction.
func TestFullHistoryFitsOneTransaction(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	list := longHistory(1000)
	update(t, s, func(tx *Tx) error {
		if err := tx.PutHistory(History{ContainerID: "c1", Snapshots: list}); err != nil {
			return err
		}
		return tx.PutJob(Job{ID: "j1", ServerID: "s1", State: JobDone, History: list})
	})
	if history, ok := s.Mirror().History("c1"); !ok || len(history.Snapshots) != 1000 {
		t.Errorf("the mirror has %v of 1000 snapshots", history)
	}
}
