package digest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Comparison is what became of comparing this side's tree with the other's.
type Comparison struct {
	Entries     uint64       `json:"entries"`     // paths on this side
	Bytes       uint64       `json:"bytes"`       // of their contents
	Differences []Difference `json:"differences"` // the first ones; nil when the trees are equal
	Omitted     uint64       `json:"omitted"`     // differing paths beyond those
}

// Difference is one path that is not the same on both sides.
type Difference struct {
	Path  string `json:"path"`  // "." for the root
	Here  string `json:"here"`  // what this side has; "" for nothing
	There string `json:"there"` // what the other has
}

// Equal tells whether no path differs.
func (c Comparison) Equal() bool { return len(c.Differences) == 0 }

// Seen is told how far this side's walk has come, after each entry: so many paths, and bytes of their contents. nil for nobody.
type Seen func(entries, bytes uint64)

func (c *Comparison) count(e entry, seen Seen) {
	if e.At == 0 {
		c.Entries++
	}
	c.Bytes += e.bytes
	if seen != nil {
		seen(c.Entries, c.Bytes)
	}
}

// Measure reads a tree whole where there is none to compare it with.
func Measure(ctx context.Context, root *os.Root, seen Seen) (Comparison, error) {
	var c Comparison
	err := walk(ctx, root, func(e entry) error {
		c.count(e, seen)
		return nil
	})
	return c, err
}

// Compare walks this side's tree beside the other's entries. At most limit differences are kept, the others counted.
// other is read to its end, unless there is an error; what does not come from Write is ErrCorrupt.
func Compare(ctx context.Context, root *os.Root, other io.Reader, limit int, seen Seen) (Comparison, error) {
	m := merge{other: newReader(other), limit: limit, seen: seen}
	if err := m.advance(); err != nil {
		return Comparison{}, err
	}
	if err := walk(ctx, root, m.match); err != nil {
		return Comparison{}, err
	}
	for !m.ended { // what is left is there alone
		if err := m.onlyThere(); err != nil {
			return Comparison{}, err
		}
	}
	return m.result, nil
}

// merge goes through both lists at once.
type merge struct {
	other  *reader
	next   entry // of the other side
	ended  bool  // there is none any more
	limit  int
	seen   Seen
	result Comparison
	last   []byte // path of the newest difference: a path differs once, however many pieces do
	differ bool   // there is a newest difference
}

func (m *merge) advance() error {
	next, err := m.other.next()
	if errors.Is(err, io.EOF) {
		m.ended = true
		return nil
	}
	m.next = next
	return err
}

// match takes this side's next entry.
func (m *merge) match(e entry) error {
	m.result.count(e, m.seen)
	for !m.ended && m.next.order(e) < 0 {
		if err := m.onlyThere(); err != nil {
			return err
		}
	}
	if m.ended || m.next.order(e) > 0 {
		m.add(e.Path, e.Attributes, "")
		return nil
	}
	switch {
	case e.Attributes != m.next.Attributes:
		m.add(e.Path, e.Attributes, m.next.Attributes)
	case e.Sum != m.next.Sum:
		place := fmt.Sprintf("XXH64 from byte %d on: ", e.At)
		m.add(e.Path, place+e.Sum, place+m.next.Sum)
	}
	return m.advance()
}

func (m *merge) onlyThere() error {
	m.add(m.next.Path, "", m.next.Attributes)
	return m.advance()
}

func (m *merge) add(path []byte, here, there string) {
	if m.differ && bytes.Equal(path, m.last) {
		return
	}
	m.differ, m.last = true, bytes.Clone(path)
	if len(m.result.Differences) >= m.limit {
		m.result.Omitted++
		return
	}
	name := "."
	if len(path) > 0 {
		name = string(path)
	}
	m.result.Differences = append(m.result.Differences, Difference{Path: name, Here: here, There: there})
}
