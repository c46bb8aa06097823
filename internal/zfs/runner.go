package zfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const (
	maxStderr = 16 << 10 // of a command, the last bytes
	maxLine   = 4 << 20  // of a command's output: the names of all clones of a snapshot
	// pipeSize is what a stream's pipe is enlarged to: room for about one receive batch. Not more: what is in the pipe
	// when a stream is cancelled is lost. It is also what /proc/sys/fs/pipe-max-size allows without privileges.
	pipeSize = 1 << 20
)

// errLeftBehind marks a command that survived SIGKILL: it waits in the kernel for a disk.
var errLeftBehind = errors.New("killed, but the kernel does not let it go")

// runner is the one place that starts programs. It gives every one of them LC_ALL=C, a process group of its own (a
// terminal's Ctrl-C must reach the agent, not its streams), a bounded standard error, and an end when its context ends.
type runner struct {
	grace   time.Duration
	observe func(command string, took time.Duration, err error)
	log     *zap.Logger
	running sync.WaitGroup // what Close waits for: one goroutine for each program that runs
}

func newRunner(grace time.Duration, observe func(string, time.Duration, error), log *zap.Logger) *runner {
	if observe == nil {
		observe = func(string, time.Duration, error) {}
	}
	return &runner{grace: grace, observe: observe, log: log}
}

// command is what to run and how it is connected.
type command struct {
	args      []string         // program and arguments; never passes a shell
	stdin     *os.File         // handed over: closed here once the program has it; nil for none
	stream    bool             // the output is a stream: a large pipe
	idle      bool             // everybody else goes first
	interrupt func(p *process) // the polite way to end it; nil means SIGTERM
}

// process is a program that runs. It must be waited for.
type process struct {
	cmd    *exec.Cmd
	stdout *os.File      // read end of its output; whoever started it closes it
	ended  chan struct{} // closed when what follows is there

	err      error
	warnings string // on standard error, of a program that ended well
}

// wait returns when the program has ended or was left behind, with nil or its *CommandError. It may be called repeatedly.
func (p *process) wait() error {
	<-p.ended
	return p.err
}

// start starts a program. When ctx is done it is interrupted, killed after the grace time, and left behind after
// another: a process in an uninterruptible sleep must not hang the agent. Its output is closed in that case, which ends
// a Read of it.
func (r *runner) start(ctx context.Context, c command) (*process, error) {
	if c.stdin != nil {
		defer c.stdin.Close()
	}
	if err := ctx.Err(); err != nil {
		return nil, newCommandError(c.args, nil, "", context.Cause(ctx))
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, newCommandError(c.args, err, "", nil)
	}
	defer in.Close()
	if c.stream {
		enlarge(out)
	}
	stderr := &tail{}
	cmd := exec.Command(c.args[0], c.args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout = in
	cmd.Stderr = stderr
	if c.stdin != nil {
		cmd.Stdin = c.stdin
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = r.grace // a grandchild that holds standard error open must not hold Wait
	began := time.Now()
	if err := cmd.Start(); err != nil {
		out.Close()
		return nil, r.report(c.args, began, newCommandError(c.args, err, "", nil))
	}
	if c.idle {
		giveWay(cmd.Process.Pid)
	}
	interrupt := c.interrupt
	if interrupt == nil {
		interrupt = (*process).terminate
	}
	p := &process{cmd: cmd, stdout: out, ended: make(chan struct{})}
	go func() { // owned by the process's user, who calls wait
		defer close(p.ended)
		waited := r.supervise(ctx, p, interrupt)
		if errors.Is(waited, errLeftBehind) {
			out.Close()
			r.log.Warn("command left behind", zap.Strings("args", c.args), zap.Int("pid", cmd.Process.Pid))
		}
		if waited == nil {
			p.warnings = strings.TrimSpace(stderr.String())
			r.report(c.args, began, nil)
			return
		}
		cause := context.Cause(ctx)
		if errors.Is(waited, errLeftBehind) {
			cause = fmt.Errorf("%w: %w", cause, errLeftBehind)
		}
		p.err = r.report(c.args, began, newCommandError(c.args, waited, stderr.String(), cause))
	}()
	return p, nil
}

// supervise returns what Wait said, or errLeftBehind.
func (r *runner) supervise(ctx context.Context, p *process, interrupt func(*process)) error {
	exited := make(chan error, 1)
	r.running.Go(func() { exited <- p.cmd.Wait() })
	select {
	case err := <-exited:
		return err
	case <-ctx.Done():
	}
	for _, end := range []func(*process){interrupt, (*process).kill} {
		end(p)
		patience := time.NewTimer(r.grace)
		select {
		case err := <-exited:
			patience.Stop()
			return err
		case <-patience.C:
		}
	}
	return errLeftBehind
}

// Errors of Signal and Kill say that the process is gone already, which is what was wanted.
func (p *process) terminate() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }
func (p *process) kill()      { _ = p.cmd.Process.Kill() }

// report tells log and observer of a command's end and returns err as it came, nil as nil.
func (r *runner) report(args []string, began time.Time, err *CommandError) error {
	took := time.Since(began)
	if err == nil {
		r.log.Debug("command", zap.Strings("args", args), zap.Duration("took", took))
		r.observe(commandName(args), took, nil)
		return nil
	}
	r.log.Debug("command failed", zap.Strings("args", args), zap.Duration("took", took), zap.Error(err))
	r.observe(commandName(args), took, err)
	return err
}

// lines runs a program and hands each line of its output to yield. An error from yield ends the program and is returned
// as it is; otherwise the program's own error counts.
func (r *runner) lines(ctx context.Context, yield func(line string) error, args ...string) error {
	_, err := r.linesAndWarnings(ctx, yield, args...)
	return err
}

// linesAndWarnings is lines; it returns as well what a program that ended well wrote to standard error.
func (r *runner) linesAndWarnings(ctx context.Context, yield func(line string) error, args ...string) (warnings string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := r.start(ctx, command{args: args})
	if err != nil {
		return "", err
	}
	defer p.stdout.Close()
	scanner := bufio.NewScanner(p.stdout)
	scanner.Buffer(make([]byte, 0, 64<<10), maxLine)
	for scanner.Scan() {
		if err = yield(scanner.Text()); err != nil {
			break
		}
	}
	if err == nil && errors.Is(scanner.Err(), bufio.ErrTooLong) {
		err = fmt.Errorf("%s: a line of more than %d bytes: %w", commandName(args), maxLine, errdefs.ErrInternal)
	}
	if err != nil {
		cancel()         // first, so that an end by a broken pipe counts as cancelled
		p.stdout.Close() // before the wait: a writer on a full pipe may hear nothing else
		_ = p.wait()     // says that it was cancelled, by us
		return "", err
	}
	err = p.wait()
	return p.warnings, err
}

// run runs a program for its effect.
func (r *runner) run(ctx context.Context, args ...string) error {
	return r.lines(ctx, func(string) error { return nil }, args...)
}

// value runs a program that prints one line and returns it.
func (r *runner) value(ctx context.Context, args ...string) (string, error) {
	var lines []string
	err := r.lines(ctx, func(line string) error {
		if len(lines) > 0 {
			return fmt.Errorf("%s: more than one line: %w", commandName(args), errdefs.ErrInternal)
		}
		lines = append(lines, line)
		return nil
	}, args...)
	if err != nil {
		return "", err
	}
	if len(lines) == 0 {
		return "", fmt.Errorf("%s: no output: %w", commandName(args), errdefs.ErrInternal)
	}
	return lines[0], nil
}

// enlarge gives a pipe room for pipeSize bytes, if the kernel allows; a smaller pipe only costs speed.
// SyscallConn, because File.Fd would make the pipe blocking and its Close unable to end a Read.
func enlarge(pipe *os.File) {
	if conn, err := pipe.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
}

const (
	idleNice = 10
	// What ioprio_set(2) knows and package unix does not.
	ioprioWhoProcess = 1
	ioprioClassIdle  = 3 << 13
)

// giveWay lowers a process that has just begun, before it has threads; those inherit it. One that cannot be lowered, or has
// ended already, runs as it is.
func giveWay(pid int) {
	_ = unix.Setpriority(unix.PRIO_PROCESS, pid, idleNice)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, uintptr(pid), ioprioClassIdle)
}

// tail is an io.Writer that keeps the last maxStderr bytes. A program that was left behind may still write to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	if excess := len(t.kept) - maxStderr; excess > 0 {
		t.kept = append(t.kept[:0], t.kept[excess:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}
