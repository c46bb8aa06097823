package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// The files of a fleet.
const (
	CAFile    = "ca.crt"    // in both directories, readable by all
	CAKeyFile = "ca.key"    // in the authority's directory, 0600
	AgentFile = "agent.pem" // in an agent's directory, 0600: key and certificate
)

// Init makes an authority in dir, which is created when missing. An authority that is there already is
// ErrAlreadyExists unless overwrite is set: replacing it cuts off every agent that it signed.
func Init(dir, name string, overwrite bool) (*CA, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make CA directory: %w", err)
	}
	for _, file := range []string{CAKeyFile, CAFile} {
		if err := refuseExisting(filepath.Join(dir, file), overwrite); err != nil {
			return nil, err
		}
	}
	ca, err := NewCA(name, 0)
	if err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(ca.key)
	if err != nil {
		return nil, err
	}
	// The key first: a certificate without its key would look like an authority and be none.
	if err := writeFile(filepath.Join(dir, CAKeyFile), keyPEM, 0o600, overwrite); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(dir, CAFile), ca.certPEM, 0o644, overwrite); err != nil {
		return nil, err
	}
	return ca, nil
}

// Open loads the authority of a directory that Init made. A missing one is ErrNotFound, a damaged one ErrCorrupt.
func Open(dir string) (*CA, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, CAFile), filepath.Join(dir, CAKeyFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errdefs.New(errdefs.ErrNotFound, "", "open CA in %s", dir).WithCause(err)
	case err != nil:
		return nil, errdefs.New(errdefs.ErrCorrupt, "", "open CA in %s", dir).WithCause(err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, errdefs.New(errdefs.ErrCorrupt, "", "open CA in %s: not an authority's certificate", dir)
	}
	return newCA(pair.Certificate[0], key)
}

// Issue makes a certificate with the authority in caDir and writes an agent's files into dir, which is created when
// missing. Files that are there already are ErrAlreadyExists unless overwrite is set.
func Issue(caDir, dir string, request Request, overwrite bool) error {
	ca, err := Open(caDir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory of server %s: %w", request.ServerID, err)
	}
	if err := refuseExisting(filepath.Join(dir, AgentFile), overwrite); err != nil {
		return err
	}
	return issueInto(ca, dir, request, overwrite)
}

// Renew replaces an agent's key and certificate by new ones for the same server id and names. It also replaces the
// trusted ca.crt, so that an authority's renewed certificate spreads. A running agent takes them up by itself.
// lifetime 0 is DefaultLifetime.
func Renew(caDir, dir string, lifetime time.Duration) error {
	ca, err := Open(caDir)
	if err != nil {
		return err
	}
	// An expired certificate renews, and so does one of a former authority: what it says is all that is used,
	// and whoever runs this holds the authority's key anyway.
	bundle, err := os.ReadFile(filepath.Join(dir, AgentFile))
	if err != nil {
		return fmt.Errorf("read certificate to renew: %w", err)
	}
	pair, err := tls.X509KeyPair(bundle, bundle)
	if err != nil {
		return errdefs.New(errdefs.ErrCorrupt, "", "read certificate to renew in %s", dir).WithCause(err)
	}
	serverID, err := Identity(pair.Leaf)
	if err != nil {
		return fmt.Errorf("read certificate to renew: %w", err)
	}
	return issueInto(ca, dir, Request{ServerID: serverID, Names: namesOf(pair.Leaf), Lifetime: lifetime}, true)
}

func issueInto(ca *CA, dir string, request Request, overwrite bool) error {
	bundle, err := ca.Issue(request)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, CAFile), ca.certPEM, 0o644, true); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, AgentFile), bundle, 0o600, overwrite)
}

func namesOf(cert *x509.Certificate) []string {
	names := append([]string(nil), cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

func refuseExisting(path string, overwrite bool) error {
	_, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look for %s: %w", path, err)
	case overwrite:
		return nil
	default:
		return errdefs.New(errdefs.ErrAlreadyExists, "", "%s exists, not overwritten", path)
	}
}

// writeFile makes path appear with its whole content or not at all, and durably: a key that was handed out and
// then lost to a power cut could not be issued a second time without saying so.
func writeFile(path string, content []byte, mode os.FileMode, overwrite bool) (err error) {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp.Name()) // gone already when only the last sync failed
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	_, err = temp.Write(content)
	if err == nil {
		err = temp.Chmod(mode)
	}
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return err
	}
	if overwrite {
		err = os.Rename(temp.Name(), path)
	} else if err = os.Link(temp.Name(), path); err == nil { // unlike rename, link never replaces
		err = os.Remove(temp.Name())
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	handle, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(handle.Sync(), handle.Close())
}
