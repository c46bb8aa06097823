//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// twoHosts makes a fleet of a host that has run alone and of a fresh one, by what the README says, copies between them, and then
// exchanges the fleet's authority as docs/operations.md says. The first host is the machine with the keys, too.
func twoHosts(ctx context.Context, t *testing.T, a, b *node) {
	install, _, found := strings.Cut(commands(t, "Install it on a host"), "systemctl enable")
	if !found {
		t.Fatal("the README starts no service")
	}
	b.types(ctx, install)
	idA, idB := a.run(ctx, "hoody-agent id"), b.run(ctx, "hoody-agent id")
	fillIn := strings.NewReplacer("ID_OF_A", idA, "ID_OF_B", idB, "192.0.2.1", a.Addr(), "192.0.2.2", b.Addr())

	section := readmeSection(t, "Two hosts and more")
	keys, use, found := strings.Cut(fillIn.Replace(commands(t, "Two hosts and more")), "export API=")
	if !found {
		t.Fatal("the README says nothing about the API of two hosts")
	}
	a.run(ctx, "mkdir -p /root/keys")
	a.types(ctx, "cd /root/keys\n"+keys)
	for _, n := range []struct {
		*node
		name string
	}{{a, "hosta"}, {b, "hostb"}} {
		for _, file := range []string{n.name + "/agent.pem", "ca/ca.crt"} {
			a.carry(ctx, "/root/keys/"+file, n.node, "/etc/hoody-agent/pki/")
		}
		a.carry(ctx, "/root/keys/auth/auth.pub", n.node, "/etc/hoody-agent/")
	}
	withStore := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindStringSubmatch(section)
	if withStore == nil || !strings.Contains(withStore[1], "embedded:") {
		t.Fatal("the README has no configuration of a host with the store")
	}
	a.write(ctx, "/etc/hoody-agent/hoody-agent.yaml", fillIn.Replace(withStore[1]))
	a.types(ctx, "hoody-agent config check && systemctl restart hoody-agent")
	join := regexp.MustCompile("`(hoody-agent join [^`]*)`").FindStringSubmatch(section)
	if join == nil {
		t.Fatal("the README joins no host")
	}
	b.types(ctx, fillIn.Replace(join[1])+" && hoody-agent config check && systemctl enable hoody-agent && systemctl restart hoody-agent")

	call := regexp.MustCompile(`(?m)^(call|settle)\(\) .*\n`).FindAllString(readmeSection(t, "Install it on a host"), -1)
	session := "cd /root/keys\n" + strings.Join(call, "") + "export API=" + use
	copied := session + fmt.Sprintf(`
PROJECT=$(call $API/projects/ | jq -r '.data.projects[0].id')
SOURCE=$(call $API/containers | jq -r '.data.containers[] | select(.name == "web") | .id')
COPY=$(call $API/containers/$SOURCE/copy -d "{\"target_project_id\":\"$PROJECT\",\"name\":\"there\",\"target_server_id\":\"%s\"}" | jq -r .data.id)
settle $COPY
`, idB)
	synced := `call -X POST $API/containers/$COPY/sync
settle $COPY
call $API/containers/$COPY | jq '.data.status, .data.last_operation.kind, .data.last_operation.state'
`
	done := "\"running\"\n\"sync\"\n\"done\""
	if out := a.types(ctx, copied+synced); !strings.Contains(out, done) {
		t.Errorf("copied and synced to the other host: %s", out)
	}

	both := func(command string) {
		for _, n := range []*node{a, b} {
			n.run(ctx, command)
		}
	}
	newAuthority := func(to string) {
		for _, n := range []*node{a, b} {
			a.carry(ctx, "/root/keys/new-ca/ca.crt", n, "/root/")
			n.run(ctx, "cat /root/ca.crt "+to+" /etc/hoody-agent/pki/ca.crt")
		}
		both("systemctl restart hoody-agent")
	}
	a.types(ctx, "cd /root/keys && hoody-agent pki init --ca ./new-ca")
	newAuthority(">>")
	for _, n := range []struct {
		*node
		id string
	}{{a, idA}, {b, idB}} {
		a.types(ctx, "cd /root/keys && rm -rf dir && hoody-agent pki issue --ca ./new-ca --out ./dir --server "+n.id+" --name "+n.Addr())
		a.carry(ctx, "/root/keys/dir/agent.pem", n.node, "/etc/hoody-agent/pki/")
	}
	newAuthority(">")
	again := strings.Replace(session, "/ca/ca.crt", "/new-ca/ca.crt", 1) + "COPY=$(call $API/containers | jq -r '.data.containers[] | select(.name == \"there\") | .id')\n"
	if out := a.types(ctx, again+synced); !strings.Contains(out, done) {
		t.Errorf("synced under another authority: %s", out)
	}
	both("hoody-agent doctor")
}

// types runs a script as if its lines were typed one after the other.
func (n *node) types(ctx context.Context, script string) string {
	n.t.Helper()
	n.write(ctx, "/root/typed", script)
	// The host has no udev, for which zpool would wait.
	out, err := n.Run(ctx, "export DEBIAN_FRONTEND=noninteractive ZFS_VDEV_DEVID_OPT_OUT=YES; bash -euo pipefail /root/typed </dev/null 2>&1")
	n.t.Logf("typed on %s:\n%s\nanswered:\n%s", n.Name(), script, out)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// carry takes a file of one host into a directory of another, or of the same.
func (n *node) carry(ctx context.Context, file string, to *node, dir string) {
	n.t.Helper()
	content := n.run(ctx, "cat", file)
	path := dir + file[strings.LastIndex(file, "/")+1:]
	to.write(ctx, path, content+"\n")
	to.run(ctx, "chmod", "600", path)
}
