package zfs

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// A series is what zfs send -I makes: a header without content, the header's end, then for each snapshot a stream as of one, and an end of
// all. The same form can carry properties, child datasets and whatever else a sender likes, so each record is looked at on its way to
// zfs receive, which is given none that does not belong here. Records have one size, and most are followed by a payload whose size they
// say (struct dmu_replay_record, sys/zfs_ioctl.h; receive_read_record, module/zfs/dmu_recv.c; tried on OpenZFS 2.3.9).
const (
	recordTypeAt    = 0 // uint32
	recordPayloadAt = 4 // uint32, of a beginning

	flagClone = 1 << 0 // of a beginning: the base lies in another dataset

	objectBonusAt    = 28 // uint32
	objectRawBonusAt = 36 // uint32: of raw streams alone

	writeSizeAt        = 32 // uint64: of the block
	writeCompressionAt = 50 // uint8: 0 for none
	writeCompressedAt  = 96 // uint64: of the payload, if the block is compressed

	embeddedSizeAt = 52 // uint32

	spillSizeAt       = 16 // uint64
	spillCompressedAt = 40 // uint64: of raw streams alone
)

// The records of a stream, in the order of the format's numbers.
const (
	recordBegin = iota
	recordObject
	recordFreeObjects
	recordWrite
	recordFree
	recordEnd
	recordWriteByReference // of deduplicated streams, which are no more
	recordSpill
	recordWriteEmbedded
)

// maxPayload is the most that a record has: a block.
const maxPayload = 16 << 20

// series is what is known of a series while it passes.
type series struct {
	from     *bufio.Reader
	to       *bufio.Writer
	order    binary.ByteOrder
	accept   func(header []byte) error // judges the beginning of each stream
	expected []agent.Incoming          // what is still to come, oldest first
	dataset  []byte                    // the sender's name of it
	newest   lineage.GUID              // of the snapshots that have come
	latest   [headerSize]byte          // the record that was read last
}

// passSeries hands a series on that brings the expected snapshots, oldest first, each as the difference from the one before it. It refuses
// anything else at the record where that begins; the snapshots before it have arrived then. An error of w is none: who reads from it says why.
func passSeries(w io.Writer, stream io.Reader, expected []agent.Incoming, accept func(header []byte) error) error {
	s := &series{from: bufio.NewReaderSize(stream, copyBuffer), to: bufio.NewWriterSize(w, copyBuffer), accept: accept, expected: expected}
	err := s.pass()
	if flushed := s.to.Flush(); flushed != nil || errors.Is(err, errNotTaken) {
		return nil
	}
	return err
}

// errNotTaken says that who a stream is handed to takes no more of it.
var errNotTaken = errors.New("not taken")

func (s *series) pass() error {
	if err := s.begin(); err != nil {
		return err
	}
	for len(s.expected) > 0 {
		if err := s.snapshot(); err != nil {
			return err
		}
	}
	record, err := s.record()
	if err != nil {
		return err
	}
	if kind := s.kind(record); kind != recordEnd {
		return fmt.Errorf("record of type %d after the last snapshot: %w", kind, errdefs.ErrCorrupt)
	}
	if err := s.put(record); err != nil {
		return err
	}
	if err := s.to.Flush(); err != nil {
		return errNotTaken
	}
	if _, err := s.from.ReadByte(); !errors.Is(err, io.EOF) { // its reader finds out with the end whether it arrived whole
		return errors.Join(errdefs.ErrCorrupt, errors.New("bytes after the end of a series"), err)
	}
	return nil
}

// begin passes the header of all.
func (s *series) begin() error {
	header, err := s.record()
	if err != nil {
		return err
	}
	if s.order, err = byteOrder(header); err != nil {
		return err
	}
	if s.order.Uint64(header[headerVersionAt:])&kindMask != kindCompound {
		return fmt.Errorf("not a series of snapshots: %w", agent.ErrWrongSnapshot)
	}
	if s.kind(header) != recordBegin || s.order.Uint32(header[recordPayloadAt:]) != 0 {
		return fmt.Errorf("stream with properties: %w", errdefs.ErrUnsupported)
	}
	header = bytes.Clone(header) // the next record follows before it is handed on
	if s.dataset, _, err = nameOf(header); err != nil {
		return err
	}
	end, err := s.record()
	if err != nil {
		return err
	}
	if kind := s.kind(end); kind != recordEnd {
		return fmt.Errorf("record of type %d in a series' header: %w", kind, errdefs.ErrCorrupt)
	}
	return errors.Join(s.put(header), s.put(end))
}

// snapshot passes the stream of the next snapshot.
func (s *series) snapshot() error {
	header, err := s.record()
	if err != nil {
		return err
	}
	next := s.expected[0]
	if s.kind(header) == recordEnd {
		return fmt.Errorf("the series ends before snapshot %s: %w", next.GUID, errdefs.ErrStale)
	}
	if err := s.checkBegin(header, next); err != nil {
		return err
	}
	for record := header; ; {
		payload, err := s.payload(record)
		if err != nil {
			return err
		}
		if err := s.put(record); err != nil {
			return err
		}
		if err := s.copy(payload); err != nil {
			return err
		}
		if s.kind(record) == recordEnd {
			break
		}
		if record, err = s.record(); err != nil {
			return err
		}
		if s.kind(record) == recordBegin {
			return fmt.Errorf("a stream begins within that of snapshot %s: %w", next.GUID, errdefs.ErrCorrupt)
		}
	}
	s.newest, s.expected = next.GUID, s.expected[1:]
	return nil
}

// checkBegin tells whether a record begins the stream of a snapshot, and of nothing else.
func (s *series) checkBegin(header []byte, next agent.Incoming) error {
	if order, err := byteOrder(header); err != nil || order != s.order || s.kind(header) != recordBegin {
		return fmt.Errorf("record of type %d instead of a stream: %w", s.kind(header), errdefs.ErrCorrupt)
	}
	guid, err := checkHeader(header)
	if err != nil {
		return err
	}
	if guid != next.GUID {
		class := agent.ErrWrongSnapshot
		if slices.ContainsFunc(s.expected, func(i agent.Incoming) bool { return i.GUID == guid }) {
			class = errdefs.ErrStale // the expected one was destroyed meanwhile
		}
		return fmt.Errorf("snapshot %s instead of %s: %w", guid, next.GUID, class)
	}
	if base := lineage.GUID(s.order.Uint64(header[headerFromAt:])); base == 0 || s.newest != 0 && base != s.newest {
		return fmt.Errorf("snapshot %s as the difference from %s: %w", guid, base, agent.ErrWrongSnapshot)
	}
	if s.order.Uint32(header[recordPayloadAt:]) != 0 || s.order.Uint32(header[headerFlagsAt:])&flagClone != 0 {
		return fmt.Errorf("snapshot %s in a stream that is more than an increment: %w", guid, errdefs.ErrUnsupported)
	}
	dataset, name, err := nameOf(header)
	if err != nil {
		return err
	}
	if !bytes.Equal(dataset, s.dataset) || string(name) != next.Name { // it would go to another dataset, or by another name
		return fmt.Errorf("snapshot %s is called %s@%s instead of %s@%s: %w", guid, dataset, name, s.dataset, next.Name, agent.ErrWrongSnapshot)
	}
	return s.accept(header)
}

// payload returns how many bytes follow a record.
func (s *series) payload(record []byte) (size int64, err error) {
	switch kind := s.kind(record); kind {
	case recordObject:
		if s.order.Uint32(record[objectRawBonusAt:]) != 0 {
			return 0, fmt.Errorf("raw object: %w", errdefs.ErrUnsupported)
		}
		size = padded(s.order.Uint32(record[objectBonusAt:]))
	case recordWrite:
		at := writeSizeAt
		if record[writeCompressionAt] != 0 {
			at = writeCompressedAt
		}
		size = int64(min(s.order.Uint64(record[at:]), maxPayload+1))
	case recordWriteEmbedded:
		size = padded(s.order.Uint32(record[embeddedSizeAt:]))
	case recordSpill:
		if s.order.Uint64(record[spillCompressedAt:]) != 0 {
			return 0, fmt.Errorf("raw spill block: %w", errdefs.ErrUnsupported)
		}
		size = int64(min(s.order.Uint64(record[spillSizeAt:]), maxPayload+1))
	case recordBegin, recordFree, recordFreeObjects, recordEnd: // a beginning that was checked has none
	default:
		return 0, fmt.Errorf("record of type %d: %w", kind, errdefs.ErrUnsupported)
	}
	if size > maxPayload {
		return 0, fmt.Errorf("record with %d bytes: %w", size, errdefs.ErrCorrupt)
	}
	return size, nil
}

// padded is a size rounded up to whole words.
func padded(size uint32) int64 { return (int64(size) + 7) &^ 7 }

func (s *series) kind(record []byte) uint32 { return s.order.Uint32(record[recordTypeAt:]) }

// record reads the next record, in place of the one before it.
func (s *series) record() ([]byte, error) {
	record := s.latest[:]
	if n, err := io.ReadFull(s.from, record); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("series ends after %d bytes of a record: %w", n, errdefs.ErrAborted)
		}
		return nil, err
	}
	return record, nil
}

func (s *series) put(record []byte) error {
	if _, err := s.to.Write(record); err != nil {
		return errNotTaken
	}
	return nil
}

// copy hands size bytes on.
func (s *series) copy(size int64) error {
	if _, err := io.CopyN(s.to, s.from, size); err != nil {
		if s.to.Flush() != nil {
			return errNotTaken
		}
		return fmt.Errorf("series ends within a record: %w: %w", errdefs.ErrAborted, err)
	}
	return nil
}

// nameOf returns what a header's sender calls the dataset and the snapshot.
func nameOf(header []byte) (dataset, snapshot []byte, err error) {
	name, _, ended := bytes.Cut(header[headerNameAt:headerSize], []byte{0})
	dataset, snapshot, ok := bytes.Cut(name, []byte("@"))
	if !ended || !ok || len(dataset) == 0 {
		return nil, nil, fmt.Errorf("stream of %q: %w", name, errdefs.ErrCorrupt)
	}
	return dataset, snapshot, nil
}
