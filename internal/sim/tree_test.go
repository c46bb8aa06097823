package sim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// someTree draws a tree of few paths, so that two of them have much in common.
func someTree(t *rapid.T, label string) *tree {
	out := emptyTree()
	for _, dir := range []string{"a", "b"} {
		if rapid.Bool().Draw(t, label+dir) {
			out.Entries = append(out.Entries, entry{Path: dir, Mode: fs.ModeDir | 0o755, MTime: int64(rapid.IntRange(1, 3).Draw(t, "time"))})
		}
		parent := "."
		if last := out.Entries[len(out.Entries)-1]; last.Path == dir {
			parent = dir
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "files") {
			e := entry{Path: strings.TrimPrefix(fmt.Sprintf("%s/%s%d", parent, dir, i), "./"), Mode: 0o644, Size: 5*blockSize - 7}
			if rapid.Bool().Draw(t, "link") {
				e = entry{Path: e.Path, Mode: fs.ModeSymlink | 0o777, Link: "x"}
			} else {
				for at := range int64(5) {
					if content := rapid.IntRange(0, 3).Draw(t, "block"); content > 0 {
						e.Blocks = append(e.Blocks, block{At: at, Sum: sum{byte(content)}})
					}
				}
			}
			out.Entries = append(out.Entries, e)
		}
	}
	out.sort()
	return out
}

func TestDeltaLeadsFromTreeToTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to := someTree(t, "from"), someTree(t, "to")
		frames, err := changeFrames(cut(delta(from, to), rapid.IntRange(1, 3).Draw(t, "cut")))
		if err != nil {
			t.Fatal(err)
		}
		var changes []change
		for _, f := range frames {
			var some []change
			if err := f.decode(frameChanges, &some); err != nil {
				t.Fatal(err)
			}
			changes = append(changes, some...)
		}
		got, err := from.apply(changes)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(encoded(t, to), encoded(t, got)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if equal, bytes := encoded(t, from) == encoded(t, to), written(from, to); equal != (bytes == 0) {
			t.Fatalf("written %d between trees that are equal: %v", bytes, equal)
		}
	})
}

func encoded(t *rapid.T, tree *tree) string {
	data, err := tree.encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := decodeTree(data)
	if err != nil {
		t.Fatal(err)
	}
	if data2, err := again.encode(); err != nil || string(data2) != string(data) {
		t.Fatalf("decoded and encoded again: %s, %v", data2, err)
	}
	return string(data)
}

// TestHostileTreesAreRefused lists what a stream could say to get out of its dataset.
func TestHostileTreesAreRefused(t *testing.T) {
	file := func(path string) entry { return entry{Path: path, Mode: 0o644} }
	link := entry{Path: "out", Mode: fs.ModeSymlink | 0o777, Link: "/"}
	for name, entries := range map[string][]entry{
		"above":           {file("../x")},
		"absolute":        {file("/etc/passwd")},
		"unclean":         {file("a/../x")},
		"empty":           {file("")},
		"below a link":    {link, file("out/x")},
		"below a file":    {file("a"), file("a/x")},
		"below nothing":   {file("a/x")},
		"twice":           {file("a"), file("a")},
		"root as a link":  {{Path: ".", Mode: fs.ModeSymlink, Link: "/"}},
		"block at -1":     {{Path: "a", Mode: 0o644, Size: 1, Blocks: blocks{{-1, sum{1}}}}},
		"block past end":  {{Path: "a", Mode: 0o644, Size: 1, Blocks: blocks{{1, sum{1}}}}},
		"blocks in a mix": {{Path: "a", Mode: 0o644, Size: 3 * blockSize, Blocks: blocks{{1, sum{1}}, {0, sum{1}}}}},
		"size below zero": {{Path: "a", Mode: 0o644, Size: -1}},
		"far away block":  {{Path: "a", Mode: 0o644, Size: 1, Blocks: blocks{{1<<62 - 1, sum{1}}}}},
		"device":          {{Path: "a", Mode: fs.ModeDevice | 0o644}},
		"name with zero":  {file("a\x00b")},
		"link to nothing": {{Path: "a", Mode: fs.ModeSymlink}},
		"block of a link": {{Path: "a", Mode: fs.ModeSymlink, Size: 1, Blocks: blocks{{0, sum{1}}}}},
	} {
		var changes []change
		for _, e := range entries {
			changes = append(changes, change{Entry: e})
		}
		if name == "twice" {
			bad := &tree{Entries: append(emptyTree().Entries, entries...)}
			if err := bad.check(); !errors.Is(err, errdefs.ErrCorrupt) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if _, err := emptyTree().apply(changes); !errors.Is(err, errdefs.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestScannerSeesWhatTimesHide changes files so that size and modification time stay.
func TestScannerSeesWhatTimesHide(t *testing.T) {
	store, err := openCAS(filepath.Join(t.TempDir(), "blocks"))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "live")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "f")
	s := scanner{store: store}
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	previous := ""
	for i := range 200 {
		content := fmt.Sprintf("%03d", i)
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
		got, err := s.scan(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		hash := got.byPath()["f"].Blocks[0].Sum.String()
		if hash != sumOf([]byte(content)).String() || hash == previous {
			t.Fatalf("scan %d read an old state", i)
		}
		previous = hash
	}
}

// TestHolesCostNothing scans and lays out a file that is larger than any disk here.
func TestHolesCostNothing(t *testing.T) {
	store, err := openCAS(filepath.Join(t.TempDir(), "blocks"))
	if err != nil {
		t.Fatal(err)
	}
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	if err := os.Mkdir(from, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(from, "f"))
	if err != nil {
		t.Fatal(err)
	}
	const size = 1 << 40
	_, err = f.WriteAt([]byte("end"), size-3)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Skipf("no sparse files of that size here: %v", err)
	}
	s := scanner{store: store}
	got, err := s.scan(from, true)
	if err != nil {
		t.Fatal(err)
	}
	if e := got.byPath()["f"]; e.Size != size || len(e.Blocks) != 1 {
		t.Fatalf("%d bytes in %d blocks", e.Size, len(e.Blocks))
	}
	if err := layOut(got, store, to); err != nil {
		t.Fatal(err)
	}
	again, err := (&scanner{store: store}).scan(to, false)
	if err != nil {
		t.Fatal(err)
	}
	if n := written(got, again); n != 0 {
		t.Errorf("%d bytes differ after laying out", n)
	}
}
