package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
	"github.com/hoodynetwork/hoody-agent/internal/store/embedded"
)

// newcomer is a host that is about to join the fleet whose store is the etcd of a first one.
type newcomer struct {
	dir, config, ca, store string
	environ                []string
}

func newNewcomer(t *testing.T) newcomer {
	t.Helper()
	dir := t.TempDir()
	n := newcomer{dir: dir, ca: filepath.Join(dir, "ca"), config: filepath.Join(dir, "etc", "hoody-agent.yaml")}
	n.environ = []string{
		"HOODY_STATE_DIR=" + filepath.Join(dir, "state"), "HOODY_RUNTIME_DIR=" + filepath.Join(dir, "run"),
		"HOODY_PEER_CREDENTIALS=" + filepath.Join(dir, "pki"),
	}
	const first = "64c1aa00b2d34e5f60718001"
	if _, err := pki.Init(n.ca, "test", false); err != nil {
		t.Fatal(err)
	}
	if err := pki.Issue(n.ca, filepath.Join(dir, "first"), pki.Request{ServerID: first, Names: []string{"127.0.0.1"}}, false); err != nil {
		t.Fatal(err)
	}
	n.store = "https://" + freePort(t)
	pem := filepath.Join(dir, "first", pki.AgentFile)
	etcd, err := embedded.Start(t.Context(), embedded.Options{
		Dir: filepath.Join(dir, "etcd"), Listen: []string{n.store},
		TLS: embedded.TLSFiles{CertFile: pem, KeyFile: pem, CAFile: filepath.Join(dir, "first", pki.CAFile)},
	}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	if _, err := ensureTokenKeys(filepath.Join(dir, "auth")); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n newcomer) join(t *testing.T, more ...string) (code int, stdout, stderr string) {
	t.Helper()
	args := []string{"join", "-c", n.config, "--store", n.store, "--address", "192.0.2.2", "--token-key", filepath.Join(n.dir, "auth", publicKeyName)}
	if _, err := os.Stat(n.config); err != nil { // the flag -c wants a file that is there
		if err := os.MkdirAll(filepath.Dir(n.config), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(n.config, []byte("# as packaged\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return invoke(t, n.environ, append(args, more...)...)
}

func TestJoin(t *testing.T) {
	n := newNewcomer(t)
	unchanged := func(what string) {
		t.Helper()
		if text, err := os.ReadFile(n.config); err != nil || string(text) != "# as packaged\n" {
			t.Errorf("%s: the configuration is now %q, %v", what, text, err)
		}
	}
	code, _, stderr := n.join(t)
	if code != exitConfig || !strings.Contains(stderr, "peer.credentials: open") {
		t.Errorf("without a certificate: code %d, %s", code, stderr)
	}
	unchanged("without a certificate")

	_, id, _ := invoke(t, n.environ, "id")
	id = strings.TrimSpace(id)
	issue := func(server string, names ...string) {
		t.Helper()
		if err := pki.Issue(n.ca, filepath.Join(n.dir, "pki"), pki.Request{ServerID: server, Names: names}, true); err != nil {
			t.Fatal(err)
		}
	}
	issue("64c1aa00b2d34e5f60718009")
	if code, _, stderr := n.join(t); code != exitFailed || !strings.Contains(stderr, "it is server 64c1aa00b2d34e5f60718009's, this is "+id) {
		t.Errorf("with another's certificate: code %d, %s", code, stderr)
	}
	unchanged("with another's certificate")

	issue(id, "192.0.2.3")
	for _, address := range []string{"0.0.0.0", "192.0.2.2:6470"} {
		if code, _, stderr := n.join(t, "--address", address); code != exitUsage {
			t.Errorf("with address %s: code %d, %s", address, code, stderr)
		}
	}
	stateEtcd := filepath.Join(n.dir, "state", "etcd")
	if err := os.Mkdir(stateEtcd, 0o700); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := n.join(t); code != exitFailed || !strings.Contains(stderr, "this host has run alone") {
		t.Errorf("after running alone: code %d, %s", code, stderr)
	}
	unchanged("after running alone")
	if err := os.Remove(stateEtcd); err != nil {
		t.Fatal(err)
	}

	code, stdout, stderr := n.join(t)
	if code != exitOK || !strings.Contains(stdout, "joined as "+id) || !strings.Contains(stderr, "clients of the API that reach it as 192.0.2.2 refuse it") {
		t.Fatalf("code %d, %s, %s", code, stdout, stderr)
	}
	cfg, err := config.Load(n.config, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Peer.Listen != "192.0.2.2:6471" || cfg.API.Listen != "192.0.2.2:6470" || len(cfg.Store.Endpoints) != 1 || cfg.Store.Endpoints[0] != n.store {
		t.Errorf("configuration %+v", cfg)
	}
	if _, err := os.Stat(n.config + ".before-join"); err != nil {
		t.Error(err)
	}
	if code, _, stderr := n.join(t); code != exitFailed || !strings.Contains(stderr, "has settings of its own") || !strings.Contains(stderr, "listen: 192.0.2.2:6471") {
		t.Errorf("joining twice: code %d, %s", code, stderr)
	}
}
