package zfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// maxEstimate is the largest stream size that is believed: an exbibyte. zfs send -n has printed sizes just below 2^64
// (openzfs issue 12265): a difference that went below zero.
const maxEstimate = 1 << 60

// sendArgs returns the arguments behind "zfs send" for what a stream is to carry.
//
// -L and -c always: a lineage that was received with large blocks can only be continued with them, and compressed
// blocks travel as they are. -e is the caller's choice, since an encrypted dataset cannot receive embedded blocks. A
// resume token brings the flags of the stream that it continues.
func (p *Pool) sendArgs(spec agent.SendSpec) ([]string, error) {
	if spec.Token != "" {
		// Decoding proves that it is a token and nothing that zfs could take for an option or a name. Whose snapshot it
		// asks for is for the caller to judge.
		if _, err := decodeToken(spec.Token); err != nil {
			return nil, err
		}
		return []string{"-t", spec.Token}, nil
	}
	args := []string{"-L", "-c"}
	if spec.Embed {
		args = append(args, "-e")
	}
	if spec.From != "" {
		from, _, err := p.version(spec.From, "@#")
		if err != nil {
			return nil, err
		}
		increment := "-i"
		if spec.Series {
			increment = "-I"
		}
		args = append(args, increment, from)
	}
	to, _, err := p.snapshot(spec.To)
	if err != nil {
		return nil, err
	}
	return append(args, to), nil
}

// describe names a stream in errors.
func describe(spec agent.SendSpec) string {
	switch {
	case spec.Token != "":
		return "send by token"
	case spec.Series:
		return "send all from " + spec.From + " to " + spec.To
	case spec.From != "":
		return "send " + spec.From + " to " + spec.To
	}
	return "send " + spec.To
}

// Estimate returns the size that zfs send -nvP expects of the streams together, in bytes: of what is left when a stream is
// resumed. A stream of which ZFS prints a size that cannot be counts nothing. Streams that follow each other within one
// dataset are asked for by one command, as the range that they make: a long history costs as little as a short one.
func (p *Pool) Estimate(ctx context.Context, specs ...agent.SendSpec) (uint64, error) {
	var total uint64
	for len(specs) > 0 {
		args, taken, err := p.estimateArgs(specs)
		if err != nil {
			return 0, fmt.Errorf("estimate: %s: %w", describe(specs[0]), err)
		}
		size, err := p.estimate(ctx, specs[0], args)
		if err != nil {
			return 0, fmt.Errorf("estimate: %s: %w", describe(specs[0]), err)
		}
		total += size
		specs = specs[taken:]
	}
	return total, nil
}

// estimateArgs returns the arguments for the first stream, or for the chain of increments that the first ones make, and
// how many they are.
func (p *Pool) estimateArgs(specs []agent.SendSpec) (args []string, taken int, err error) {
	first := specs[0]
	args, err = p.sendArgs(first)
	if err != nil {
		return nil, 0, err
	}
	last := chain(specs)
	if last == 0 {
		return args, 1, nil
	}
	from, _, err := p.snapshot(first.From)
	if err != nil {
		return nil, 0, err
	}
	to, _, err := p.snapshot(specs[last].To)
	if err != nil {
		return nil, 0, err
	}
	args = args[:len(args)-3] // -i, from, to
	return append(args, "-I", from, to), last + 1, nil
}

// chain returns the index of the last stream that continues the first within its dataset, each from where the one before
// it ended. A bookmark or another dataset's snapshot cannot begin a range.
func chain(specs []agent.SendSpec) int {
	dataset, _, ok := lineage.SplitSnapshot(specs[0].From)
	if !ok || strings.Contains(specs[0].From, "#") {
		return 0
	}
	last := -1
	for i, spec := range specs {
		into, _, ok := lineage.SplitSnapshot(spec.To)
		if !ok || into != dataset || spec.Token != "" || spec.Embed != specs[0].Embed || i > 0 && spec.From != specs[i-1].To {
			break
		}
		last = i
	}
	return max(last, 0)
}

func (p *Pool) estimate(ctx context.Context, spec agent.SendSpec, args []string) (uint64, error) {
	size, found := uint64(0), false
	err := p.runner.lines(ctx, func(line string) error {
		number, ok := strings.CutPrefix(line, "size\t")
		if !ok {
			return nil // the contents of a token, one line for each snapshot
		}
		var err error
		size, err = strconv.ParseUint(number, 10, 64)
		if err != nil {
			return fmt.Errorf("unexpected line %q: %w", line, errdefs.ErrInternal)
		}
		found = true
		return nil
	}, append([]string{"zfs", "send", "-n", "-v", "-P"}, args...)...)
	switch {
	case err != nil:
		return 0, err
	case !found:
		return 0, fmt.Errorf("zfs printed no size: %w", errdefs.ErrInternal)
	case size > maxEstimate:
		p.log.Warn("absurd estimate of a stream's size", zap.Uint64("bytes", size), zap.String("stream", describe(spec)))
		return 0, nil
	}
	return size, nil
}

// Send starts zfs send. Read returns io.EOF only after the command ended well; a read that finds the pipe's end waits
// for the command and returns its error. Close ends the command and waits for it. When ctx is done Read fails with its
// error. Read is for one goroutine; Close may be called from another, and more than once.
func (p *Pool) Send(ctx context.Context, spec agent.SendSpec) (io.ReadCloser, error) {
	args, err := p.sendArgs(spec)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", describe(spec), err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s := &sender{what: describe(spec), cancel: cancel}
	s.process, err = p.runner.start(ctx, command{
		args:   append([]string{"zfs", "send"}, args...),
		stream: true,
		idle:   p.idle,
		interrupt: func(process *process) {
			// The pipe first: a sender that is blocked on a full pipe may not hear of a signal before (openzfs issue 12500).
			_ = process.stdout.Close()
			process.terminate()
		},
	})
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("%s: %w", s.what, err)
	}
	return s, nil
}

// errClosed is the cause of a sender's end that Close asked for: a cancellation, to observers too.
var errClosed = fmt.Errorf("stream closed by its reader: %w", context.Canceled)

// sender is the output of a zfs send.
type sender struct {
	what    string
	process *process
	cancel  context.CancelCauseFunc
}

func (s *sender) Read(b []byte) (int, error) {
	n, err := s.process.stdout.Read(b)
	if err == nil {
		return n, nil
	}
	// The pipe's end, or a closed pipe, says only that nothing more comes. The command says why.
	if failed := s.process.wait(); failed != nil {
		return n, fmt.Errorf("%s: %w", s.what, failed)
	}
	return n, err
}

// Close never reports the sender's own end: Read did, or nobody wanted to know.
func (s *sender) Close() error {
	s.cancel(errClosed) // closes the pipe, if the command still runs, before it waits; see Send
	err := s.process.wait()
	_ = s.process.stdout.Close()
	if errors.Is(err, errLeftBehind) {
		return fmt.Errorf("%s: %w", s.what, err)
	}
	return nil
}
