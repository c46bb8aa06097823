package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// Receive implements agent.Pool.
func (p *Pool) Receive(ctx context.Context, spec agent.ReceiveSpec, stream io.Reader) error {
	in := newInterruptible(ctx, stream)
	defer in.stop()
	if len(spec.Before) == 0 {
		return p.receiveNext(ctx, spec, in)
	}
	if err := p.receiveSeries(ctx, spec, in); err != nil {
		return fmt.Errorf("receive all to %s: %w", spec.To, err)
	}
	return nil
}

// receiveSeries receives the streams of a series, each as if it had come by itself.
func (p *Pool) receiveSeries(ctx context.Context, spec agent.ReceiveSpec, in io.Reader) error {
	dataset, name, ok := lineage.SplitSnapshot(spec.To)
	if !ok || !spec.Continues {
		return fmt.Errorf("a series goes on with a dataset: %w", errdefs.ErrInvalid)
	}
	f, err := readFrame(in)
	if err != nil {
		return err
	}
	if f.kind == frameHeader {
		return fmt.Errorf("not a series of snapshots: %w", agent.ErrWrongSnapshot)
	}
	var header seriesHeader
	if err := f.decode(frameSeries, &header); err != nil {
		return err
	}
	expected := append(slices.Clone(spec.Before), agent.Incoming{Name: name, GUID: spec.GUID})
	for i, next := range expected {
		if i == len(header.Names) {
			return fmt.Errorf("the series ends before snapshot %s: %w", next.GUID, errdefs.ErrStale)
		}
		if name := header.Names[i]; name != next.Name {
			class := agent.ErrWrongSnapshot
			if slices.ContainsFunc(expected[i:], func(later agent.Incoming) bool { return later.Name == name }) {
				class = errdefs.ErrStale // the expected one was destroyed meanwhile
			}
			return fmt.Errorf("snapshot %q instead of %q: %w", name, next.Name, class)
		}
		single := agent.ReceiveSpec{To: dataset + "@" + next.Name, GUID: next.GUID, Continues: true}
		if err := p.receiveNext(ctx, single, in); err != nil {
			return err
		}
	}
	if len(header.Names) > len(expected) {
		return fmt.Errorf("the series goes on after snapshot %s: %w", spec.GUID, errdefs.ErrCorrupt)
	}
	return nil
}

// receiveNext receives the stream of one snapshot.
func (p *Pool) receiveNext(ctx context.Context, spec agent.ReceiveSpec, in io.Reader) error {
	return p.effect(ctx, "receive", spec.To, func() error {
		var header streamHeader
		f, err := readFrame(in)
		if err != nil {
			return err
		}
		if f.kind == frameSeries {
			return fmt.Errorf("stream of several snapshots: %w", errdefs.ErrUnsupported)
		}
		if err := f.decode(frameHeader, &header); err != nil {
			return err
		}
		if header.Format != streamFormat || header.GUID == 0 || header.Skip < 0 {
			return fmt.Errorf("stream of format %q: %w", header.Format, errdefs.ErrCorrupt)
		}
		if spec.GUID != 0 && header.GUID != spec.GUID {
			return fmt.Errorf("snapshot %s instead of %s: %w", header.GUID, spec.GUID, agent.ErrWrongSnapshot)
		}
		return p.receive(spec, header, in)
	})
}

func (p *Pool) receive(spec agent.ReceiveSpec, header streamHeader, in io.Reader) error {
	dataset, name, ok := lineage.SplitSnapshot(spec.To)
	if !ok || !validName(dataset) || !validComponent(name) {
		return fmt.Errorf("not a dataset@snapshot: %w", errdefs.ErrInvalid)
	}
	if err := p.fits(dataset); err != nil {
		return err
	}
	r, err := p.beginReceipt(spec, dataset, name, header)
	if errors.Is(err, errReceived) {
		return drain(in)
	}
	if err != nil {
		return err
	}
	defer p.rest(r)
	if err := p.fault("receive:started", spec.To); err != nil {
		return err
	}
	for {
		f, err := readFrame(in)
		if err != nil {
			return err
		}
		if f.kind == frameEnd {
			var end streamEnd
			if err := f.decode(frameEnd, &end); err != nil {
				return err
			}
			return p.finishReceipt(r, end)
		}
		if err := p.fault("receive:frame", spec.To); err != nil {
			return err
		}
		if err := p.arrive(r, f); err != nil {
			return err
		}
	}
}

// errReceived says that the snapshot is there already.
var errReceived = errors.New("received before")

// drain reads a stream whose snapshot is there already; as in ZFS it must be whole for that to be a success.
func drain(in io.Reader) error {
	for {
		f, err := readFrame(in)
		if errors.Is(err, errdefs.ErrAborted) {
			return fmt.Errorf("snapshot is there and the stream is cut: %w: %w", errdefs.ErrAlreadyExists, err)
		}
		if err != nil || f.kind == frameEnd {
			return err
		}
	}
}

// fits refuses early what unchanged will refuse in the end.
func (p *Pool) fits(name string) error {
	d, l, err := p.lockLive(name)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	return p.unchanged(d, l)
}

// unchanged refuses to receive onto files that somebody changed. l must be locked.
func (p *Pool) unchanged(d *dataset, l *liveData) error {
	if laidOut, err := l.laidOut(); err != nil || !laidOut {
		return err
	}
	base, err := p.tree(d.Base)
	if err != nil {
		return err
	}
	now, _, err := p.liveTree(d, l, false)
	if err == nil && written(base, now) > 0 {
		err = fmt.Errorf("files changed since the newest snapshot: %w", errdefs.ErrStale)
	}
	return err
}

// beginReceipt makes the start of a receive durable, or goes on with one that was cut off.
func (p *Pool) beginReceipt(spec agent.ReceiveSpec, name, short string, header streamHeader) (*receipt, error) {
	empty, err := p.saveTree(emptyTree())
	if err != nil {
		return nil, err
	}
	defer p.trees.release(empty)
	nothing, err := p.saveTree(&tree{})
	if err != nil {
		return nil, err
	}
	defer p.trees.release(nothing)
	var begun *partial
	err = p.commit(func(s *state) error {
		if header.Resume {
			begun, err = s.resumable(name, short, header)
			return err
		}
		begun = &partial{Log: ulid.Make().String(), Name: short, Stream: header}
		begun.Base, err = s.baseOf(spec, name, short, header, nothing)
		if err != nil {
			return err
		}
		if s.Datasets[name] != nil {
			s.edit(name).Partial = begun
			return nil
		}
		d := newDataset(empty, 0)
		d.Partial, d.Hollow = begun, true
		if spec.Origin != "" {
			from, snap, err := s.snapshot(spec.Origin)
			if err != nil {
				return err
			}
			d.Origin = origin{from.ID, snap.GUID}
		}
		return addDataset(s, name, d, empty, spec.Properties, false)
	})
	if err != nil {
		return nil, err
	}
	return p.openReceipt(begun, header.Skip)
}

// baseOf checks that a new stream fits, by the rules of ZFS, and returns the tree that it changes.
func (s *state) baseOf(spec agent.ReceiveSpec, name, short string, header streamHeader, nothing sum) (sum, error) {
	d := s.Datasets[name]
	startsDataset := header.From == 0 || header.Clone || spec.Origin != ""
	switch {
	case d != nil && d.Partial != nil:
		return sum{}, fmt.Errorf("is partly received: %w", errdefs.ErrBusy)
	case d != nil && startsDataset:
		return sum{}, fmt.Errorf("dataset: %w", errdefs.ErrAlreadyExists)
	case d != nil:
		if there, ok := d.snapshot(short); ok && there.GUID == header.GUID {
			return sum{}, errReceived
		} else if ok {
			return sum{}, fmt.Errorf("snapshot: %w", errdefs.ErrAlreadyExists)
		}
		newest, ok := d.newest()
		if !ok || newest.GUID != header.From {
			return sum{}, fmt.Errorf("newest snapshot is not the stream's base %s: %w", header.From, errdefs.ErrStale)
		}
		return newest.Tree, nil
	case spec.Origin != "":
		_, snap, err := s.snapshot(spec.Origin)
		if err != nil {
			return sum{}, fmt.Errorf("origin %s: %w", spec.Origin, err)
		}
		if header.From != 0 && snap.GUID != header.From {
			return sum{}, fmt.Errorf("origin %s is not the stream's base %s: %w", spec.Origin, header.From, errdefs.ErrStale)
		}
		if header.From == 0 {
			return nothing, nil
		}
		return snap.Tree, nil
	case header.From != 0:
		// For a clone stream libzfs would choose some snapshot of that GUID; nobody here wants that.
		return sum{}, fmt.Errorf("dataset to continue: %w", errdefs.ErrNotFound)
	}
	return nothing, nil
}

// resumable finds the partial receive that a resumed stream continues.
func (s *state) resumable(name, short string, header streamHeader) (*partial, error) {
	d, err := s.dataset(name)
	if err != nil {
		return nil, err
	}
	if d.Partial == nil || d.Partial.Stream.GUID != header.GUID || d.Partial.Stream.From != header.From || d.Partial.Name != short {
		return nil, fmt.Errorf("nothing that the stream continues: %w", errdefs.ErrStale)
	}
	return d.Partial, nil
}

// finishReceipt checks what arrived and turns it into the snapshot.
func (p *Pool) finishReceipt(r *receipt, end streamEnd) error {
	base, err := p.tree(r.partial.Base)
	if err != nil {
		return err
	}
	arrived, err := base.apply(r.changes)
	if err != nil {
		return err
	}
	missing := arrived.sums()
	for s := range base.sums() {
		delete(missing, s)
	}
	for _, s := range r.blocks {
		delete(missing, s)
	}
	if len(missing) > 0 {
		return fmt.Errorf("stream lacks %d blocks: %w", len(missing), errdefs.ErrCorrupt)
	}
	content, err := p.saveTree(arrived)
	if err != nil {
		return err
	}
	defer p.trees.release(content)
	if content != end.Tree {
		return fmt.Errorf("received tree is %s instead of %s: %w", content, end.Tree, errdefs.ErrCorrupt)
	}
	return p.commitReceipt(r, content, arrived.referenced())
}

func (p *Pool) commitReceipt(r *receipt, content sum, referenced uint64) error {
	d, l, err := p.lockReceipt(r)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	if err := p.unchanged(d, l); err != nil {
		return err
	}
	err = p.commit(func(s *state) error {
		now, name, ok := s.byID(d.ID)
		if !ok || now.Partial == nil || now.Partial.Log != r.partial.Log {
			return errNotReceiving
		}
		if l.mounts > 0 {
			return fmt.Errorf("mounted: %w", errdefs.ErrBusy) // ZFS could, but nobody here needs it
		}
		next := s.edit(name)
		if newest, ok := next.newest(); !next.Hollow && (!ok || newest.GUID != r.partial.Stream.From) {
			return fmt.Errorf("a snapshot was taken meanwhile: %w", errdefs.ErrStale)
		}
		if referenced > next.refquota() {
			return fmt.Errorf("%d bytes are more than the refquota: %w", referenced, errdefs.ErrExhausted)
		}
		next.Snapshots = append(next.Snapshots, snapshot{
			Name: r.partial.Name, GUID: r.partial.Stream.GUID, TXG: s.TXG, Creation: p.now(), Tree: content, Referenced: referenced,
		})
		next.Base, next.Referenced, next.Data = content, referenced, ulid.Make().String()
		next.Partial, next.Hollow = nil, false
		return nil
	})
	if err != nil {
		return err
	}
	return errors.Join(p.dropReceipt(r.partial), p.dropLive(d.Data, l))
}

var errNotReceiving = fmt.Errorf("partly received state is gone: %w", errdefs.ErrStale)

// lockReceipt finds the dataset that a receipt belongs to, however it is called by now, and locks its live files.
func (p *Pool) lockReceipt(r *receipt) (*dataset, *liveData, error) {
	for {
		s, err := p.view(context.Background())
		if err != nil {
			return nil, nil, err
		}
		name := ""
		for n, d := range s.Datasets {
			if d.Partial != nil && d.Partial.Log == r.partial.Log {
				name = n
			}
		}
		if name == "" {
			return nil, nil, errNotReceiving
		}
		d, l, err := p.lockLive(name)
		if err == nil && d.Partial != nil && d.Partial.Log == r.partial.Log {
			return d, l, nil
		}
		if err == nil {
			l.mu.Unlock()
		} else if !errors.Is(err, errdefs.ErrNotFound) {
			return nil, nil, err
		}
	}
}
