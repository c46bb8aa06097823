package agent

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// ConfigEnvironment is in front of an environment variable's name in the runtime's configuration.
const ConfigEnvironment = "environment."

// A container's variables get further than into the container: Incus gives them to the process that starts it, which is root's and on the
// host (read in 6.0.4 and 6.23.0, driver_lxc.go), and before 6.0.6 and 6.21 writes them into a file of lines (CVE-2026-23953).

// hostVariables are names by which the loader, libc or Incus itself take code or orders from what is in a variable (ld.so(8)).
var hostVariables = regexp.MustCompile(`^(LD_.*|GLIBC_TUNABLES|GCONV_PATH|INCUS_.*)$`)

// hostPlaces are directories in which, or in some of which, containers' files can be reached on the host.
var hostPlaces = []string{"dev", "media", "mnt", "proc", "run", "sys", "tmp", "var"}

// VariableNameRule says what keeps a variable of this name from being given to a container; empty for nothing.
func VariableNameRule(name string) string {
	if hostVariables.MatchString(name) {
		return "is a name that the host heeds, too, when it starts the container, and cannot be set"
	}
	return ""
}

// VariableValueRule says what keeps a variable from having this value; empty for nothing.
func VariableValueRule(name, value string) string {
	switch {
	case strings.ContainsAny(value, "\x00\n\r"):
		return "must not contain a NUL character or a line break"
	case name == "PATH" && !plainPath(value):
		return "must list absolute directories, none below /" + strings.Join(hostPlaces, ", /") + ": the host's programs are looked for there, too"
	default:
		return ""
	}
}

// plainPath tells whether none of a PATH's directories can be one that a container has filled.
func plainPath(value string) bool {
	for directory := range strings.SplitSeq(value, ":") {
		if !path.IsAbs(directory) || slices.Contains(strings.Split(directory, "/"), "..") {
			return false
		}
		first, _, _ := strings.Cut(path.Clean(directory)[1:], "/")
		if slices.Contains(hostPlaces, first) {
			return false
		}
	}
	return true
}

// CheckVariables is a runtime's own last look at what it is to give to an instance; config is as in Configure. An error is ErrInvalid.
func CheckVariables(config map[string]string) error {
	for key, value := range config {
		name, isVariable := strings.CutPrefix(key, ConfigEnvironment)
		if !isVariable || value == "" { // which removes one
			continue
		}
		if rule := VariableNameRule(name) + VariableValueRule(name, value); rule != "" {
			return fmt.Errorf("variable %s: %s: %w", name, rule, errdefs.ErrInvalid)
		}
	}
	return nil
}

// givenVariables are those of a container's variables that its instance gets. A record may have others from before they were refused,
// which must not keep the rest from working.
func givenVariables(env map[string]string) (given map[string]string, left []string) {
	given = make(map[string]string, len(env))
	for name, value := range env {
		if VariableNameRule(name)+VariableValueRule(name, value) == "" {
			given[name] = value
		} else {
			left = append(left, name)
		}
	}
	slices.Sort(left)
	return given, left
}
