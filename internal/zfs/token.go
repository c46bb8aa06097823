package zfs

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// A resume token is "1-<checksum>-<size>-<payload>", all but the version in hexadecimal. The payload is a
// zlib-compressed nvlist of <size> bytes; the checksum is the first word of its fletcher4, compressed as it is. ZFS packs
// the list in its native encoding, not in XDR (tried).
//
// The checksum is a plain sum and anybody can make it fit: a token that decodes is well formed, not authentic.
const (
	maxToken  = 32 << 10 // of text; real ones are 200 to 700 bytes
	maxNVList = 16 << 10 // unpacked; redaction lists, which we refuse to receive, could make it larger
)

// nvlist value types (sys/nvpair.h).
const (
	nvBoolean = 1 // its presence is its value
	nvUint64  = 8
	nvString  = 9
)

func corruptToken(format string, args ...any) error {
	return fmt.Errorf("resume token: "+format+": %w", append(args, errdefs.ErrCorrupt)...)
}

// decodeToken reads a token that may come from anybody: sizes are bounded before anything is unpacked.
func decodeToken(token string) (agent.ResumePoint, error) {
	if len(token) > maxToken {
		return agent.ResumePoint{}, corruptToken("%d bytes long", len(token))
	}
	parts := strings.Split(token, "-")
	if len(parts) != 4 || parts[0] != "1" {
		return agent.ResumePoint{}, corruptToken("not of version 1")
	}
	checksum, err := strconv.ParseUint(parts[1], 16, 64)
	if err != nil {
		return agent.ResumePoint{}, corruptToken("checksum %q", parts[1])
	}
	size, err := strconv.ParseUint(parts[2], 16, 64)
	if err != nil || size > maxNVList {
		return agent.ResumePoint{}, corruptToken("size %q", parts[2])
	}
	packed, err := hex.DecodeString(parts[3])
	if err != nil {
		return agent.ResumePoint{}, corruptToken("payload is not hexadecimal")
	}
	if fletcher4(packed) != checksum {
		return agent.ResumePoint{}, corruptToken("wrong checksum")
	}
	list, err := inflate(packed, int64(size)) //nolint:gosec // at most maxNVList
	if err != nil {
		return agent.ResumePoint{}, err
	}
	return readPoint(list)
}

// fletcher4 returns the first word of the checksum: the sum of little-endian 32-bit words, without a last part of one
// (zfs_fletcher.c, scalar implementation).
func fletcher4(data []byte) uint64 {
	var sum uint64
	for len(data) >= 4 {
		sum += uint64(binary.LittleEndian.Uint32(data))
		data = data[4:]
	}
	return sum
}

// inflate unpacks exactly size bytes.
func inflate(packed []byte, size int64) ([]byte, error) {
	reader, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, corruptToken("payload: %v", err)
	}
	defer reader.Close()
	list, err := io.ReadAll(io.LimitReader(reader, size+1))
	if err != nil {
		return nil, corruptToken("payload: %v", err)
	}
	if int64(len(list)) != size {
		return nil, corruptToken("payload is not %d bytes", size)
	}
	return list, nil
}

// readPoint reads what a resume point needs from a packed nvlist: a header of 4 bytes (encoding, byte order, two unused),
// version and flags, then pairs, then a size of zero.
func readPoint(list []byte) (agent.ResumePoint, error) {
	const encodingNative = 0
	if len(list) < 12 || list[0] != encodingNative || list[1] > 1 {
		return agent.ResumePoint{}, corruptToken("unknown encoding")
	}
	var order binary.ByteOrder = binary.BigEndian
	if list[1] == 1 {
		order = binary.LittleEndian
	}
	pairs := list[12:]
	numbers := map[string]uint64{}
	flags := map[string]bool{}
	named := false
	for {
		if len(pairs) < 4 {
			return agent.ResumePoint{}, corruptToken("list has no end")
		}
		size := order.Uint32(pairs)
		if size == 0 {
			break
		}
		if uint64(size) > uint64(len(pairs)) {
			return agent.ResumePoint{}, corruptToken("pair of %d bytes", size)
		}
		name, kind, value, err := readPair(pairs[:size], order)
		if err != nil {
			return agent.ResumePoint{}, err
		}
		if _, twice := numbers[name]; twice {
			return agent.ResumePoint{}, corruptToken("%q twice", name)
		}
		switch kind {
		case nvBoolean:
			flags[name] = true
		case nvUint64:
			if len(value) < 8 {
				return agent.ResumePoint{}, corruptToken("%q has no value", name)
			}
			numbers[name] = order.Uint64(value)
		case nvString:
			named = named || name == "toname"
		}
		pairs = pairs[size:]
	}
	for _, name := range []string{"object", "offset", "bytes", "toguid"} {
		if _, ok := numbers[name]; !ok {
			return agent.ResumePoint{}, corruptToken("no %q", name)
		}
	}
	if !named || numbers["toguid"] == 0 {
		return agent.ResumePoint{}, corruptToken("no snapshot")
	}
	return agent.ResumePoint{
		To:    lineage.GUID(numbers["toguid"]),
		From:  lineage.GUID(numbers["fromguid"]),
		Bytes: numbers["bytes"],
		Embed: flags["embedok"],
		Raw:   flags["rawok"],
	}, nil
}

// readPair reads one pair of natively packed form: int32 size, int16 size of the name with its zero, int16 unused, int32
// number of elements, int32 type, then name and value, each at a multiple of 8 bytes.
func readPair(pair []byte, order binary.ByteOrder) (name string, kind uint32, value []byte, err error) {
	const fixed = 16
	if len(pair) < fixed {
		return "", 0, nil, corruptToken("pair of %d bytes", len(pair))
	}
	nameSize := int(order.Uint16(pair[4:]))
	kind = order.Uint32(pair[12:])
	if nameSize < 2 || fixed+nameSize > len(pair) || pair[fixed+nameSize-1] != 0 {
		return "", 0, nil, corruptToken("name of a pair")
	}
	name = string(pair[fixed : fixed+nameSize-1])
	at := (fixed + nameSize + 7) &^ 7
	return name, kind, pair[min(at, len(pair)):], nil
}
