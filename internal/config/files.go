package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hoodynetwork/hoody-agent/internal/pki"
)

// maxFile bounds what is read of a key or certificate file: far more than any of them has, and little enough for a
// path that names a disk by mistake.
const maxFile = 1 << 20

// Whoever can read a secret has it, and whoever can write it can replace it. Reading by the group is how
// distributions share keys between services (0640 root:ssl-cert), so that is left to the administrator.
const forbiddenMode fs.FileMode = 0o027

// CheckFiles looks at every file that the configuration names: that it can be read, and that a secret is nobody
// else's. All problems are joined, as *FieldErrors.
func (c Config) CheckFiles() error {
	var v validator
	var peerCA, peerAgent string
	if c.NeedsCredentials() {
		peerCA = filepath.Join(c.Peer.Credentials, pki.CAFile)
		peerAgent = filepath.Join(c.Peer.Credentials, pki.AgentFile)
	}
	for _, f := range []struct {
		field, path string
		secret      bool
	}{
		{"api.tls.cert", c.API.TLS.Cert, false},
		{"api.tls.key", c.API.TLS.Key, true},
		{"auth.key_file", c.Auth.KeyFile, c.Auth.Algorithm == "HS256"},
		{"auth.jwks_file", c.Auth.JWKSFile, c.Auth.Algorithm == "HS256"},
		{"peer.credentials", peerCA, false},
		{"peer.credentials", peerAgent, true},
		{"store.tls.ca", c.Store.TLS.CA, false},
		{"store.tls.cert", c.Store.TLS.Cert, false},
		{"store.tls.key", c.Store.TLS.Key, true},
		{"store.password_file", c.Store.PasswordFile, true},
	} {
		if f.path == "" {
			continue
		}
		if _, err := readFile(f.path, f.secret); err != nil {
			v.fail(f.field, "%v", err)
		}
	}
	return errors.Join(v.problems...)
}

// ReadSecret returns a secret file's content without the newline that editors leave at its end. It refuses a file that
// is not a regular one, that others than its owner and group can read, or that belongs to another user.
func ReadSecret(path string) (string, error) {
	content, err := readFile(path, true)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(content), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s: is empty", path)
	}
	return secret, nil
}

// readFile reads a small file. What is checked is the open file, not its name: nothing can be swapped in between.
// A PEM file that turns out to hold a private key is a secret, whatever the caller expected.
func readFile(path string, secret bool) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // opened for reading: closing cannot lose anything
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a regular file", path)
	}
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(content) > maxFile {
		return nil, fmt.Errorf("%s: is larger than %s", path, Bytes(maxFile))
	}
	if secret || bytes.Contains(content, []byte("PRIVATE KEY-----")) {
		if err := checkPrivate(path, info); err != nil {
			return nil, err
		}
	}
	if info.Mode().Perm()&0o002 != 0 { // whoever writes to it decides whom the agent trusts
		return nil, fmt.Errorf("%s: has mode %04o, which lets everybody write to it: chmod it to 0644 or less", path, info.Mode().Perm())
	}
	return content, nil
}

func checkPrivate(path string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&forbiddenMode != 0 {
		return fmt.Errorf("%s: holds a secret, but its mode %#o lets others at it; use 0600 or 0640", path, mode)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s: holds a secret, but belongs to user %d", path, stat.Uid)
	}
	return nil
}
