package store

import (
	"errors"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// once makes a project of the given id under the request, and tells which project the receipt names.
func once(t *testing.T, s *Store, request Request, id string) (projectID string, repeated bool, err error) {
	t.Helper()
	receipt, repeated, _, err := s.UpdateOnce(testContext(t), request, func(tx *Tx) (Receipt, error) {
		return Receipt{ProjectID: id}, tx.PutProject(Project{ID: id})
	})
	return receipt.ProjectID, repeated, err
}

func TestARequestCountsOnce(t *testing.T) {
	s := openEmbedded(t)
	first := Request{UserID: "alice", Scope: "POST /projects", Key: "k1", Digest: "d1"}
	other := func(change func(*Request)) Request { r := first; change(&r); return r }
	for _, c := range []struct {
		name     string
		request  Request
		makes    string
		want     string
		repeated bool
		class    error
	}{
		{"at first", first, "p1", "p1", false, nil},
		{"again", first, "p2", "p1", true, nil},
		{"something else", other(func(r *Request) { r.Digest = "d2" }), "p3", "", false, errdefs.ErrUnprocessable},
		{"another key", other(func(r *Request) { r.Key = "k2" }), "p4", "p4", false, nil},
		{"another scope", other(func(r *Request) { r.Scope = "POST /containers" }), "p5", "p5", false, nil},
		{"another user", other(func(r *Request) { r.UserID = "bob" }), "p6", "p6", false, nil},
	} {
		got, repeated, err := once(t, s, c.request, c.makes)
		if got != c.want || repeated != c.repeated || (c.class == nil) != (err == nil) || c.class != nil && !errors.Is(err, c.class) {
			t.Errorf("%s: project %q, repeated %t, %v; want %q, %t, %v", c.name, got, repeated, err, c.want, c.repeated, c.class)
		}
		if _, made := s.Mirror().Project(c.makes); made != (c.want == c.makes) {
			t.Errorf("%s: project %s made: %t", c.name, c.makes, made)
		}
	}
}

func TestARefusedRequestLeavesNoReceipt(t *testing.T) {
	s := openEmbedded(t)
	request := Request{UserID: "alice", Key: "k"}
	refused := errors.New("refused")
	if _, _, _, err := s.UpdateOnce(testContext(t), request, func(*Tx) (Receipt, error) { return Receipt{}, refused }); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if got, repeated, err := once(t, s, request, "p1"); got != "p1" || repeated || err != nil {
		t.Errorf("project %q, repeated %t, %v", got, repeated, err)
	}
}

func TestOfRequestsAtTheSameTimeOneCounts(t *testing.T) {
	s := openEmbedded(t)
	request := Request{UserID: "alice", Key: "k"}
	const crowd = 8
	ids, repeats := make([]string, crowd), make([]bool, crowd)
	var group sync.WaitGroup
	for i := range crowd {
		group.Go(func() { ids[i], repeats[i], _ = once(t, s, request, string(rune('a'+i))) })
	}
	group.Wait()
	firsts := 0
	for i := range crowd {
		if ids[i] != ids[0] || ids[i] == "" {
			t.Errorf("request %d was answered with %q, the first with %q", i, ids[i], ids[0])
		}
		if !repeats[i] {
			firsts++
		}
	}
	if firsts != 1 || len(s.Mirror().Projects()) != 1 {
		t.Errorf("%d requests counted, %d projects were made", firsts, len(s.Mirror().Projects()))
	}
}

func TestReceiptsEndWithTheirLease(t *testing.T) {
	s := openEmbedded(t)
	request := Request{UserID: "alice", Key: "k"}
	if _, _, err := once(t, s, request, "p1"); err != nil {
		t.Fatal(err)
	}
	lease := s.receipts.id
	left, err := s.client.TimeToLive(testContext(t), lease)
	if err != nil || left.GrantedTTL < int64(receiptsFor.Seconds()) {
		t.Errorf("the lease is for %d s (%v), want a day at least", left.GrantedTTL, err)
	}
	// A day later; or etcd was restored from before the lease: the next receipt gets another one.
	if _, err := s.client.Revoke(testContext(t), lease); err != nil {
		t.Fatal(err)
	}
	if got, repeated, err := once(t, s, request, "p2"); got != "p2" || repeated || err != nil {
		t.Errorf("project %q, repeated %t, %v; want a new one", got, repeated, err)
	}
	if s.receipts.id == lease {
		t.Error("still under the lease that is gone")
	}
}

func TestReceiptsAreBoundedPerUser(t *testing.T) {
	s := openEmbedded(t)
	fill := func(user string, from, to int) {
		for at := from; at < to; {
			var puts []clientv3.Op
			for ; at < to && len(puts) < 100; at++ {
				puts = append(puts, clientv3.OpPut(s.keys.record(kindReceipt, user+"/"+string(rune('0'+at/1000))+string(rune('0'+at/100%10))+string(rune('0'+at/10%10))+string(rune('0'+at%10))), "{}"))
			}
			if _, err := s.client.Txn(testContext(t)).Then(puts...).Commit(); err != nil {
				t.Fatal(err)
			}
		}
	}
	repeated := Request{UserID: "alice", Key: "the last"}
	if _, _, err := once(t, s, repeated, "p0"); err != nil {
		t.Fatal(err)
	}
	fill("alice", 0, maxReceipts)
	if got, again, err := once(t, s, repeated, "p9"); got != "p0" || !again || err != nil {
		t.Errorf("a repetition: project %q, repeated %t, %v", got, again, err)
	}
	if _, _, err := once(t, s, Request{UserID: "alice", Key: "one more"}, "p1"); !errors.Is(err, errdefs.ErrExhausted) {
		t.Errorf("one more: %v", err)
	}
	if _, _, err := once(t, s, Request{UserID: "bob", Key: "his first"}, "p2"); err != nil {
		t.Errorf("another user: %v", err)
	}
}
