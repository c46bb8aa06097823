package admin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Listen opens the socket: mode 0660, for its owner and the group; for the owner alone where there is no such group. A socket
// that nobody listens on any more is replaced; whoever calls holds the lock of the state directory, so there is no other agent
// to take it from.
func Listen(path, group string) (_ net.Listener, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("listen on admin socket %s: %w", path, err)
		}
	}()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// Made where nobody else gets at it, and moved into place with its owners and mode set.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".admin-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	private := filepath.Join(dir, "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: private, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // it knows the private name only; socket.Close does it
	if err = share(private, group); err == nil {
		err = os.Rename(private, path)
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &socket{Listener: listener, path: path}, nil
}

// socket removes its name when it is closed.
type socket struct {
	net.Listener
	path string
}

func (s *socket) Close() error {
	_ = os.Remove(s.path) // one that stays is stale, and replaced at the next start
	return s.Listener.Close()
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return errors.New("something else has this name")
	}
	connection, err := net.Dial("unix", path)
	if err == nil {
		_ = connection.Close()
		return errors.New("another process listens on it")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

func share(path, group string) error {
	if group == "" {
		return os.Chmod(path, 0o600)
	}
	found, err := user.LookupGroup(group)
	var unknown user.UnknownGroupError
	if errors.As(err, &unknown) {
		return os.Chmod(path, 0o600)
	}
	if err != nil {
		return err
	}
	id, err := strconv.Atoi(found.Gid)
	if err != nil {
		return err
	}
	if err := os.Chown(path, -1, id); errors.Is(err, os.ErrPermission) {
		return os.Chmod(path, 0o600) // an agent of an ordinary user
	} else if err != nil {
		return err
	}
	return os.Chmod(path, 0o660)
}
