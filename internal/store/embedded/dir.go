package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const (
	lockName   = "lock"
	grpcSocket = "etcd.sock"
	httpSocket = "http.sock" // as long as the other

	// maxSocketPath is what fits into sockaddr_un with its final zero byte.
	maxSocketPath = 107
)

// dirLock is an exclusive flock on a file of the directory. The kernel drops it with the process, however that ends;
// the file is close-on-exec, so commands that outlive a killed agent do not keep it.
type dirLock struct{ file *os.File }

func lockDir(dir string) (*dirLock, error) {
	path := filepath.Join(dir, lockName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return &dirLock{file}, nil
	}
	_ = file.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("state directory %s is in use by another process: %w", dir, errdefs.ErrBusy)
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// release unlocks by closing. The file stays: removing it would let two processes lock two different files.
func (l *dirLock) release() { _ = l.file.Close() }

// socketDir is a name of the state directory that is short enough for the sockets in it.
type socketDir struct {
	name string
	dir  *os.File // nil unless name goes through it
}

// newSocketDir returns dir itself or, where that makes paths longer than the kernel takes, the same directory through
// an open descriptor: /proc/self/fd/<n>. The sockets are in the guarded directory either way, and no port is opened.
func newSocketDir(dir string) (*socketDir, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("embedded etcd: socket path: %w", err)
	}
	if len(filepath.Join(absolute, grpcSocket)) <= maxSocketPath {
		return &socketDir{name: absolute}, nil
	}
	file, err := os.Open(absolute)
	if err != nil {
		return nil, fmt.Errorf("embedded etcd: socket path: %w", err)
	}
	return &socketDir{name: filepath.Join("/proc/self/fd", strconv.Itoa(int(file.Fd()))), dir: file}, nil
}

func (s *socketDir) grpc() string { return filepath.Join(s.name, grpcSocket) }
func (s *socketDir) http() string { return filepath.Join(s.name, httpSocket) }

// close must come after the listeners and every client of the sockets are gone.
func (s *socketDir) close() {
	if s.dir != nil {
		_ = s.dir.Close()
	}
}
