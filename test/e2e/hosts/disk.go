package hosts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func rootDisk(dir, host string) string { return filepath.Join(dir, host+".root.img") }
func dataDisk(dir, host string) string { return filepath.Join(dir, host+".data.img") }

// copyDisks gives a host disks of its own, made from the prepared ones. The root disk is a copy-on-write file.
// The data disk is a real copy: it holds little, and its speed is what tests measure.
func copyDisks(ctx context.Context, from, to, host string, dataSize int64) (root, data string, err error) {
	if root, err = rootOver(rootDisk(from, host), to, host); err != nil {
		return "", "", err
	}
	data = dataDisk(to, host)
	if err := copySparse(ctx, dataDisk(from, host), data); err != nil {
		return "", "", err
	}
	if dataSize > dataDiskSize {
		if err := os.Truncate(data, dataSize); err != nil {
			return "", "", fmt.Errorf("grow data disk: %w", err)
		}
	}
	return root, data, nil
}

// bareDisks gives a host a root disk on which nothing has been set up, and an empty data disk.
func bareDisks(from, to, host string, dataSize int64) (root, data string, err error) {
	if root, err = rootOver(filepath.Join(from, "root.img"), to, host); err != nil {
		return "", "", err
	}
	data = dataDisk(to, host)
	return root, data, makeSparse(data, dataSize)
}

// rootOver gives a host a root disk, as UML takes it: a file with what is written, over an image that stays as it is.
func rootOver(image, to, host string) (string, error) {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return "", fmt.Errorf("make folder for disks: %w", err)
	}
	cow := filepath.Join(to, host+".root.cow")
	if err := os.RemoveAll(cow); err != nil { // of an earlier cluster in the same folder
		return "", fmt.Errorf("remove old disk: %w", err)
	}
	return cow + "," + image, nil
}

// copySparse copies a disk image without its holes.
func copySparse(ctx context.Context, from, to string) error {
	return run(ctx, "cp", "--sparse=always", "--reflink=auto", "--", from, to)
}

// makeSparse makes an empty disk image.
func makeSparse(path string, size int64) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	if err := errors.Join(file.Truncate(size), file.Close()); err != nil {
		return fmt.Errorf("make disk %s: %w", path, err)
	}
	return nil
}

// newRunDir makes a folder for a cluster's disks under parent, and removes those of processes that died
// before they could: each folder is locked by the process it belongs to.
func newRunDir(parent string) (dir string, remove func() error, err error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", nil, fmt.Errorf("make run folder: %w", err)
	}
	if err := sweepRunDirs(parent); err != nil {
		return "", nil, err
	}
	// A name that the sweep leaves alone until the lock is there.
	dir, err = os.MkdirTemp(parent, ".new-")
	if err != nil {
		return "", nil, fmt.Errorf("make run folder: %w", err)
	}
	unlock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	named := filepath.Join(parent, filepath.Base(dir)[len(".new-"):])
	if err := os.Rename(dir, named); err != nil {
		unlock()
		return "", nil, errors.Join(fmt.Errorf("make run folder: %w", err), os.RemoveAll(dir))
	}
	remove = func() error { defer unlock(); return os.RemoveAll(named) }
	return named, remove, nil
}

func sweepRunDirs(parent string) error {
	locks, err := filepath.Glob(filepath.Join(parent, "[^.]*", "lock"))
	if err != nil {
		return fmt.Errorf("list run folders: %w", err)
	}
	for _, path := range locks {
		if err := removeIfUnlocked(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove old run folder: %w", err)
		}
	}
	return nil
}

// removeIfUnlocked removes the folder of a lock that nobody holds.
func removeIfUnlocked(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := flock(file, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil // in use
	}
	return os.RemoveAll(filepath.Dir(path))
}
