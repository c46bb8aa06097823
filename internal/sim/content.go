package sim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// liveData is one directory of live files.
type liveData struct {
	dir     string
	scanner scanner

	mu     sync.Mutex // held while the directory is laid out, scanned or dropped
	mounts int        // guarded by Pool.mu
}

// liveOf returns the live files of a dataset. p.mu must be held.
func (p *Pool) liveOf(d *dataset) *liveData {
	l, ok := p.live[d.Data]
	if !ok {
		l = &liveData{dir: filepath.Join(p.dir, "data", d.Data)}
		l.scanner.store = p.blocks
		p.live[d.Data] = l
	}
	return l
}

// lockLive finds a dataset and locks its live files, so that nothing replaces or removes them. The caller unlocks.
func (p *Pool) lockLive(name string) (*dataset, *liveData, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, nil, errClosed
		}
		d, err := p.state.dataset(name)
		if err != nil {
			p.mu.Unlock()
			return nil, nil, err
		}
		l := p.liveOf(d)
		p.mu.Unlock()

		l.mu.Lock()
		p.mu.Lock()
		d, err = p.state.dataset(name)
		same := err == nil && p.live[d.Data] == l
		p.mu.Unlock()
		if same {
			return d, l, nil
		}
		l.mu.Unlock() // renamed or replaced between the two locks
	}
}

// laidOut tells whether live files exist on their own, apart from the tree they start from.
func (l *liveData) laidOut() (bool, error) {
	_, err := os.Lstat(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// liveTree returns the tree of a dataset's files as they are now. kept tells that the caller owns a reference to each of its
// blocks, with an error too. l must be locked.
func (p *Pool) liveTree(d *dataset, l *liveData, keep bool) (t *tree, kept bool, err error) {
	laidOut, err := l.laidOut()
	if err != nil {
		return nil, false, err
	}
	if !laidOut {
		t, err = p.tree(d.Base)
		return t, false, err
	}
	t, err = l.scanner.scan(l.dir, keep)
	return t, keep, err
}

// tree reads a stored tree.
func (p *Pool) tree(s sum) (*tree, error) {
	data, err := p.trees.get(s)
	if err != nil {
		return nil, fmt.Errorf("tree: %w", err)
	}
	return decodeTree(data)
}

// treeOf reads the tree that find names, whatever happens meanwhile to who needs it.
func (p *Pool) treeOf(find func(s *state) (sum, error)) (*tree, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errClosed
	}
	s, err := find(p.state)
	if err == nil && !p.trees.share(s) {
		err = fmt.Errorf("tree %s is gone: %w", s, errdefs.ErrInternal)
	}
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	defer p.trees.release(s)
	return p.tree(s)
}

// saveTree stores a tree; the caller owns a reference to it.
func (p *Pool) saveTree(t *tree) (sum, error) {
	data, err := t.encode()
	if err != nil {
		return sum{}, err
	}
	return p.trees.put(data)
}

// releaseBlocks gives back one reference to each block of a tree.
func (p *Pool) releaseBlocks(t *tree) {
	for i := range t.Entries {
		for _, b := range t.Entries[i].Blocks {
			p.blocks.release(b.Sum)
		}
	}
}

// takeTrees takes the trees that a dataset needs. All of it is in the store, since the caller holds it or another dataset
// does. p.mu must be held.
func (p *Pool) takeTrees(d *dataset) error {
	whole, paths := d.trees()
	for i, s := range append(whole, paths...) {
		if !p.trees.share(s) {
			return fmt.Errorf("tree %s is gone: %w", s, errdefs.ErrInternal)
		}
		if i < len(whole) {
			if err := p.takeBlocks(s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Pool) takeBlocks(s sum) error {
	if p.whole[s]++; p.whole[s] > 1 {
		return nil
	}
	t, err := p.tree(s)
	if err != nil {
		return err
	}
	for i := range t.Entries {
		for _, b := range t.Entries[i].Blocks {
			if !p.blocks.share(b.Sum) {
				return fmt.Errorf("block %s is gone: %w", b.Sum, errdefs.ErrInternal)
			}
		}
	}
	return nil
}

// giveTrees is the inverse of takeTrees. p.mu must be held.
func (p *Pool) giveTrees(d *dataset) {
	whole, paths := d.trees()
	for _, s := range whole {
		if p.whole[s]--; p.whole[s] > 0 {
			continue
		}
		delete(p.whole, s)
		if t, err := p.tree(s); err == nil { // else the next sweep finds its blocks without a reference
			p.releaseBlocks(t)
		}
	}
	for _, s := range append(whole, paths...) {
		p.trees.release(s)
	}
}

// dropLive forgets live files and removes them. What a crash leaves goes when the pool is opened. l must be locked.
func (p *Pool) dropLive(data string, l *liveData) error {
	p.mu.Lock()
	closed := p.closed
	delete(p.live, data)
	p.mu.Unlock()
	if closed {
		return errClosed
	}
	return removeAll(l.dir)
}
