// Command hosts runs the two test hosts for a developer: see package hosts for what they are.
//
//	hosts up                           build what is missing, boot both, leave them running
//	hosts run hosta 'zfs list'         run a command as root; standard input is passed on
//	hosts push hosta FILE PATH         copy a file to a host, executable if it is here
//	hosts pull hosta PATH FILE         copy a file from a host
//	hosts test ./internal/zfs -- ARGS  compile a package's tests (tag e2e) and run them on hosta as root
//	hosts exec CMD ARGS...             run a command of this machine on the hosts' network
//	hosts poweroff|cut|boot hosta      shut down, take the power away, switch on
//	hosts unplug|plug hosta            take a host off the network, and back
//	hosts link DELAY LOSS% [RATE]      network between the hosts: hosts link 40ms 0.5 100mbit
//	hosts status                       tell whether the hosts are up
//	hosts down                         end both and remove their disks
//	hosts build                        only build
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/hoodynetwork/hoody-agent/test/e2e/hosts"
)

const usage = `usage: hosts COMMAND
  up                           build what is missing, boot both hosts, leave them running
  run HOST COMMAND...          run a command as root (one argument: a shell line)
  push HOST FILE PATH          copy a file to a host
  pull HOST PATH FILE          copy a file from a host
  test PACKAGE [-- ARGS...]    compile a package's tests (tag e2e) and run them on hosta as root
  exec COMMAND...              run a command of this machine on the hosts' network
  boot|poweroff|cut HOST       switch on, shut down, take the power away
  unplug|plug HOST             take a host off the network, and back
  link DELAY LOSS% [RATE]      network between the hosts, as in: link 40ms 0.5 100mbit
  status                       tell whether the hosts are up
  down                         end both and remove their disks
  build                        only build
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	os.Exit(exitCode(err))
}

// exitCode tells what went wrong, and passes on the exit code of a command that ran for the caller.
func exitCode(err error) int {
	var remote *hosts.CommandError
	var local *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &remote):
		return remote.ExitCode // it has said itself what is wrong
	case errors.As(err, &local) && local.Exited():
		return local.ExitCode()
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		return 2
	default:
		fmt.Fprintln(os.Stderr, "hosts:", err)
		return 1
	}
}

var errUsage = errors.New("wrong usage")

func command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	name, args := args[0], args[1:]
	switch {
	case name == "build" && len(args) == 0:
		return hosts.Build(ctx, hosts.BuildOptions{})
	case name == "up" && len(args) == 0:
		return up(ctx)
	case name == "serve" && len(args) == 0: // what up leaves running
		return serve(ctx)
	case name == "status" && len(args) == 0:
		return status(ctx)
	case name == "down" && len(args) == 0:
		return down(ctx)
	case name == "run" && len(args) >= 2:
		return runOn(ctx, args[0], args[1:])
	case name == "push" && len(args) == 3:
		return push(ctx, args[0], args[1], args[2])
	case name == "pull" && len(args) == 3:
		return pull(ctx, args[0], args[1], args[2])
	case name == "test" && len(args) >= 1:
		return test(ctx, args[0], args[1:])
	case name == "exec" && len(args) >= 1:
		return execInside(ctx, args)
	case name == "link" && len(args) >= 2:
		return setLink(ctx, args)
	case len(args) == 1 && hostVerbs[name] != nil:
		return ask(ctx, "/"+name+"/"+args[0])
	default:
		return errUsage
	}
}
