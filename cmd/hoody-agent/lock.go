package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockStateDir makes sure that one agent at a time works with a state directory: two would take each other's jobs. The lock
// ends with the process, however it ends, so that the next one takes over at once.
func lockStateDir(dir string) (unlock func() error, err error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		err = errors.Join(err, file.Close())
		return nil, fmt.Errorf("lock state directory %s: another agent runs with it: %w", dir, err)
	}
	return file.Close, nil
}
