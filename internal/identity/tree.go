package identity

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// What is read of a tree is bounded: it is somebody else's.
const (
	maxFile  = 1 << 20 // bytes of an identity file
	maxNames = 4096    // of a directory that is listed
)

// tree is a container's root filesystem, or the dataset that holds it.
type tree struct {
	root *os.Root
	// What is changed is on disk when the change returns, for who writes down elsewhere that it was made. The others take a snapshot next, which is on disk
	// with all before it.
	durable bool
}

func openTree(dataset *os.Root) (tree, error) {
	if err := Check(dataset); err != nil {
		return tree{}, err
	}
	root, err := dataset.OpenRoot("rootfs")
	if err != nil {
		return tree{}, fmt.Errorf("open rootfs: %w", err)
	}
	return tree{root: root}, nil
}

// directory tells whether name is a real directory, each of its parents included. A link on the way is
// ErrUnsupported: whoever reads the path in the running container would follow it, and we must not.
func (t tree) directory(name string) (bool, error) {
	at := ""
	for part := range strings.SplitSeq(name, "/") {
		at = path.Join(at, part)
		info, err := t.root.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if !info.IsDir() {
			return false, fmt.Errorf("/%s is %s: %w", at, kind(info), errdefs.ErrUnsupported)
		}
	}
	return true, nil
}

// makeDirectory makes name and its parents where they are missing, owned as the directory they are in.
func (t tree) makeDirectory(name string, mode fs.FileMode) error {
	at, parent := "", "."
	for part := range strings.SplitSeq(name, "/") {
		at = path.Join(at, part)
		exists, err := t.directory(at)
		if err != nil {
			return err
		}
		if !exists {
			if err := t.root.Mkdir(at, mode); err != nil {
				return err
			}
			if err := t.inheritOwner(at, parent); err != nil {
				return err
			}
		}
		parent = at
	}
	return nil
}

// read returns a regular file's content; ok is false when there is none of that name, or something else is there.
func (t tree) read(name string) (content []byte, mode fs.FileMode, ok bool, err error) {
	if dir := path.Dir(name); dir != "." {
		if ok, err := t.directory(dir); !ok || err != nil {
			return nil, 0, false, err
		}
	}
	if info, err := t.root.Lstat(name); errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, 0, false, nil
	} else if err != nil {
		return nil, 0, false, err
	}
	file, err := t.open(name, 0)
	if err != nil {
		return nil, 0, false, err
	}
	defer file.Close()
	info, err := file.Stat() // of what was opened: the container may run, and put something else in its place
	switch {
	case err != nil:
		return nil, 0, false, err
	case !info.Mode().IsRegular():
		return nil, 0, false, nil
	case info.Size() > maxFile:
		return nil, 0, false, fmt.Errorf("/%s holds %d bytes, more than %d: %w", name, info.Size(), maxFile, errdefs.ErrUnsupported)
	}
	content, err = io.ReadAll(io.LimitReader(file, maxFile+1))
	return content, info.Mode().Perm(), err == nil, err
}

// open opens for reading. It never waits, whatever has been put there: opening a pipe would, for somebody to write to it.
func (t tree) open(name string, flags int) (*os.File, error) {
	return t.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|flags, 0)
}

// names lists a directory, which is known to be one.
func (t tree) names(name string) ([]string, error) {
	directory, err := t.open(name, syscall.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer directory.Close()
	names, err := directory.Readdirnames(maxNames + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > maxNames {
		return nil, fmt.Errorf("/%s holds more than %d files: %w", name, maxNames, errdefs.ErrUnsupported)
	}
	slices.Sort(names)
	return names, nil
}

// replace makes name a regular file with this content, whatever it was before, owned as its directory. The directory must exist.
func (t tree) replace(name string, content []byte, mode fs.FileMode) error {
	if dir := path.Dir(name); dir != "." {
		if _, err := t.directory(dir); err != nil {
			return err
		}
	}
	// A new file instead of a rewritten one: a hard link made inside the container must not carry the change elsewhere. And the old
	// one stays until the new one is whole: there may be no room for it, and then the old one is the way in to make some.
	fresh := path.Join(path.Dir(name), "."+path.Base(name)+".hoody-new")
	if err := t.remove(fresh); err != nil { // left by an agent that was stopped here
		return err
	}
	err := t.create(fresh, content, mode)
	if err == nil {
		if info, statErr := t.root.Lstat(name); statErr == nil && info.IsDir() {
			err = t.root.Remove(name) // nothing is renamed over a directory
		}
	}
	if err == nil {
		err = t.root.Rename(fresh, name)
	}
	if err != nil {
		return errors.Join(err, t.remove(fresh))
	}
	if t.durable {
		return t.syncDirectory(path.Dir(name))
	}
	return nil
}

// syncDirectory waits until what was renamed in a directory is on disk. Whoever uses the tree may have put something else in its place, a pipe perhaps, which
// is not waited for.
func (t tree) syncDirectory(name string) error {
	directory, err := t.root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer directory.Close()
	return directory.Sync()
}

// create makes a file that is not there yet, owned as its directory.
func (t tree) create(name string, content []byte, mode fs.FileMode) error {
	file, err := t.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Chmod(mode) // whatever the agent's umask is
	}
	if err == nil && t.durable {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return t.inheritOwner(name, path.Dir(name))
}

// remove deletes a file; a missing one is success.
func (t tree) remove(name string) error {
	if err := t.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// inheritOwner gives name the owner of parent: on-disk ids are shifted in some containers, so root is whoever owns the directory.
func (t tree) inheritOwner(name, parent string) error {
	info, err := t.root.Lstat(parent)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if own, err := t.root.Lstat(name); err == nil {
		if have, ok := own.Sys().(*syscall.Stat_t); ok && have.Uid == owner.Uid && have.Gid == owner.Gid {
			return nil
		}
	}
	return t.root.Lchown(name, int(owner.Uid), int(owner.Gid))
}
