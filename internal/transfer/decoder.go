package transfer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// decoder reads what encoder writes: a row of zstd frames. Frames of stored blocks it unpacks itself, since a decompressor would
// copy every byte several times; any other frame goes to the decompressor, from its first byte to its last and no further.
type decoder struct {
	in   *bufio.Reader
	zstd *zstd.Decoder

	reading frameKind
	frame   frameReader // while reading a compressed one
	left    int         // bytes of a stored block
	last    bool        // of a stored frame's blocks
}

type frameKind int

const (
	noFrame frameKind = iota
	storedFrame
	compressedFrame
)

// newDecoder reads a compressed stream, with the memory that a sender of ours needs and no more.
func newDecoder(src io.Reader) (*decoder, error) {
	d := &decoder{in: bufio.NewReaderSize(src, 4<<10)} // for heads; large reads go past it
	d.frame.in = d.in
	var err error
	d.zstd, err = zstd.NewReader(nil,
		zstd.WithDecoderMaxWindow(zstdMaxWindow),
		zstd.WithDecoderMaxMemory(zstdMaxWindow),
		zstd.WithDecoderConcurrency(1), // no goroutines of its own
		zstd.WithDecoderLowmem(false))
	return d, err
}

// Read implements io.Reader.
func (d *decoder) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		var n int
		var err error
		switch d.reading {
		case noFrame:
			err = d.begin()
		case storedFrame:
			n, err = d.stored(p)
		case compressedFrame:
			n, err = d.zstd.Read(p)
			if errors.Is(err, io.EOF) {
				d.reading, err = noFrame, nil
			}
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// begin looks at what comes next. io.EOF is the end of the stream.
func (d *decoder) begin() error {
	head, err := d.in.Peek(6)
	if len(head) == 0 {
		return err
	}
	if len(head) == 6 && binary.LittleEndian.Uint32(head) == storedMagic && head[4] == 0 && head[5] == storedWindow {
		_, _ = d.in.Discard(6) // is there
		d.reading, d.left, d.last = storedFrame, 0, false
		return nil
	}
	if err := d.frame.begin(); err != nil {
		return err
	}
	d.reading = compressedFrame
	return d.zstd.Reset(&d.frame)
}

func (d *decoder) stored(p []byte) (int, error) {
	if d.left > 0 {
		n, err := d.in.Read(p[:min(d.left, len(p))])
		d.left -= n
		return n, inside(n, err)
	}
	if d.last {
		d.reading = noFrame
		return 0, nil
	}
	var head [3]byte
	if _, err := io.ReadFull(d.in, head[:]); err != nil {
		return 0, inside(0, err)
	}
	block := parseBlock(head)
	if block.kind != blockRaw || block.size > storedBlock {
		return 0, fmt.Errorf("a frame of stored blocks holds another: %w", errdefs.ErrCorrupt)
	}
	d.left, d.last = block.size, block.last
	return 0, nil
}

// frameReader passes one zstd frame on.
type frameReader struct {
	in       *bufio.Reader
	head     []byte // that was read, and is to be passed on
	left     int    // bytes of the block at hand
	last     bool   // it is the last
	checksum int    // bytes of what follows the last
}

// begin reads a frame's head (RFC 8878, 3.1.1.1).
func (f *frameReader) begin() error {
	head := make([]byte, 5, 18)
	if _, err := io.ReadFull(f.in, head); err != nil {
		return inside(0, err)
	}
	if binary.LittleEndian.Uint32(head) != storedMagic {
		return fmt.Errorf("no zstd frame: %w", errdefs.ErrCorrupt)
	}
	descriptor := head[4]
	single := descriptor&0x20 != 0
	more := [4]int{0, 1, 2, 4}[descriptor&3] + [4]int{0, 2, 4, 8}[descriptor>>6] // dictionary, content size
	if !single || descriptor>>6 == 0 {
		more++ // the window, or a content size of one byte
	}
	head = head[:5+more]
	if _, err := io.ReadFull(f.in, head[5:]); err != nil {
		return inside(0, err)
	}
	f.head, f.left, f.last, f.checksum = head, 0, false, 0
	if descriptor&4 != 0 {
		f.checksum = 4
	}
	return nil
}

// Read implements io.Reader. It returns io.EOF at the end of the frame.
func (f *frameReader) Read(p []byte) (int, error) {
	if len(f.head) == 0 && f.left == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	if len(f.head) > 0 {
		n := copy(p, f.head)
		f.head = f.head[n:]
		return n, nil
	}
	n, err := f.in.Read(p[:min(f.left, len(p))])
	f.left -= n
	return n, inside(n, err)
}

// next reads the head of the next block, or goes on to the checksum.
func (f *frameReader) next() error {
	if f.last {
		if f.checksum == 0 {
			return io.EOF
		}
		f.left, f.checksum = f.checksum, 0
		return nil
	}
	var head [3]byte
	if _, err := io.ReadFull(f.in, head[:]); err != nil {
		return inside(0, err)
	}
	block := parseBlock(head)
	f.head, f.left, f.last = head[:], block.size, block.last
	if block.kind == blockRepeated {
		f.left = 1
	}
	return nil
}

// block is the head of a block (RFC 8878, 3.1.1.2).
type block struct {
	last bool
	kind int
	size int // of what it is of; a repeated byte is one
}

const (
	blockRaw      = 0
	blockRepeated = 1
)

func parseBlock(head [3]byte) block {
	bits := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	return block{last: bits&1 != 0, kind: bits >> 1 & 3, size: bits >> 3}
}

// inside is what an end means in the middle of a frame, where n bytes came with it. With the bytes it may be the frame's own end,
// too, which shows when somebody reads on.
func inside(n int, err error) error {
	switch {
	case !errors.Is(err, io.EOF):
		return err
	case n > 0:
		return nil
	}
	return io.ErrUnexpectedEOF
}
