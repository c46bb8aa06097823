package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc/codes"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// etcd's default limits, which an external cluster may be counted on to have, and what one transaction makes of them.
const (
	maxOperations = 128              // comparisons of a transaction: one per key read and one more per key written
	maxBytes      = 1536<<10 - 8<<10 // of a request; a little is left for its envelope
	bytesPerKey   = 48               // what a comparison or an operation costs besides key and value
)

const (
	maxAttempts   = 100
	queueAfter    = 1 // attempts that run beside others; further ones take turns
	conflictPause = 5 * time.Millisecond

	// maxUnderWay is how many transactions are under way at once. More would slow each other down, and many meet on the same records.
	maxUnderWay = 16
	// waitTimeouts is how long a writer waits for its turn, in timeouts of a transaction: whoever asks for fifty copies of one
	// template at once waits for fifty transactions.
	waitTimeouts = 6
)

var (
	errConflicts = errors.New("other writers kept getting in between")
	errCrowded   = errors.New("lost to other writers; has to wait for its turn")
)

// Update runs fn in one serializable transaction and returns the revision it was written at, once this process's mirror
// shows it: whoever got the revision reads his own writes here, and elsewhere after Barrier.
//
// What fn reads is checked when it commits. If any of it has changed, or somebody wrote what fn writes, fn runs again:
// it must not have effects besides the Tx, and must assign, not add to, variables outside. It runs on another
// goroutine; a panic in it ends the process.
//
// An error of fn is returned as it is, and nothing is written. Otherwise: errdefs.ErrBusy when conflicts do not end,
// ErrTooLarge when the transaction is larger than etcd takes (nothing was sent), ErrFull when etcd's quota is used up,
// errdefs.ErrUnavailable when etcd or ctx cuts it off. In that last case any revision but 0 means that it is written and
// only the mirror is behind; with 0 nothing is written, unless the error is ErrOutcomeUnknown: etcd's answer was lost, and
// Update could not find out for as long again. errdefs.ErrCorrupt means that etcd turned out to hold another store than
// the one that was opened.
//
// A transaction that changes nothing returns the newest revision among what it read. Update is safe for concurrent use.
func (s *Store) Update(ctx context.Context, fn func(tx *Tx) error) (revision int64, err error) {
	if err := s.mirror.intact(); err != nil {
		return 0, fmt.Errorf("update: %w", err)
	}
	a := &attempt{store: s, fn: fn}
	revision, err = a.perform(ctx)
	a.leaveQueue()
	if err != nil {
		return 0, err
	}
	if err := s.bounded(ctx, func(ctx context.Context) error { return s.mirror.waitRevision(ctx, revision) }); err != nil {
		return revision, fmt.Errorf("update: written at revision %d: %w", revision, err)
	}
	return revision, nil
}

// attempt is the state of one Update across the runs of its function.
type attempt struct {
	store  *Store
	fn     func(tx *Tx) error
	runs   int
	queued bool
	tx     *Tx
	failed error // what fn or the checks around it returned; nil when etcd is to blame
	lost   *Tx   // the transaction that etcd gave no answer to; nil for none
}

// perform commits, in its turn where there is a crowd, and until it is known what came of it. Each part has a timeout of its own.
func (a *attempt) perform(ctx context.Context) (revision int64, err error) {
	deadline := time.Now().Add(waitTimeouts * a.store.opts.UpdateTimeout)
	for {
		err = a.inSlot(ctx, func(ctx context.Context) error {
			revision, err = a.commit(ctx)
			return err
		})
		switch {
		case errors.Is(err, errCrowded):
			err = a.queue(ctx)
		case a.lost != nil:
			err = a.store.bounded(ctx, func(ctx context.Context) error {
				revision, err = a.settle(ctx)
				return err
			})
			if err == nil && revision > 0 {
				return revision, nil
			}
			if err == nil && time.Now().After(deadline) {
				err = fmt.Errorf("update: etcd's answers get lost: %w", errdefs.ErrUnavailable)
			}
		default:
			return revision, err
		}
		if err != nil {
			return 0, err
		}
	}
}

// inSlot does a part of the work when there is a slot for it; whose turn it is needs none.
func (a *attempt) inSlot(ctx context.Context, do func(context.Context) error) error {
	if !a.queued {
		if err := a.await(ctx, a.store.slots, a.store.opts.UpdateTimeout); err != nil {
			return err
		}
		defer func() { <-a.store.slots }()
	}
	return a.store.bounded(ctx, do)
}

// await puts a token into a channel as soon as there is room. The time counts apart from what the transaction takes.
func (a *attempt) await(ctx context.Context, room chan<- struct{}, patience time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case room <- struct{}{}:
		return nil
	case <-bounded.Done():
		return fmt.Errorf("update: wait for other writers: %w: %w", errdefs.ErrUnavailable, bounded.Err())
	}
}

func (a *attempt) commit(ctx context.Context) (revision int64, err error) {
	defer func(began time.Time) {
		if errors.Is(a.failed, errCrowded) {
			return // goes on
		}
		if a.failed != nil {
			a.store.opts.Observe("update", time.Since(began), nil) // the transaction's own answer
			return
		}
		a.store.opts.Observe("update", time.Since(began), err)
	}(time.Now())
	for {
		sent := false
		response, err := concurrency.NewSTM(a.store.client, func(stm concurrency.STM) error {
			sent, a.failed = false, nil // a read that fails leaves run by a panic
			a.failed = a.run(ctx, stm)
			sent = a.failed == nil
			return a.failed
		}, concurrency.WithAbortContext(ctx), concurrency.WithIsolation(concurrency.SerializableSnapshot))
		switch {
		case a.failed != nil:
			return 0, a.failed
		case outOfStep(err):
			continue
		case !sent && withoutLeader(err): // another member may have one, or there is one soon
			if err := wait(ctx, leaderPause); err != nil {
				return 0, err
			}
			a.runs--
			continue
		case err != nil:
			err = etcdError("update", err)
			if sent && errors.Is(err, ErrFull) {
				// etcd says so, too, of what it has written and what has brought it to its quota (quotaApplierV3 in its apply/quota.go).
				revision, looked := a.store.writtenSince(ctx, a.tx)
				switch {
				case looked != nil:
					a.lost = a.tx
				case revision > 0:
					return revision, nil
				}
			}
			if sent && len(a.tx.writes) > 0 && mayBeWritten(err) {
				a.lost = a.tx
			}
			return 0, err
		case len(a.tx.writes) > 0:
			return response.Header.Revision, nil
		}
		return a.tx.newestRead(), nil
	}
}

// mayBeWritten tells whether an error of sending a transaction leaves it open whether it is written. One that etcd refused,
// for want of space or permission, is not.
func mayBeWritten(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	code := codeOf(err)
	if code == codes.ResourceExhausted && !errors.Is(rpctypes.Error(err), rpctypes.ErrTooManyRequests) && etcdClass(err) == errdefs.ErrUnavailable {
		return true // the connection was cut off for it
	}
	return unexplained(err) || code == codes.Unavailable || code == codes.DeadlineExceeded || code == codes.Canceled
}

// outOfStep tells that a read failed for where it landed, before anything was sent to commit: the second read of a
// transaction asks any member of the cluster for the revision of the first, and that one may not be there yet, or past it.
func outOfStep(err error) bool {
	return errors.Is(err, rpctypes.ErrFutureRev) || errors.Is(err, rpctypes.ErrCompacted)
}

func (a *attempt) run(ctx context.Context, stm concurrency.STM) error {
	if a.runs++; a.runs > maxAttempts {
		return fmt.Errorf("update: gave up after %d attempts: %w: %w", maxAttempts, errdefs.ErrBusy, errConflicts)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("update: %w: %w", errdefs.ErrUnavailable, err)
	}
	if err := a.backOff(ctx); err != nil {
		return err
	}
	a.tx = &Tx{stm: stm, keys: a.store.keys, reads: make(map[string]int64), before: make(map[string]string), writes: make(map[string]string)}
	if err := a.fn(a.tx); err != nil {
		return err
	}
	if err := a.tx.checkLimits(); err != nil {
		return err
	}
	if len(a.tx.writes) > 0 && a.tx.newestRead() == 0 && len(a.tx.reads)+len(a.tx.writes) < maxOperations {
		a.tx.get(a.tx.keys.storeID()) // it exists, and what reads nothing that does could not be fenced
	}
	return nil
}

// backOff sends a writer that lost to another to the queue, so that a crowd on one record costs one attempt each instead of its square.
// Conflicts with other processes are only spread out.
func (a *attempt) backOff(ctx context.Context) error {
	if a.runs <= queueAfter {
		return nil
	}
	if !a.queued {
		return errCrowded
	}
	return wait(ctx, rand.N(conflictPause))
}

func wait(ctx context.Context, d time.Duration) error {
	pause := time.NewTimer(d)
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("update: %w: %w", errdefs.ErrUnavailable, ctx.Err())
	}
}

// queue waits until this is the one writer of the process whose turn it is; leaveQueue gives the turn on.
func (a *attempt) queue(ctx context.Context) error {
	if err := a.await(ctx, a.store.turn, waitTimeouts*a.store.opts.UpdateTimeout); err != nil {
		return err
	}
	a.queued = true
	a.runs-- // the last one did not run
	return nil
}

func (a *attempt) leaveQueue() {
	if a.queued {
		<-a.store.turn
		a.queued = false
	}
}

// checkLimits refuses what etcd would refuse, before anything is sent and with numbers that help.
func (tx *Tx) checkLimits() error {
	operations, bytes := len(tx.reads)+len(tx.writes), 0
	for key := range tx.reads {
		bytes += 2 * (len(key) + bytesPerKey) // compared, and read again in case of a conflict
	}
	for key, value := range tx.writes {
		bytes += 2*(len(key)+bytesPerKey) + len(value)
	}
	if operations > maxOperations {
		return fmt.Errorf("update: %d keys read and %d written, %d together are the limit: %w",
			len(tx.reads), len(tx.writes), maxOperations, ErrTooLarge)
	}
	if bytes > maxBytes {
		return fmt.Errorf("update: a transaction of %d bytes, %d are the limit: %w", bytes, maxBytes, ErrTooLarge)
	}
	return nil
}

func (tx *Tx) newestRead() int64 {
	var newest int64
	for _, revision := range tx.reads {
		newest = max(newest, revision)
	}
	return newest
}
