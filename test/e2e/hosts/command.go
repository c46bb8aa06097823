package hosts

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// run starts a program and waits for it; what it printed is part of the error when it fails.
func run(ctx context.Context, argv ...string) error {
	return runCommand(exec.CommandContext(ctx, argv[0], argv[1:]...))
}

func runCommand(cmd *exec.Cmd) error {
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(output.String(), 30))
	}
	return nil
}

// tail returns the last lines of text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
