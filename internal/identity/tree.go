package identity

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// maxFile bounds what is read of one identity file: the tree is somebody else's.
const maxFile = 1 << 20

// tree is a container's root filesystem.
type tree struct{ root *os.Root }

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
	info, err := t.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, false, nil
	}
	if err != nil {
		return nil, 0, false, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, false, nil
	}
	if info.Size() > maxFile {
		return nil, 0, false, fmt.Errorf("/%s holds %d bytes, more than %d: %w", name, info.Size(), maxFile, errdefs.ErrUnsupported)
	}
	file, err := t.root.Open(name)
	if err != nil {
		return nil, 0, false, err
	}
	defer file.Close()
	content, err = io.ReadAll(io.LimitReader(file, maxFile+1))
	return content, info.Mode().Perm(), err == nil, err
}

// replace makes name a regular file with this content, whatever it was before, owned as its directory. The directory must exist.
func (t tree) replace(name string, content []byte, mode fs.FileMode) error {
	if dir := path.Dir(name); dir != "." {
		if _, err := t.directory(dir); err != nil {
			return err
		}
	}
	// A new file instead of a rewritten one: a hard link made inside the container must not carry the change elsewhere.
	if err := t.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := t.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Chmod(mode) // whatever the agent's umask is
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
