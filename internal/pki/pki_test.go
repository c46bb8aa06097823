package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const (
	alice = "aaaaaaaaaaaaaaaaaaaaaaaa"
	bob   = "bbbbbbbbbbbbbbbbbbbbbbbb"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shake does a TLS handshake in memory and returns what each side ended with. The client's first read is part of it:
// only that shows whether the server accepted the client.
func shake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error, state tls.ConnectionState) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	// Not net.Pipe, which has no buffer for the alert of one side while the other still writes.
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { must(t, socket.Close()) }()
	done := make(chan error, 1)
	go func() {
		conn, err := socket.Accept()
		if err != nil {
			done <- err
			return
		}
		defer func() { _ = conn.Close() }()
		secure := tls.Server(conn, server)
		err = secure.HandshakeContext(ctx)
		if err == nil {
			_, err = secure.Write([]byte{1})
		}
		done <- err
	}()
	conn, err := net.Dial("tcp", socket.Addr().String())
	must(t, err)
	secure := tls.Client(conn, client)
	clientErr = secure.HandshakeContext(ctx)
	if clientErr == nil {
		_, clientErr = secure.Read(make([]byte, 1))
	}
	state = secure.ConnectionState()
	_ = conn.Close()
	return <-done, clientErr, state
}

func pair(t *testing.T) (ca *CA, a, b *Credentials) {
	t.Helper()
	ca, err := NewCA("fleet", 0)
	must(t, err)
	a, err = ca.Credentials(Request{ServerID: alice})
	must(t, err)
	b, err = ca.Credentials(Request{ServerID: bob})
	must(t, err)
	return ca, a, b
}

func TestHandshake(t *testing.T) {
	ca, a, b := pair(t)
	if from, to := a.AuthorityValidity(); !from.Equal(ca.cert.NotBefore) || !to.Equal(ca.cert.NotAfter) {
		t.Errorf("the authority is valid from %v to %v, want %v to %v", from, to, ca.cert.NotBefore, ca.cert.NotAfter)
	}
	serverErr, clientErr, state := shake(t, b.ServerConfig(), a.ClientConfig(bob))
	must(t, errors.Join(serverErr, clientErr))
	if state.Version != tls.VersionTLS13 {
		t.Errorf("version %x", state.Version)
	}
	if id, err := Identity(state.PeerCertificates[0]); err != nil || id != bob {
		t.Errorf("identity %q, %v", id, err)
	}
}

func TestHandshakesThatFail(t *testing.T) {
	ca, a, b := pair(t)
	foreign, foreignAlice, foreignBob := pair(t)
	past := Request{ServerID: bob, NotBefore: time.Now().Add(-2 * time.Hour), Lifetime: time.Hour}
	expired, err := ca.Credentials(past)
	must(t, err)
	stale, err := foreign.Credentials(past)
	must(t, err)
	old := a.ClientConfig(bob)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	nobody := a.ClientConfig(bob)
	nobody.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil }
	imposter := a.ClientConfig(bob)
	imposter.GetClientCertificate = foreignAlice.ClientConfig(bob).GetClientCertificate
	for name, c := range map[string]struct {
		server, client *tls.Config
		class          error // of what the client's own check says; nil when it has no objection
	}{
		"another server":     {a.ServerConfig(), a.ClientConfig(bob), errdefs.ErrPermissionDenied},
		"server of a fleet":  {foreignBob.ServerConfig(), a.ClientConfig(bob), errdefs.ErrPermissionDenied},
		"another's, expired": {stale.ServerConfig(), a.ClientConfig(bob), errdefs.ErrPermissionDenied},
		"server expired":     {expired.ServerConfig(), a.ClientConfig(bob), errdefs.ErrUnavailable},
		"client of a fleet":  {b.ServerConfig(), imposter, nil},
		"client expired":     {b.ServerConfig(), expired.ClientConfig(bob), nil},
		"client unknown":     {b.ServerConfig(), nobody, nil},
		"client with TLS1.2": {b.ServerConfig(), old, nil},
	} {
		t.Run(name, func(t *testing.T) {
			serverErr, clientErr, _ := shake(t, c.server, c.client)
			if serverErr == nil && clientErr == nil {
				t.Fatal("the handshake succeeded")
			}
			if c.class != nil && !errors.Is(clientErr, c.class) || c.class == nil && errors.Is(clientErr, errdefs.ErrPermissionDenied) {
				t.Errorf("client: %v", clientErr)
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	uri := func(text string) *url.URL {
		u, err := url.Parse(text)
		must(t, err)
		return u
	}
	good := uri("hoody-server:" + alice)
	for name, c := range map[string]struct {
		uris []*url.URL
		want string
	}{
		"one":            {[]*url.URL{good}, alice},
		"among others":   {[]*url.URL{uri("spiffe://x/y"), good}, alice},
		"none":           {nil, ""},
		"two":            {[]*url.URL{good, uri("hoody-server:" + bob)}, ""},
		"twice the same": {[]*url.URL{good, good}, ""},
		"upper case":     {[]*url.URL{uri("hoody-server:AAAAAAAAAAAAAAAAAAAAAAAA")}, ""},
		"short":          {[]*url.URL{uri("hoody-server:aa")}, ""},
		"host form":      {[]*url.URL{uri("hoody-server://" + alice)}, ""},
		"with query":     {[]*url.URL{uri("hoody-server:" + alice + "?x")}, ""},
	} {
		got, err := Identity(&x509.Certificate{URIs: c.uris})
		if got != c.want || (c.want == "") != errors.Is(err, errdefs.ErrPermissionDenied) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := Identity(nil); !errors.Is(err, errdefs.ErrPermissionDenied) {
		t.Errorf("nil: %v", err)
	}
}

func TestFiles(t *testing.T) {
	caDir, dir := filepath.Join(t.TempDir(), "ca"), filepath.Join(t.TempDir(), "agent")
	if err := Issue(caDir, dir, Request{ServerID: alice}, false); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("without a CA: %v", err)
	}
	_, err := Init(caDir, "fleet", false)
	must(t, err)
	if _, err := Init(caDir, "fleet", false); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("second Init: %v", err)
	}
	if err := Issue(caDir, dir, Request{ServerID: "nonsense"}, false); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("malformed id: %v", err)
	}
	must(t, Issue(caDir, dir, Request{ServerID: alice, Names: []string{"a.example", "192.0.2.7"}}, false))
	if err := Issue(caDir, dir, Request{ServerID: bob}, false); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("second Issue: %v", err)
	}
	for path, want := range map[string]fs.FileMode{
		filepath.Join(caDir, CAKeyFile): 0o600, filepath.Join(caDir, CAFile): 0o644,
		filepath.Join(dir, AgentFile): 0o600, filepath.Join(dir, CAFile): 0o644,
	} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", filepath.Base(path), info.Mode(), want)
		}
	}
	for _, d := range []string{caDir, dir} { // nothing is left over
		entries, err := os.ReadDir(d)
		must(t, err)
		if len(entries) != 2 {
			t.Errorf("%d files in %s", len(entries), filepath.Base(d))
		}
	}
	c, err := Load(dir, zap.NewNop())
	must(t, err)
	leaf := c.source.current().certificate.Leaf
	if c.ServerID() != alice || !slices.Equal(namesOf(leaf), []string{"a.example", "192.0.2.7"}) {
		t.Errorf("loaded %s with %v", c.ServerID(), namesOf(leaf))
	}
	if got := time.Until(c.NotAfter()); got < DefaultLifetime-time.Hour || got > DefaultLifetime {
		t.Errorf("valid for %v", got)
	}
}

func TestRenewalIsTakenUp(t *testing.T) {
	caDir, dir := t.TempDir(), t.TempDir()
	ca, err := Init(caDir, "fleet", false)
	must(t, err)
	must(t, Issue(caDir, dir, Request{ServerID: bob, Names: []string{"b.example"}, Lifetime: time.Hour}, false))
	served, err := Load(dir, zap.NewNop())
	must(t, err)
	a, err := ca.Credentials(Request{ServerID: alice})
	must(t, err)
	server := served.ServerConfig() // the same all the time, as a listener has it
	serial := func() string {
		t.Helper()
		serverErr, clientErr, state := shake(t, server, a.ClientConfig(bob))
		must(t, errors.Join(serverErr, clientErr))
		return state.PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	if serial() != first {
		t.Error("the certificate changed by itself")
	}
	must(t, Renew(caDir, dir, 2*time.Hour))
	second := serial()
	if second == first {
		t.Error("the renewed certificate was not taken up")
	}
	if names := namesOf(served.source.current().certificate.Leaf); !slices.Equal(names, []string{"b.example"}) {
		t.Errorf("names after renewal: %v", names)
	}

	// Damaged files, files of another server and missing files leave the good ones in use.
	good, err := os.ReadFile(filepath.Join(dir, AgentFile))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, AgentFile), good[:len(good)/2], 0o600))
	if serial() != second {
		t.Error("a damaged file replaced a good one")
	}
	must(t, Issue(caDir, dir, Request{ServerID: alice}, true))
	if serial() != second {
		t.Error("another server's file replaced a good one")
	}
	must(t, os.Remove(filepath.Join(dir, AgentFile)))
	if serial() != second {
		t.Error("a missing file replaced a good one")
	}
}

func TestLoadRefuses(t *testing.T) {
	caDir, other, dir := t.TempDir(), t.TempDir(), t.TempDir()
	_, err := Init(caDir, "fleet", false)
	must(t, err)
	_, err = Init(other, "another", false)
	must(t, err)
	if _, err := Load(dir, zap.NewNop()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	must(t, Issue(caDir, dir, Request{ServerID: alice}, false))
	foreign, err := os.ReadFile(filepath.Join(other, CAFile))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, CAFile), foreign, 0o644))
	if _, err := Load(dir, zap.NewNop()); !errors.Is(err, errdefs.ErrCorrupt) {
		t.Errorf("another authority: %v", err)
	}
}

func TestLifetimeEndsWithTheAuthority(t *testing.T) {
	ca, err := NewCA("short", time.Hour)
	must(t, err)
	c, err := ca.Credentials(Request{ServerID: alice})
	must(t, err)
	if c.NotAfter().After(ca.cert.NotAfter) {
		t.Error("a certificate outlives its authority")
	}
}
