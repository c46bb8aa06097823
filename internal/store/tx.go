package store

import (
	"encoding/json"
	"fmt"
	"reflect"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Tx is one attempt of a transaction; see Store.Update. It is for the goroutine that got it and dead once the function
// returns. Records it returns are the caller's own: change them and put them back.
//
// A read of a record that does not exist is errdefs.ErrNotFound. Any other error of a method makes the attempt useless:
// return it.
type Tx struct {
	stm  concurrency.STM
	keys keyspace

	reads  map[string]int64  // modification revision of every key read; 0 = does not exist
	before map[string]string // value of every key read, as it was before this transaction
	writes map[string]string // value of every key written, empty for one that is removed
}

// get returns a key's value, empty when it does not exist.
func (tx *Tx) get(key string) string {
	value := tx.stm.Get(key)
	if _, seen := tx.reads[key]; !seen {
		tx.reads[key] = tx.stm.Rev(key)
		tx.before[key] = value
	}
	return value
}

// put writes a value unless the key has it already.
func (tx *Tx) put(key, value string, opts ...clientv3.OpOption) {
	if tx.get(key) == value && len(opts) == 0 {
		return
	}
	tx.stm.Put(key, value, opts...)
	tx.writes[key] = value
}

// remove deletes a key if it exists.
func (tx *Tx) remove(key string) {
	if tx.get(key) == "" {
		return
	}
	tx.stm.Del(key)
	tx.writes[key] = ""
}

func getRecord[T any](tx *Tx, kind Kind, id string) (T, error) {
	var none T
	if err := checkID(kind, id); err != nil {
		return none, err
	}
	value := tx.get(tx.keys.record(kind, id))
	if value == "" {
		return none, notFound(kind, id)
	}
	record, err := decode[T](kind.noun()+" "+id, []byte(value))
	if err != nil {
		return none, err
	}
	return *record, nil
}

func putRecord[T any](tx *Tx, kind Kind, id string, record T) error {
	if err := checkID(kind, id); err != nil {
		return err
	}
	value, err := encode(kind.noun()+" "+id, record)
	if err != nil {
		return err
	}
	key := tx.keys.record(kind, id)
	if value, err = carried[T](tx.get(key), value); err != nil {
		return err
	}
	tx.put(key, value)
	return nil
}

func (tx *Tx) deleteRecord(kind Kind, id string) error {
	if err := checkID(kind, id); err != nil {
		return err
	}
	tx.remove(tx.keys.record(kind, id))
	return nil
}

// Server returns the server's record.
func (tx *Tx) Server(id string) (Server, error) { return getRecord[Server](tx, KindServer, id) }

// PutServer writes the record; an unchanged one costs nothing.
func (tx *Tx) PutServer(s Server) error { return putRecord(tx, KindServer, s.ID, s) }

// Project returns the project.
func (tx *Tx) Project(id string) (Project, error) { return getRecord[Project](tx, KindProject, id) }

// PutProject writes the record; an unchanged one costs nothing.
func (tx *Tx) PutProject(p Project) error { return putRecord(tx, KindProject, p.ID, p) }

// DeleteProject removes the record; a missing one is fine. Unique keys are the caller's to release.
func (tx *Tx) DeleteProject(id string) error { return tx.deleteRecord(KindProject, id) }

// Container returns the container.
func (tx *Tx) Container(id string) (Container, error) {
	return getRecord[Container](tx, KindContainer, id)
}

// PutContainer writes the record; an unchanged one costs nothing.
func (tx *Tx) PutContainer(c Container) error { return putRecord(tx, KindContainer, c.ID, c) }

// DeleteContainer removes the record; a missing one is fine. Its history and unique keys are the caller's to remove.
func (tx *Tx) DeleteContainer(id string) error { return tx.deleteRecord(KindContainer, id) }

// History returns the container's snapshot list.
func (tx *Tx) History(containerID string) (History, error) {
	return getRecord[History](tx, KindHistory, containerID)
}

// PutHistory writes the list; an unchanged one costs nothing.
func (tx *Tx) PutHistory(h History) error { return putRecord(tx, KindHistory, h.ContainerID, h) }

// DeleteHistory removes the list; a missing one is fine.
func (tx *Tx) DeleteHistory(containerID string) error {
	return tx.deleteRecord(KindHistory, containerID)
}

// User returns the user's record.
func (tx *Tx) User(id string) (User, error) { return getRecord[User](tx, KindUser, id) }

// PutUser writes the record; an unchanged one costs nothing.
func (tx *Tx) PutUser(u User) error { return putRecord(tx, KindUser, u.ID, u) }

// PutEvent writes an event.
func (tx *Tx) PutEvent(e Event) error { return putRecord(tx, KindEvent, e.ID, e) }

// Job returns the server's job.
func (tx *Tx) Job(server, id string) (Job, error) {
	if err := checkJobID(server, id); err != nil {
		return Job{}, err
	}
	path := jobPath(server, id)
	head := tx.get(tx.keys.record(KindJob, path))
	if head == "" {
		return Job{}, notFound(KindJob, id)
	}
	job, err := decodeJob(id, []byte(head), func() ([]byte, error) {
		return []byte(tx.get(tx.keys.record(kindJobHistory, path))), nil
	})
	if err != nil {
		return Job{}, err
	}
	return *job, nil
}

// PutJob writes the job below its ServerID; an unchanged one costs nothing, and a History that did not change is not
// written again, so progress stays cheap however long the history is.
func (tx *Tx) PutJob(job Job) error {
	if err := checkJobID(job.ServerID, job.ID); err != nil {
		return err
	}
	path := jobPath(job.ServerID, job.ID)
	headKey, historyKey := tx.keys.record(KindJob, path), tx.keys.record(kindJobHistory, path)
	was := tx.get(headKey)
	head, history, err := encodeJob(job)
	if err != nil {
		return err
	}
	if digestWas := historyDigest(was); digestWas != historyDigest(head) {
		switch {
		case history == "":
			tx.remove(historyKey)
		case digestWas != "" && sameHistory(tx.get(historyKey), job.History): // in the words of a later version
			if head, err = encode("job "+job.ID, headOf(job, digestWas)); err != nil {
				return err
			}
		default:
			tx.put(historyKey, history)
		}
	}
	if head, err = carried[jobHead](was, head); err != nil {
		return err
	}
	tx.put(headKey, head)
	return nil
}

func sameHistory(stored string, history []Snapshot) bool {
	var known []Snapshot
	return json.Unmarshal([]byte(stored), &known) == nil && reflect.DeepEqual(known, history)
}

// DeleteJob removes the job; a missing one is fine.
func (tx *Tx) DeleteJob(server, id string) error {
	if err := checkJobID(server, id); err != nil {
		return err
	}
	path := jobPath(server, id)
	headKey := tx.keys.record(KindJob, path)
	if historyDigest(tx.get(headKey)) != "" {
		tx.remove(tx.keys.record(kindJobHistory, path))
	}
	tx.remove(headKey)
	return nil
}

func checkJobID(server, id string) error {
	if err := checkID(KindServer, server); err != nil {
		return fmt.Errorf("job %s: %w", id, err)
	}
	return checkID(KindJob, id)
}

// ClaimUnique takes value within scope for owner. Claiming what owner holds already is fine; what somebody else holds is
// errdefs.ErrAlreadyExists. Claims last until ReleaseUnique, whatever becomes of the owner's record.
func (tx *Tx) ClaimUnique(kind UniqueKind, scope, value, owner string) error {
	if value == "" || owner == "" {
		return fmt.Errorf("claim %s %q for %q: %w", kind, value, owner, errdefs.ErrInvalid)
	}
	key := tx.keys.unique(kind, scope, value)
	if holder := tx.get(key); holder != "" && holder != owner {
		return errdefs.New(errdefs.ErrAlreadyExists, "", "%s %q is taken", kind, value)
	}
	tx.put(key, owner)
	return nil
}

// ReleaseUnique gives up owner's claim. A value that nobody or somebody else holds is left alone.
func (tx *Tx) ReleaseUnique(kind UniqueKind, scope, value, owner string) error {
	key := tx.keys.unique(kind, scope, value)
	if tx.get(key) == owner {
		tx.remove(key)
	}
	return nil
}

// UniqueOwner returns who holds value within scope; empty for nobody.
func (tx *Tx) UniqueOwner(kind UniqueKind, scope, value string) string {
	return tx.get(tx.keys.unique(kind, scope, value))
}
