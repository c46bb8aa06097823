package config

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// identityFile keeps the server's id below the state directory.
const identityFile = "server-id"

// ServerID returns the id of this server: the configured one, else the one kept in the state directory, else a new one
// that is kept there from now on. The directory must exist.
//
// A configured id other than the kept one is refused: the state, and what the pool and the store say about this
// server, belong to the old id, and would be orphaned without a word.
func (c Config) ServerID() (string, error) {
	id, err := c.checkedServerID()
	if errors.Is(err, fs.ErrNotExist) {
		return c.newServerID(filepath.Join(c.StateDir, identityFile))
	}
	return id, err
}

// KnownServerID is ServerID for those who only look: where there is no id yet it is empty, and none is made.
func (c Config) KnownServerID() (string, error) {
	id, err := c.checkedServerID()
	if errors.Is(err, fs.ErrNotExist) {
		return c.Server.ID, nil
	}
	return id, err
}

func (c Config) checkedServerID() (string, error) {
	path := filepath.Join(c.StateDir, identityFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read server id: %w", err)
	}
	kept := strings.TrimSpace(string(text))
	if !serverID.MatchString(kept) {
		return "", fmt.Errorf("read server id: %s does not hold 24 hex digits", path)
	}
	if c.Server.ID != "" && c.Server.ID != kept {
		return "", fmt.Errorf("server.id is %s, but the state in %s belongs to server %s", c.Server.ID, c.StateDir, kept)
	}
	return kept, nil
}

// KeptServerID returns the id that the state directory holds; empty for none.
func (c Config) KeptServerID() (string, error) {
	text, err := os.ReadFile(filepath.Join(c.StateDir, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read server id: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// KeepServerID makes the id this server's, in place of one that the state directory may hold. It is for recovery: everything
// that goes by the former id is orphaned.
func (c Config) KeepServerID(id string) error {
	kept, err := c.KeptServerID()
	if err != nil || kept == id {
		return err
	}
	path := filepath.Join(c.StateDir, identityFile)
	if kept != "" {
		if err := os.Rename(path, path+".former"); err != nil {
			return fmt.Errorf("keep server id: %w", err)
		}
	}
	if err := writeOnce(path, id+"\n"); err != nil {
		return fmt.Errorf("keep server id: %w", err)
	}
	return nil
}

func (c Config) newServerID(path string) (string, error) {
	id := c.Server.ID
	if id == "" {
		id = hex.EncodeToString(randomBytes(12))
	}
	if err := writeOnce(path, id+"\n"); err != nil {
		return "", fmt.Errorf("keep server id: %w", err)
	}
	return id, nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}

// writeOnce makes path with that content, durably and all at once: a crash leaves no file or the whole one.
func writeOnce(path, content string) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // the linked name keeps the content
	_, err = file.WriteString(content)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	if err := os.Link(file.Name(), path); err != nil { // unlike a rename, refuses to replace
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
