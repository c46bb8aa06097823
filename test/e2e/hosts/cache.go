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

// cache holds built artefacts, one folder each, named after what it is and the fingerprint of its inputs.
type cache struct {
	dir string
	log *stepLog
}

// CacheDir is where artefacts are kept unless the caller says otherwise.
func CacheDir() (string, error) {
	if dir := os.Getenv("HOODY_E2E_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(home, ".cache", "hoody-agent-e2e"), nil
}

// get returns the folder of an artefact, making it first if it is not there.
//
// The artefact is made in a folder beside its final place and renamed when complete, so that an
// interrupted build leaves nothing that looks finished. Builders of one artefact wait for each other.
func (c *cache) get(ctx context.Context, name, key string, build func(ctx context.Context, dir string) error) (string, error) {
	final := filepath.Join(c.dir, name+"-"+key)
	if exists(final) {
		return final, nil
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return "", fmt.Errorf("create cache: %w", err)
	}
	unlock, err := lockFile(final + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if exists(final) { // made by whoever held the lock
		return final, nil
	}
	work := final + ".partial"
	if err := os.RemoveAll(work); err != nil {
		return "", fmt.Errorf("remove remains of an earlier build: %w", err)
	}
	if err := os.Mkdir(work, 0o755); err != nil {
		return "", fmt.Errorf("create build folder: %w", err)
	}
	c.log.say("build %s, once", name)
	done := c.log.step("build %s", name)
	if err := build(ctx, work); err != nil {
		return "", errors.Join(fmt.Errorf("build %s: %w", name, err), os.RemoveAll(work))
	}
	if err := os.Rename(work, final); err != nil {
		return "", fmt.Errorf("finish %s: %w", name, err)
	}
	done()
	return final, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// lockFile waits for an exclusive lock on path. The kernel drops it with the process, however that ends.
func lockFile(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := flock(file, unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
	}
	return func() { _ = file.Close() }, nil
}

// flock is flock(2) that a signal does not end: Go's scheduler sends them all the time.
func flock(file *os.File, how int) error {
	for {
		err := unix.Flock(int(file.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
