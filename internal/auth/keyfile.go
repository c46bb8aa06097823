package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// recheckEvery bounds how often the file is looked at; and with that how long a replaced key lives on.
	recheckEvery = time.Second
	maxKeyFile   = 1 << 20
)

// keyFile is the keys of a file, read again when the file changes. A file that cannot be read or makes no sense leaves
// the last good keys in force: a slip while rotating keys must not lock everybody out.
type keyFile struct {
	path   string
	secret bool // holds what can make tokens
	parse  func([]byte) (keyring, error)
	now    func() time.Time
	log    *zap.Logger

	mu      sync.Mutex
	keys    keyring
	seen    fs.FileInfo // of the file last read, good or not; nil once it could not be found
	checked time.Time
}

func openKeyFile(config Config, log *zap.Logger) (*keyFile, error) {
	f := &keyFile{secret: config.Algorithm == HS256, now: config.Now, log: log}
	switch config.Algorithm {
	case EdDSA, RS256, HS256:
	default:
		return nil, fmt.Errorf("token algorithm %q: must be %s, %s or %s", config.Algorithm, EdDSA, RS256, HS256)
	}
	switch {
	case config.KeyFile != "" && config.JWKSFile != "":
		return nil, errors.New("both a key file and a key set file are configured: one is needed")
	case config.KeyFile != "":
		f.path, f.parse = config.KeyFile, func(data []byte) (keyring, error) { return parseKey(config.Algorithm, data) }
	case config.JWKSFile != "":
		f.path, f.parse = config.JWKSFile, func(data []byte) (keyring, error) { return parseKeySet(config.Algorithm, data) }
	default:
		return nil, errors.New("neither a key file nor a key set file is configured: one is needed")
	}
	if err := f.read(); err != nil {
		return nil, fmt.Errorf("token key file %s: %w", f.path, err)
	}
	f.checked = f.now()
	return f, nil
}

// current returns the keys that count now.
func (f *keyFile) current() keyring {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); now.Sub(f.checked) >= recheckEvery {
		f.checked = now
		f.refresh()
	}
	return f.keys
}

// refresh reads the file if it is another one than last time. What is wrong with it is said once per change.
func (f *keyFile) refresh() {
	info, err := os.Stat(f.path)
	switch {
	case err != nil && f.seen == nil:
		return // still gone
	case err == nil && f.seen != nil && unchanged(f.seen, info):
		return
	case err == nil:
		err = f.read()
	default:
		f.seen = nil
	}
	if err != nil {
		f.log.Error("token keys not reloaded, the old ones stay in force", zap.String("path", f.path), zap.Error(err))
		return
	}
	f.log.Info("token keys reloaded", zap.String("path", f.path))
}

func unchanged(before, now fs.FileInfo) bool {
	return os.SameFile(before, now) && before.Size() == now.Size() &&
		before.ModTime().Equal(now.ModTime()) && before.Mode() == now.Mode()
}

// read replaces the keys with the file's, if those are good.
func (f *keyFile) read() error {
	data, info, err := readKeyFile(f.path, f.secret)
	f.seen = info
	if err != nil {
		return err
	}
	keys, err := f.parse(data)
	if err != nil {
		return err
	}
	f.keys = keys
	return nil
}

// readKeyFile returns the file's content and what it was when it was opened. A secret that every user of the host can
// read is refused: it is none.
func readKeyFile(path string, secret bool) ([]byte, fs.FileInfo, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, info, errors.New("not a regular file")
	}
	if secret && info.Mode().Perm()&0o007 != 0 {
		return nil, info, fmt.Errorf("mode %04o lets everybody in: chmod it to 0600 or 0640", info.Mode().Perm())
	}
	if info.Mode().Perm()&0o002 != 0 { // whoever writes to it decides who is let in
		return nil, info, fmt.Errorf("mode %04o lets everybody write to it: chmod it to 0644 or less", info.Mode().Perm())
	}
	if info.Size() > maxKeyFile {
		return nil, info, fmt.Errorf("more than %d bytes", maxKeyFile)
	}
	data := make([]byte, info.Size())
	if _, err := file.ReadAt(data, 0); err != nil {
		return nil, info, fmt.Errorf("read: %w", err)
	}
	return data, info, nil
}
