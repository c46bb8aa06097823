package zfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// copyBuffer is the size of the pieces in which a stream goes to zfs receive.
const copyBuffer = 256 << 10

// Receive feeds a stream to zfs receive -s -u, never -F. A dataset that the receive creates gets the properties of
// Create, with what spec says; its parent has to be there. On an existing dataset, which is continued or resumed, spec's
// Origin and Properties are ignored, since they were set when it was created.
//
// Success means that spec.To has the GUID that the stream names. The command's own success does not: it ignores a stream
// whose snapshot the dataset has already, under whatever name (tried). A replay is success therefore, and a stream for
// a name that is taken is ErrAlreadyExists, one for a snapshot that has another name ErrStale. Of a dataset that spec continues that is
// not asked: it is the caller's own, and another command for each stream of a long history costs more than the streams.
//
// The first bytes of a stream are looked at before ZFS acts on them: one that carries properties or more than one
// snapshot (send -p, -R), raw encrypted or redacted data is ErrUnsupported, and so is a volume's; what is no stream is
// ErrCorrupt. Of a series, which spec.Before asks for, every record is; its snapshots that arrived before an error are there.
//
// When ctx is done, the stream breaks off or is incomplete, what arrived is kept and the error is ErrAborted. The
// command gets an end of file first and is killed only when it does not end by itself: both keep what arrived, and the
// first is quicker. A Read of the stream that does not return then is ended through the stream's SetReadDeadline or
// Close, if it has one of them; a Read that ignores both is left behind after the grace time.
func (p *Pool) Receive(ctx context.Context, spec agent.ReceiveSpec, stream io.Reader) error {
	args, err := p.receiveArgs(ctx, spec)
	var guid lineage.GUID
	if err == nil {
		guid, err = p.receive(ctx, args, spec, stream)
	}
	if err == nil && !spec.Continues {
		err = p.checkReceived(ctx, spec.To, guid)
	}
	if err != nil && context.Cause(ctx) != nil {
		err = errors.Join(errdefs.ErrAborted, err)
	}
	if err != nil {
		return fmt.Errorf("receive %s: %w", spec.To, err)
	}
	return nil
}

// checkReceived tells whether a snapshot has the GUID that it should have after a receive.
func (p *Pool) checkReceived(ctx context.Context, to string, guid lineage.GUID) error {
	made, err := p.entry(ctx, p.root+"/"+to)
	switch {
	case errors.Is(err, errdefs.ErrNotFound):
		return fmt.Errorf("snapshot %s is there under another name: %w", guid, errdefs.ErrStale)
	case err != nil:
		return err
	case made.guid != guid:
		return fmt.Errorf("the name is taken by snapshot %s, the stream makes %s: %w", made.guid, guid, errdefs.ErrAlreadyExists)
	}
	return nil
}

func (p *Pool) receiveArgs(ctx context.Context, spec agent.ReceiveSpec) ([]string, error) {
	to, full, err := p.snapshot(spec.To)
	if err != nil {
		return nil, err
	}
	properties, err := withDefaults(spec.Properties)
	if err != nil {
		return nil, err
	}
	args := []string{"zfs", "receive", "-s", "-u"}
	if len(spec.Before) > 0 {
		if !spec.Continues {
			return nil, fmt.Errorf("a series begins a dataset: %w", errdefs.ErrInvalid)
		}
		return append(args, full), nil // the snapshots are called as the stream says; see passSeries
	}
	if spec.Continues {
		return append(args, to), nil
	}
	_, err = p.entry(ctx, full)
	switch {
	case err == nil:
		return append(args, to), nil
	case !errors.Is(err, errdefs.ErrNotFound):
		return nil, err
	}
	if spec.Origin != "" {
		// Left to itself, ZFS takes any snapshot of that GUID for the origin, and there is one in every copy (tried).
		origin, _, err := p.snapshot(spec.Origin)
		if err != nil {
			return nil, err
		}
		args = append(args, "-o", "origin="+origin)
	}
	args = append(args, options(properties)...)
	if _, set := properties["mountpoint"]; !set {
		args = append(args, "-x", "mountpoint") // inherited, and never a stream's
	}
	return append(args, to), nil
}

// receive runs the command that args say and returns the GUID that the stream named, which has to be spec's unless that has none.
func (p *Pool) receive(ctx context.Context, args []string, spec agent.ReceiveSpec, stream io.Reader) (lineage.GUID, error) {
	reading, writing, err := os.Pipe()
	if err != nil { // of files there are too many open
		return 0, fmt.Errorf("receive: %w", errdefs.New(errdefs.ErrUnavailable, "", "no pipe for the stream").WithCause(err))
	}
	defer writing.Close()
	enlarge(writing)
	process, err := p.runner.start(ctx, command{
		args:      args,
		stdin:     reading,
		idle:      p.idle,
		interrupt: func(*process) { _ = writing.Close() }, // end of file: ZFS keeps what it has
	})
	if err != nil {
		return 0, err
	}
	defer process.stdout.Close()
	fed := make(chan feedResult, 1)
	guid := make(chan lineage.GUID, 1)
	accept := func(header []byte) error { return p.checkFeatures(ctx, header) }
	pass := func(w io.Writer, stream io.Reader) error { return passOne(w, stream, spec.GUID, accept, guid) }
	if len(spec.Before) > 0 {
		_, name, _ := lineage.SplitSnapshot(spec.To)
		expected := append(slices.Clone(spec.Before), agent.Incoming{Name: name, GUID: spec.GUID})
		pass = func(w io.Writer, stream io.Reader) error { return passSeries(w, stream, expected, accept) }
		guid <- spec.GUID
	}
	go func() { fed <- feed(writing, stream, pass) }() // waited for below
	printed := make(chan struct{})
	go func() { // -s prints to standard error only; but a full pipe must never stop the command
		defer close(printed)
		_, _ = io.Copy(io.Discard, process.stdout)
	}()
	failed := process.wait()
	_ = process.stdout.Close()
	<-printed
	if failed != nil {
		unblock(stream)
	}
	result := p.await(fed, stream)
	switch {
	case result.refused != nil: // the command got nothing of that, whatever it makes of it
		return 0, result.refused
	case failed == nil: // complete, whatever the stream's reader says after its end
		return <-guid, nil
	case result.read != nil && errors.Is(failed, errdefs.ErrAborted): // otherwise the command failed first
		return 0, fmt.Errorf("%w: the stream broke off: %w (%w)", errdefs.ErrAborted, result.read, failed)
	}
	return 0, failed
}

// feedResult is why feeding ended.
type feedResult struct {
	refused error // the stream is not one that is received
	read    error // its Read failed
}

// feed lets pass hand a stream on to w, and closes w.
func feed(w *os.File, stream io.Reader, pass func(w io.Writer, stream io.Reader) error) feedResult {
	defer w.Close()
	source := &recordingReader{from: stream}
	// Hidden behind plain interfaces, so that what copies uses its own buffer and not one of the file's choice.
	refused := pass(struct{ io.Writer }{w}, source)
	if source.failed != nil {
		return feedResult{read: source.failed}
	}
	return feedResult{refused: refused}
}

// passOne hands on the stream of one snapshot. It refuses that of another than the wanted one, and one whose header accept
// refuses, before a byte is handed on; the snapshot's GUID it tells before that. An error of w is none: who reads from it says why.
func passOne(w io.Writer, stream io.Reader, wanted lineage.GUID, accept func(header []byte) error, tell chan<- lineage.GUID) error {
	header, guid, err := readHeader(stream)
	if err == nil && wanted != 0 && guid != wanted {
		err = fmt.Errorf("snapshot %s instead of %s: %w", guid, wanted, agent.ErrWrongSnapshot)
	}
	if err == nil {
		err = accept(header)
	}
	if err != nil {
		return err
	}
	tell <- guid
	if _, err := w.Write(header); err != nil {
		return nil
	}
	_, _ = io.CopyBuffer(w, stream, make([]byte, copyBuffer))
	return nil
}

// recordingReader keeps the error of a failed Read, which io.Copy does not tell from one of Write.
type recordingReader struct {
	from   io.Reader
	failed error
}

func (r *recordingReader) Read(b []byte) (int, error) {
	n, err := r.from.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		r.failed = err
	}
	return n, err
}

// await waits for the feeder, which has nothing left to do but to see the stream's end.
func (p *Pool) await(fed <-chan feedResult, stream io.Reader) feedResult {
	for range 2 {
		patience := time.NewTimer(p.runner.grace)
		select {
		case result := <-fed:
			patience.Stop()
			return result
		case <-patience.C:
			unblock(stream)
		}
	}
	p.log.Warn("a stream's reader does not return", zap.Duration("after", 2*p.runner.grace))
	return feedResult{}
}

// unblock ends a Read that waits for a peer which has nothing more to say, or which nobody listens to any more.
func unblock(stream io.Reader) {
	if s, ok := stream.(interface{ SetReadDeadline(time.Time) error }); ok && s.SetReadDeadline(time.Unix(1, 0)) == nil {
		return
	}
	if s, ok := stream.(io.Closer); ok {
		_ = s.Close()
	}
}

// DescribeToken decodes a resume token. It runs no command, so it may be given anybody's token: ErrCorrupt when it is
// not one.
func (p *Pool) DescribeToken(_ context.Context, token string) (agent.ResumePoint, error) {
	point, err := decodeToken(token)
	if err != nil {
		return agent.ResumePoint{}, fmt.Errorf("describe token: %w", err)
	}
	return point, nil
}

// AbortReceive drops what an interrupted receive left; a dataset that the receive created goes with it. Success when
// there is nothing to drop, ErrBusy while the receive runs.
func (p *Pool) AbortReceive(ctx context.Context, dataset string) error {
	full, err := p.dataset(dataset)
	if err != nil {
		return fmt.Errorf("abort receive: %w", err)
	}
	if err := p.abortReceive(ctx, full); err != nil {
		return fmt.Errorf("abort receive of %s: %w", dataset, err)
	}
	return nil
}

func (p *Pool) abortReceive(ctx context.Context, full string) error {
	err := p.runner.run(ctx, "zfs", "receive", "-A", full)
	var failed *CommandError
	if errors.As(err, &failed) && failed.nothingToAbort() {
		return nil
	}
	return err
}
