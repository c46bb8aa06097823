package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	privateKeyName = "auth.key"
	publicKeyName  = "auth.pub"
)

// tokenKeys are the files of a key pair for tokens.
type tokenKeys struct{ private, public string }

// tokenKeyDir is where an agent that was given no key keeps its own.
func tokenKeyDir(stateDir string) string { return filepath.Join(stateDir, "auth") }

// ensureTokenKeys returns the Ed25519 pair in dir, made if there is none. The public file is written again if only it
// is missing, as after a crash between the two.
func ensureTokenKeys(dir string) (tokenKeys, error) {
	keys := tokenKeys{private: filepath.Join(dir, privateKeyName), public: filepath.Join(dir, publicKeyName)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return keys, fmt.Errorf("make token keys: %w", err)
	}
	private, err := readTokenKey(keys.private)
	if errors.Is(err, fs.ErrNotExist) {
		private, err = makeTokenKey(keys.private)
	}
	if err != nil {
		return keys, fmt.Errorf("token key: %w", err)
	}
	if _, err := os.Stat(keys.public); !errors.Is(err, fs.ErrNotExist) {
		return keys, err
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return keys, fmt.Errorf("make token keys: %w", err)
	}
	return keys, writeNew(keys.public, pemBlock("PUBLIC KEY", der), 0o644)
}

func readTokenKey(path string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is not a PEM file", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be parsed", path) // the cause might quote the key
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is %T, not Ed25519", path, key)
	}
	return private, nil
}

func makeTokenKey(path string) (ed25519.PrivateKey, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return private, writeNew(path, pemBlock("PRIVATE KEY", der), 0o600)
}

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// writeNew makes a file, whole or not at all, and never replaces one.
func writeNew(path string, content []byte, mode fs.FileMode) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // the linked name keeps the content
	_, err = file.Write(content)
	if err := errors.Join(err, file.Chmod(mode), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Link(file.Name(), path)
}
