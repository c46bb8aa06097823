package hosts

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// stepLog says what took how long: on a machine with two cores that is the first question of every test.
type stepLog struct {
	mu  sync.Mutex
	out io.Writer
}

func newStepLog(out io.Writer) *stepLog {
	if out == nil {
		out = os.Stderr
	}
	return &stepLog{out: out}
}

// say prints a line.
func (l *stepLog) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, "hosts: "+format+"\n", args...)
}

// step begins a step; the function it returns ends it and prints the duration.
func (l *stepLog) step(format string, args ...any) (done func()) {
	start := time.Now()
	return func() { l.say("%s: %.1f s", fmt.Sprintf(format, args...), time.Since(start).Seconds()) }
}
