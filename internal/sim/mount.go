package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Mount implements agent.Pool. The files stay reachable when the dataset is renamed, as in ZFS.
func (p *Pool) Mount(ctx context.Context, dataset string) (agent.Mount, error) {
	m, err := p.mount(ctx, dataset)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", dataset, err)
	}
	return m, nil
}

func (p *Pool) mount(ctx context.Context, dataset string) (*mount, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d, l, err := p.lockLive(dataset)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	if d.Hollow {
		return nil, fmt.Errorf("partly received: %w", errdefs.ErrBusy)
	}
	laidOut, err := l.laidOut()
	if err != nil {
		return nil, err
	}
	if !laidOut {
		t, err := p.tree(d.Base)
		if err != nil {
			return nil, err
		}
		if err := layOut(t, p.blocks, l.dir); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(l.dir)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	l.mounts++
	p.mu.Unlock()
	return &mount{pool: p, live: l, root: root}, nil
}

// MountSnapshot implements agent.Pool. The files are laid out anew each time.
func (p *Pool) MountSnapshot(ctx context.Context, full string) (agent.Mount, error) {
	m, err := p.mountSnapshot(ctx, full)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", full, err)
	}
	return m, nil
}

func (p *Pool) mountSnapshot(ctx context.Context, full string) (*snapshotMount, error) {
	s, err := p.view(ctx)
	if err != nil {
		return nil, err
	}
	if _, _, err := s.snapshot(full); err != nil {
		return nil, err
	}
	held, err := p.pin(agent.SendSpec{To: full}) // as a stream of it would
	if err != nil {
		return nil, err
	}
	m := &snapshotMount{pool: p, held: held, dir: filepath.Join(p.dir, "data", "mount-"+newGUID().String())} // removed at the next start, if not before
	t, err := p.tree(held.to)
	if err == nil {
		err = layOut(t, p.blocks, m.dir)
	}
	if err == nil {
		m.root, err = os.OpenRoot(m.dir)
	}
	if err != nil {
		return nil, errors.Join(err, m.Unmount(ctx))
	}
	return m, nil
}

// snapshotMount is one access to the files of a snapshot.
type snapshotMount struct {
	pool *Pool
	held *ends
	dir  string
	root *os.Root
	once sync.Once
	err  error
}

// Root implements agent.Mount.
func (m *snapshotMount) Root() *os.Root { return m.root }

// Unmount implements agent.Mount.
func (m *snapshotMount) Unmount(context.Context) error {
	m.once.Do(func() {
		m.pool.unpin(m.held)
		if m.root != nil {
			m.err = m.root.Close()
		}
		m.err = errors.Join(m.err, removeAll(m.dir), removeAll(m.dir+".new"))
	})
	return m.err
}

// Mounted implements agent.Pool. Only this process mounts what is in the directory.
func (p *Pool) Mounted(ctx context.Context, dataset string) (bool, error) {
	s, err := p.view(ctx)
	if err != nil {
		return false, fmt.Errorf("mounts of %s: %w", dataset, err)
	}
	d, err := s.dataset(dataset)
	if err != nil {
		return false, fmt.Errorf("mounts of %s: %w", dataset, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.live[d.Data]
	return l != nil && l.mounts > 0, nil
}

// mount is one access to live files.
type mount struct {
	pool *Pool
	live *liveData
	root *os.Root
	once sync.Once
	err  error
}

// Root implements agent.Mount.
func (m *mount) Root() *os.Root { return m.root }

// Unmount implements agent.Mount.
func (m *mount) Unmount(context.Context) error {
	m.once.Do(func() {
		m.pool.mu.Lock()
		m.live.mounts--
		m.pool.mu.Unlock()
		m.err = m.root.Close()
	})
	return m.err
}
