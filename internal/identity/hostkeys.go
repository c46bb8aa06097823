package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const (
	hostKeyDirectory = "etc/ssh"
	maxHostKeys      = 16 // sshd knows four types
)

// setHostKeys puts the carried host keys in place of those in the tree; without carried ones, every key that the tree has
// is made anew. A tree without host keys gets none it did not bring: no sshd asks for them, or its first boot makes them.
func (t tree) setHostKeys(carried *Kept) error {
	present, err := t.hostKeyNames()
	if err != nil {
		return err
	}
	var keys []HostKey
	switch {
	case carried != nil && len(carried.HostKeys) > 0:
		keys = carried.HostKeys
		if err := t.makeDirectory(hostKeyDirectory, 0o755); err != nil {
			return err
		}
	default:
		for _, name := range present {
			key, err := newHostKey(name)
			if err != nil {
				return err
			}
			if key.Private != nil {
				keys = append(keys, key)
			}
		}
	}
	for _, key := range keys {
		if err := t.replace(path.Join(hostKeyDirectory, key.Name), key.Private, 0o600); err != nil {
			return err
		}
		if err := t.replace(path.Join(hostKeyDirectory, key.Name+".pub"), key.Public, 0o644); err != nil {
			return err
		}
	}
	// Last, so that whoever repeats this after a crash still sees which there have to be.
	for _, name := range present {
		if slices.ContainsFunc(keys, func(key HostKey) bool { return key.Name == name }) {
			continue
		}
		if err := t.remove(path.Join(hostKeyDirectory, name)); err != nil {
			return err
		}
		if err := t.remove(path.Join(hostKeyDirectory, name+".pub")); err != nil {
			return err
		}
	}
	return nil
}

func (t tree) hostKeys() ([]HostKey, error) {
	names, err := t.hostKeyNames()
	if err != nil {
		return nil, err
	}
	var keys []HostKey
	for _, name := range names {
		private, _, ok, err := t.read(path.Join(hostKeyDirectory, name))
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		public, _, _, err := t.read(path.Join(hostKeyDirectory, name+".pub"))
		if err != nil {
			return nil, err
		}
		keys = append(keys, HostKey{Name: name, Private: private, Public: public})
	}
	return keys, nil
}

func (t tree) hostKeyNames() ([]string, error) {
	if ok, err := t.directory(hostKeyDirectory); !ok || err != nil {
		return nil, err
	}
	names, err := t.names(hostKeyDirectory)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return !strings.HasPrefix(name, "ssh_host_") || !strings.HasSuffix(name, "_key")
	})
	if len(names) > maxHostKeys {
		return nil, fmt.Errorf("/%s holds %d host keys, more than %d: %w", hostKeyDirectory, len(names), maxHostKeys, errdefs.ErrUnsupported)
	}
	return names, nil
}

// newHostKey makes a pair of the type that the file name says, in the sizes that ssh-keygen(1) defaults to.
// A type that sshd no longer takes (dsa) yields no key.
func newHostKey(name string) (HostKey, error) {
	var private crypto.PrivateKey
	var err error
	switch kind := strings.TrimSuffix(strings.TrimPrefix(name, "ssh_host_"), "_key"); kind {
	case "ed25519":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case "ecdsa":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		private, err = rsa.GenerateKey(rand.Reader, 3072)
	default:
		return HostKey{Name: name}, nil
	}
	if err != nil {
		return HostKey{}, fmt.Errorf("generate %s: %w", name, err)
	}
	return marshalPair(name, private)
}

func marshalPair(name string, private crypto.PrivateKey) (HostKey, error) {
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return HostKey{}, fmt.Errorf("encode %s: %w", name, err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return HostKey{}, fmt.Errorf("public part of %s: %w", name, err)
	}
	return HostKey{Name: name, Private: pem.EncodeToMemory(block), Public: ssh.MarshalAuthorizedKey(signer.PublicKey())}, nil
}

// NewUserKey makes an Ed25519 key pair for logging in: the authorized_keys line and the private key in OpenSSH's PEM form.
func NewUserKey(comment string) (authorizedKey, privateKey string, err error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("generate ssh key: %w", err)
	}
	pair, err := marshalPair(comment, private)
	if err != nil {
		return "", "", err
	}
	return strings.TrimSpace(string(pair.Public)) + " " + comment, string(pair.Private), nil
}

// Fingerprint is OpenSSH's SHA256 fingerprint of an authorized_keys line: the same for the same key whatever its comment.
func Fingerprint(authorizedKey string) (string, error) {
	key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(authorizedKey))
	if err != nil {
		return "", fmt.Errorf("ssh public key: %w", err)
	}
	if len(strings.TrimSpace(string(rest))) > 0 {
		return "", fmt.Errorf("ssh public key: more than one line")
	}
	return ssh.FingerprintSHA256(key), nil
}
