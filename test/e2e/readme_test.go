//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/test/e2e/hosts"
)

// TestReadme installs the agent on a host that has the packages of ZFS and Incus and nothing else, makes the first copy
// there, and makes a fleet of it and a second host, by typing what the README says.
func TestReadme(t *testing.T) {
	// Not the test's own context, which ends before the cleanups that tell what happened.
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	t.Cleanup(cancel)
	cluster, err := hosts.Up(ctx, hosts.Options{Bare: true})
	if err != nil {
		t.Fatal(err)
	}
	nodes := []*node{{Host: cluster.Hosts[0], t: t}, {Host: cluster.Hosts[1], t: t}}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range nodes {
				said, _ := n.Run(ctx, "journalctl -u hoody-agent --no-pager -o cat | tail -n 60")
				t.Logf("%s: %s", n.Name(), said)
			}
		}
		if err := cluster.Down(); err != nil {
			t.Error(err)
		}
	})
	deb := built(t, "HOODY_AGENT_DEB")
	for _, n := range nodes {
		n.push(ctx, deb, "/root/"+filepath.Base(deb), 0o644)
	}
	n := nodes[0]
	n.bring(ctx, "jq")
	began := time.Now()
	out := n.types(ctx, commands(t, "Install it on a host"))
	t.Logf("from nothing to a restored copy: %s", time.Since(began).Round(time.Second))
	for _, want := range []string{`"running"`, `"alias": "first"`, `"kind": "restore"`, `"state": "done"`} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not in what was answered", want)
		}
	}
	t.Log(n.run(ctx, "hoody-agent status && hoody-agent doctor"))
	twoHosts(ctx, t, nodes[0], nodes[1])
}

// readmeSection is the text of a section of the README.
func readmeSection(t *testing.T, section string) string {
	t.Helper()
	text, err := os.ReadFile(repository("README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n## "+section+"\n")
	if !found {
		t.Fatalf("the README has no section %q", section)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	return rest
}

// commands are the commands of a section of the README, with what a reader fills in.
func commands(t *testing.T, section string) string {
	t.Helper()
	var typed strings.Builder
	for _, block := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$").FindAllStringSubmatch(readmeSection(t, section), -1) {
		if language := block[1]; language == "" {
			typed.WriteString(block[2])
		}
	}
	// The host reaches no image server.
	offline := regexp.MustCompile(`(?m)^incus image copy .*# or, from a file: (.*)$`).ReplaceAllString(typed.String(), "$1")
	return strings.NewReplacer("/dev/DISK", "/dev/ubdb", " FILE ", " /root/debian.tar.zst ").Replace(offline)
}

// bring takes a program of this machine to the host, with the libraries that it needs.
func (n *node) bring(ctx context.Context, program string) {
	n.t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		n.t.Fatal(err)
	}
	loader := ""
	for line := range strings.Lines(runLocal(n.t, "ldd", path)) {
		for field := range strings.FieldsSeq(line) {
			if strings.HasPrefix(field, "/") {
				n.push(ctx, field, "/opt/"+program+"/"+filepath.Base(field), 0o755)
				if strings.HasPrefix(filepath.Base(field), "ld-") {
					loader = filepath.Base(field)
				}
			}
		}
	}
	dir := "/opt/" + program + "/"
	n.push(ctx, path, dir+program, 0o755)
	n.write(ctx, "/usr/local/bin/"+program, "#!/bin/sh\nexec "+dir+loader+" --library-path "+dir+" "+dir+program+` "$@"`+"\n")
	n.run(ctx, "chmod 755 /usr/local/bin/"+program)
}
