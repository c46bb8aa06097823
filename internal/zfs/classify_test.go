package zfs

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestClassify(t *testing.T) {
	for _, name := range []string{"testdata/2.3.9/errors.txt", "testdata/errors-other.txt"} {
		for line := range strings.Lines(readFile(t, name)) {
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(line, "#") {
				continue
			}
			columns := strings.SplitN(line, "\t", 3)
			if len(columns) != 3 {
				t.Fatalf("%s: %q", name, line)
			}
			stderr := strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(columns[2])
			if got := classify(columns[1], stderr); got.Error() != columns[0] {
				t.Errorf("zfs %s: %q is %q, want %q", columns[1], stderr, got, columns[0])
			}
		}
	}
}

// Every rule must be the first to match for some recorded message, or it is dead.
func TestRulesAreReachable(t *testing.T) {
	for i, r := range rules {
		for _, earlier := range rules[:i] {
			if strings.Contains(r.text, earlier.text) && (earlier.verb == "" || earlier.verb == r.verb) {
				t.Errorf("rule %q is hidden by %q", r.text, earlier.text)
			}
		}
	}
}

func TestCommandError(t *testing.T) {
	failed := exec.Command("false").Run()
	err := newCommandError([]string{"zfs", "list", "x"}, failed, "cannot open 'x': dataset does not exist\nusage:\n\tlist\n", nil)
	if !errors.Is(err, errdefs.ErrNotFound) || err.ExitCode != 1 {
		t.Errorf("%+v", err)
	}
	if got, want := err.Error(), "zfs list: cannot open 'x': dataset does not exist"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	cancelled := newCommandError([]string{"zfs", "list"}, failed, "", context.Canceled)
	if !errors.Is(cancelled, context.Canceled) || errdefs.ClassOf(cancelled) != errdefs.ErrUnavailable { //nolint:errorlint // classes
		t.Errorf("%v is %v", cancelled, errdefs.ClassOf(cancelled))
	}
	missing := newCommandError([]string{"zfs", "list"}, exec.ErrNotFound, "", nil)
	if !errors.Is(missing, errdefs.ErrUnavailable) || !errors.Is(missing, exec.ErrNotFound) {
		t.Errorf("%v", missing)
	}
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
