package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

// invoke runs the program with a state directory of its own and returns what it said.
func invoke(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	p := &program{stdout: &out, stderr: &errs, environ: environ}
	code = p.execute(args)
	return code, out.String(), errs.String()
}

func TestExitCodes(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	for _, test := range []struct {
		name           string
		environ, args  []string
		code           int
		stdout, stderr string // contained; stdout empty means nothing at all
	}{
		{"help", nil, []string{"--help"}, exitOK, "Available Commands", ""},
		{"no command", nil, nil, exitOK, "Available Commands", ""},
		{"version", nil, []string{"version"}, exitOK, "hoody-agent devel (", ""},
		{"version by flag", nil, []string{"--version"}, exitOK, "hoody-agent devel (", ""},
		{"unknown command", nil, []string{"fly"}, exitUsage, "", `wrong usage: hoody-agent has no command "fly"`},
		{"unknown subcommand", nil, []string{"config", "fly"}, exitUsage, "", `hoody-agent config has no command "fly"`},
		{"unknown flag", nil, []string{"run", "--fly"}, exitUsage, "", "unknown flag: --fly"},
		{"argument", nil, []string{"version", "now"}, exitUsage, "", `hoody-agent version takes no argument "now"`},
		{"valid configuration", nil, []string{"config", "check"}, exitOK, "configuration ok\n", ""},
		{"named file missing", nil, []string{"config", "check", "-c", missing}, exitConfig, "", "no such file"},
		{"invalid configuration", []string{"HOODY_LOG_LEVEL=loud", "HOODY_SERVER_ID=x"}, []string{"config", "check"}, exitConfig, "",
			"hoody-agent: the configuration is not valid:\n" +
				"server.id: must be 24 lower-case hex digits, is \"x\"\n" +
				"log.level: must be one of debug, info, warn, error, is \"loud\"\n"},
		{"file of the configuration missing", []string{"HOODY_AUTH_KEY_FILE=" + missing}, []string{"config", "check"}, exitConfig, "",
			"auth.key_file: open " + missing},
		{"run with an invalid configuration", []string{"HOODY_LOG_LEVEL=loud"}, []string{"run"}, exitConfig, "", "log.level"},
		{"show", []string{"HOODY_LOG_LEVEL=warn"}, []string{"config", "show"}, exitOK, "level: warn\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := invoke(t, test.environ, test.args...)
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			if !strings.Contains(stdout, test.stdout) || (test.stdout == "" && stdout != "") {
				t.Errorf("stdout %q, want %q", stdout, test.stdout)
			}
			if !strings.Contains(stderr, test.stderr) || (test.stderr == "" && stderr != "") {
				t.Errorf("stderr %q, want %q", stderr, test.stderr)
			}
		})
	}
}

func TestShownConfigurationLoads(t *testing.T) {
	_, first, _ := invoke(t, []string{"HOODY_PEER_SEND_LIMIT=1Gbit/s", "HOODY_SERVER_CITY=Łódź: 1"}, "config", "show")
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(first), 0o600); err != nil {
		t.Fatal(err)
	}
	code, again, stderr := invoke(t, nil, "config", "show", "--config", path)
	if code != exitOK || again != first {
		t.Errorf("code %d, %s\nfirst:\n%s\nagain:\n%s", code, stderr, first, again)
	}
}

func TestBuildOf(t *testing.T) {
	info := func(settings ...debug.BuildSetting) func() (*debug.BuildInfo, bool) {
		return func() (*debug.BuildInfo, bool) { return &debug.BuildInfo{Settings: settings}, true }
	}
	for _, test := range []struct {
		name, linked string
		read         func() (*debug.BuildInfo, bool)
		want         build
	}{
		{"released", "v1.0.0", info(debug.BuildSetting{Key: "vcs.revision", Value: "abc"}), build{"v1.0.0", "abc"}},
		{"changed sources", "", info(debug.BuildSetting{Key: "vcs.revision", Value: "abc"},
			debug.BuildSetting{Key: "vcs.modified", Value: "true"}), build{"devel", "abc-dirty"}},
		{"nothing known", "", func() (*debug.BuildInfo, bool) { return nil, false }, build{"devel", "unknown"}},
	} {
		if got := buildOf(test.linked, test.read); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestIDIsStable(t *testing.T) {
	environ := []string{"HOODY_STATE_DIR=" + filepath.Join(t.TempDir(), "state")}
	code, first, stderr := invoke(t, environ, "id")
	if code != exitOK || len(first) != 25 {
		t.Fatalf("code %d, %q, %s", code, first, stderr)
	}
	if _, again, _ := invoke(t, environ, "id"); again != first {
		t.Errorf("%q, then %q", first, again)
	}
}

func TestPKI(t *testing.T) {
	dir := t.TempDir()
	ca, own, other := filepath.Join(dir, "ca"), filepath.Join(dir, "own"), filepath.Join(dir, "other")
	environ := []string{"HOODY_STATE_DIR=" + filepath.Join(dir, "state"), "HOODY_PEER_CREDENTIALS=" + own}
	const id = "64c1aa00b2d34e5f60718201"
	for _, test := range []struct {
		code   int
		stdout string
		args   []string
	}{
		{exitFailed, "", []string{"issue", "--ca", ca}}, // no authority yet
		{exitOK, "ca.crt", []string{"init", "--ca", ca, "--name", "test"}},
		{exitFailed, "", []string{"init", "--ca", ca}}, // never silently twice
		{exitOK, "agent.pem for server ", []string{"issue", "--ca", ca}},
		{exitFailed, "", []string{"issue", "--ca", ca}},
		{exitUsage, "", []string{"issue", "--ca", ca, "--server", id}}, // would land among this server's own
		{exitOK, "for server " + id, []string{"issue", "--ca", ca, "--server", id, "--out", other, "--name", "10.0.0.1", "--name", "a.example"}},
		{exitFailed, "", []string{"issue", "--ca", ca, "--server", "x", "--out", filepath.Join(dir, "x")}},
		{exitOK, "renewed", []string{"renew", "--ca", ca, "--lifetime", "48h"}},
		{exitUsage, "", []string{"renew", "--ca", ca, "--lifetime", "-1h"}},
		{exitFailed, "", []string{"renew", "--ca", ca, "--out", filepath.Join(dir, "nobody")}},
	} {
		code, stdout, stderr := invoke(t, environ, append([]string{"pki"}, test.args...)...)
		if code != test.code || !strings.Contains(stdout, test.stdout) {
			t.Errorf("pki %v: code %d, %q, %q; want %d, %q", test.args, code, stdout, stderr, test.code, test.stdout)
		}
	}
	listening := append(environ, "HOODY_PEER_LISTEN=10.0.0.1:6471", "HOODY_STORE_ENDPOINTS=https://10.0.0.2:2379")
	if code, _, stderr := invoke(t, listening, "config", "check"); code != exitOK {
		t.Errorf("what was issued is not what the configuration check wants: %s", stderr)
	}
}
