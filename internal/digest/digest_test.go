package digest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// grow makes a tree with a bit of everything.
func grow(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a", "a/deep", "a-b", "a.b", "empty"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	for name, content := range map[string]string{"a/x": "1", "a/deep/x": "2", "a-b/x": "3", "a.b/x": "4", "-": "5", ".hidden": "6", "a/\xff\xfe": "7"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	large, err := os.Create(filepath.Join(dir, "large"))
	must(t, err)
	must(t, large.Truncate(2*pieceSize)) // ends with a whole piece
	must(t, large.Close())
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listed is a tree's entries, encoded.
func listed(t *testing.T, dir string) []byte {
	t.Helper()
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	var out bytes.Buffer
	must(t, Write(t.Context(), root, &out))
	return out.Bytes()
}

func compare(t *testing.T, dir string, other []byte) Comparison {
	t.Helper()
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	result, err := Compare(t.Context(), root, bytes.NewReader(other), 3, nil)
	must(t, err)
	return result
}

func TestCompare(t *testing.T) {
	whole := listed(t, grow(t))
	for _, test := range []struct {
		name   string
		change func(dir string) error
		want   []Difference // Here and There are contained in what is said
	}{
		{name: "equal", change: func(string) error { return nil }},
		{
			name:   "content",
			change: func(dir string) error { return os.WriteFile(filepath.Join(dir, "a/deep/x"), []byte("z"), 0o644) },
			want:   []Difference{{"a/deep/x", "from byte 0", "from byte 0"}},
		},
		{
			name: "second piece",
			change: func(dir string) error {
				file, err := os.OpenFile(filepath.Join(dir, "large"), os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				_, err = file.WriteAt([]byte("z"), pieceSize+17)
				return errors.Join(err, file.Close())
			},
			want: []Difference{{"large", "from byte 16777216", "from byte 16777216"}},
		},
		{
			name:   "size of a large file",
			change: func(dir string) error { return os.Truncate(filepath.Join(dir, "large"), 1) },
			want:   []Difference{{"large", " 1 bytes", " 33554432 bytes"}},
		},
		{
			name:   "mode",
			change: func(dir string) error { return os.Chmod(filepath.Join(dir, "a/x"), 0o755) },
			want:   []Difference{{"a/x", "-rwxr-xr-x", "-rw-r--r--"}},
		},
		{
			name: "link target",
			change: func(dir string) error {
				return errors.Join(os.Remove(filepath.Join(dir, "link")), os.Symlink("/etc/shadow", filepath.Join(dir, "link")))
			},
			want: []Difference{{"link", `"/etc/shadow"`, `"/etc/passwd"`}},
		},
		{
			name: "type",
			change: func(dir string) error {
				return errors.Join(os.Remove(filepath.Join(dir, "empty")), os.WriteFile(filepath.Join(dir, "empty"), nil, 0o644))
			},
			want: []Difference{{"empty", "-rw-r--r--", "drwxr-xr-x"}},
		},
		{
			name: "missing and additional",
			change: func(dir string) error {
				return errors.Join(os.Remove(filepath.Join(dir, "-")), os.WriteFile(filepath.Join(dir, "a-b/y"), nil, 0o600))
			},
			want: []Difference{{"-", "", "-rw-r--r--"}, {"a-b/y", "-rw-------", ""}},
		},
		{
			name:   "the last",
			change: func(dir string) error { return os.Remove(filepath.Join(dir, "link")) },
			want:   []Difference{{"link", "", "/etc/passwd"}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := grow(t)
			must(t, test.change(dir))
			got := compare(t, dir, whole)
			if len(got.Differences) != len(test.want) || got.Omitted != 0 || got.Equal() != (len(test.want) == 0) {
				t.Fatalf("got %+v, want %+v", got, test.want)
			}
			for i, d := range got.Differences {
				want := test.want[i]
				if d.Path != want.Path || !strings.Contains(d.Here, want.Here) || !strings.Contains(d.There, want.There) || d.Here == d.There ||
					(want.Here == "") != (d.Here == "") || (want.There == "") != (d.There == "") {
					t.Errorf("got %+v, want %+v", d, want)
				}
			}
		})
	}
}

func TestCompareBoundsWhatItKeeps(t *testing.T) {
	whole := listed(t, grow(t))
	empty := t.TempDir()
	must(t, os.Chmod(empty, 0o755))
	got := compare(t, empty, whole)
	if len(got.Differences) != 3 || got.Omitted != 11 { // all but the root, and each path once
		t.Errorf("%d kept, %d omitted: %+v", len(got.Differences), got.Omitted, got.Differences)
	}
}

// Who waits for a comparison learns how far it has come, and in the end what the result says.
func TestProgressIsTold(t *testing.T) {
	dir := grow(t)
	whole := listed(t, dir)
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	for name, run := range map[string]func(Seen) (Comparison, error){
		"compare": func(seen Seen) (Comparison, error) {
			return Compare(t.Context(), root, bytes.NewReader(whole), 3, seen)
		},
		"measure": func(seen Seen) (Comparison, error) { return Measure(t.Context(), root, seen) },
	} {
		var told [][2]uint64
		result, err := run(func(entries, bytes uint64) { told = append(told, [2]uint64{entries, bytes}) })
		must(t, err)
		for i := 1; i < len(told); i++ {
			if told[i][0] < told[i-1][0] || told[i][1] < told[i-1][1] {
				t.Errorf("%s: %v after %v", name, told[i], told[i-1])
			}
		}
		// Each path, and a second piece of the large file.
		if want := [2]uint64{result.Entries, result.Bytes}; len(told) != int(result.Entries)+1 || told[len(told)-1] != want {
			t.Errorf("%s: told %d times, at last %v; the result is %v", name, len(told), told[len(told)-1], want)
		}
	}
}

// The two sides rely on one order.
func TestWalkIsInOrder(t *testing.T) {
	entries := newReader(bytes.NewReader(listed(t, grow(t))))
	var paths []string
	for {
		e, err := entries.next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err) // also when out of order
		paths = append(paths, string(e.Path))
	}
	want := []string{"", "-", ".hidden", "a", "a/deep", "a/deep/x", "a/x", "a/\xff\xfe", "a-b", "a-b/x", "a.b", "a.b/x", "empty", "large", "large", "link"}
	if !slices.Equal(paths, want) {
		t.Errorf("got %q", paths)
	}
}

func TestWalkEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	root, err := os.OpenRoot(grow(t))
	must(t, err)
	defer root.Close()
	err = walk(ctx, root, func(entry) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestReaderRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":      "x\n",
		"wrong type":   `{"path":"YQ==","at":"0"}` + "\n",
		"twice":        `{"path":"YQ=="}` + "\n" + `{"path":"YQ=="}` + "\n",
		"out of order": `{"path":"Yg=="}` + "\n" + `{"path":"YQ=="}` + "\n",
		"oversized":    `{"path":"` + strings.Repeat("YWFh", 40_000) + `"}` + "\n",
	} {
		entries := newReader(strings.NewReader(text))
		var err error
		for err == nil {
			_, err = entries.next()
		}
		if !errors.Is(err, errdefs.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cut := errors.New("cut off")
	if _, err := newReader(io.MultiReader(strings.NewReader(`{"path`), failing{cut})).next(); !errors.Is(err, cut) {
		t.Errorf("cut off: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
