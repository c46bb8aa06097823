//go:build e2e

// Package e2e tells the story of the agent on two real hosts: real OpenZFS, real Incus, the agent as a systemd service,
// talking over the hosts' own network and sharing an etcd.
package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/client"
	"github.com/hoodynetwork/hoody-agent/test/e2e/hosts"
)

func TestMain(m *testing.M) { os.Exit(hosts.Main(m, "prometheus", "curl", "jq")) }

const (
	userID  = "64c1aa00b2d34e5f60718001"
	serverA = "64c1aa00b2d34e5f607184aa"
	serverB = "64c1aa00b2d34e5f607184bb"
	pool    = "tank/incus" // the root of what the agent and Incus share

	apiPort, peerPort, etcdPort = "6470", "6471", "2379"
)

// node is one host with its agent.
type node struct {
	*hosts.Host
	t      *testing.T
	server string
	api    *client.Client
}

// fleet is both hosts, installed as the README says.
type fleet struct {
	t       *testing.T
	ctx     context.Context
	cluster *hosts.Cluster
	a, b    *node
	binary  string // of the agent
	deb     string // the Debian package with it
	pki     string // directory of the fleet's CA
}

// built is the path of something that the Makefile has built: the test runs where no module can be fetched.
func built(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Fatalf("%s names nothing; run make e2e", variable)
	}
	return path
}

func newFleet(ctx context.Context, t *testing.T) *fleet {
	t.Helper()
	cluster, err := hosts.Up(ctx, hosts.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, ctx: ctx, cluster: cluster, binary: built(t, "HOODY_AGENT_BINARY"), deb: built(t, "HOODY_AGENT_DEB"), pki: t.TempDir()}
	f.a = &node{Host: cluster.Hosts[0], t: t, server: serverA}
	f.b = &node{Host: cluster.Hosts[1], t: t, server: serverB}
	t.Cleanup(func() {
		if t.Failed() {
			f.tellWhatHappened()
		}
		if err := cluster.Down(); err != nil {
			t.Error(err)
		}
	})
	began := time.Now()
	f.install()
	t.Logf("installed and started both agents: %s", time.Since(began).Round(time.Millisecond))
	return f
}

func (f *fleet) nodes() []*node { return []*node{f.a, f.b} }

// install puts the package on both hosts, configures it and starts the agent as a service.
func (f *fleet) install() {
	f.t.Helper()
	f.local("pki", "init", "--ca", filepath.Join(f.pki, "ca"))
	token := filepath.Join(f.pki, "auth")
	f.local("token", "keygen", "--dir", token)
	signed := strings.TrimSpace(f.local("token", "--key", filepath.Join(token, "auth.key"), "--user", userID, "--expires", "12h"))
	for _, n := range f.nodes() {
		n.api = &client.Client{Base: "http://" + n.Addr() + ":" + apiPort, Token: signed, HTTP: &http.Client{Timeout: 10 * time.Minute, Transport: patient{n}}, Pace: time.Second}
		credentials := filepath.Join(f.pki, n.Name())
		f.local("pki", "issue", "--ca", filepath.Join(f.pki, "ca"), "--out", credentials, "--server", n.server, "--name", n.Addr(), "--name", n.Name())
		n.installPackage(f.ctx, f.deb)
		f.equal("what the package enabled", n.run(f.ctx, "systemctl is-enabled hoody-agent || true; systemctl is-active hoody-agent || true"), "disabled\ninactive")
		for _, name := range []string{"ca.crt", "agent.pem"} {
			n.push(f.ctx, filepath.Join(credentials, name), "/etc/hoody-agent/pki/"+name, 0o600)
		}
		n.push(f.ctx, filepath.Join(token, "auth.pub"), "/etc/hoody-agent/auth.pub", 0o600)
		n.write(f.ctx, "/etc/hoody-agent/hoody-agent.yaml", f.configuration(n))
	}
	f.startEtcd()
	group, ctx := errgroup.WithContext(f.ctx)
	for _, n := range f.nodes() {
		group.Go(func() error { return n.tryRun(ctx, "systemctl", "enable", "--now", "hoody-agent") })
	}
	if err := group.Wait(); err != nil {
		f.t.Fatal(err)
	}
	f.waitAlive()
}

func (f *fleet) configuration(n *node) string {
	return fmt.Sprintf(`server: {id: %s, name: %s}
api: {listen: "%s:%s", insecure_http: true}
auth: {algorithm: EdDSA, key_file: /etc/hoody-agent/auth.pub}
peer: {listen: "%s:%s"}
store:
  endpoints: ["https://%s:%s"]
  tls: {ca: /etc/hoody-agent/pki/ca.crt, cert: /etc/hoody-agent/pki/agent.pem, key: /etc/hoody-agent/pki/agent.pem}
operations: {stop_timeout: 10s}
metrics: {listen: "%s:6473"}
log: {level: debug, format: json}
`, n.server, n.Name(), n.Addr(), apiPort, n.Addr(), peerPort, f.a.Addr(), etcdPort, n.Addr())
}

// startEtcd runs Debian's etcd-server on the first host, with the fleet's certificates on both sides.
func (f *fleet) startEtcd() {
	f.t.Helper()
	f.a.run(f.ctx, "install -d -o etcd -g etcd -m 700 /etc/etcd-pki && install -o etcd -g etcd -m 600 /etc/hoody-agent/pki/ca.crt /etc/hoody-agent/pki/agent.pem /etc/etcd-pki/")
	url := "https://" + f.a.Addr() + ":" + etcdPort
	f.a.write(f.ctx, "/etc/default/etcd", `ETCD_NAME=fleet
ETCD_LISTEN_CLIENT_URLS=`+url+`
ETCD_ADVERTISE_CLIENT_URLS=`+url+`
ETCD_CERT_FILE=/etc/etcd-pki/agent.pem
ETCD_KEY_FILE=/etc/etcd-pki/agent.pem
ETCD_TRUSTED_CA_FILE=/etc/etcd-pki/ca.crt
ETCD_CLIENT_CERT_AUTH=true
`)
	f.a.run(f.ctx, "systemctl enable etcd && systemctl restart etcd")
}

// waitAlive waits until each agent sees both servers alive.
func (f *fleet) waitAlive() {
	f.t.Helper()
	for _, n := range f.nodes() {
		n.eventually(f.ctx, "both servers alive", func() error {
			var servers []contract.ServerEntry
			if err := n.api.Do(f.ctx, http.MethodGet, "/api/v1/servers", nil, &servers); err != nil {
				return err
			}
			alive := 0
			for _, server := range servers {
				if server.Alive {
					alive++
				}
			}
			if alive != 2 {
				return fmt.Errorf("%d servers alive of %d", alive, len(servers))
			}
			return nil
		})
	}
}

// installPackage installs or upgrades the agent from its package, without any network.
func (n *node) installPackage(ctx context.Context, deb string) {
	n.t.Helper()
	n.push(ctx, deb, "/root/hoody-agent.deb", 0o644)
	n.run(ctx, "DEBIAN_FRONTEND=noninteractive dpkg --install /root/hoody-agent.deb && rm /root/hoody-agent.deb")
}

func (f *fleet) equal(what, got, want string) {
	f.t.Helper()
	if got != want {
		f.t.Fatalf("%s: %q, want %q", what, got, want)
	}
}

// local runs the agent's command line here, as an admin would on a machine of his own.
func (f *fleet) local(args ...string) string {
	f.t.Helper()
	return runLocal(f.t, f.binary, args...)
}

// tellWhatHappened logs what explains a failure.
func (f *fleet) tellWhatHappened() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, n := range f.nodes() {
		f.t.Log(n.Condition())
		for _, command := range []string{
			"journalctl -u hoody-agent --no-pager -o cat | grep -v '\"level\":\"debug\"' | tail -n 60",
			"zfs list -r -t all -o name,origin,hoody:role,receive_resume_token " + pool + " | cut -c1-200 | tail -n 60",
			"incus list -f csv -c ns", "systemctl --failed --no-legend",
		} {
			out, err := n.Run(ctx, command)
			f.t.Logf("%s: %s\n%s%v", n.Name(), command, out, err)
		}
	}
}

func (n *node) tryRun(ctx context.Context, argv ...string) error {
	_, err := n.Run(ctx, argv...)
	return err
}

// run runs a command on the host and ends the test when it fails.
func (n *node) run(ctx context.Context, argv ...string) string {
	n.t.Helper()
	out, err := n.Run(ctx, argv...)
	if err != nil {
		n.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (n *node) push(ctx context.Context, local, remote string, mode os.FileMode) {
	n.t.Helper()
	if err := n.Push(ctx, local, remote, mode); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) write(ctx context.Context, path, content string) {
	n.t.Helper()
	n.writeFrom(ctx, path, strings.NewReader(content))
}

func (n *node) writeFrom(ctx context.Context, path string, content io.Reader) {
	n.t.Helper()
	if _, err := n.RunStdin(ctx, content, "sh", "-c", `mkdir -p "$(dirname "$0")" && cat > "$0"`, path); err != nil {
		n.t.Fatal(err)
	}
}

// eventually asks until check is content; what it waits for has no event that a test could await.
func (n *node) eventually(ctx context.Context, what string, check func() error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		began := time.Now()
		err := check()
		if err == nil {
			return
		}
		// A look at a slow host is work for it, too: it gets at least as long for what is waited for.
		select {
		case <-ctx.Done():
			n.t.Fatalf("%s: no %s: %v", n.Name(), what, err)
		case <-time.After(max(200*time.Millisecond, min(2*time.Since(began), 2*time.Second))):
		}
	}
}

func (n *node) number(ctx context.Context, argv ...string) int64 {
	n.t.Helper()
	text := n.run(ctx, argv...)
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		n.t.Fatalf("%s: %v: %v", n.Name(), argv, err)
	}
	return value
}

// allocated is what the pool holds, all that was written before included.
func (n *node) allocated(ctx context.Context) int64 {
	n.t.Helper()
	return n.number(ctx, "zpool sync tank && zpool get -Hp -o value allocated tank")
}
