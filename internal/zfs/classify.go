package zfs

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// CommandError is a command that did not end well. It belongs to one of the classes of package errdefs, and to its
// context's error when it was cancelled.
type CommandError struct {
	Args     []string // program and arguments
	ExitCode int      // -1 when it ended by a signal or never ran
	Stderr   string   // what it printed, at most the last 16 KiB, without surrounding space
	class    error    // nil when the context's error says all
	cause    error    // the context's error, or why it never ran; may be nil
}

func (e *CommandError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: ", commandName(e.Args))
	switch {
	case e.cause != nil && e.Stderr != "":
		fmt.Fprintf(&text, "%v: %s", e.cause, summary(e.Stderr))
	case e.cause != nil:
		fmt.Fprint(&text, e.cause)
	case e.Stderr != "":
		fmt.Fprint(&text, summary(e.Stderr))
	default:
		fmt.Fprintf(&text, "exit status %d", e.ExitCode)
	}
	return text.String()
}

// Unwrap exposes class and cause to errors.Is and errors.As.
func (e *CommandError) Unwrap() []error {
	var behind []error
	if e.class != nil {
		behind = append(behind, e.class)
	}
	if e.cause != nil {
		behind = append(behind, e.cause)
	}
	return behind
}

// commandName is a program and its verb, "zfs receive": few enough to be a metric's label.
func commandName(args []string) string { return strings.Join(args[:min(len(args), 2)], " ") }

// summary is what ZFS said without its advice: how to use the command, how to resume (with the whole token).
func summary(stderr string) string {
	text := oneLine(stderr)
	for _, advice := range []string{" usage: ", " A resuming stream can be generated"} {
		text, _, _ = strings.Cut(text, advice)
	}
	return text
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// newCommandError makes the error of a command from what Wait said; cause is its context's error, or nil.
func newCommandError(args []string, waited error, stderr string, cause error) *CommandError {
	e := &CommandError{Args: args, ExitCode: -1, Stderr: strings.TrimSpace(stderr), cause: cause}
	var exit *exec.ExitError
	switch {
	case errors.As(waited, &exit):
		e.ExitCode = exit.ExitCode()
	case cause == nil: // it never ran, or its streams failed
		e.class, e.cause = errdefs.ErrUnavailable, waited
		return e
	}
	if cause == nil {
		verb := ""
		if len(args) > 1 {
			verb = args[1]
		}
		e.class = classify(verb, e.Stderr)
		if e.ExitCode < 0 && errors.Is(e.class, errdefs.ErrInternal) { // a signal, and not from us: out of memory, an operator
			e.class, e.cause = errdefs.ErrAborted, waited
		}
	}
	return e
}

// rule maps a part of an error text to a class, for one verb or, with an empty verb, for all.
type rule struct {
	verb  string
	text  string
	class error
}

// rules is searched from the top: where two texts meet in one message, the more telling one stands first. The texts are
// those of OpenZFS 2.3.9: testdata/2.3.9/errors.txt holds whole messages, and the e2e tests provoke most of them again.
var rules = []rule{
	// receive: what arrived is not a stream, or not all of it
	{"receive", "bad magic number", errdefs.ErrCorrupt},
	{"receive", "invalid stream", errdefs.ErrCorrupt},
	{"receive", "invalid record type", errdefs.ErrCorrupt},
	// "checksum mismatch or incomplete stream": the kernel cannot tell a cut from a flipped bit. Resuming is right for the
	// first and harmless for the second, because only records with a right checksum were kept.
	{"receive", "incomplete stream", errdefs.ErrAborted},
	{"receive", "failed to read from stream", errdefs.ErrAborted},
	// receive: the target is not what was planned on
	{"receive", "has been modified since most recent snapshot", errdefs.ErrStale},
	{"receive", "does not match incremental source", errdefs.ErrStale},
	{"receive", "pool must be upgraded to receive this stream", errdefs.ErrUnsupported},
	// Says upgrade, means either that the token is used up or that somebody took a snapshot of the target meanwhile.
	{"receive", "kernel modules must be upgraded to receive this stream", errdefs.ErrStale},
	{"receive", "Resuming recv on existing destination", errdefs.ErrStale},
	{"receive", "specified origin fs", errdefs.ErrStale}, // … does not exist, by now
	{"receive", "partially-complete state", errdefs.ErrBusy},
	{"receive", "must specify -F to overwrite it", errdefs.ErrAlreadyExists},
	{"receive", "must destroy it to overwrite it", errdefs.ErrAlreadyExists},
	{"receive", "destination already exists", errdefs.ErrAlreadyExists},
	{"receive", "incremental send stream requires -L", errdefs.ErrUnsupported},
	{"receive", "inherited key must be loaded", errdefs.ErrUnavailable}, // after a boot it may come late
	{"receive", "cannot perform raw receive", errdefs.ErrFailedPrecondition},
	{"receive", "does not apply to datasets of this type", errdefs.ErrUnsupported}, // a volume's stream
	// send
	{"send", "no longer exists", errdefs.ErrStale}, // what a token, or an increment, stands on
	{"send", "source key must be loaded", errdefs.ErrUnavailable},
	{"send", "resume token is corrupt", errdefs.ErrCorrupt},
	{"send", "not an earlier snapshot from the same fs", errdefs.ErrInvalid},
	{"send", "is not earlier than it", errdefs.ErrInvalid},
	{"diff", "Cannot diff an unmounted snapshot", errdefs.ErrStale},                    // it was mounted a moment ago
	{"diff", "Unable to obtain diffs: No such file or directory", errdefs.ErrNotFound}, // of a snapshot
	// space
	{"", "space quota exceeded", errdefs.ErrExhausted},
	{"", "quota exceeded", errdefs.ErrExhausted},
	{"", "out of space", errdefs.ErrExhausted},
	{"", "No space left on device", errdefs.ErrExhausted},
	{"", "size is less than current used or reserved space", errdefs.ErrExhausted},
	{"", "size is greater than available space", errdefs.ErrExhausted},
	// in use
	{"", "it's being held", errdefs.ErrBusy},
	{"", "is busy", errdefs.ErrBusy}, // "dataset is busy", "pool or dataset is busy"
	{"", "has dependent clones", errdefs.ErrBusy},
	{"", "has children", errdefs.ErrBusy},
	{"rollback", "more recent snapshots or bookmarks exist", errdefs.ErrBusy},
	// names
	{"promote", "not a cloned filesystem", errdefs.ErrFailedPrecondition},
	{"promote", "conflicting snapshot", errdefs.ErrAlreadyExists},
	{"", "already exists", errdefs.ErrAlreadyExists},
	{"", "bookmark exists", errdefs.ErrAlreadyExists},
	{"", "could not find any snapshots to destroy", errdefs.ErrNotFound},
	{"", "does not exist", errdefs.ErrNotFound},
	{"", "no such pool", errdefs.ErrNotFound},
	// requests that can never succeed
	{"", "invalid property", errdefs.ErrInvalid},
	{"", "bad property", errdefs.ErrInvalid},
	{"", "bad numeric value", errdefs.ErrInvalid},
	{"", "must be one of", errdefs.ErrInvalid},
	{"", "property cannot be inherited", errdefs.ErrInvalid},
	{"", "does not apply to datasets of this type", errdefs.ErrInvalid},
	{"", "not applicable to datasets of this type", errdefs.ErrInvalid},
	{"", "invalid character", errdefs.ErrInvalid},
	{"", "name is too long", errdefs.ErrInvalid},
	{"", "missing dataset name", errdefs.ErrInvalid},
	{"", "is readonly", errdefs.ErrInvalid},
	{"", "property is read-only", errdefs.ErrInvalid},
	// ZFS itself is not there
	{"", "ZFS modules", errdefs.ErrUnavailable}, // "The ZFS modules cannot be auto-loaded.", "… are not loaded."
	{"", "/dev/zfs", errdefs.ErrUnavailable},
	{"", "currently suspended", errdefs.ErrUnavailable},
	{"", "pool is suspended", errdefs.ErrUnavailable},
}

// classify returns the class of an error text; one that no rule knows is ErrInternal.
func classify(verb, stderr string) error {
	stderr = oneLine(stderr) // ZFS breaks long messages wherever its source does
	for _, r := range rules {
		if (r.verb == "" || r.verb == verb) && strings.Contains(stderr, r.text) {
			return r.class
		}
	}
	return errdefs.ErrInternal
}

// nothingToAbort tells whether zfs receive -A failed because there is no interrupted receive.
func (e *CommandError) nothingToAbort() bool {
	return strings.Contains(e.Stderr, "does not have any resumable receive state to abort")
}
