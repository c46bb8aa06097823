package hosts

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// netns is a network namespace. A namespace belongs to a thread, so what is to happen in it goes through do.
type netns struct {
	file *os.File
}

// threadNetns is the namespace of the calling thread.
const threadNetns = "/proc/thread-self/ns/net"

// newNetns makes a namespace that lasts until it is closed and its last process is gone.
func newNetns() (*netns, error) {
	var made *netns
	err := onThread(func() error {
		home, err := os.Open(threadNetns)
		if err != nil {
			return err
		}
		defer home.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		file, err := os.Open(threadNetns)
		return errors.Join(goHome(home), err, func() error { made = &netns{file: file}; return nil }())
	})
	if err != nil {
		return nil, fmt.Errorf("create network namespace: %w", err)
	}
	return made, nil
}

// currentNetns is the namespace this process runs in.
func currentNetns() (*netns, error) {
	file, err := os.Open(threadNetns)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return &netns{file: file}, nil
}

func (n *netns) close() error { return n.file.Close() }

// do calls f on a thread that is in the namespace. Sockets that f opens and processes that it starts belong to
// the namespace and stay there; goroutines that f starts do not.
func (n *netns) do(f func() error) error {
	return onThread(func() error {
		home, err := os.Open(threadNetns)
		if err != nil {
			return fmt.Errorf("open network namespace: %w", err)
		}
		defer home.Close()
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return errors.Join(f(), goHome(home))
	})
}

// errLostThread means that the thread must not be used again.
var errLostThread = errors.New("cannot return to the network namespace")

func goHome(home *os.File) error {
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("%w: %w", errLostThread, err)
	}
	return nil
}

// onThread calls f on a goroutine that has a thread to itself. A thread that did not find home ends with
// its goroutine instead of serving others.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := f()
		if !errors.Is(err, errLostThread) {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}
