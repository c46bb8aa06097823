package sim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// scanner reads a directory of live files into a tree. It remembers what it read, so that a file is read again only when its
// inode says that it may have changed.
type scanner struct {
	store *cas

	mu   sync.Mutex
	seen map[string]seenFile // by path
}

// seenFile is what a file's content was when its inode looked like that.
type seenFile struct {
	inode  inode
	sure   bool // a later write cannot leave the inode looking the same
	blocks blocks
}

// inode is what changes when a file is written to. The change time cannot be set by anybody.
type inode struct {
	device, number uint64
	size           int64
	mtime, ctime   int64 // ns
}

func inodeOf(info fs.FileInfo) inode {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}
	}
	return inode{
		device: uint64(stat.Dev), number: stat.Ino, size: info.Size(),
		mtime: info.ModTime().UnixNano(), ctime: time.Unix(stat.Ctim.Unix()).UnixNano(),
	}
}

// settled tells whether a write from now on must give the inode another change time. File systems stamp with the kernel's
// tick (4 to 10 ms); some count whole seconds only.
func (i inode) settled(now time.Time) bool {
	grain := 100 * time.Millisecond
	if i.ctime%int64(time.Second) == 0 {
		grain = 3 * time.Second
	}
	return i.ctime != 0 && now.Sub(time.Unix(0, i.ctime)) > grain
}

// scan returns the tree of a directory. With keep, every block is in the store afterwards and the caller owns one reference to
// each, also when scan fails: the returned tree holds what was taken.
func (s *scanner) scan(dir string, keep bool) (*tree, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &tree{}
	seen := make(map[string]seenFile)
	err := filepath.WalkDir(dir, func(full string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && full != dir {
			return nil // gone since the directory was read
		}
		if err != nil {
			return err
		}
		path, err := filepath.Rel(dir, full)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		e := entry{Path: filepath.ToSlash(path), Mode: info.Mode(), MTime: info.ModTime().UnixNano()}
		switch {
		case info.Mode().IsRegular():
			file, err := s.file(full, path, keep)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			e.Mode, e.MTime, e.Size, e.Blocks = file.mode, file.inode.mtime, file.inode.size, file.blocks
			t.Entries = append(t.Entries, e) // with an error too: the caller gives the blocks back
			seen[path] = file.seenFile
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			e.MTime = 0
			if e.Link, err = os.Readlink(full); err != nil {
				return err
			}
		case !info.IsDir() && info.Mode()&fs.ModeNamedPipe == 0:
			return nil
		}
		t.Entries = append(t.Entries, e)
		return nil
	})
	if err != nil {
		return t, fmt.Errorf("read live files: %w", err)
	}
	s.seen = seen
	t.sort()
	return t, nil
}

// readFile is a file's content together with the inode it belongs to.
type readFile struct {
	seenFile
	mode fs.FileMode
}

// file reads one file, or believes its inode.
func (s *scanner) file(full, path string, keep bool) (readFile, error) {
	f, err := os.OpenFile(full, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return readFile{}, err
	}
	defer f.Close()
	for range 100 {
		info, err := f.Stat()
		if err != nil {
			return readFile{}, err
		}
		now := inodeOf(info)
		known, ok := s.seen[path]
		if ok && known.sure && known.inode == now && (!keep || s.share(known.blocks)) {
			return readFile{known, info.Mode()}, nil
		}
		settled := now.settled(time.Now())
		content, err := s.content(f, now.size, keep)
		if err != nil {
			return readFile{seenFile{inode: now, blocks: content}, info.Mode()}, err
		}
		if info, err = f.Stat(); err == nil && inodeOf(info) == now {
			return readFile{seenFile{now, settled, content}, info.Mode()}, nil
		}
		if keep {
			s.release(content)
		}
	}
	return readFile{}, fmt.Errorf("%s changes all the time: %w", path, errdefs.ErrBusy)
}

// seekData is SEEK_DATA of lseek(2): the next byte that is not in a hole.
const seekData = 3

// content reads a file's blocks, jumping over holes.
func (s *scanner) content(f *os.File, size int64, keep bool) (blocks, error) {
	var out blocks
	buffer := make([]byte, min(blockSize, max(size, 1)))
	for at := int64(0); at < size; at += blockSize {
		data, err := f.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) {
			return out, nil // holes to the end
		}
		if err == nil {
			at = data - data%blockSize
		}
		// A file system without SEEK_DATA has no holes either.
		n, err := f.ReadAt(buffer[:min(blockSize, size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return out, err
		}
		hash := sumOf(buffer[:n])
		if keep {
			if hash, err = s.store.put(buffer[:n]); err != nil {
				return out, err
			}
		}
		if hash != (sum{}) {
			out = append(out, block{At: at / blockSize, Sum: hash})
		}
	}
	return out, nil
}

// share takes a reference to each block, or to none.
func (s *scanner) share(list blocks) bool {
	for i, b := range list {
		if !s.store.share(b.Sum) {
			s.release(list[:i])
			return false
		}
	}
	return true
}

func (s *scanner) release(list blocks) {
	for _, b := range list {
		s.store.release(b.Sum)
	}
}
