package sim

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// A stream is a sequence of frames: one header, changes, blocks, an end. The frames between header and end are numbered and the
// same each time the same snapshots are sent, so a stream can go on anywhere. A series is a frame that names its snapshots, and
// then a stream for each.
//
// A frame is its kind, its length, its payload and a hash of all three.
type frame struct {
	kind    frameKind
	payload []byte
}

type frameKind byte

const (
	frameSeries  frameKind = 'S' // seriesHeader
	frameHeader  frameKind = 'H' // streamHeader
	frameChanges frameKind = 'C' // []change
	frameBlock   frameKind = 'B' // a block's bytes
	frameEnd     frameKind = 'E' // streamEnd
	frameArrived frameKind = 'A' // in logs of partial receives only: the sum of a block that is in the store
)

const (
	frameOverhead = 1 + 4 + 8
	maxFrame      = 8 << 20
	streamFormat  = "hoody-sim-stream/1"
)

// streamHeader says what a stream leads to.
type streamHeader struct {
	Format string       `json:"format"`
	GUID   lineage.GUID `json:"guid"`
	From   lineage.GUID `json:"from,omitempty"`   // 0 for a full stream
	Clone  bool         `json:"clone,omitempty"`  // From lies in another dataset than the snapshot
	Resume bool         `json:"resume,omitempty"` // goes on with what the receiver has
	Skip   int          `json:"skip,omitempty"`   // how many frames that is
}

// seriesHeader says what the snapshots are called that follow, oldest first.
type seriesHeader struct {
	Names []string `json:"names"`
}

// streamEnd lets the receiver check what it made.
type streamEnd struct {
	Tree sum `json:"tree"`
}

func jsonFrame(kind frameKind, value any) (frame, error) {
	payload, err := json.Marshal(value)
	return frame{kind, payload}, err
}

// writeTo writes a frame.
func (f frame) writeTo(w io.Writer) error {
	out := make([]byte, 0, len(f.payload)+frameOverhead)
	out = append(out, byte(f.kind))
	out = binary.BigEndian.AppendUint32(out, uint32(len(f.payload)))
	out = append(out, f.payload...)
	out = binary.BigEndian.AppendUint64(out, xxhash.Sum64(out))
	_, err := w.Write(out)
	return err
}

// readFrame reads the next frame. A stream that stops is ErrAborted, whatever stopped it; one that says nonsense ErrCorrupt.
func readFrame(r io.Reader) (frame, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, cutOff(err)
	}
	switch kind := frameKind(head[0]); kind {
	case frameSeries, frameHeader, frameChanges, frameBlock, frameEnd, frameArrived:
	default:
		return frame{}, fmt.Errorf("frame of kind %q: %w", kind, errdefs.ErrCorrupt)
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxFrame {
		return frame{}, fmt.Errorf("frame of %d bytes: %w", size, errdefs.ErrCorrupt)
	}
	rest := make([]byte, int(size)+8)
	if _, err := io.ReadFull(r, rest); err != nil {
		return frame{}, cutOff(err)
	}
	digest := xxhash.New()
	_, _ = digest.Write(head[:]) // never fails
	_, _ = digest.Write(rest[:size])
	if digest.Sum64() != binary.BigEndian.Uint64(rest[size:]) {
		return frame{}, fmt.Errorf("frame hash: %w", errdefs.ErrCorrupt)
	}
	return frame{frameKind(head[0]), rest[:size]}, nil
}

// cutOff classifies why a stream stopped. A reader that knows better than "the end" keeps its error in the chain.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("stream ends in the middle: %w", errdefs.ErrAborted)
	}
	return fmt.Errorf("stream: %w: %w", errdefs.ErrAborted, err)
}

// decode reads a JSON frame of the expected kind.
func (f frame) decode(kind frameKind, into any) error {
	if f.kind != kind {
		return fmt.Errorf("frame of kind %q instead of %q: %w", f.kind, kind, errdefs.ErrCorrupt)
	}
	if err := json.Unmarshal(f.payload, into); err != nil {
		return fmt.Errorf("frame of kind %q: %w: %w", f.kind, errdefs.ErrCorrupt, err)
	}
	return nil
}

// token is where a partly received stream goes on.
type token struct {
	GUID  lineage.GUID `json:"guid"`
	From  lineage.GUID `json:"from,omitempty"`
	Skip  int          `json:"skip"`
	Bytes uint64       `json:"bytes"`
}

const tokenPrefix = "sim1-"

func (t token) String() string {
	text, _ := json.Marshal(t) // numbers only: never fails
	text = binary.BigEndian.AppendUint64(text, xxhash.Sum64(text))
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(text)
}

func parseToken(text string) (token, error) {
	var t token
	bad := fmt.Errorf("not a resume token: %w", errdefs.ErrInvalid)
	if len(text) < len(tokenPrefix) || text[:len(tokenPrefix)] != tokenPrefix {
		return t, bad
	}
	raw, err := base64.RawURLEncoding.DecodeString(text[len(tokenPrefix):])
	if err != nil || len(raw) < 8 {
		return t, bad
	}
	body, hash := raw[:len(raw)-8], raw[len(raw)-8:]
	if binary.BigEndian.Uint64(hash) != xxhash.Sum64(body) || json.Unmarshal(body, &t) != nil || t.Skip < 0 {
		return t, bad
	}
	return t, nil
}

// interruptible reads from a stream until its context ends. It asks the stream for no more than it is asked for, and never
// after its last Read returned. A stream that can be closed is then, and its Read waited for: who gave the stream asks it how
// far it came. Of one that cannot, the Read that a cancelled context left behind may outlive it.
type interruptible struct {
	ctx     context.Context
	stream  io.Reader
	wanted  chan []byte
	arrived chan arrival
}

type arrival struct {
	data []byte
	err  error
}

func newInterruptible(ctx context.Context, stream io.Reader) *interruptible {
	r := &interruptible{ctx: ctx, stream: stream, wanted: make(chan []byte), arrived: make(chan arrival, 1)}
	go func() {
		for buffer := range r.wanted {
			n, err := stream.Read(buffer)
			r.arrived <- arrival{buffer[:n], err}
		}
	}()
	return r
}

// Read implements io.Reader.
func (r *interruptible) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	r.wanted <- make([]byte, min(len(p), 256<<10)) // its own, since it may be written to after Read returned
	select {
	case a := <-r.arrived:
		return copy(p, a.data), a.err
	case <-r.ctx.Done():
		if closer, ok := r.stream.(io.Closer); ok {
			_ = closer.Close()
			<-r.arrived
		}
		return 0, r.ctx.Err()
	}
}

// stop ends the reading. No Read may follow.
func (r *interruptible) stop() { close(r.wanted) }
