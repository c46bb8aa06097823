package hosts

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// CommandError is a command that ran on a host and failed.
type CommandError struct {
	Host     string
	Command  string
	ExitCode int // 255 when a signal ended it
	Stderr   string
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("%s: %s: exit code %d: %s", e.Host, e.Command, e.ExitCode, strings.TrimSpace(e.Stderr))
}

// Streams are the standard streams of a command on a host; nil ones are empty or thrown away.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Run runs a command as root and returns what it printed on standard output. A single argument is a line for
// the shell, several are an argument vector that no shell touches. A failed command is a *[CommandError].
//
// Cancelling the context kills the command.
func (h *Host) Run(ctx context.Context, argv ...string) (string, error) {
	return h.RunStdin(ctx, nil, argv...)
}

// RunStdin is [Host.Run] with standard input.
func (h *Host) RunStdin(ctx context.Context, stdin io.Reader, argv ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	err := h.Stream(ctx, Streams{In: stdin, Out: &stdout, Err: &stderr}, argv...)
	var failed *CommandError
	if errors.As(err, &failed) {
		failed.Stderr = stderr.String()
	}
	return stdout.String(), err
}

// Stream is [Host.Run] for output that is wanted as it comes, or is large.
func (h *Host) Stream(ctx context.Context, streams Streams, argv ...string) error {
	command := shellLine(argv)
	conn, session, err := h.session(ctx)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", h.name, command, err)
	}
	out, errOut := &gate{to: streams.Out}, &gate{to: streams.Err}
	defer out.shut()
	defer errOut.shut()
	session.Stdin, session.Stdout, session.Stderr = streams.In, out, errOut

	id := rand.Text()
	ended := make(chan error, 1)
	err = conn.run(func() {
		defer session.Close()
		if err := session.Setenv(commandEnv, id); err != nil {
			ended <- fmt.Errorf("set %s: %w", commandEnv, err)
			return
		}
		ended <- session.Run(command)
	})
	if err != nil {
		return fmt.Errorf("%s: %s: %w", h.name, command, err)
	}
	select {
	case err = <-ended:
	case <-ctx.Done():
		conn.kill(id)
		_ = session.Close()
		return fmt.Errorf("%s: %s: %w", h.name, command, context.Cause(ctx))
	}
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return &CommandError{Host: h.name, Command: command, ExitCode: exit.ExitStatus(), Stderr: exit.Msg()}
	default:
		h.forget(conn)
		return fmt.Errorf("%s: %s: connection lost: %w", h.name, command, err)
	}
}

// commandEnv marks the processes of a command, for kill. sshd lets it pass (overlay: sshd_config.d).
const commandEnv = "HOODY_E2E_COMMAND"

// killTimeout bounds what is spent on ending a cancelled command: the link to it may be cut.
const killTimeout = 2 * time.Second

// kill ends the processes of a command. sshd does not do that for root, neither when the channel closes nor
// when it is asked to. Across a cut link nothing can be done; the command then lasts as long as it likes.
func (c *connection) kill(id string) {
	killed := make(chan struct{})
	err := c.run(func() {
		defer close(killed)
		session, err := c.client.NewSession()
		if err != nil {
			return
		}
		defer session.Close()
		_ = session.Run("grep -lzsx " + commandEnv + "=" + id + " /proc/[0-9]*/environ | cut -d/ -f3 | xargs -r kill -KILL")
	})
	if err != nil {
		return
	}
	select {
	case <-killed:
	case <-time.After(killTimeout):
	}
}

// gate passes writes on until it is shut: a command that was given up may still have something to say.
type gate struct {
	mu sync.Mutex
	to io.Writer
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.to == nil {
		return len(p), nil
	}
	return g.to.Write(p)
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.to = nil
}

// session opens a session on the shared connection. One that died while idle, as in a power cut, is replaced.
func (h *Host) session(ctx context.Context) (*connection, *ssh.Session, error) {
	for attempt := 1; ; attempt++ {
		conn, err := h.connection(ctx)
		if err != nil {
			return nil, nil, err
		}
		session, err := conn.session(ctx)
		if err == nil {
			return conn, session, nil
		}
		h.forget(conn)
		if attempt == 2 || ctx.Err() != nil {
			return nil, nil, fmt.Errorf("open session: %w", err)
		}
	}
}

// shellLine is the line that makes a shell run argv.
func shellLine(argv []string) string {
	if len(argv) == 1 {
		return argv[0]
	}
	quoted := make([]string, len(argv))
	for i, arg := range argv {
		quoted[i] = shellQuote(arg)
	}
	return strings.Join(quoted, " ")
}

// shellQuote leaves alone what no shell would touch, so that errors read well.
func shellQuote(arg string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+./,:@%"
	if arg != "" && strings.Trim(arg, plain) == "" {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}
