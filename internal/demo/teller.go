package demo

import (
	"fmt"
	"io"
)

// teller writes the story and keeps count of what held.
type teller struct {
	out      io.Writer
	marks    marks
	chapters int
	facts    int
	broken   int
	err      error // of the first write that failed
}

// marks are what stands in front of lines.
type marks struct{ held, broken string }

// marksFor uses colours only where people see them.
func marksFor(terminal bool) marks {
	if terminal {
		return marks{held: "  \x1b[32m✓\x1b[0m ", broken: "  \x1b[31m✗ NOT SO:\x1b[0m "}
	}
	return marks{held: "  - ", broken: "  - NOT SO: "}
}

func (t *teller) say(format string, args ...any) {
	if _, err := fmt.Fprintf(t.out, format, args...); err != nil && t.err == nil {
		t.err = fmt.Errorf("tell: %w", err)
	}
}

func (t *teller) chapter(title string) {
	t.chapters++
	t.say("\n%d. %s\n", t.chapters, title)
}

// fact tells something that was checked. What did not hold is told as such, and the story fails in the end.
func (t *teller) fact(held bool, format string, args ...any) {
	t.facts++
	mark := t.marks.held
	if !held {
		t.broken++
		mark = t.marks.broken
	}
	t.say(mark+format+"\n", args...)
}

// fail tells why a chapter could not go on.
func (t *teller) fail(err error) {
	t.broken++
	t.say("%s%v\n", t.marks.broken, err)
}
