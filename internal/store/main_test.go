package store

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/hoodynetwork/hoody-agent/internal/store/embedded"
)

// childDir makes the test binary run as an agent's process on that state directory, for tests that kill one.
const childDir = "HOODY_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		runChild(dir)
	}
	_ = flag.Set("rapid.checks", "40") // each opens three stores; the command line has the last word
	goleak.VerifyTestMain(m,
		// etcd starts these once per process and never ends them.
		goleak.IgnoreAnyFunction("go.etcd.io/etcd/client/pkg/v3/logutil.(*MergeLogger).outputLoop"),
		goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"),
	)
}

// runChild registers a server, writes a project, says so and waits to be killed.
func runChild(dir string) {
	ctx := context.Background()
	err := func() error {
		s, err := Open(ctx, Options{Embedded: &EmbeddedOptions{Dir: dir}, ServerID: "s1", Instance: "machine-1"})
		if err != nil {
			return err
		}
		if _, err := s.Register(ctx, Server{ID: "s1"}); err != nil {
			return err
		}
		_, err = s.Update(ctx, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1"}) })
		return err
	}()
	fmt.Println("child:", err)
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent, should it forget to kill
	os.Exit(1)
}

// startChild returns once the child holds the directory and has written; kill is SIGKILL and waits.
func startChild(t *testing.T, dir string) (kill func()) {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run=^$")
	command.Env = append(os.Environ(), childDir+"="+dir)
	command.Stderr = os.Stderr
	if _, err := command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil || line != "child: <nil>\n" {
		t.Fatalf("child says %q, %v", line, err)
	}
	return kill
}

// bound ends a test that hangs; nothing waits for it in a good run.
const bound = time.Minute

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	t.Cleanup(cancel)
	return ctx
}

// openEmbedded opens a store with an etcd of its own and closes it with the test.
func openEmbedded(t testing.TB, change ...func(*Options)) *Store {
	t.Helper()
	opts := Options{
		Embedded:      &EmbeddedOptions{Dir: t.TempDir()},
		ServerID:      "s1",
		Instance:      "machine-1",
		UpdateTimeout: bound,
		Logger:        zaptest.NewLogger(t),
	}
	for _, fn := range change {
		fn(&opts)
	}
	return open(t, opts)
}

// beside opens a second store on the first one's etcd, as another agent would.
func beside(t testing.TB, s *Store, change ...func(*Options)) *Store {
	t.Helper()
	opts := s.opts
	opts.Embedded, opts.Endpoints = nil, s.client.Endpoints()
	for _, fn := range change {
		fn(&opts)
	}
	return open(t, opts)
}

func open(t testing.TB, opts Options) *Store {
	t.Helper()
	s, err := Open(testContext(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func update(t testing.TB, s *Store, fn func(*Tx) error) int64 {
	t.Helper()
	revision, err := s.Update(testContext(t), fn)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// eventually waits for a condition that nothing announces.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx := testContext(t)
	for poll := time.NewTicker(2 * time.Millisecond); !condition(); {
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// remote is an etcd of its own that serves over TLS, and can go away and come back.
type remote struct {
	t       testing.TB
	options EmbeddedOptions
	client  *tls.Config
	server  *embedded.Server
}

func newRemote(t testing.TB) *remote {
	files, client := certificates(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	r := &remote{t: t, client: client, options: EmbeddedOptions{
		Dir:    t.TempDir(),
		Listen: []string{"https://" + listener.Addr().String()},
		TLS:    files,
	}}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *remote) start() {
	r.t.Helper()
	var err error
	if r.server, err = embedded.Start(testContext(r.t), r.options, zaptest.NewLogger(r.t)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *remote) stop() { r.server.Close() }

func (r *remote) open(change ...func(*Options)) *Store {
	r.t.Helper()
	opts := Options{
		Endpoints: r.options.Listen,
		TLS:       r.client,
		ServerID:  "s2",
		Instance:  "machine-2",
		Heartbeat: 50 * time.Millisecond,
		Logger:    zaptest.NewLogger(r.t),
	}
	for _, fn := range change {
		fn(&opts)
	}
	return open(r.t, opts)
}

// certificates makes a CA with one certificate that is good for server and client.
func certificates(t testing.TB) (embedded.TLSFiles, *tls.Config) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test CA"},
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, template, template, caKey.Public(), caKey)
	must(err)
	ca, err := x509.ParseCertificate(caDER)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "s1"},
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, ca, key.Public(), caKey)
	must(err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	must(err)

	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		must(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	files := embedded.TLSFiles{
		CertFile: write("cert.pem", "CERTIFICATE", der),
		KeyFile:  write("key.pem", "EC PRIVATE KEY", keyDER),
		CAFile:   write("ca.pem", "CERTIFICATE", caDER),
	}
	pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	must(err)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return files, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, RootCAs: pool}
}
