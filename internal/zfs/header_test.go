package zfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// recordedGUID is what the recorded streams' snapshot has in the recorded listing.
const recordedGUID = 10145888123756461233

func TestHeader(t *testing.T) {
	single := []byte(readFile(t, recorded+"stream-single.bin"))
	with := func(change func(header []byte)) []byte {
		changed := bytes.Clone(single)
		change(changed)
		return changed
	}
	feature := func(bit uint64) []byte {
		return with(func(h []byte) {
			binary.LittleEndian.PutUint64(h[headerVersionAt:], binary.LittleEndian.Uint64(h[headerVersionAt:])|bit<<2)
		})
	}
	bigEndian := make([]byte, headerSize)
	binary.BigEndian.PutUint64(bigEndian[headerMagicAt:], streamMagic)
	binary.BigEndian.PutUint64(bigEndian[headerVersionAt:], kindSingle)
	binary.BigEndian.PutUint32(bigEndian[headerTypeAt:], typeFilesystem)
	for name, c := range map[string]struct {
		stream []byte
		class  error
	}{
		"single":      {single, nil},
		"big endian":  {bigEndian, nil},
		"compound":    {[]byte(readFile(t, recorded+"stream-compound.bin")), errdefs.ErrUnsupported},
		"volume":      {[]byte(readFile(t, recorded+"stream-volume.bin")), errdefs.ErrUnsupported},
		"raw":         {feature(featureRaw), errdefs.ErrUnsupported},
		"redacted":    {feature(featureRedacted), errdefs.ErrUnsupported},
		"other type":  {with(func(h []byte) { h[headerTypeAt] = 9 }), errdefs.ErrCorrupt},
		"wrong magic": {with(func(h []byte) { h[headerMagicAt] ^= 1 }), errdefs.ErrCorrupt},
		"text":        {bytes.Repeat([]byte("hello "), 100), errdefs.ErrCorrupt},
		"cut":         {single[:headerSize-1], errdefs.ErrAborted},
		"empty":       {nil, errdefs.ErrAborted},
	} {
		header, guid, err := readHeader(bytes.NewReader(c.stream))
		if !errors.Is(err, c.class) {
			t.Errorf("%s: %v, want %v", name, err, c.class)
		}
		if c.class == nil && !bytes.Equal(header, c.stream[:headerSize]) {
			t.Errorf("%s: header changed", name)
		}
		if name == "single" && guid != recordedGUID {
			t.Errorf("guid %v", guid)
		}
	}
}
