package zfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const (
	patient = time.Minute            // a grace that a test must not need
	hasty   = 500 * time.Millisecond // a grace that a test runs into, long enough for a busy machine to bury what was killed
)

func TestRunnerLocale(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"get": "environment:LC_ALL"})
	if got, err := p.runner.value(t.Context(), "zfs", "get"); err != nil || got != "C" {
		t.Errorf("our command: %q, %v", got, err)
	}
	if got := os.Getenv("LC_ALL"); got != "C" {
		t.Errorf("the library's commands: %q", got)
	}
}

func TestRunnerPassesArgumentsAsTheyAre(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"get": "arguments"})
	if got, err := p.runner.value(t.Context(), "zfs", "get", "a b", "$(id)", "*", ";"); err != nil || got != "get|a b|$(id)|*|;" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRunnerError(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"get": "fail:3:cannot open 'x': dataset does not exist"})
	_, err := p.runner.value(t.Context(), "zfs", "get", "x")
	var failed *CommandError
	if !errors.As(err, &failed) || failed.ExitCode != 3 || !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestRunnerBoundsStandardError(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"get": "noise"})
	var failed *CommandError
	if err := p.runner.run(t.Context(), "zfs", "get"); !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if len(failed.Stderr) > maxStderr || !errors.Is(failed, errdefs.ErrNotFound) { // the end is what counts
		t.Errorf("%d bytes kept, %v", len(failed.Stderr), errdefs.ClassOf(failed))
	}
}

func TestRunnerCancelled(t *testing.T) {
	for _, c := range []struct {
		behaviour string
		grace     time.Duration
		signal    syscall.Signal
	}{
		{"wait", patient, syscall.SIGTERM},
		{"deaf", hasty, syscall.SIGKILL},
	} {
		p := fakePool(t, c.grace, map[string]string{"diff": c.behaviour})
		ctx, cancel := context.WithCancel(t.Context())
		err := p.runner.lines(ctx, func(string) error { cancel(); return nil }, "zfs", "diff")
		var failed *CommandError
		if !errors.As(err, &failed) || !errors.Is(err, context.Canceled) || failed.ExitCode != -1 {
			t.Errorf("%s: %v", c.behaviour, err)
		}
		if class := errdefs.ClassOf(err); !errors.Is(class, errdefs.ErrUnavailable) {
			t.Errorf("%s: class %v", c.behaviour, class)
		}
	}
}

func TestRunnerDoesNotStartWhenCancelled(t *testing.T) {
	p := fakePool(t, patient, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("shutting down")
	cancel(cause)
	if err := p.runner.run(ctx, "zfs", "get"); !errors.Is(err, cause) {
		t.Error(err)
	}
	if err := p.library.create(ctx, "p/a", nil); !errors.Is(err, cause) {
		t.Error(err)
	}
}

func TestRunnerMissingProgram(t *testing.T) {
	p := fakePool(t, patient, nil)
	if err := p.runner.run(t.Context(), "no-such-program", "get"); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Error(err)
	}
}

func TestLinesStopsWhenToldTo(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"diff": "flood"})
	enough := errors.New("enough")
	n := 0
	err := p.runner.lines(t.Context(), func(string) error {
		if n++; n == 10 {
			return enough
		}
		return nil
	}, "zfs", "diff")
	if !errors.Is(err, enough) || n != 10 {
		t.Errorf("%v after %d lines", err, n)
	}
}

func TestLinesBoundsALine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "long")
	if err := os.WriteFile(file, make([]byte, maxLine+1), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRunner(patient, nil, fakePool(t, patient, nil).log)
	if err := r.run(t.Context(), "/bin/cat", file); !errors.Is(err, errdefs.ErrInternal) {
		t.Error(err)
	}
}

func TestValueWantsOneLine(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"get": "print:a\nb\n", "diff": "print:"})
	for _, verb := range []string{"get", "diff"} {
		if got, err := p.runner.value(t.Context(), "zfs", verb); !errors.Is(err, errdefs.ErrInternal) {
			t.Errorf("%s: %q, %v", verb, got, err)
		}
	}
}

func TestObserve(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"create": "fail:1:cannot create 'p/a': dataset already exists"})
	var mu sync.Mutex
	var seen []string
	p.runner.observe = func(command string, took time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprint(command, " ", errdefs.ClassOf(err)))
		if took <= 0 {
			t.Errorf("%s took %v", command, took)
		}
	}
	if err := p.Create(t.Context(), "a", nil); !errors.Is(err, errdefs.ErrAlreadyExists) { // by go-zfs
		t.Error(err)
	}
	if err := p.Promote(t.Context(), "a"); err != nil { // by ourselves
		t.Error(err)
	}
	if got, want := strings.Join(seen, ", "), "zfs create already exists, zfs promote <nil>"; got != want {
		t.Errorf("observed %q, want %q", got, want)
	}
}

// A call of go-zfs cannot be stopped; it must not hold up its caller longer than the grace time, and Close waits for it.
func TestLibraryCallOutlivesItsContext(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	p := fakePool(t, hasty, map[string]string{"create": "until:" + pipe})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	created := make(chan error, 1)
	go func() { created <- p.Create(ctx, "a", nil) }()
	hold, err := os.OpenFile(pipe, os.O_WRONLY, 0) // returns when the command runs
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-created; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := p.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("close while a command runs: %v", err)
	}
	hold.Close()
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	fakePool(t, patient, map[string]string{"list": missing})
	for root, class := range map[string]error{"p": errdefs.ErrNotFound, "-p": errdefs.ErrInvalid, "": errdefs.ErrInvalid, "p/": errdefs.ErrInvalid} {
		if _, err := Open(t.Context(), root, Options{}); !errors.Is(err, class) {
			t.Errorf("%q: %v", root, err)
		}
	}
	if _, err := Open(t.Context(), "p", Options{StateDir: "relative"}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Error(err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Open(t.Context(), "p", Options{}); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Error(err)
	}
}
