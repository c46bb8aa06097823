package pki

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"go.uber.org/zap"
)

// Load reads an agent's files from dir and watches them the cheap way: before each handshake it looks whether they
// were replaced. So a renewal needs neither a restart nor a signal. If the new files are damaged, or belong to
// another server id, the old ones stay in use and the log says so once per change.
func Load(dir string, log *zap.Logger) (*Credentials, error) {
	files := &reloading{dir: dir, log: log}
	stamps, err := files.look()
	if err != nil {
		return nil, fmt.Errorf("load credentials: %w", err)
	}
	held, err := files.read()
	if err != nil {
		return nil, fmt.Errorf("load credentials from %s: %w", dir, err)
	}
	files.held, files.stamps = held, stamps
	return &Credentials{source: files, serverID: held.serverID}, nil
}

// reloading is the source that follows files.
type reloading struct {
	dir string
	log *zap.Logger

	mu     sync.Mutex
	held   *material
	stamps [2]os.FileInfo // of what was last read, or last failed to be
}

func (r *reloading) current() *material {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Stamps are taken before reading: a replacement in between is then seen at the next look.
	stamps, err := r.look()
	if err != nil {
		return r.held // a file is missing for the moment
	}
	if same(stamps[0], r.stamps[0]) && same(stamps[1], r.stamps[1]) {
		return r.held
	}
	r.stamps = stamps
	fresh, err := r.read()
	if err == nil && fresh.serverID != r.held.serverID {
		err = fmt.Errorf("they belong to server %s, this is server %s", fresh.serverID, r.held.serverID)
	}
	if err != nil {
		r.log.Error("changed certificate files not taken up, the former ones stay in use", zap.Error(err))
		return r.held
	}
	r.held = fresh
	r.log.Info("certificate reloaded", zap.Time("not_after", fresh.certificate.Leaf.NotAfter))
	return fresh
}

func (r *reloading) look() (stamps [2]os.FileInfo, err error) {
	for i, file := range []string{AgentFile, CAFile} {
		if stamps[i], err = os.Stat(filepath.Join(r.dir, file)); err != nil {
			return stamps, err
		}
	}
	return stamps, nil
}

func (r *reloading) read() (*material, error) {
	bundle, err := os.ReadFile(filepath.Join(r.dir, AgentFile))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(filepath.Join(r.dir, CAFile))
	if err != nil {
		return nil, err
	}
	return parseMaterial(bundle, ca)
}

func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
