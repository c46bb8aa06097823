package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestUnits(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0 bytes", 1023: "1023 bytes", 1 << 10: "1 KiB", 256 << 20: "256 MiB", 8<<20 + 200<<10: "8.2 MiB",
		260<<20 + 1: "260 MiB", 3 << 39: "1.5 TiB", -4096: "-4 KiB",
	} {
		if got := size(bytes); got != want {
			t.Errorf("size(%d) = %q, want %q", bytes, got, want)
		}
	}
	for took, want := range map[time.Duration]string{
		0: "0 ms", 85 * time.Millisecond: "85 ms", 1249 * time.Millisecond: "1.2 s", 62 * time.Second: "62.0 s",
	} {
		if got := span(took); got != want {
			t.Errorf("span(%s) = %q, want %q", took, got, want)
		}
	}
	if got := rate(512<<20, 2*time.Second); got != "256 MiB/s" {
		t.Errorf("rate %q", got)
	}
	if got := rate(1, 0); got != "1000 bytes/s" {
		t.Errorf("rate in no time: %q", got)
	}
}

func TestTellerCounts(t *testing.T) {
	var out bytes.Buffer
	s := teller{out: &out, marks: marksFor(false)}
	s.chapter("One")
	s.fact(true, "%d and %s", 1, size(2))
	s.fact(false, "3")
	s.fail(errors.New("cause"))
	want := "\n1. One\n  - 1 and 2 bytes\n  - NOT SO: 3\n  - NOT SO: cause\n"
	if out.String() != want || s.facts != 2 || s.broken != 2 {
		t.Errorf("%d facts, %d broken, told %q, want %q", s.facts, s.broken, out.String(), want)
	}
	out.Reset()
	s.marks = marksFor(true)
	s.fact(true, "seen")
	if got := out.String(); !strings.Contains(got, "✓") || !strings.HasSuffix(got, "seen\n") {
		t.Errorf("on a terminal: %q", got)
	}
}

func TestTellerRemembersThatNobodyListens(t *testing.T) {
	reader, writer := io.Pipe()
	reader.CloseWithError(io.ErrClosedPipe)
	s := teller{out: writer}
	s.fact(true, "unheard")
	if !errors.Is(s.err, io.ErrClosedPipe) {
		t.Errorf("error %v", s.err)
	}
}

func TestTellWantsEnoughData(t *testing.T) {
	if err := Tell(t.Context(), Server{}, Server{}, Options{Data: MinData - 1, Out: io.Discard}); err == nil || errors.Is(err, ErrBroken) {
		t.Errorf("error %v", err)
	}
}

// tree makes a directory of files; names that end in a slash are directories, contents that start with -> links.
func tree(t *testing.T, files map[string]string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func TestTreeHash(t *testing.T) {
	base := map[string]string{"etc/motd": "hello", "root/.profile": "", "var/lib/state": "", "bin": "->usr/bin", "usr/bin/sh": "#!"}
	hash := func(more map[string]string) string {
		t.Helper()
		files := map[string]string{}
		for _, some := range []map[string]string{base, more} {
			for name, content := range some {
				files[name] = content
			}
		}
		sum, err := treeHash(tree(t, files))
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	want := hash(nil)
	for what, files := range map[string]map[string]string{
		"content": {"etc/motd": "hellp"}, "length": {"etc/motd": "hello "}, "link": {"bin": "->bin"}, "new file": {"srv/x": ""},
		"link for file": {"etc/motd": "->hello"}, "file beside the identity": {"root/.ssh/config": ""},
	} {
		if hash(files) == want {
			t.Errorf("another %s, and the same hash", what)
		}
	}
	for _, name := range identityFiles {
		if hash(map[string]string{strings.ReplaceAll(name, "*", "rsa_key.pub"): "own", "etc/shells": ""}) != hash(map[string]string{"etc/shells": ""}) {
			t.Errorf("%s changes the hash", name)
		}
	}
}

func TestEventually(t *testing.T) {
	asked := 0
	yes, err := eventually(t.Context(), func() (bool, error) { asked++; return asked == 3, nil })
	if !yes || err != nil || asked != 3 {
		t.Errorf("%v, %v after %d questions", yes, err, asked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if yes, err := eventually(ctx, func() (bool, error) { return false, nil }); yes || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v, %v", yes, err)
	}
}
