package digest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// maxPath is the longest path that is listed, in bytes. Linux itself stops at 4,096 for what is opened in one go.
const maxPath = 32 << 10

// maxNames bounds the names of one directory: they are sorted in memory, here and on the other side.
const maxNames = 1 << 20

// walk lists a tree that nobody changes meanwhile, in the order of entries. An error of yield ends it. Memory is bounded by
// the largest directory's names.
//
// Times are left out, and so are extended attributes of what is neither file nor directory.
func walk(ctx context.Context, root *os.Root, yield func(entry) error) error {
	w := walker{ctx: ctx, root: root, yield: yield, buffer: make([]byte, 1<<20)}
	return w.visit(".")
}

type walker struct {
	ctx    context.Context // of the walk; a method's parameter would be the same everywhere
	root   *os.Root
	yield  func(entry) error
	buffer []byte
}

func (w *walker) visit(name string) error {
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	if len(name) > maxPath {
		return fmt.Errorf("a path of more than %d bytes: %w", maxPath, errdefs.ErrUnsupported)
	}
	info, err := w.root.Lstat(name)
	if err != nil {
		return err
	}
	at := entry{Path: []byte(name)}
	if name == "." {
		at.Path = nil
	}
	switch {
	case info.IsDir():
		return w.directory(name, at, info)
	case info.Mode().IsRegular():
		return w.file(name, at, info)
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := w.root.Readlink(name)
		if err != nil {
			return err
		}
		at.Attributes = attributes(info, "-> "+strconv.Quote(target))
	case info.Mode()&fs.ModeDevice != 0:
		at.Attributes = attributes(info, fmt.Sprintf("device %#x", info.Sys().(*syscall.Stat_t).Rdev))
	default:
		at.Attributes = attributes(info)
	}
	return w.yield(at)
}

func (w *walker) directory(name string, at entry, info fs.FileInfo) error {
	names, err := w.list(name, &at, info)
	if err != nil {
		return err
	}
	if err := w.yield(at); err != nil {
		return err
	}
	for _, child := range names {
		if err := w.visit(path.Join(name, child)); err != nil {
			return err
		}
	}
	return nil
}

// list reads a directory's names, sorted, and completes its entry. The directory is closed again before anything below it is
// opened: a deep tree must not use up the process's files.
func (w *walker) list(name string, at *entry, info fs.FileInfo) ([]string, error) {
	directory, err := w.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer directory.Close()
	if at.Attributes, err = openAttributes(directory, info); err != nil {
		return nil, err
	}
	var names []string
	for {
		some, err := directory.Readdirnames(4096)
		names = append(names, some...)
		switch {
		case errors.Is(err, io.EOF):
			slices.Sort(names)
			return names, nil
		case err != nil:
			return nil, err
		case len(names) > maxNames:
			return nil, fmt.Errorf("directory %s has more than %d entries: %w", name, maxNames, errdefs.ErrUnsupported)
		}
	}
}

func (w *walker) file(name string, at entry, info fs.FileInfo) error {
	// It is a regular file, since nothing changes; if not after all, it must neither be waited for nor followed.
	file, err := w.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if at.Attributes, err = openAttributes(file, info, strconv.FormatInt(info.Size(), 10)+" bytes"); err != nil {
		return err
	}
	for {
		size, sum, err := w.sum(file)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if size == 0 && at.At > 0 {
			return nil // the file ends with a whole piece
		}
		at.Sum, at.bytes = sum, uint64(size)
		if err := w.yield(at); err != nil || size < pieceSize {
			return err
		}
		at.At += size
		at.Attributes = ""
	}
}

// sum hashes the next piece of a file.
func (w *walker) sum(file io.Reader) (size int64, sum string, err error) {
	hash := xxhash.New()
	for size < pieceSize {
		if err := w.ctx.Err(); err != nil {
			return size, "", context.Cause(w.ctx)
		}
		n, err := file.Read(w.buffer[:min(int64(len(w.buffer)), pieceSize-size)])
		_, _ = hash.Write(w.buffer[:n]) // never fails
		size += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return size, "", err
		}
	}
	return size, fmt.Sprintf("%016x", hash.Sum64()), nil
}

// attributes put what is known of a path without opening it into words.
func attributes(info fs.FileInfo, more ...string) string {
	owner := info.Sys().(*syscall.Stat_t)
	return strings.Join(append([]string{info.Mode().String(), fmt.Sprintf("%d:%d", owner.Uid, owner.Gid)}, more...), " ")
}

// openAttributes are attributes with the extended ones of an open file or directory.
func openAttributes(file *os.File, info fs.FileInfo, more ...string) (string, error) {
	extended, err := extendedAttributes(int(file.Fd()))
	if err != nil {
		return "", fmt.Errorf("extended attributes of %s: %w", file.Name(), err)
	}
	if extended != "" {
		more = append(more, "xattr "+extended)
	}
	return attributes(info, more...), nil
}

// extendedAttributes returns a hash of names and values; "" for none.
func extendedAttributes(fd int) (string, error) {
	list, err := readAttribute(func(into []byte) (int, error) { return unix.Flistxattr(fd, into) })
	if errors.Is(err, unix.ENOTSUP) || err == nil && len(list) == 0 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	names := strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00")
	slices.Sort(names)
	hash := xxhash.New()
	for _, name := range names {
		value, err := readAttribute(func(into []byte) (int, error) { return unix.Fgetxattr(fd, name, into) })
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s\x00%d\x00%s", name, len(value), value)
	}
	return fmt.Sprintf("%016x", hash.Sum64()), nil
}

// readAttribute asks for the size first. Nobody changes it in between.
func readAttribute(read func(into []byte) (int, error)) ([]byte, error) {
	size, err := read(nil)
	if err != nil || size == 0 {
		return nil, err
	}
	value := make([]byte, size)
	n, err := read(value)
	return value[:max(n, 0)], err
}
