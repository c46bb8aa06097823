package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker (-X main.version=…, see the Makefile): what `git describe` says of the sources.
var version string

// build is what the binary was made from. A build without the Makefile still knows its commit.
type build struct{ version, revision string }

// String names both.
func (b build) String() string { return fmt.Sprintf("%s (%s)", b.version, b.revision) }

func buildOf(linked string, read func() (*debug.BuildInfo, bool)) build {
	b := build{version: linked, revision: "unknown"}
	info, ok := read()
	if ok {
		modified := ""
		for _, setting := range info.Settings {
			switch {
			case setting.Key == "vcs.revision":
				b.revision = setting.Value
			case setting.Key == "vcs.modified" && setting.Value == "true":
				modified = "-dirty"
			}
		}
		b.revision += modified
	}
	if b.version == "" {
		b.version = "devel"
	}
	return b
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			return p.say("hoody-agent %s\n", buildOf(version, debug.ReadBuildInfo))
		},
	}
}
