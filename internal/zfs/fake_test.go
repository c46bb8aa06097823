package zfs

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The tests of processes run this test binary under the name zfs or zpool: what it does then is said by the environment
// variable FAKE_<verb>, so that one test can give each command of an operation its own behaviour.

func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); name == "zfs" || name == "zpool" {
		os.Exit(fake(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// fake is the program that tests run instead of zfs.
func fake(args []string) int {
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	behaviour, argument, _ := strings.Cut(os.Getenv("FAKE_"+verb), ":")
	switch behaviour {
	case "": // succeeds
	case "print":
		fmt.Print(argument)
	case "environment":
		fmt.Println(os.Getenv(argument))
	case "arguments":
		fmt.Println(strings.Join(args, "|"))
	case "fail": // "fail:exit code:stderr"
		code, text, _ := strings.Cut(argument, ":")
		fmt.Fprintln(os.Stderr, text)
		exit := 1
		_, _ = fmt.Sscan(code, &exit)
		return exit
	case "cut": // a part of the output, then failure
		fmt.Print(argument)
		fmt.Fprintln(os.Stderr, "warning: cannot send 'p/a@s': Input/output error")
		return 1
	case "noise": // a lot of standard error
		for range 1 << 15 {
			fmt.Fprintln(os.Stderr, strings.Repeat("x", 31))
		}
		fmt.Fprintln(os.Stderr, "cannot open 'p/a': dataset does not exist")
		return 1
	case "flood": // output without end
		for _, err := fmt.Println("line"); err == nil; _, err = fmt.Println("line") {
		}
		return 1
	case "wait": // until a signal
		fmt.Println("ready")
		_ = syscall.Pause()
	case "deaf": // until SIGKILL
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		for {
			_ = syscall.Pause()
		}
	case "until": // until a named pipe's writer closes it
		file, err := os.Open(argument)
		if err != nil {
			return 1
		}
		_, _ = io.Copy(io.Discard, file)
	case "swallow": // reads its input to the end
		_, _ = io.Copy(io.Discard, os.Stdin)
		if argument != "" {
			fmt.Fprintln(os.Stderr, argument)
			return 1
		}
	}
	return 0
}

const (
	missing = "fail:1:cannot open 'p/a': dataset does not exist"
	arrived = "print:p/a@s\tsnapshot\t10145888123756461233\t1\t1\t-\t1\t1\toff\t-\n" // as we list a snapshot
	dataset = "print:p/a\t-\t1\t2\tlegacy\toff\tfilesystem\t-\t0\t1\t0\t0\t0\n"      // as go-zfs lists one
)

// fakePool is a Pool whose zfs is fake. Commands behave as said for their verbs.
func fakePool(t *testing.T, grace time.Duration, behaviour map[string]string) *Pool {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"zfs", "zpool"} {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	t.Setenv("LC_ALL", "xx_XX.UTF-8")       // Open changes it; the test's end puts it back
	t.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector would make each fake linger for a second
	t.Setenv("FAKE_list", dataset)
	pool, err := Open(t.Context(), "p", Options{Grace: grace})
	if err != nil {
		t.Fatal(err)
	}
	for verb, what := range behaviour {
		t.Setenv("FAKE_"+verb, what)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := pool.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return pool
}
