package agent

import (
	"context"
	"errors"
	"io"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// smallStream is the mean size in bytes up to which the next stream is asked for while one is received.
const smallStream = 8 << 20

// opening is a stream that is being asked for.
type opening struct {
	cancel context.CancelFunc
	done   chan struct{}
	stream Stream
	err    error
}

// openStream asks for a stream in the background. drop must be called in the end.
func openStream(ctx context.Context, source Source, request StreamRequest) *opening {
	ctx, cancel := context.WithCancel(ctx)
	o := &opening{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.stream, o.err = source.Stream(ctx, request)
	}()
	return o
}

// wait returns the stream when the source has answered.
func (o *opening) wait() (Stream, error) {
	<-o.done // the context that Stream was called with ends it
	return o.stream, o.err
}

// drop ends the asking and the stream. It does nothing for no opening, and may be called again.
func (o *opening) drop() {
	if o == nil {
		return
	}
	o.cancel()
	<-o.done
	if o.err == nil {
		_ = o.stream.Close() // again, perhaps
	}
}

// receive takes one stream, which has to be of the snapshots that were asked for, into the pool. It ends the stream.
func (p *replication) receive(ctx context.Context, opening *opening, spec ReceiveSpec) error {
	defer opening.drop()
	stream, err := opening.wait()
	if errors.Is(err, errdefs.ErrNotFound) {
		return planAgain(err)
	}
	if err != nil {
		return err
	}
	counted := &countingReader{Stream: stream, progress: p.progress, more: func() error { return p.moreRoom(ctx) }}
	err = p.pool.Receive(ctx, spec, counted)
	came := counted.count()
	if (err == nil || errors.Is(err, errdefs.ErrAborted)) && came.err != nil && !errors.Is(came.err, io.EOF) {
		// What the stream says about its end counts: why it was cut off, or that it was not what was sent.
		err = came.err
	}
	if p.options.Observe.Received != nil { // however it ended: the network has carried it
		p.options.Observe.Received(came.bytes, came.wire, came.compression)
	}
	if closed := stream.Close(); err == nil && closed != nil {
		err = closed
	}
	switch {
	case errors.Is(err, errdefs.ErrNotFound):
		return planAgain(err)
	case errors.Is(err, errdefs.ErrExhausted):
		return outOfSpace(err)
	case err != nil:
		return err
	}
	p.progress.snapshots.Add(int64(len(spec.Before) + 1))
	return nil
}

// planAgain says that a snapshot is no longer where it was. Whether it is anywhere else the next manifest tells.
func planAgain(err error) error {
	return errdefs.New(errdefs.ErrStale, "", "what the stream was planned on is gone").WithCause(err)
}
