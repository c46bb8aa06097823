package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// documentationCommand writes what a package ships for people: manual pages, and completions for their shells.
func (p *program) documentationCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "documentation DIR",
		Short:  "Write manual pages and shell completions",
		Hidden: true, // of use to packagers only
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeDocumentation(cmd.Root(), args[0])
		},
	}
}

func writeDocumentation(root *cobra.Command, dir string) error {
	man, completion := filepath.Join(dir, "man"), filepath.Join(dir, "completion")
	for _, dir := range []string{man, completion} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("write documentation: %w", err)
		}
	}
	root.DisableAutoGenTag = true // two builds of one source give the same pages
	if err := doc.GenManTree(root, &doc.GenManHeader{Section: "8", Source: "hoody-agent", Manual: "System Administration"}, man); err != nil {
		return fmt.Errorf("write manual pages: %w", err)
	}
	for shell, write := range map[string]func(string) error{
		"bash": func(path string) error { return root.GenBashCompletionFileV2(path, true) },
		"zsh":  root.GenZshCompletionFile,
		"fish": func(path string) error { return root.GenFishCompletionFile(path, true) },
	} {
		if err := write(filepath.Join(completion, shell)); err != nil {
			return fmt.Errorf("write completion for %s: %w", shell, err)
		}
	}
	return nil
}
