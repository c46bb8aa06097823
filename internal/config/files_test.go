package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestReadSecret(t *testing.T) {
	for _, test := range []struct {
		name, content string
		mode          fs.FileMode
		want, problem string
	}{
		{"private", "s3cret\n", 0o600, "s3cret", ""},
		{"for a group", "s3cret\r\n", 0o640, "s3cret", ""},
		{"inner space stays", " a b \n", 0o400, " a b ", ""},
		{"for everybody", "s3cret", 0o644, "", "holds a secret, but its mode 0644 lets others at it; use 0600 or 0640"},
		{"group may write", "s3cret", 0o660, "", "holds a secret, but its mode 0660 lets others at it; use 0600 or 0640"},
		{"empty", "\n", 0o600, "", "is empty"},
		{"large", strings.Repeat("x", maxFile+1), 0o600, "", "is larger than 1MiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := file(t, test.content, test.mode)
			got, err := ReadSecret(path)
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if problem := strings.TrimPrefix(message(err), path+": "); problem != test.problem {
				t.Errorf("error %q, want %q", problem, test.problem)
			}
		})
	}
	if _, err := ReadSecret(t.TempDir()); err == nil || !strings.HasSuffix(err.Error(), "is not a regular file") {
		t.Errorf("a directory: %v", err)
	}
}

func TestCheckFiles(t *testing.T) {
	private := file(t, "-----BEGIN PRIVATE KEY-----\n", 0o644)
	c := Default()
	c.API.TLS = KeyPair{Cert: file(t, "-----BEGIN CERTIFICATE-----\n", 0o644), Key: file(t, "key", 0o644)}
	c.Auth.KeyFile = private
	c.Peer.Listen, c.Peer.Credentials = "10.0.0.1:1", t.TempDir()
	got := message(c.CheckFiles())
	for _, want := range []string{
		"api.tls.key: " + c.API.TLS.Key + ": holds a secret",
		"auth.key_file: " + private + ": holds a secret",
		"peer.credentials: open " + filepath.Join(c.Peer.Credentials, "ca.crt") + ": no such file",
		"peer.credentials: open " + filepath.Join(c.Peer.Credentials, "agent.pem") + ": no such file",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "api.tls.cert") {
		t.Errorf("a certificate is no secret:\n%s", got)
	}

	c = Default()
	c.Auth.KeyFile = file(t, "-----BEGIN PUBLIC KEY-----\n", 0o644)
	if err := c.CheckFiles(); err != nil {
		t.Errorf("a public key is no secret: %v", err)
	}
}

func TestServerIDIsKept(t *testing.T) {
	c := Default()
	c.StateDir = t.TempDir()
	first, err := c.ServerID()
	if err != nil || !regexp.MustCompile(`^[0-9a-f]{24}$`).MatchString(first) {
		t.Fatalf("%q, %v", first, err)
	}
	if again, err := c.ServerID(); again != first || err != nil {
		t.Errorf("second time %q, %v; first %q", again, err, first)
	}
	c.Server.ID = first
	if got, err := c.ServerID(); got != first || err != nil {
		t.Errorf("the kept id, configured: %q, %v", got, err)
	}
	c.Server.ID = "000000000000000000000001"
	if got, err := c.ServerID(); err == nil {
		t.Errorf("another id was accepted: %q", got)
	}
	entries, err := os.ReadDir(c.StateDir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestServerIDConfigured(t *testing.T) {
	c := Default()
	c.StateDir = t.TempDir()
	c.Server.ID = "64c1aa00b2d34e5f60718201"
	if got, err := c.ServerID(); got != c.Server.ID || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	c.Server.ID = ""
	if got, err := c.ServerID(); got != "64c1aa00b2d34e5f60718201" || err != nil {
		t.Errorf("taken out of the configuration again: %q, %v", got, err)
	}
}

func TestServerIDDamaged(t *testing.T) {
	c := Default()
	c.StateDir = t.TempDir()
	if err := os.WriteFile(filepath.Join(c.StateDir, identityFile), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := c.ServerID(); err == nil {
		t.Errorf("a damaged file gave %q", got)
	}
}

func file(t *testing.T, content string, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // not through the umask
		t.Fatal(err)
	}
	return path
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
