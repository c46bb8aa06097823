package transfer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	// wireBuffer collects the compressor's small writes into worthwhile ones.
	wireBuffer = 256 << 10
	// holdTime is how long they are collected at most, as long as the source goes on.
	holdTime = time.Second
)

// encoder writes a source to a wire as a row of zstd frames (RFC 8878), each of which stands for itself: compressed ones while
// that pays, and between them frames of stored blocks. So the choice may change at any time, and any decoder follows.
type encoder struct {
	out     *wire
	effort  effort
	stretch stretch
	every   uint64        // stretchSize, but for tests
	tried   time.Duration // how long the last trial took that did not pay

	zstd   *zstd.Encoder // nil before the first trial
	made   effort        // what zstd was made for
	buffer *bufio.Writer
	first  bytes.Buffer // of the source, for the first trial
	held   bytes.Buffer // a trial's output
	trial  int          // how much of that there may be; 0 while there is no trial
	frame  []byte       // for stored frames
}

// encoders keeps those of former streams: 15 MiB of memory that the kernel would have to clear again for each small one.
var encoders = sync.Pool{New: func() any {
	e := new(encoder)
	e.buffer = bufio.NewWriterSize(writerFunc(e.forward), wireBuffer)
	return e
}}

// newEncoder returns an encoder to out. release gives it back.
func newEncoder(out *wire) *encoder {
	e := encoders.Get().(*encoder)
	e.out, e.effort, e.stretch, e.every, e.tried = out, stored, stretch{}, stretchSize, 0
	return e
}

func (e *encoder) release() {
	e.reset()
	e.out = nil
	e.first.Reset()
	encoders.Put(e)
}

// reset drops whatever is half done.
func (e *encoder) reset() {
	if e.zstd != nil {
		e.zstd.Reset(nil)
	}
	e.buffer.Reset(writerFunc(e.forward))
	e.trial = 0
}

// write passes a piece of the source on; waited is how long it was in coming.
func (e *encoder) write(p []byte, waited time.Duration) error {
	e.stretch.waiting += waited
	if e.effort == stored && e.stretch.source >= e.every && e.stretch.took() >= trialPause(e.tried) {
		return e.try(p)
	}
	began, sent, sending := e.out.now(), e.out.count, e.out.spent
	var err error
	if e.effort == stored {
		err = e.store(p)
	} else {
		err = e.compress(p)
	}
	sending = e.out.spent - sending
	e.stretch.source += uint64(len(p))
	e.stretch.wire += e.out.count - sent
	e.stretch.sending += sending
	e.stretch.compressing += e.out.now().Sub(began) - sending
	if err != nil || e.effort == stored || e.stretch.source < e.every {
		return err
	}
	next := e.stretch.next(e.effort)
	e.stretch = stretch{}
	return e.change(next)
}

// try compresses a piece of the source and goes on so if that pays: then the trial is the beginning of what follows.
func (e *encoder) try(p []byte) error {
	before := e.stretch
	e.stretch = stretch{}
	if err := e.open(fast); err != nil {
		return err
	}
	e.trial = len(p)*startPercent/100 + 1
	e.held.Reset()
	e.held.Grow(e.trial)
	began := e.out.now()
	_, err := e.zstd.Write(p)
	if err == nil {
		err = e.zstd.Flush()
	}
	if err == nil {
		err = e.buffer.Flush()
	}
	if err != nil && !errors.Is(err, errTooMuch) {
		return err
	}
	compressing := e.out.now().Sub(began)
	if err == nil && before.resume(stretch{source: uint64(len(p)), wire: uint64(e.held.Len()), compressing: compressing}) {
		e.trial = 0
		e.effort = fast
		return e.out.write(e.held.Bytes())
	}
	e.reset() // what the compressor still holds goes nowhere
	e.tried = compressing
	return e.store(p)
}

// open begins a frame of an effort.
func (e *encoder) open(effort effort) (err error) {
	if e.zstd != nil && e.made == effort {
		e.zstd.Reset(e.buffer)
		return nil
	}
	e.made = effort
	e.zstd, err = zstd.NewWriter(e.buffer,
		zstd.WithEncoderLevel(levels[effort]),
		zstd.WithWindowSize(zstdWindow),
		// No goroutines of its own. The source is read and the network is served beside it anyway.
		zstd.WithEncoderConcurrency(1),
		// The trailer has a hash of the content.
		zstd.WithEncoderCRC(false))
	if err != nil {
		return fmt.Errorf("start compressor: %w", err)
	}
	return nil
}

// change ends what is being written and goes on with another effort.
func (e *encoder) change(next effort) error {
	if next == e.effort {
		return nil
	}
	if err := e.finish(); err != nil {
		return err
	}
	e.effort = next
	if next == stored {
		return nil
	}
	return e.open(next)
}

// finish ends the frame at hand.
func (e *encoder) finish() error {
	if e.effort == stored {
		return nil // each of them is whole
	}
	if err := e.zstd.Close(); err != nil {
		return err
	}
	return e.buffer.Flush()
}

func (e *encoder) compress(p []byte) error {
	if _, err := e.zstd.Write(p); err != nil {
		return err
	}
	// A gigabyte of zeros is a few kilobytes. They must not wait here until the receiver gives up.
	if e.out.now().Sub(e.out.last) < holdTime {
		return nil
	}
	if err := e.zstd.Flush(); err != nil {
		return err
	}
	return e.buffer.Flush()
}

// The parts of a frame of stored blocks: a magic number, a descriptor that says that nothing optional follows but a window of
// 128 KiB, and blocks of at most that size behind 3 bytes each: bit 0 marks the last, 2 bits of type are zero, then the size.
const (
	storedMagic  = 0xFD2FB528
	storedWindow = 7 << 3
	storedBlock  = 128 << 10

	// storedOverhead is what a frame of a piece has on top of it, at most.
	storedOverhead = 4 + 2 + (1<<20/storedBlock)*3
)

// store sends a piece as it is.
func (e *encoder) store(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), pieceSize)
		e.frame = appendStored(e.frame[:0], p[:n])
		if err := e.out.write(e.frame); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func appendStored(frame, p []byte) []byte {
	frame = binary.LittleEndian.AppendUint32(frame, storedMagic)
	frame = append(frame, 0, storedWindow)
	for len(p) > 0 {
		n := min(len(p), storedBlock)
		head := uint32(n) << 3
		if n == len(p) {
			head |= 1
		}
		frame = append(frame, byte(head), byte(head>>8), byte(head>>16))
		frame = append(frame, p[:n]...)
		p = p[n:]
	}
	return frame
}

// errTooMuch ends a trial early: too much is left for it to pay.
var errTooMuch = errors.New("does not compress")

func (e *encoder) forward(p []byte) (int, error) {
	if e.trial > 0 {
		if e.held.Len()+len(p) > e.trial {
			return 0, errTooMuch
		}
		return e.held.Write(p)
	}
	if err := e.out.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
