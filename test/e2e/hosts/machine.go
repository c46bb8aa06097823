package hosts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
)

// machine is the hardware of a guest: its disks, its power switch and its console.
type machine struct {
	name    string
	addr    string
	mac     string // the same after each boot, as a real card's is
	tap     string
	kernel  string // the User Mode Linux program
	preload string // library to load into it; "" for none
	root    string // root disk as UML takes it: an image, or "cow,base"
	data    string // data disk
	memory  string
	dir     string // console log and UML's own files
	ns      *netns

	mu      sync.Mutex // a test may end while it boots a host
	process *exec.Cmd
	stopped chan struct{} // closed when the process is gone; nil before the first start
	umlDir  string        // UML's own files of the newest start
	retired bool          // never to be started again
}

var (
	errRunning = errors.New("is running")
	errOff     = errors.New("is switched off")
	errRetired = errors.New("is out of service")
)

// start switches the machine on. It returns as soon as the kernel runs.
//
// The guest is many processes of this machine. They get a process namespace of their own, whose first
// process dies with us, which makes the kernel end all others: nothing can be left behind.
func (m *machine) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.retired:
		return fmt.Errorf("start %s: it %w", m.name, errRetired)
	case isOpen(m.stopped):
		return fmt.Errorf("start %s: it %w", m.name, errRunning)
	}
	console, err := os.OpenFile(m.console(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", m.name, err)
	}
	defer console.Close()
	umlDir, err := os.MkdirTemp(m.dir, m.name+".uml-")
	if err != nil {
		return fmt.Errorf("start %s: %w", m.name, err)
	}
	// UML itself cannot be the first process of a namespace: it could not abort.
	cmd := exec.Command("sh", append([]string{"-c", `"$@"; exit $?`, "sh"}, m.commandLine(umlDir)...)...)
	cmd.Stdout, cmd.Stderr = console, console
	cmd.Env = append(os.Environ(), "TMPDIR=/dev/shm") // guest memory is a file there
	if m.preload != "" {
		cmd.Env = append(cmd.Env, "LD_PRELOAD="+m.preload)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID,
		Setpgid:    true, // Ctrl-C is for us
		Pdeathsig:  syscall.SIGKILL,
	}
	started := make(chan error, 1)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		// Pdeathsig follows the thread that started the process, so that thread stays with it to the end.
		err := m.ns.do(func() error {
			err := cmd.Start()
			started <- err
			if err == nil {
				_ = cmd.Wait() // how a guest ends says nothing about the test
			}
			return nil
		})
		if err != nil {
			select {
			case started <- err:
			default:
			}
		}
	}()
	if err := <-started; err != nil {
		<-stopped
		return fmt.Errorf("start %s: %w", m.name, err)
	}
	m.process, m.stopped, m.umlDir = cmd, stopped, umlDir
	return nil
}

func (m *machine) commandLine(umlDir string) []string {
	return []string{
		m.kernel,
		"mem=" + m.memory,
		"uml_dir=" + umlDir,
		"umid=" + m.name,
		"ubd0=" + m.root,
		"ubd1=" + m.data,
		"root=/dev/ubda", "rw", "quiet",
		"con=null", "con0=null,fd:1",
		"vec0:transport=tap,ifname=" + m.tap + ",mac=" + m.mac + ",depth=128,gro=1",
		"hostip=" + m.addr, "hostn=" + m.name, // read by e2e-net in the guest
	}
}

func (m *machine) running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return isOpen(m.stopped)
}

func isOpen(c chan struct{}) bool {
	if c == nil {
		return false
	}
	select {
	case <-c:
		return false
	default:
		return true
	}
}

// cut takes the power away: the guest stops between two instructions, and what it had not written is lost.
func (m *machine) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if isOpen(m.stopped) {
		_ = m.process.Process.Kill() // fails only if it is gone already
		<-m.stopped
	}
}

// retire takes the power away for good.
func (m *machine) retire() {
	m.mu.Lock()
	m.retired = true
	m.mu.Unlock()
	m.cut()
}

// wait waits until the guest has switched itself off.
func (m *machine) wait(ctx context.Context) error {
	m.mu.Lock()
	stopped := m.stopped
	m.mu.Unlock()
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %s to switch off: %w", m.name, ctx.Err())
	}
}

func (m *machine) console() string { return filepath.Join(m.dir, m.name+".console") }

// condition is what explains a guest that no longer answers.
func (m *machine) condition() string {
	if !m.running() {
		return "is switched off; console:\n" + m.lastWords()
	}
	return "is switched on; console:\n" + m.lastWords() + "\n" + m.state()
}

// lastWords are the end of the console log, for errors.
func (m *machine) lastWords() string {
	content, err := os.ReadFile(m.console())
	if err != nil {
		return err.Error()
	}
	return tail(string(content), 20)
}
