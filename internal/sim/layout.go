package sim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// layOut makes a directory that holds the tree's files. It appears under its name only when it is whole.
func layOut(t *tree, store *cas, dir string) error {
	building := dir + ".new"
	if err := removeAll(building); err != nil {
		return err
	}
	if err := os.MkdirAll(building, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(building)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := layOutIn(t, store, root); err != nil {
		return fmt.Errorf("lay out files: %w", err)
	}
	return os.Rename(building, dir)
}

// layOutIn fills an empty directory. Everything goes through the root: the tree may have come in a stream.
func layOutIn(t *tree, store *cas, root *os.Root) error {
	for i := range t.Entries {
		if err := layOutEntry(&t.Entries[i], store, root); err != nil {
			return fmt.Errorf("%s: %w", t.Entries[i].Path, err)
		}
	}
	// Children change a directory's times and need its write permission, so directories are finished last, deepest first.
	for _, e := range slices.Backward(t.Entries) {
		if !e.Mode.IsDir() {
			continue
		}
		if err := finish(&e, root); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	return nil
}

func layOutEntry(e *entry, store *cas, root *os.Root) error {
	switch {
	case e.Mode.IsDir():
		err := root.Mkdir(e.Path, 0o700)
		if e.Path == "." && errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	case e.Mode.IsRegular():
		return layOutFile(e, store, root)
	case e.Mode&fs.ModeSymlink != 0:
		return root.Symlink(e.Link, e.Path)
	case e.Mode&fs.ModeNamedPipe != 0:
		// The only call here without a Root. The tree was checked, so no parent is a link.
		if err := syscall.Mkfifo(filepath.Join(root.Name(), e.Path), 0o600); err != nil {
			return err
		}
		return finish(e, root)
	}
	return fmt.Errorf("file type %s: %w", e.Mode.Type(), errdefs.ErrCorrupt)
}

func layOutFile(e *entry, store *cas, root *os.Root) error {
	f, err := root.OpenFile(e.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, b := range e.Blocks {
		data, err := store.get(b.Sum)
		if err != nil {
			return err
		}
		if int64(len(data)) != e.length(b.At) {
			return fmt.Errorf("block %d has %d bytes: %w", b.At, len(data), errdefs.ErrCorrupt)
		}
		if _, err := f.WriteAt(data, b.At*blockSize); err != nil {
			return err
		}
	}
	if err := f.Truncate(e.Size); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return finish(e, root)
}

// finish sets mode and time of a path that is not a link.
func finish(e *entry, root *os.Root) error {
	if err := root.Chmod(e.Path, e.Mode); err != nil {
		return err
	}
	if e.MTime == 0 {
		return nil
	}
	at := time.Unix(0, e.MTime)
	return root.Chtimes(e.Path, at, at)
}

// removeAll removes a tree of files, also where a directory's mode forbids it.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o700)
	})
	return errors.Join(err, os.RemoveAll(dir))
}
