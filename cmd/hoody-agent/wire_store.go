package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// openStore opens the fleet's store, waiting for one that is elsewhere and starting.
func openStore(ctx context.Context, d daemon) (records *store.Store, err error) {
	options, err := storeOptions(d)
	if err != nil {
		return nil, err
	}
	err = waitFor(ctx, d.log, "store", func(ctx context.Context) error {
		records, err = store.Open(ctx, options)
		return err
	})
	return records, err
}

func storeOptions(d daemon) (store.Options, error) {
	c := d.cfg.Store
	instance, err := hostInstance(d.cfg.StateDir)
	if err != nil {
		return store.Options{}, err
	}
	options := store.Options{Prefix: c.Prefix, Logger: d.log.Named("store"), ServerID: d.serverID, Instance: instance, Username: c.Username, Observe: d.metrics.StoreOperation,
		EventRetention: c.Events.Retention, MaxEvents: c.Events.Max}
	if d.cfg.EmbeddedStore() {
		embedded := &store.EmbeddedOptions{Dir: filepath.Join(d.cfg.StateDir, "etcd"), QuotaBytes: int64(c.Embedded.Quota)}
		if c.Embedded.Listen != "" {
			files := filepath.Join(d.cfg.Peer.Credentials, pki.AgentFile)
			embedded.Listen = []string{"https://" + c.Embedded.Listen}
			embedded.TLS.CertFile, embedded.TLS.KeyFile = files, files
			embedded.TLS.CAFile = filepath.Join(d.cfg.Peer.Credentials, pki.CAFile)
		}
		options.Embedded = embedded
		return options, nil
	}
	options.Endpoints = c.Endpoints
	if c.PasswordFile != "" {
		if options.Password, err = config.ReadSecret(c.PasswordFile); err != nil {
			return store.Options{}, err
		}
	}
	options.TLS, err = clientTLS(c.TLS)
	return options, err
}

// clientTLS builds the TLS of a client to a store; nil when nothing is configured.
func clientTLS(c config.ClientTLS) (*tls.Config, error) {
	if c == (config.ClientTLS{}) {
		return nil, nil
	}
	result := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("store.tls.ca: %w", err)
		}
		result.RootCAs = x509.NewCertPool()
		if !result.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("store.tls.ca: no certificate in %s", c.CA)
		}
	}
	if c.Cert != "" {
		// Read at each handshake, so that a renewed certificate needs no restart.
		result.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
			if err != nil {
				return nil, fmt.Errorf("store.tls: %w", err)
			}
			return &pair, nil
		}
	}
	return result, nil
}

// hostInstance tells this host from another one that was given the same server id by mistake.
func hostInstance(stateDir string) (string, error) {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil && !os.IsNotExist(err) {
		return "", fmt.Errorf("machine id: %w", err)
	}
	absolute, err := filepath.Abs(stateDir)
	if err != nil {
		return "", fmt.Errorf("state directory: %w", err)
	}
	return strings.TrimSpace(string(id)) + ":" + absolute, nil
}
