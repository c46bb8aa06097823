package zfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// recordOf makes a record with its payload.
func recordOf(kind uint32, payload int, set func(r []byte)) []byte {
	r := make([]byte, headerSize, headerSize+payload)
	binary.LittleEndian.PutUint32(r[recordTypeAt:], kind)
	if set != nil {
		set(r)
	}
	return append(r, bytes.Repeat([]byte{0xa5}, payload)...)
}

// beginning makes the record that a stream of some kind begins with.
func beginning(kind uint64, guid, from lineage.GUID, name string) []byte {
	return recordOf(recordBegin, 0, func(r []byte) {
		binary.LittleEndian.PutUint64(r[headerMagicAt:], streamMagic)
		binary.LittleEndian.PutUint64(r[headerVersionAt:], kind)
		if kind == kindSingle {
			binary.LittleEndian.PutUint32(r[headerTypeAt:], typeFilesystem)
		}
		binary.LittleEndian.PutUint64(r[headerGUIDAt:], uint64(guid))
		binary.LittleEndian.PutUint64(r[headerFromAt:], uint64(from))
		copy(r[headerNameAt:], name)
	})
}

func number32(at int, value uint32) func(r []byte) {
	return func(r []byte) { binary.LittleEndian.PutUint32(r[at:], value) }
}

func number64(at int, value uint64) func(r []byte) {
	return func(r []byte) { binary.LittleEndian.PutUint64(r[at:], value) }
}

var end = recordOf(recordEnd, 0, nil)

// body has a record of each kind that a stream may have, with the payload that each says it has.
func body() []byte {
	return bytes.Join([][]byte{
		recordOf(recordFreeObjects, 0, nil),
		recordOf(recordObject, 16, number32(objectBonusAt, 13)),
		recordOf(recordWrite, 5000, number64(writeSizeAt, 5000)),
		recordOf(recordWrite, 300, func(r []byte) {
			number64(writeSizeAt, 1<<20)(r)
			number64(writeCompressedAt, 300)(r)
			r[writeCompressionAt] = 15
		}),
		recordOf(recordFree, 0, nil),
		recordOf(recordSpill, 512, number64(spillSizeAt, 512)),
		recordOf(recordWriteEmbedded, 112, number32(embeddedSizeAt, 107)),
	}, nil)
}

func seriesHeaders() []byte { return append(beginning(kindCompound, 3, 0, "tank/x@c"), end...) }

func one(guid, from lineage.GUID, name string, records ...[]byte) []byte {
	if records == nil {
		records = [][]byte{body()}
	}
	return bytes.Join([][]byte{beginning(kindSingle, guid, from, name), bytes.Join(records, nil), end}, nil)
}

func TestSeries(t *testing.T) {
	expected := []agent.Incoming{{Name: "b", GUID: 2}, {Name: "c", GUID: 3}}
	b, c := one(2, 1, "tank/x@b"), one(3, 2, "tank/x@c")
	headers := seriesHeaders()
	whole := bytes.Join([][]byte{headers, b, c, end}, nil)
	with := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	hidden := func(record []byte) []byte { return with(headers, one(2, 1, "tank/x@b", record), c, end) }
	for name, test := range map[string]struct {
		stream []byte
		passed int // bytes
		class  error
	}{
		"whole":                      {whole, len(whole), nil},
		"nothing":                    {nil, 0, errdefs.ErrAborted},
		"cut in the header":          {whole[:100], 0, errdefs.ErrAborted},
		"cut after the header":       {whole[:headerSize], 0, errdefs.ErrAborted},
		"cut between":                {with(headers, b), len(headers) + len(b), errdefs.ErrAborted},
		"cut in a payload":           {whole[:len(headers)+3*headerSize+10], len(headers) + 3*headerSize + 10, errdefs.ErrAborted},
		"cut before the end":         {with(headers, b, c), len(headers) + len(b) + len(c), errdefs.ErrAborted},
		"no end of the header":       {with(headers[:headerSize], b, c, end), 0, errdefs.ErrCorrupt},
		"single":                     {b, 0, agent.ErrWrongSnapshot},
		"no stream":                  {bytes.Repeat([]byte("hello "), 200), 0, errdefs.ErrCorrupt},
		"properties":                 {with(setIn(headers, number32(recordPayloadAt, 8)), make([]byte, 8), end, b, c, end), 0, errdefs.ErrUnsupported},
		"no name":                    {with(beginning(kindCompound, 3, 0, ""), end, b, c, end), 0, errdefs.ErrCorrupt},
		"a child dataset":            {with(headers, b, one(3, 2, "tank/x/child@c"), end), len(headers) + len(b), agent.ErrWrongSnapshot},
		"another dataset":            {with(headers, one(2, 1, "tank/y@b"), c, end), len(headers), agent.ErrWrongSnapshot},
		"another name":               {with(headers, one(2, 1, "tank/x@d"), c, end), len(headers), agent.ErrWrongSnapshot},
		"a name that goes on":        {with(headers, one(2, 1, "tank/x@b@b"), c, end), len(headers), agent.ErrWrongSnapshot},
		"another snapshot":           {with(headers, one(9, 1, "tank/x@b"), c, end), len(headers), agent.ErrWrongSnapshot},
		"one is gone":                {with(headers, one(3, 1, "tank/x@c"), end), len(headers), errdefs.ErrStale},
		"fewer":                      {with(headers, b, end), len(headers) + len(b), errdefs.ErrStale},
		"more":                       {with(headers, b, c, one(4, 3, "tank/x@d"), end), len(headers) + len(b) + len(c), errdefs.ErrCorrupt},
		"a full stream":              {with(headers, one(2, 0, "tank/x@b"), c, end), len(headers), agent.ErrWrongSnapshot},
		"another base":               {with(headers, b, one(3, 1, "tank/x@c"), end), len(headers) + len(b), agent.ErrWrongSnapshot},
		"a volume":                   {with(headers, setIn(b, number32(headerTypeAt, typeVolume)), c, end), len(headers), errdefs.ErrUnsupported},
		"raw":                        {with(headers, setIn(b, number64(headerVersionAt, kindSingle|featureRaw<<2)), c, end), len(headers), errdefs.ErrUnsupported},
		"a name without end":         {with(headers, setIn(b, func(r []byte) { copy(r[headerNameAt:], bytes.Repeat([]byte("x"), 256)) }), c, end), len(headers), errdefs.ErrCorrupt},
		"a payload to begin with":    {with(headers, setIn(b, number32(recordPayloadAt, 8)), c, end), len(headers), errdefs.ErrUnsupported},
		"a clone":                    {with(headers, setIn(b, number32(headerFlagsAt, flagClone)), c, end), len(headers), errdefs.ErrUnsupported},
		"a series in it":             {with(headers, headers, b, c, end), len(headers), errdefs.ErrUnsupported},
		"a stream in a stream":       {hidden(beginning(kindSingle, 5, 1, "tank/x@e")), len(headers) + headerSize, errdefs.ErrCorrupt},
		"a raw object":               {hidden(recordOf(recordObject, 0, number32(objectRawBonusAt, 8))), len(headers) + headerSize, errdefs.ErrUnsupported},
		"a raw spill block":          {hidden(recordOf(recordSpill, 0, number64(spillCompressedAt, 8))), len(headers) + headerSize, errdefs.ErrUnsupported},
		"a deduplicated write":       {hidden(recordOf(recordWriteByReference, 0, nil)), len(headers) + headerSize, errdefs.ErrUnsupported},
		"an unknown record":          {hidden(recordOf(77, 0, nil)), len(headers) + headerSize, errdefs.ErrUnsupported},
		"an enormous write":          {hidden(recordOf(recordWrite, 0, number64(writeSizeAt, 1<<63))), len(headers) + headerSize, errdefs.ErrCorrupt},
		"an enormous embedded write": {hidden(recordOf(recordWriteEmbedded, 0, number32(embeddedSizeAt, 1<<32-1))), len(headers) + headerSize, errdefs.ErrCorrupt},
		"bytes after the end":        {with(whole, []byte{0}), len(whole), errdefs.ErrCorrupt},
	} {
		var passed bytes.Buffer
		err := passSeries(&passed, iotest.OneByteReader(bytes.NewReader(test.stream)), expected, func([]byte) error { return nil })
		if !errors.Is(err, test.class) || (err == nil) != (test.class == nil) {
			t.Errorf("%s: %v, want %v", name, err, test.class)
		}
		if passed.Len() != test.passed || !bytes.HasPrefix(test.stream, passed.Bytes()) {
			t.Errorf("%s: %d bytes passed, want the first %d", name, passed.Len(), test.passed)
		}
	}
}

// setIn changes the first record of a stream.
func setIn(stream []byte, set func(r []byte)) []byte {
	changed := bytes.Clone(stream)
	set(changed[:headerSize])
	return changed[:len(stream)]
}

// Each stream's features are judged, not the first one's alone.
func TestSeriesAcceptsEachStream(t *testing.T) {
	expected := []agent.Incoming{{Name: "b", GUID: 2}, {Name: "c", GUID: 3}}
	stream := bytes.Join([][]byte{seriesHeaders(), one(2, 1, "tank/x@b"), one(3, 2, "tank/x@c"), end}, nil)
	asked := 0
	refuse := func([]byte) error {
		if asked++; asked == 2 {
			return errdefs.ErrUnsupported
		}
		return nil
	}
	if err := passSeries(io.Discard, bytes.NewReader(stream), expected, refuse); !errors.Is(err, errdefs.ErrUnsupported) || asked != 2 {
		t.Errorf("%v after %d questions", err, asked)
	}
}

// A receiver that ends says itself why: that it takes no more is no error of the stream.
func TestSeriesThatNobodyTakes(t *testing.T) {
	expected := []agent.Incoming{{Name: "b", GUID: 2}, {Name: "c", GUID: 3}}
	large := recordOf(recordWrite, 1<<20, number64(writeSizeAt, 1<<20))
	stream := bytes.Join([][]byte{seriesHeaders(), one(2, 1, "tank/x@b", large, large), one(3, 2, "tank/x@c"), end}, nil)
	if err := passSeries(failingWriter{}, bytes.NewReader(stream), expected, func([]byte) error { return nil }); err != nil {
		t.Error(err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// Whatever comes, no more is handed on than came, and no stream that was not asked for.
func FuzzSeries(f *testing.F) {
	whole := bytes.Join([][]byte{seriesHeaders(), one(2, 1, "tank/x@b"), one(3, 2, "tank/x@c"), end}, nil)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(append(seriesHeaders(), end...))
	f.Fuzz(func(t *testing.T, stream []byte) {
		expected := []agent.Incoming{{Name: "b", GUID: 2}, {Name: "c", GUID: 3}}
		var passed bytes.Buffer
		accepted := 0
		err := passSeries(&passed, bytes.NewReader(stream), expected, func([]byte) error { accepted++; return nil })
		if !bytes.HasPrefix(stream, passed.Bytes()) {
			t.Fatal("something else was handed on than came")
		}
		if got := beginnings(t, passed.Bytes()); len(got) > 0 && !slices.Equal(got[1:], []lineage.GUID{2, 3}[:len(got)-1]) {
			t.Fatalf("streams of %v were handed on", got[1:])
		}
		if accepted > len(expected) || err == nil && (accepted != len(expected) || passed.Len() != len(stream)) {
			t.Fatalf("%d streams accepted, %d of %d bytes handed on: %v", accepted, passed.Len(), len(stream), err)
		}
	})
}

// What zfs send -L -c -e -I made of two snapshots with small files, extended attributes, a removed file and one that was written anew.
func TestRecordedSeries(t *testing.T) {
	stream := []byte(readFile(t, recorded+"stream-series.bin"))
	var passed bytes.Buffer
	expected := []agent.Incoming{{Name: "s1", GUID: 3936241969038126580}, {Name: "s2", GUID: 2575818913463699011}}
	if err := passSeries(&passed, bytes.NewReader(stream), expected, func([]byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(passed.Bytes(), stream) {
		t.Errorf("%d of %d bytes passed", passed.Len(), len(stream))
	}
}

// beginnings reads a series for itself, as zfs receive would: the GUIDs of all streams that begin in it.
func beginnings(t *testing.T, stream []byte) (guids []lineage.GUID) {
	for len(stream) >= headerSize {
		record := stream[:headerSize]
		var order binary.ByteOrder = binary.LittleEndian
		if binary.BigEndian.Uint32(record) <= 10 && binary.LittleEndian.Uint32(record) > 10 {
			order = binary.BigEndian
		}
		size := uint64(0)
		switch order.Uint32(record) {
		case 0:
			guids = append(guids, lineage.GUID(order.Uint64(record[40:])))
			size = uint64(order.Uint32(record[4:]))
		case 1:
			size = (uint64(order.Uint32(record[28:])) + 7) / 8 * 8
		case 3:
			if size = order.Uint64(record[32:]); record[50] != 0 {
				size = order.Uint64(record[96:])
			}
		case 7:
			size = order.Uint64(record[16:])
		case 8:
			size = (uint64(order.Uint32(record[52:])) + 7) / 8 * 8
		case 2, 4, 5:
		default:
			t.Fatalf("record of type %d was handed on", order.Uint32(record))
		}
		if size > uint64(len(stream)-headerSize) {
			break
		}
		stream = stream[headerSize+int(size):]
	}
	return guids
}
