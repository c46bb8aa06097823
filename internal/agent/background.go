package agent

import (
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	backgroundNice = 15
	// What ioprio_set(2) knows and package unix does not.
	ioprioWhoProcess = 1
	ioprioClassIdle  = 3 << 13
)

// inBackground runs work where everybody else goes first, in a thread of its own that ends with it: a lowered thread must not
// serve another goroutine. Work must not hand over to other goroutines what is to be slow.
func inBackground(work func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: so the runtime ends the thread
		// Best effort: without them it is only less polite. 0 is the calling thread. OpenZFS itself pays no heed to the second.
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, backgroundNice)
		_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, 0, ioprioClassIdle)
		done <- work()
	}()
	return <-done
}
