package sim

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// outgoing is a stream to be sent.
type outgoing struct {
	name    string // of the snapshot
	header  streamHeader
	changes []frame
	blocks  []outgoingBlock
	end     streamEnd
}

type outgoingBlock struct {
	sum    sum
	length int64
}

// changesPerFrame and blocksPerChange keep frames of changes far below maxFrame.
const (
	changesPerFrame = 256
	blocksPerChange = 512
	changesBytes    = 1 << 20
)

// Estimate implements agent.Pool. Here the answer is exact.
func (p *Pool) Estimate(ctx context.Context, specs ...agent.SendSpec) (uint64, error) {
	var total uint64
	for _, spec := range specs {
		size, err := p.estimate(ctx, spec)
		if err != nil {
			return 0, err
		}
		total += size
	}
	return total, nil
}

func (p *Pool) estimate(ctx context.Context, spec agent.SendSpec) (uint64, error) {
	out, unpin, err := p.outgoing(ctx, spec)
	if err != nil {
		return 0, fmt.Errorf("estimate %s: %w", spec.To, err)
	}
	defer unpin()
	var total int64
	counter := writerFunc(func(b []byte) (int, error) { total += int64(len(b)); return len(b), nil })
	frames := append([]frame(nil), out.changes[min(out.header.Skip, len(out.changes)):]...)
	for kind, value := range map[frameKind]any{frameHeader: out.header, frameEnd: out.end} {
		f, err := jsonFrame(kind, value)
		if err != nil {
			return 0, err
		}
		frames = append(frames, f)
	}
	for _, f := range frames {
		if err := f.writeTo(counter); err != nil {
			return 0, err
		}
	}
	for _, b := range out.blocks[max(0, out.header.Skip-len(out.changes)):] {
		total += b.length + frameOverhead
	}
	return uint64(total), nil
}

type writerFunc func(b []byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// Send implements agent.Pool. What cannot be sent is found out before it returns.
func (p *Pool) Send(ctx context.Context, spec agent.SendSpec) (io.ReadCloser, error) {
	if err := p.fault("send:before", spec.To); err != nil {
		return nil, fmt.Errorf("send %s: %w", spec.To, err)
	}
	outs, unpin, err := p.outgoingSeries(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("send %s: %w", spec.To, err)
	}
	reader, writer := io.Pipe()
	stop := context.AfterFunc(ctx, func() { writer.CloseWithError(fmt.Errorf("send %s: %w", spec.To, context.Cause(ctx))) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer unpin()
		defer stop()
		err := p.writeSeries(spec, outs, writer)
		if err != nil {
			err = fmt.Errorf("send %s: %w", spec.To, err)
		}
		writer.CloseWithError(err)
	}()
	return &sender{reader, done}, nil
}

// sender is the reading end of a stream.
type sender struct {
	*io.PipeReader
	done chan struct{}
}

// Close ends the sending side and waits for it.
func (s *sender) Close() error {
	err := s.PipeReader.Close()
	<-s.done
	return err
}

// write produces a stream.
func (p *Pool) write(out *outgoing, w io.Writer) error {
	header, err := jsonFrame(frameHeader, out.header)
	if err != nil {
		return err
	}
	if err := header.writeTo(w); err != nil {
		return err
	}
	skip := out.header.Skip
	for _, f := range out.changes[min(skip, len(out.changes)):] {
		if err := f.writeTo(w); err != nil {
			return err
		}
	}
	for _, b := range out.blocks[max(0, skip-len(out.changes)):] {
		if _, err := p.view(context.Background()); err != nil {
			return err // killed
		}
		data, err := p.blocks.get(b.sum)
		if err != nil {
			return err
		}
		if err := (frame{frameBlock, data}).writeTo(w); err != nil {
			return err
		}
	}
	end, err := jsonFrame(frameEnd, out.end)
	if err != nil {
		return err
	}
	return end.writeTo(w)
}

// writeSeries produces the streams of one Send.
func (p *Pool) writeSeries(spec agent.SendSpec, outs []*outgoing, w io.Writer) error {
	if spec.Series && spec.Token == "" {
		var header seriesHeader
		for _, out := range outs {
			header.Names = append(header.Names, out.name)
		}
		f, err := jsonFrame(frameSeries, header)
		if err != nil {
			return err
		}
		if err := f.writeTo(w); err != nil {
			return err
		}
	}
	for _, out := range outs {
		if err := p.write(out, w); err != nil {
			return err
		}
	}
	return nil
}

// outgoingSeries prepares all streams of one Send and pins their snapshots until unpin.
func (p *Pool) outgoingSeries(ctx context.Context, spec agent.SendSpec) (outs []*outgoing, unpin func(), err error) {
	specs, err := p.parts(ctx, spec)
	if err != nil {
		return nil, nil, err
	}
	var pins []func()
	unpin = func() {
		for _, pin := range pins {
			pin()
		}
	}
	for _, part := range specs {
		out, pin, err := p.outgoing(ctx, part)
		if err != nil {
			unpin()
			return nil, nil, err
		}
		_, out.name, _ = lineage.SplitSnapshot(part.To)
		outs, pins = append(outs, out), append(pins, pin)
	}
	return outs, unpin, nil
}

// parts are the single streams that a Send is made of.
func (p *Pool) parts(ctx context.Context, spec agent.SendSpec) ([]agent.SendSpec, error) {
	if !spec.Series || spec.Token != "" {
		return []agent.SendSpec{spec}, nil
	}
	s, err := p.view(ctx)
	if err != nil {
		return nil, err
	}
	dataset, to, err := s.snapshot(spec.To)
	if err != nil {
		return nil, err
	}
	base, from, err := s.snapshot(spec.From)
	if err != nil {
		return nil, err
	}
	if base != dataset || from.TXG >= to.TXG {
		return nil, fmt.Errorf("%s is no earlier snapshot of the same dataset: %w", spec.From, errdefs.ErrInvalid)
	}
	name, _, _ := lineage.SplitSnapshot(spec.To)
	var parts []agent.SendSpec
	last := spec.From
	for _, snap := range dataset.Snapshots {
		if snap.TXG <= from.TXG || snap.TXG > to.TXG {
			continue
		}
		next := name + "@" + snap.Name
		parts = append(parts, agent.SendSpec{From: last, To: next, Embed: spec.Embed})
		last = next
	}
	return parts, nil
}

// outgoing prepares a stream and pins its snapshots until unpin.
func (p *Pool) outgoing(ctx context.Context, spec agent.SendSpec) (out *outgoing, unpin func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	ends, err := p.pin(spec)
	if err != nil {
		return nil, nil, err
	}
	unpin = func() { p.unpin(ends) }
	defer func() {
		if err != nil {
			unpin()
		}
	}()
	to, err := p.tree(ends.to)
	if err != nil {
		return nil, nil, err
	}
	from := &tree{}
	if ends.from != (sum{}) {
		if from, err = p.tree(ends.from); err != nil {
			return nil, nil, err
		}
	}
	out = &outgoing{header: ends.header, end: streamEnd{Tree: ends.to}}
	changes := delta(from, to)
	if out.changes, err = changeFrames(changes); err != nil {
		return nil, nil, err
	}
	known := from.sums()
	for i := range changes {
		for _, b := range changes[i].Entry.Blocks {
			if b.Sum != (sum{}) && !known[b.Sum] {
				out.blocks = append(out.blocks, outgoingBlock{b.Sum, changes[i].Entry.length(b.At)})
			}
		}
	}
	if out.header.Skip > len(out.changes)+len(out.blocks) {
		return nil, nil, fmt.Errorf("resume token goes past the end: %w", errdefs.ErrStale)
	}
	return out, unpin, nil
}

// changeFrames packs changes into frames of bounded size.
func changeFrames(changes []change) ([]frame, error) {
	var frames []frame
	var batch []change
	size := 0
	flush := func() error {
		f, err := jsonFrame(frameChanges, batch)
		frames, batch, size = append(frames, f), nil, 0
		return err
	}
	for _, c := range cut(changes, blocksPerChange) {
		batch = append(batch, c)
		size += len(c.Entry.Blocks)*2*packedBlock + len(c.Entry.Path) + len(c.Entry.Link)
		if len(batch) == changesPerFrame || size >= changesBytes {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	if len(batch) == 0 {
		return frames, nil
	}
	err := flush()
	return frames, err
}

// ends are the two snapshots of a stream.
type ends struct {
	header   streamHeader
	from, to sum
	pins     []origin
}

// pin finds the snapshots of a stream and keeps them from being destroyed.
func (p *Pool) pin(spec agent.SendSpec) (*ends, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	find := p.state.endsOf
	if spec.Token != "" {
		find = p.state.endsOfToken
	}
	e, err := find(spec)
	if err != nil {
		return nil, err
	}
	for _, s := range e.pins {
		p.pinned[s]++
	}
	// A bookmark may be destroyed while a stream starts from it, so the trees are held as well.
	p.trees.share(e.from)
	p.trees.share(e.to)
	return e, nil
}

func (p *Pool) unpin(e *ends) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range e.pins {
		if p.pinned[s]--; p.pinned[s] == 0 {
			delete(p.pinned, s)
		}
	}
	p.trees.release(e.from)
	p.trees.release(e.to)
}

// endsOf finds what From and To name.
func (s *state) endsOf(spec agent.SendSpec) (*ends, error) {
	d, to, err := s.snapshot(spec.To)
	if err != nil {
		return nil, err
	}
	e := &ends{to: to.Tree, pins: []origin{{d.ID, to.GUID}}}
	e.header = streamHeader{Format: streamFormat, GUID: to.GUID}
	if spec.From == "" {
		return e, nil
	}
	base, from, err := s.point(spec.From)
	if err != nil {
		return nil, fmt.Errorf("base %s: %w", spec.From, err)
	}
	if !s.before(base, from.TXG, d, to) {
		return nil, fmt.Errorf("base %s is not an earlier snapshot of the same history: %w", spec.From, errdefs.ErrStale)
	}
	e.from, e.header.From, e.header.Clone = from.Tree, from.GUID, base != d
	e.pins = append(e.pins, origin{base.ID, from.GUID})
	return e, nil
}

// point finds a snapshot or bookmark by its full name.
func (s *state) point(full string) (*dataset, bookmark, error) {
	name, short, ok := strings.Cut(full, "#")
	if !ok {
		d, snap, err := s.snapshot(full)
		return d, bookmark{Name: snap.Name, GUID: snap.GUID, TXG: snap.TXG, Tree: snap.Tree}, err
	}
	d, err := s.dataset(name)
	if err != nil {
		return nil, bookmark{}, err
	}
	for _, b := range d.Bookmarks {
		if b.Name == short {
			return d, b, nil
		}
	}
	return nil, bookmark{}, fmt.Errorf("no such bookmark: %w", errdefs.ErrNotFound)
}

// endsOfToken finds by GUID what a token goes on with, wherever it lies by now.
func (s *state) endsOfToken(spec agent.SendSpec) (*ends, error) {
	t, err := parseToken(spec.Token)
	if err != nil {
		return nil, err
	}
	for name, d := range s.Datasets {
		to, ok := d.byGUID(t.GUID)
		if !ok {
			continue
		}
		for _, from := range s.places(t.From) {
			e, err := s.endsOf(agent.SendSpec{To: name + "@" + to.Name, From: from})
			if err == nil {
				e.header.Resume, e.header.Skip = true, t.Skip
				return e, nil
			}
		}
	}
	return nil, fmt.Errorf("snapshot %s or its base %s is gone: %w", t.GUID, t.From, errdefs.ErrStale)
}

// places lists where a GUID lies, bookmarks included; for no GUID it is no place.
func (s *state) places(guid lineage.GUID) []string {
	if guid == 0 {
		return []string{""}
	}
	var places []string
	for name, d := range s.Datasets {
		if snap, ok := d.byGUID(guid); ok {
			places = append(places, name+"@"+snap.Name)
		}
		for _, b := range d.Bookmarks {
			if b.GUID == guid {
				places = append(places, name+"#"+b.Name)
			}
		}
	}
	return places
}
