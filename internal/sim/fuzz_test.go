package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// FuzzFrame reads frames that nobody checked.
func FuzzFrame(f *testing.F) {
	var whole bytes.Buffer
	if err := (frame{frameBlock, []byte("block")}).writeTo(&whole); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	f.Add([]byte("H\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readFrame(bytes.NewReader(data))
		if err != nil {
			if !errors.Is(err, errdefs.ErrAborted) && !errors.Is(err, errdefs.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		var again bytes.Buffer
		if err := got.writeTo(&again); err != nil || !bytes.HasPrefix(data, again.Bytes()) {
			t.Fatalf("%q was read from %q, %v", again.Bytes(), data, err)
		}
	})
}

// FuzzChanges applies what a stream may say and lays out what passed the checks. Nothing may appear beside the dataset.
func FuzzChanges(f *testing.F) {
	for _, changes := range [][]change{
		{{Entry: entry{Path: "rootfs", Mode: fs.ModeDir | 0o755}}, {Entry: entry{Path: "rootfs/f", Mode: 0o644, Size: 9}}},
		{{Entry: entry{Path: "l", Mode: fs.ModeSymlink, Link: ".."}}, {Entry: entry{Path: "l/x", Mode: 0o644}}},
		{{Removed: true, Entry: entry{Path: "."}}},
	} {
		seed, err := json.Marshal(changes)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	store, err := openCAS(filepath.Join(f.TempDir(), "blocks"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var changes []change
		if json.Unmarshal(data, &changes) != nil {
			return
		}
		got, err := emptyTree().apply(changes)
		if err != nil {
			if !errors.Is(err, errdefs.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		dir := t.TempDir()
		defer removeAll(filepath.Join(dir, "live.new")) // a mode may keep TempDir from doing so
		defer removeAll(filepath.Join(dir, "live"))
		_ = layOut(got, store, filepath.Join(dir, "live")) // names may be too long for the file system
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "live" && e.Name() != "live.new" {
				t.Fatalf("%s appeared beside the dataset", e.Name())
			}
		}
	})
}
