package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"

	"github.com/hoodynetwork/hoody-agent/test/e2e/hosts"
)

// test compiles a package's tests, takes them and their testdata to hosta, and runs them there as root.
func test(ctx context.Context, pkg string, args []string) error {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	host, err := connect(ctx, "hosta")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "hosts-test-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "test")
	compile := exec.CommandContext(ctx, "go", "test", "-c", "-tags", "e2e", "-o", binary, pkg)
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	compile.Stdout, compile.Stderr = os.Stderr, os.Stderr
	if err := compile.Run(); err != nil {
		return fmt.Errorf("compile tests of %s: %w", pkg, err)
	}
	if _, err := os.Stat(binary); err != nil {
		return fmt.Errorf("%s has no tests: %w", pkg, err)
	}
	remote := path.Join("/var/tmp", filepath.Base(dir))
	defer func() { _, _ = host.Run(context.WithoutCancel(ctx), "rm", "-rf", remote) }()
	if err := host.Push(ctx, binary, path.Join(remote, "test"), 0o755); err != nil {
		return err
	}
	if err := pushTestdata(ctx, host, pkg, remote); err != nil {
		return err
	}
	line := append([]string{"sh", "-c", `cd "$1" && shift && exec ./test "$@"`, "sh", remote}, args...)
	return host.Stream(ctx, hosts.Streams{Out: os.Stdout, Err: os.Stderr}, line...)
}

// pushTestdata takes the folder that Go's tests may read, if there is one.
func pushTestdata(ctx context.Context, host *hosts.Host, pkg, remote string) error {
	if _, err := os.Stat(filepath.Join(pkg, "testdata")); err != nil {
		return nil
	}
	tar := exec.CommandContext(ctx, "tar", "-C", pkg, "-c", "testdata")
	content, err := tar.StdoutPipe()
	if err != nil {
		return err
	}
	if err := tar.Start(); err != nil {
		return fmt.Errorf("pack testdata: %w", err)
	}
	_, err = host.RunStdin(ctx, content, "tar", "-C", remote, "-x")
	return errors.Join(err, tar.Wait())
}
