package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// receipt is what has arrived of a stream. Its log has the frames in order, blocks by their sums only: they are in the store.
type receipt struct {
	partial *partial
	log     *os.File
	active  bool // a Receive works on it; guarded by Pool.mu
	frames  int  // guarded by Pool.mu
	bytes   uint64
	changes []change
	blocks  []sum // one reference each
}

func (p *Pool) logPath(log string) string { return filepath.Join(p.dir, "partial", log) }

// openReceipt returns the receipt of a partial receive for one Receive to work on, which goes on behind so many frames.
func (p *Pool) openReceipt(begun *partial, frames int) (*receipt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	r, ok := p.incoming[begun.Log]
	if !ok {
		log, err := os.OpenFile(p.logPath(begun.Log), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, err
		}
		r = &receipt{partial: begun, log: log}
		p.incoming[begun.Log] = r
	}
	if r.active {
		return nil, fmt.Errorf("being received into: %w", errdefs.ErrBusy)
	}
	if r.frames != frames {
		return nil, fmt.Errorf("stream goes on at frame %d of which %d arrived: %w", frames, r.frames, errdefs.ErrStale)
	}
	r.active = true
	return r, nil
}

// rest leaves a receipt to the next Receive.
func (p *Pool) rest(r *receipt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.active = false
}

// receiving refuses to touch a dataset that is received into right now. p.mu must be held.
func (p *Pool) receiving(d *dataset) error {
	if d.Partial != nil {
		if r := p.incoming[d.Partial.Log]; r != nil && r.active {
			return fmt.Errorf("being received into: %w", errdefs.ErrBusy)
		}
	}
	return nil
}

// reopenReceipt reads what a former process received, up to a record that it did not finish.
func (p *Pool) reopenReceipt(d *dataset) error {
	path := p.logPath(d.Partial.Log)
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	r := &receipt{partial: d.Partial}
	rest := bytes.NewReader(data)
	good := int64(0)
	for {
		f, err := readFrame(rest)
		if err != nil {
			break
		}
		if err := r.take(f, p.blocks); err != nil {
			return err
		}
		good = int64(len(data) - rest.Len())
	}
	if r.log, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return err
	}
	p.incoming[d.Partial.Log] = r
	return r.log.Truncate(good)
}

// take replays one record of the log.
func (r *receipt) take(f frame, store *cas) error {
	switch f.kind {
	case frameChanges:
		var changes []change
		if err := f.decode(frameChanges, &changes); err != nil {
			return err
		}
		r.changes = append(r.changes, changes...)
		r.bytes += uint64(len(f.payload))
	case frameArrived:
		var a arrivedBlock
		if err := f.decode(frameArrived, &a); err != nil {
			return err
		}
		store.claim(a.Sum)
		r.blocks = append(r.blocks, a.Sum)
		r.bytes += uint64(a.Bytes)
	default:
		return fmt.Errorf("frame of kind %q in a log: %w", f.kind, errdefs.ErrCorrupt)
	}
	r.frames++
	return nil
}

// arrivedBlock is the log's record of a block.
type arrivedBlock struct {
	Sum   sum `json:"sum"`
	Bytes int `json:"bytes"`
}

// arrive stores one frame so that it survives the process.
func (p *Pool) arrive(r *receipt, f frame) error {
	switch f.kind {
	case frameChanges:
		var changes []change
		if err := f.decode(frameChanges, &changes); err != nil {
			return err
		}
		return p.note(r, f, func() { r.changes = append(r.changes, changes...); r.bytes += uint64(len(f.payload)) })
	case frameBlock:
		if uint64(p.blocks.stored.Load())+uint64(len(f.payload)) > p.size.Load() {
			return fmt.Errorf("pool is full: %w", errdefs.ErrExhausted)
		}
		s, err := p.blocks.put(f.payload)
		if err != nil {
			return err
		}
		record, err := jsonFrame(frameArrived, arrivedBlock{s, len(f.payload)})
		if err == nil {
			err = p.note(r, record, func() { r.blocks = append(r.blocks, s); r.bytes += uint64(len(f.payload)) })
		}
		if err != nil {
			p.blocks.release(s)
		}
		return err
	}
	return fmt.Errorf("frame of kind %q in the middle: %w", f.kind, errdefs.ErrCorrupt)
}

// note appends a record to the log and counts it.
func (p *Pool) note(r *receipt, record frame, count func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	if err := record.writeTo(r.log); err != nil {
		return fmt.Errorf("log of a receive: %w", err)
	}
	count()
	r.frames++
	return nil
}

// dropReceipt gives up what arrived; nil is nothing to do.
func (p *Pool) dropReceipt(begun *partial) error {
	if begun == nil {
		return nil
	}
	p.mu.Lock()
	r := p.incoming[begun.Log]
	delete(p.incoming, begun.Log)
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return errClosed
	}
	if r != nil {
		r.close()
		for _, s := range r.blocks {
			p.blocks.release(s)
		}
	}
	err := os.Remove(p.logPath(begun.Log))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (r *receipt) close() {
	if r.log != nil {
		r.log.Close()
	}
}

// tokenOf is where the receive into a dataset stands; empty for none.
func (p *Pool) tokenOf(d *dataset) string {
	if d.Partial == nil {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := token{GUID: d.Partial.Stream.GUID, From: d.Partial.Stream.From}
	if r := p.incoming[d.Partial.Log]; r != nil {
		t.Skip, t.Bytes = r.frames, r.bytes
	}
	return t.String()
}

// DescribeToken implements agent.Pool.
func (p *Pool) DescribeToken(ctx context.Context, text string) (agent.ResumePoint, error) {
	if err := ctx.Err(); err != nil {
		return agent.ResumePoint{}, fmt.Errorf("describe resume token: %w", err)
	}
	t, err := parseToken(text)
	if err != nil {
		return agent.ResumePoint{}, fmt.Errorf("describe resume token: %w", err)
	}
	return agent.ResumePoint{To: t.GUID, From: t.From, Bytes: t.Bytes}, nil
}

// AbortReceive implements agent.Pool.
func (p *Pool) AbortReceive(ctx context.Context, name string) error {
	return p.effect(ctx, "abort-receive", name, func() error {
		var before *dataset
		err := p.commit(func(s *state) error {
			d := s.Datasets[name]
			if d == nil || d.Partial == nil {
				return nil
			}
			before = d
			switch err := p.receiving(d); {
			case err != nil:
				return err
			case d.Hollow:
				if s.children(name) {
					return fmt.Errorf("has children: %w", errdefs.ErrBusy)
				}
				delete(s.Datasets, name)
			default:
				s.edit(name).Partial = nil
			}
			return nil
		})
		if err != nil || before == nil {
			return err
		}
		return p.dropReceipt(before.Partial)
	})
}
