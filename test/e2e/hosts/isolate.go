package hosts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// IsolatedEnv is the environment variable of a process whose network namespace is there for the hosts.
const IsolatedEnv = "HOODY_E2E_ISOLATED"

// Main is what TestMain calls. It builds what the cache lacks, then runs the tests in a network namespace of
// their own, where they reach the hosts with ordinary sockets and the hosts reach them at 10.99.0.254.
// It returns the exit code. programs are what the tests need on this machine besides; each is in the Debian package of its name.
//
// The namespace belongs to a second process of the same program, because it must be there before the first
// thread is. The program has been compiled by then, with the network that it lacks afterwards.
func Main(tests interface{ Run() int }, programs ...string) int {
	if isolated() {
		return tests.Run()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	packages := make(map[string]string)
	for _, program := range programs {
		packages[program] = program
	}
	err := Build(ctx, BuildOptions{})
	if err == nil {
		err = installTools(ctx, packages)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hosts:", err)
		return 1
	}
	code, err := reexec(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "hosts:", err)
		return 1
	}
	return code
}

func isolated() bool { return os.Getenv(IsolatedEnv) != "" }

// reexec runs this program again, with the same arguments, in a new network namespace.
func reexec(ctx context.Context) (code int, err error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), IsolatedEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	err = onThread(func() error { return cmd.Run() }) // Pdeathsig follows the thread
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("run tests in a network namespace: %w", err)
	}
	return 0, nil
}

// clusterNetns is the namespace a cluster lives in: this process's own if it was made for that.
func clusterNetns() (*netns, error) {
	if isolated() {
		return currentNetns()
	}
	return newNetns()
}

// DialContext connects to an address on the hosts' network from a process outside it. The address is numeric.
func (c *Cluster) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return dial(ctx, c.network.ns, network, addr)
}
