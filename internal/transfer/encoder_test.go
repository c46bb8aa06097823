package transfer

import (
	"bytes"
	"context"
	"io"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

func TestEffortFollowsTheStretch(t *testing.T) {
	const ms = time.Millisecond
	s := func(wire uint64, compressing, sending, waiting time.Duration) stretch {
		return stretch{source: 100 << 20, wire: wire << 20, compressing: compressing, sending: sending, waiting: waiting}
	}
	for name, test := range map[string]struct {
		now  effort
		was  stretch
		want effort
	}{
		"the link is slower":                       {fast, s(50, 100*ms, 400*ms, 0), fast},
		"the link is much slower":                  {fast, s(50, 100*ms, 900*ms, 0), strong},
		"strong, still much slower":                {strong, s(45, 150*ms, 800*ms, 0), strong},
		"strong, the link is not so slow any more": {strong, s(45, 150*ms, 500*ms, 0), fast},
		"strong, the processor holds it up":        {strong, s(50, 300*ms, 100*ms, 0), fast},
		"the processor holds it up":                {fast, s(50, 300*ms, 100*ms, 0), stored},
		"it would, but the source is slower still": {fast, s(50, 300*ms, 100*ms, 400*ms), fast},
		"the source is slower, compressed or not":  {fast, s(36, 42*ms, 6*ms, 19*ms), fast},
		"nothing gained":                           {fast, s(99, 100*ms, 9000*ms, 0), stored},
		"strong, nothing gained":                   {strong, s(99, 100*ms, 9000*ms, 0), stored},
		"between start and stop":                   {fast, s(90, 10*ms, 500*ms, 0), fast + 1},
		"nothing sent at all":                      {fast, s(0, 10*ms, ms, 0), fast},
	} {
		if got := test.was.next(test.now); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
	for name, test := range map[string]struct {
		was, trial stretch
		want       bool
	}{
		"the first":                            {stretch{}, s(50, time.Hour, 0, 0), true},
		"the first, incompressible":            {stretch{}, s(99, 0, 0, 0), false},
		"a slow link":                          {s(100, 0, 1000*ms, 0), s(50, 300*ms, 0, 0), true},
		"a fast link":                          {s(100, 0, 100*ms, 0), s(50, 300*ms, 0, 0), false},
		"a fast link behind a slow source":     {s(100, 0, 100*ms, 900*ms), s(50, 300*ms, 0, 0), true},
		"a slow link, hardly anything to gain": {s(100, 0, 9000*ms, 0), s(90, 10*ms, 0, 0), false},
	} {
		if got := test.was.resume(test.trial); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// slowLink is a limit by which time passes: a second for each MiB.
type slowLink struct{ now time.Time }

func (l *slowLink) Burst() int { return limitBurst }

func (l *slowLink) WaitN(_ context.Context, n int) error {
	l.now = l.now.Add(time.Duration(n) * time.Second >> 20)
	return nil
}

// A stream is a container's files, one after the other: what compresses and what does not take turns.
func TestCompressionFollowsTheStream(t *testing.T) {
	link := &slowLink{now: time.Unix(0, 0)}
	opts := StreamOptions{Limiters: []Limiter{link}}
	opts.setDefaults()
	response := httptest.NewRecorder()
	out := newWire(t.Context(), response, &opts)
	defer out.release()
	out.now = func() time.Time { return link.now }
	e := newEncoder(out)
	var content bytes.Buffer
	send := func(data []byte) (wire uint64) {
		before := out.count
		for piece := range bytesIn(data, 256<<10) {
			content.Write(piece)
			must(t, e.write(piece, 0))
		}
		return out.count - before
	}
	e.every = 1 << 20
	first := noise(1 << 20)
	content.Write(first)
	must(t, e.try(first))
	const size = 4 << 20
	for _, test := range []struct {
		what     string
		data     []byte
		from, to uint64 // on the wire
	}{
		{"noise at the start", noise(size), size, size + size>>12},
		{"prose after noise", prose(size), 0, size * 7 / 10},     // a stretch passes as it is
		{"noise after prose", noise(size), size, size + size>>3}, // and what the compressor still held of the prose
		{"prose once more", prose(size), 0, size * 7 / 10},       // it begins again
		{"zeros", make([]byte, size), 0, size / 3},               // none of it had to stop
		{"noise at the end", noise(size / 4), size / 4, size/4 + size>>3},
	} {
		if wire := send(test.data); wire < test.from || wire > test.to {
			t.Errorf("%s: %d bytes became %d on the wire, want %d to %d", test.what, len(test.data), wire, test.from, test.to)
		}
	}
	must(t, e.finish())
	decoder, err := newDecoder(response.Body)
	must(t, err)
	got, err := io.ReadAll(decoder)
	must(t, err)
	if !bytes.Equal(got, content.Bytes()) {
		t.Errorf("%d bytes arrived, not the %d that were sent", len(got), content.Len())
	}
}

func bytesIn(data []byte, size int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(data) > 0 {
			n := min(size, len(data))
			if !yield(data[:n]) {
				return
			}
			data = data[n:]
		}
	}
}

// Stored frames are ours to make, and any decoder's to read.
func TestStoredFrames(t *testing.T) {
	decoder, err := zstd.NewReader(nil)
	must(t, err)
	defer decoder.Close()
	for _, size := range []int{1, storedBlock - 1, storedBlock, storedBlock + 1, pieceSize} {
		data := noise(size)
		frame := appendStored(nil, data)
		got, err := decoder.DecodeAll(frame, nil)
		if err != nil || !bytes.Equal(got, data) || len(frame) > size+storedOverhead {
			t.Errorf("%d bytes: %d in the frame, %d out of it, %v", size, len(frame), len(got), err)
		}
	}
}

// The end of a response may come together with its last bytes. Cut off it is all the same when a frame is not whole.
func TestTheEndMayComeWithTheLastBytes(t *testing.T) {
	data := prose(40_000)
	packed, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false))
	must(t, err)
	for name, wire := range map[string][]byte{"stored": appendStored(nil, data), "compressed": packed.EncodeAll(data, nil)} {
		decode := func(wire []byte) ([]byte, error) {
			decoder, err := newDecoder(&endsAtOnce{wire})
			must(t, err)
			var got bytes.Buffer
			_, err = io.CopyBuffer(onlyWriter{&got}, decoder, make([]byte, readSize))
			return got.Bytes(), err
		}
		if got, err := decode(wire); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d of %d bytes, %v", name, len(got), len(data), err)
		}
		for _, cut := range []int{1, 7, len(wire) / 2, len(wire) - 1} {
			if got, err := decode(wire[:cut]); err == nil {
				t.Errorf("%s: %d of %d bytes of a frame are %d bytes without an error", name, cut, len(wire), len(got))
			}
		}
	}
}

// endsAtOnce returns its last bytes and their end in one.
type endsAtOnce struct{ left []byte }

func (r *endsAtOnce) Read(p []byte) (n int, err error) {
	n = copy(p, r.left)
	if r.left = r.left[n:]; len(r.left) == 0 {
		err = io.EOF
	}
	return n, err
}
