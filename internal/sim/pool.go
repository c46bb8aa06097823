// Package sim holds stand-ins for ZFS and Incus: a pool in a directory and a runtime that only tracks state. They need no root and
// no particular file system, survive being killed at any point, and pass the same conformance suite as the real drivers.
// `hoody-agent dev`, the demo and tests run on them.
package sim

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// errClosed is the answer of a pool that was closed or killed.
var errClosed = fmt.Errorf("pool is closed: %w", errdefs.ErrUnavailable)

// Options changes how a Pool behaves; the zero value is a pool of 1 TiB without faults.
type Options struct {
	// Size limits what the pool stores, in bytes; 0 means 1 TiB.
	Size uint64
	// Sync makes metadata survive a power loss of the host, at the price of an fsync for each change.
	Sync bool
	// Now is the pool's clock; nil for time.Now.
	Now func() time.Time
	// Fault, when set, is asked before and after every effect, as in "rename:before" and "rename:after", with the dataset,
	// snapshot or instance at hand. An error before an effect prevents it, an error after it hides that it happened; both
	// are what the caller gets. It is called without a lock of the pool held and may call Kill.
	//
	// The pool's effects are create, clone, rename, rename-snapshot, set, promote, rollback, snapshot, bookmark, destroy, destroy-snapshot, receive,
	// abort-receive; on the way of a receive are "receive:started" and, for each frame, "receive:frame"; a send has
	// "send:before". The runtime's are create-instance, delete-instance, start, stop, force-stop, pause, resume, configure, set-root-size, describe,
	// protect, add-snapshot, delete-snapshot, add-image, around the pool's effects that they cause.
	Fault func(op, object string) error
}

// Pool is a storage pool in a directory. Contents are kept as trees and blocks by their sums, so snapshots and clones share
// what is equal; live files exist from the first mount on.
type Pool struct {
	dir     string
	options Options
	lock    *os.File      // held as long as the pool is open
	size    atomic.Uint64 // Options.Size, unless it was changed
	blocks  *cas
	trees   *cas

	mu       sync.Mutex
	closed   bool
	state    *state
	whole    map[sum]int          // how many snapshots and datasets need the blocks of a tree
	live     map[string]*liveData // by dataset.Data
	incoming map[string]*receipt  // by partial.Log
	pinned   map[origin]int       // snapshots being sent
}

var _ agent.Pool = (*Pool)(nil)

// NewPool opens the pool in a directory, which is made when it is missing. A directory has one user at a time:
// a second one is ErrBusy.
func NewPool(dir string, options Options) (*Pool, error) {
	p := &Pool{
		dir: dir, options: options, whole: make(map[sum]int), live: make(map[string]*liveData),
		incoming: make(map[string]*receipt), pinned: make(map[origin]int),
	}
	if p.options.Size == 0 {
		p.options.Size = 1 << 40
	}
	p.size.Store(p.options.Size)
	if p.options.Now == nil {
		p.options.Now = time.Now
	}
	if err := p.open(); err != nil {
		p.unlock()
		return nil, fmt.Errorf("open pool %s: %w", dir, err)
	}
	return p, nil
}

func (p *Pool) open() (err error) {
	for _, sub := range []string{"data", "partial"} {
		if err := os.MkdirAll(filepath.Join(p.dir, sub), 0o700); err != nil {
			return err
		}
	}
	if p.lock, err = os.OpenFile(filepath.Join(p.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := syscall.Flock(int(p.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("in use: %w: %w", errdefs.ErrBusy, err)
	}
	if p.blocks, err = openCAS(filepath.Join(p.dir, "blocks")); err != nil {
		return err
	}
	if p.trees, err = openCAS(filepath.Join(p.dir, "trees")); err != nil {
		return err
	}
	if p.state, err = loadState(p.dir); err != nil {
		return err
	}
	return p.recover()
}

// recover takes the references that the state says it has, and removes what a former process left without one.
func (p *Pool) recover() error {
	used := map[string]bool{}
	for name, d := range p.state.Datasets {
		used["data/"+d.Data] = true
		whole, paths := d.trees()
		for _, tree := range append(whole, paths...) {
			p.trees.claim(tree)
		}
		for _, tree := range whole {
			if err := p.claimBlocks(tree); err != nil {
				return fmt.Errorf("dataset %s: %w", name, err)
			}
		}
		if d.Partial != nil {
			used["partial/"+d.Partial.Log] = true
			if err := p.reopenReceipt(d); err != nil {
				return fmt.Errorf("dataset %s: %w", name, err)
			}
		}
	}
	for _, sub := range []string{"data", "partial"} {
		entries, err := os.ReadDir(filepath.Join(p.dir, sub))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !used[sub+"/"+e.Name()] {
				if err := removeAll(filepath.Join(p.dir, sub, e.Name())); err != nil {
					return err
				}
			}
		}
	}
	return errors.Join(p.blocks.sweep(), p.trees.sweep())
}

// claimBlocks takes the blocks of a tree for one more user, while the pool is opened.
func (p *Pool) claimBlocks(s sum) error {
	if p.whole[s]++; p.whole[s] > 1 {
		return nil
	}
	t, err := p.tree(s)
	if err != nil {
		return err
	}
	for i := range t.Entries {
		for _, b := range t.Entries[i].Blocks {
			p.blocks.claim(b.Sum)
		}
	}
	return nil
}

// SetSize changes the size of the pool in bytes, for tests: a pool may be smaller than what it holds.
func (p *Pool) SetSize(bytes uint64) { p.size.Store(bytes) }

// Close ends the use of the pool. Mounts stay usable, their files stay.
func (p *Pool) Close() error { return p.Kill() }

// Kill does what the death of the process does: every later call is ErrUnavailable, receives stop where they are, nothing more
// reaches the directory. NewPool opens it again.
func (p *Pool) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	p.blocks.close()
	p.trees.close()
	for _, r := range p.incoming {
		r.close()
	}
	return p.unlock()
}

func (p *Pool) unlock() error {
	if p.lock == nil {
		return nil
	}
	return p.lock.Close() // and with it the lock
}

// view returns the state of now, for reading.
func (p *Pool) view(ctx context.Context) (*state, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	return p.state, nil
}

// effect runs a change with the faults around it, and says what failed on what.
func (p *Pool) effect(ctx context.Context, op, object string, change func() error) error {
	return around(ctx, p.fault, op, object, change)
}

func around(ctx context.Context, fault func(op, object string) error, op, object string, change func() error) error {
	err := ctx.Err()
	if err == nil {
		err = fault(op+":before", object)
	}
	if err == nil {
		err = change()
	}
	if err == nil {
		err = fault(op+":after", object)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", op, object, err)
	}
	return nil
}

func (p *Pool) fault(op, object string) error {
	if p.options.Fault == nil {
		return nil
	}
	return p.options.Fault(op, object)
}

// commit lets change edit a copy of the state and makes it the state, or leaves all as it was. The lock is held meanwhile.
func (p *Pool) commit(change func(s *state) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	next := &state{TXG: p.state.TXG + 1, Datasets: maps.Clone(p.state.Datasets)}
	if err := change(next); err != nil {
		return err
	}
	taken, given := edited(next, p.state), edited(p.state, next)
	for i, d := range taken {
		if err := p.takeTrees(d); err != nil {
			for _, d := range taken[:i] {
				p.giveTrees(d)
			}
			return err
		}
	}
	if err := saveJSON(filepath.Join(p.dir, stateFile), next, p.options.Sync); err != nil {
		for _, d := range taken {
			p.giveTrees(d)
		}
		return fmt.Errorf("save pool state: %w", err)
	}
	p.state = next
	for _, d := range given {
		p.giveTrees(d)
	}
	return nil
}

// edited lists the datasets that a state has and another has not, or has different.
func edited(has, hasNot *state) []*dataset {
	known := make(map[*dataset]bool, len(hasNot.Datasets))
	for _, d := range hasNot.Datasets {
		known[d] = true
	}
	var out []*dataset
	for _, d := range has.Datasets {
		if !known[d] {
			out = append(out, d)
		}
	}
	return out
}

// newGUID draws a snapshot's identity.
func newGUID() lineage.GUID {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return lineage.GUID(binary.LittleEndian.Uint64(b[:]) | 1)
}
