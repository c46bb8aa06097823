// Package digest tells whether two trees of files are equal without bringing them together. Each side walks its tree in the
// same order and makes a small entry of every path, and of every piece of a large file; one side reads the other's entries
// beside its own walk. Nothing is held but the entry at hand, so trees may be of any size.
package digest

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// pieceSize is how many bytes of a file one entry stands for at most, so that neither side is silent for long.
const pieceSize = 16 << 20

// entry stands for one path, or for a further piece of a large file.
type entry struct {
	// Path is relative to the tree's root, which itself is "". It is bytes: names need not be UTF-8.
	Path []byte `json:"path"`
	// At is the offset of a file's piece in bytes.
	At int64 `json:"at,omitempty"`
	// Attributes say in plain text what is there: type, mode, owner, size or target, a hash of extended attributes. Of further
	// pieces there are none.
	Attributes string `json:"attributes,omitempty"`
	// Sum is the XXH64 of a file's piece, in hexadecimal; empty for what is no file. It tells damage from health; against a side
	// that lies no sum would help.
	Sum string `json:"sum,omitempty"`

	bytes uint64 // of the piece; known to who has read it
}

// order is the order of a walk: below 0 when e comes before other, 0 when they are of the same place.
func (e entry) order(other entry) int {
	for i := range min(len(e.Path), len(other.Path)) {
		if a, b := rank(e.Path[i]), rank(other.Path[i]); a != b {
			return a - b
		}
	}
	return cmp.Or(len(e.Path)-len(other.Path), cmp.Compare(e.At, other.At))
}

// rank sorts what is below a directory before the directory's longer-named neighbours. No name holds a zero.
func rank(b byte) int {
	if b == '/' {
		return 0
	}
	return int(b)
}

// maxEntry bounds an encoded entry in bytes: the longest path that walk lists, with room for the rest.
const maxEntry = 2*maxPath + 16<<10

// Write lists a tree that nobody changes meanwhile as lines of JSON, one an entry.
func Write(ctx context.Context, root *os.Root, w io.Writer) error {
	lines := bufio.NewWriterSize(w, 32<<10)
	var since uint64 // bytes read since something was passed on
	err := walk(ctx, root, func(e entry) error {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_, err = lines.Write(append(line, '\n'))
		if since += e.bytes; err != nil || since < flushAbove {
			return err
		}
		since = 0
		return lines.Flush()
	})
	return errors.Join(err, lines.Flush())
}

// flushAbove is how many bytes of content make what is known of them worth passing on: to read the next ones takes its time.
const flushAbove = 1 << 20

// reader decodes what Write has written. It may come from anybody: entries that are out of order, oversized or malformed are
// ErrCorrupt.
type reader struct {
	lines *bufio.Scanner
	last  *entry
}

func newReader(r io.Reader) *reader {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxEntry)
	return &reader{lines: lines}
}

// next returns the next entry, and io.EOF after the last.
func (r *reader) next() (entry, error) {
	if !r.lines.Scan() {
		err := r.lines.Err()
		switch {
		case err == nil:
			return entry{}, io.EOF
		case errors.Is(err, bufio.ErrTooLong):
			return entry{}, fmt.Errorf("an entry of more than %d bytes: %w", maxEntry, errdefs.ErrCorrupt)
		}
		return entry{}, err
	}
	var e entry
	if err := json.Unmarshal(r.lines.Bytes(), &e); err != nil {
		if cut := r.lines.Err(); cut != nil {
			return entry{}, cut // in the middle of this one
		}
		return entry{}, fmt.Errorf("read entry: %w: %w", errdefs.ErrCorrupt, err)
	}
	if r.last != nil && r.last.order(e) >= 0 {
		return entry{}, fmt.Errorf("entry %q at %d is out of order: %w", e.Path, e.At, errdefs.ErrCorrupt)
	}
	r.last = &e
	return e, nil
}
