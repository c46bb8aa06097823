package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// certificate is a key pair in two files that follows them when they are replaced, as ACME clients do. Files that do
// not fit together, as halfway through such a replacement, leave the old pair in use.
type certificate struct {
	certFile, keyFile string
	log               *zap.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	stamps [2]stamp
}

// stamp tells one version of a file from the next.
type stamp struct {
	modified time.Time
	size     int64
}

func loadCertificate(certFile, keyFile string, log *zap.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	stamps, err := c.look()
	if err != nil {
		return nil, err
	}
	return c, c.load(stamps)
}

// get is for tls.Config.GetCertificate. Looking at two files costs little beside a handshake.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamps, err := c.look()
	if err == nil && stamps != c.stamps {
		err = c.load(stamps)
	}
	if err != nil {
		c.log.Warn("certificate not reloaded; the old one stays in use", zap.Error(err))
	}
	return c.pair, nil
}

func (c *certificate) look() (stamps [2]stamp, err error) {
	for i, path := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return stamps, err
		}
		stamps[i] = stamp{info.ModTime(), info.Size()}
	}
	return stamps, nil
}

func (c *certificate) load(stamps [2]stamp) error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("load certificate %s: %w", c.certFile, err)
	}
	c.pair, c.stamps = &pair, stamps
	return nil
}
