package sim

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// TestStreamsThatLie have frames that are whole each and wrong together.
func TestStreamsThatLie(t *testing.T) {
	pool, err := NewPool(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	ctx := t.Context()
	if err := pool.Create(ctx, "a", nil); err != nil {
		t.Fatal(err)
	}
	m, err := pool.Mount(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Root().WriteFile("f", bytes.Repeat([]byte("x"), 2*blockSize), 0o644), m.Unmount(ctx)); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Snapshot(ctx, "a", "s"); err != nil {
		t.Fatal(err)
	}
	frames := framesOf(t, pool, "a@s")
	is := func(kind frameKind) func(frame) bool { return func(f frame) bool { return f.kind == kind } }
	at := func(kind frameKind) int { return slices.IndexFunc(frames, is(kind)) }
	end, err := jsonFrame(frameEnd, streamEnd{Tree: sum{1}})
	if err != nil {
		t.Fatal(err)
	}
	replaced := func(kind frameKind, by frame) []frame {
		out := slices.Clone(frames)
		out[at(kind)] = by
		return out
	}
	for name, stream := range map[string][]frame{
		"without blocks":   slices.DeleteFunc(slices.Clone(frames), is(frameBlock)),
		"without changes":  slices.DeleteFunc(slices.Clone(frames), is(frameChanges)),
		"of another end":   replaced(frameEnd, end),
		"of another block": replaced(frameBlock, frame{frameBlock, []byte("other")}),
		"with two headers": slices.Insert(slices.Clone(frames), 1, frames[0]),
		"without a header": frames[1:],
		"with a log":       slices.Insert(slices.Clone(frames), 1, frame{frameArrived, []byte("{}")}),
		"of nonsense":      replaced(frameChanges, frame{frameChanges, []byte("nonsense")}),
	} {
		// The two blocks of the file are equal, so one of another content still leaves what is needed.
		if name == "of another block" {
			stream = slices.DeleteFunc(stream, func(f frame) bool { return f.kind == frameBlock && len(f.payload) == blockSize })
		}
		var data bytes.Buffer
		for _, f := range stream {
			if err := f.writeTo(&data); err != nil {
				t.Fatal(err)
			}
		}
		err := pool.Receive(ctx, agent.ReceiveSpec{To: "b@s"}, &data)
		if errdefs.ClassOf(err) != errdefs.ErrCorrupt {
			t.Errorf("a stream %s: %v", name, err)
		}
		if err := pool.AbortReceive(ctx, "b"); err != nil {
			t.Errorf("abort after a stream %s: %v", name, err)
		}
	}
}

// framesOf reads a full stream apart.
func framesOf(t *testing.T, pool *Pool, snapshot string) []frame {
	t.Helper()
	stream, err := pool.Send(t.Context(), agent.SendSpec{To: snapshot})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var frames []frame
	for len(frames) == 0 || frames[len(frames)-1].kind != frameEnd {
		f, err := readFrame(stream)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, f)
	}
	if _, err := stream.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("after the end: %v", err)
	}
	return frames
}

// TestScannerBelievesOldInodesOnly gives it false memories: only one that is sure may count.
func TestScannerBelievesOldInodesOnly(t *testing.T) {
	store, err := openCAS(filepath.Join(t.TempDir(), "blocks"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("true"), 0o644); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	memory := blocks{{0, sum{9}}}
	for _, sure := range []bool{false, true} {
		s := scanner{store: store, seen: map[string]seenFile{"f": {inodeOf(info), sure, memory}}}
		got, err := s.scan(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		if believed := slices.Equal(got.byPath()["f"].Blocks, memory); believed != sure {
			t.Errorf("sure %v: believed %v", sure, believed)
		}
		// With keep, memory of blocks that are not stored is worth nothing.
		if got, err = s.scan(dir, true); err != nil || slices.Equal(got.byPath()["f"].Blocks, memory) {
			t.Errorf("sure %v: kept what is not there, %v", sure, err)
		}
	}
	now := time.Now()
	for _, test := range []struct {
		ctime time.Time
		want  bool
	}{
		{now.Add(-20 * time.Millisecond), false},
		{now.Add(-time.Second).Truncate(time.Second), false}, // a file system that counts seconds
		{now.Add(-time.Second).Truncate(time.Second).Add(time.Millisecond), true},
		{now.Add(-10 * time.Second).Truncate(time.Second), true},
		{now.Add(time.Hour), false}, // a clock that was set back
		{time.Unix(0, 0), false},    // unknown
	} {
		if got := (inode{ctime: test.ctime.UnixNano()}).settled(now); got != test.want {
			t.Errorf("changed at %v, looked at %v: settled %v", test.ctime, now, got)
		}
	}
}
