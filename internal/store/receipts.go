package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const (
	// receiptsFor is how long receipts are kept at least.
	receiptsFor = 24 * time.Hour
	// receiptLeaseReuse is how long new receipts are put under the same lease: a lease each would cost etcd more than
	// the receipt.
	receiptLeaseReuse = time.Hour
	// maxReceipts is how many a user may have; a client that makes more does not use keys for what they are for.
	maxReceipts = 10_000
)

// Request is what tells a request from others and recognizes its repetition. Whoever sent it, UserID, chose its Key, which
// counts within Scope. The same key with another Digest is a mistake.
type Request struct {
	UserID, Scope, Key, Digest string
}

func (r Request) path() string {
	sum := sha256.Sum256([]byte(r.Scope + "\x00" + r.Key))
	return r.UserID + "/" + hex.EncodeToString(sum[:16])
}

// receiptLease is the lease that receipts are put under at present.
type receiptLease struct {
	mu    sync.Mutex
	id    clientv3.LeaseID
	until time.Time
}

// UpdateOnce is Update for a request that counts once in the day after it: fn's receipt is written with what fn writes.
// When there is one already, fn is not called, nothing is written, and that one is returned, with repeated true.
//
// Further errors: errdefs.ErrUnprocessable for a key that was used for something else, and errdefs.ErrExhausted for a user
// with too many keys.
func (s *Store) UpdateOnce(ctx context.Context, request Request, fn func(tx *Tx) (Receipt, error)) (receipt Receipt, repeated bool, revision int64, err error) {
	if err := checkID(KindUser, request.UserID); err != nil {
		return Receipt{}, false, 0, err
	}
	if err := s.checkReceipts(ctx, request); err != nil {
		return Receipt{}, false, 0, err
	}
	for attempt := 0; ; attempt++ {
		lease, err := s.leaseForReceipts(ctx)
		if err != nil {
			return Receipt{}, false, 0, err
		}
		revision, err = s.Update(ctx, func(tx *Tx) error {
			receipt, repeated, err = tx.once(request, lease, fn)
			return err
		})
		if errors.Is(err, rpctypes.ErrLeaseNotFound) && attempt == 0 {
			s.forgetReceiptLease(lease) // etcd was set back to before it was granted
			continue
		}
		return receipt, repeated, revision, err
	}
}

func (tx *Tx) once(request Request, lease clientv3.LeaseID, fn func(tx *Tx) (Receipt, error)) (Receipt, bool, error) {
	key := tx.keys.record(kindReceipt, request.path())
	if value := tx.get(key); value != "" {
		receipt, err := decode[Receipt]("receipt", []byte(value))
		if err != nil {
			return Receipt{}, false, err
		}
		if receipt.Digest != request.Digest {
			return Receipt{}, false, errdefs.New(errdefs.ErrUnprocessable, "IDEMPOTENCY_KEY_REUSED",
				"This Idempotency-Key was sent with another request within the last day")
		}
		return *receipt, true, nil
	}
	receipt, err := fn(tx)
	if err != nil {
		return Receipt{}, false, err
	}
	receipt.Digest = request.Digest
	value, err := encode("receipt", receipt)
	if err != nil {
		return Receipt{}, false, err
	}
	tx.put(key, value, clientv3.WithLease(lease))
	return receipt, false, nil
}

// checkReceipts keeps one user from filling the store; a repetition adds nothing to it. It counts outside the transaction: a few
// more do no harm.
func (s *Store) checkReceipts(ctx context.Context, request Request) error {
	return s.bounded(ctx, func(ctx context.Context) error {
		counted, err := s.client.Get(ctx, s.keys.record(kindReceipt, request.UserID+"/"), clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return etcdError("count receipts", err)
		}
		if counted.Count < maxReceipts {
			return nil
		}
		own, err := s.client.Get(ctx, s.keys.record(kindReceipt, request.path()), clientv3.WithCountOnly())
		if err != nil {
			return etcdError("look for receipt", err)
		}
		if own.Count == 0 {
			return errdefs.New(errdefs.ErrExhausted, "QUOTA_EXCEEDED", "More than %d Idempotency-Keys within a day", maxReceipts)
		}
		return nil
	})
}

func (s *Store) leaseForReceipts(ctx context.Context) (clientv3.LeaseID, error) {
	s.receipts.mu.Lock()
	defer s.receipts.mu.Unlock()
	if s.receipts.id != clientv3.NoLease && time.Now().Before(s.receipts.until) {
		return s.receipts.id, nil
	}
	err := s.bounded(ctx, func(ctx context.Context) error {
		granted, err := s.client.Grant(ctx, int64((receiptsFor+receiptLeaseReuse)/time.Second))
		if err != nil {
			return etcdError("grant lease", err)
		}
		s.receipts.id, s.receipts.until = granted.ID, time.Now().Add(receiptLeaseReuse)
		return nil
	})
	if err != nil {
		return clientv3.NoLease, fmt.Errorf("keep receipts: %w", err)
	}
	return s.receipts.id, nil
}

func (s *Store) forgetReceiptLease(id clientv3.LeaseID) {
	s.receipts.mu.Lock()
	defer s.receipts.mu.Unlock()
	if s.receipts.id == id {
		s.receipts.id = clientv3.NoLease
	}
}
