package zfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// A stream begins with one record of fixed size that says what the stream is (struct dmu_replay_record with struct
// drr_begin, sys/zfs_ioctl.h). Numbers are in the sender's byte order; the magic number tells which that is.
const (
	headerSize = 312

	headerMagicAt   = 8  // uint64
	headerVersionAt = 16 // uint64: 2 bits of stream kind, then 30 of features
	headerTypeAt    = 32 // uint32: kind of dataset
	headerFlagsAt   = 36 // uint32
	headerGUIDAt    = 40 // uint64: of the snapshot
	headerFromAt    = 48 // uint64: of the base
	headerNameAt    = 56 // zero-terminated: dataset@snapshot, by the sender's names

	streamMagic = 0x2F5bacbac

	kindMask        = 0x3
	kindSingle      = 0x1 // one snapshot without properties
	kindCompound    = 0x2 // several, or with properties
	featureRaw      = 1 << 24
	featureRedacted = 1 << 21

	typeFilesystem = 2
	typeVolume     = 3
)

// readHeader reads a stream's first record and returns it as it came, with the GUID of the snapshot that the stream
// makes. It refuses what was not asked for and ZFS would act upon: a peer could set any property on a dataset of
// ours with a compound stream. A series, which is one, goes through passSeries.
func readHeader(stream io.Reader) (header []byte, guid lineage.GUID, err error) {
	header = make([]byte, headerSize)
	if n, err := io.ReadFull(stream, header); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, 0, fmt.Errorf("stream ends after %d bytes: %w", n, errdefs.ErrAborted)
		}
		return nil, 0, err
	}
	guid, err = checkHeader(header)
	return header, guid, err
}

// checkHeader returns the GUID of the snapshot that a single stream makes, by its header.
func checkHeader(header []byte) (lineage.GUID, error) {
	order, err := byteOrder(header)
	if err != nil {
		return 0, err
	}
	version := order.Uint64(header[headerVersionAt:])
	features := version >> 2
	switch kind := order.Uint32(header[headerTypeAt:]); {
	case version&kindMask != kindSingle:
		return 0, fmt.Errorf("stream of several snapshots or with properties: %w", errdefs.ErrUnsupported)
	case features&featureRaw != 0:
		return 0, fmt.Errorf("raw encrypted stream: %w", errdefs.ErrUnsupported)
	case features&featureRedacted != 0:
		return 0, fmt.Errorf("redacted stream: %w", errdefs.ErrUnsupported)
	case kind == typeVolume:
		return 0, fmt.Errorf("stream of a volume: %w", errdefs.ErrUnsupported)
	case bytes.IndexByte(header[headerNameAt:], 0) < 0: // C would read on behind it
		return 0, fmt.Errorf("stream with a name that does not end: %w", errdefs.ErrCorrupt)
	case kind != typeFilesystem:
		return 0, fmt.Errorf("stream of dataset type %d: %w", kind, errdefs.ErrCorrupt)
	}
	return lineage.GUID(order.Uint64(header[headerGUIDAt:])), nil
}

// byteOrder tells by a header's magic number how its sender writes numbers.
func byteOrder(header []byte) (binary.ByteOrder, error) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if order.Uint64(header[headerMagicAt:]) == streamMagic {
			return order, nil
		}
	}
	return nil, fmt.Errorf("not a ZFS stream: %w", errdefs.ErrCorrupt)
}
