package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Credentials are an agent's certificate and what it trusts, as TLS configuration for both roles.
// Each handshake uses what is current then; connections that stand are not affected until the certificate they were made with ends. Safe for concurrent use.
type Credentials struct {
	source   source
	serverID string
}

// source supplies the material that is current. It keeps answering with the last good one when a newer is damaged.
type source interface {
	current() *material
}

// material is one consistent set: a certificate with its key and the authority it is trusted under.
type material struct {
	certificate tls.Certificate
	roots       *x509.CertPool
	serverID    string
	authority   *x509.Certificate // that signed the certificate; nil when that cannot be told
}

type fixed struct{ held *material }

func (f fixed) current() *material { return f.held }

// ServerID is who the agent is.
func (c *Credentials) ServerID() string { return c.serverID }

// NotAfter is when the current certificate expires.
func (c *Credentials) NotAfter() time.Time { return c.source.current().certificate.Leaf.NotAfter }

// Validity is from when to when the current certificate is valid.
func (c *Credentials) Validity() (from, to time.Time) {
	leaf := c.source.current().certificate.Leaf
	return leaf.NotBefore, leaf.NotAfter
}

// AuthorityValidity is from when to when the authority that signed the current certificate is valid itself; zero when
// that cannot be told.
func (c *Credentials) AuthorityValidity() (from, to time.Time) {
	if signer := c.source.current().authority; signer != nil {
		return signer.NotBefore, signer.NotAfter
	}
	return from, to
}

// ServerConfig returns the configuration of the accepting side: TLS 1.3, and clients must present a certificate of
// the fleet that carries a server id.
func (c *Credentials) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			held := c.source.current()
			return &tls.Config{
				MinVersion:   tls.VersionTLS13,
				Certificates: []tls.Certificate{held.certificate},
				ClientAuth:   tls.RequireAndVerifyClientCert,
				ClientCAs:    held.roots,
				VerifyConnection: func(state tls.ConnectionState) error {
					_, err := Identity(state.PeerCertificates[0])
					return err
				},
				// A resumed session would rest on a check made under the roots of back then.
				SessionTicketsDisabled: true,
				// Bulk data is what flows here; starting every connection with small records only costs.
				DynamicRecordSizingDisabled: true,
			}, nil
		},
	}
}

// ClientConfig returns the configuration of the dialling side: TLS 1.3, and the server must present a certificate of
// the fleet that carries exactly serverID. Anything else ends the handshake with ErrPermissionDenied; a certificate that is not
// valid yet, or any more, with ErrUnavailable.
// The configuration is for one connection; ask again for the next.
func (c *Credentials) ClientConfig(serverID string) *tls.Config {
	held := c.source.current()
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &held.certificate, nil
		},
		// The standard check compares host names, and identity is not a host name here. VerifyConnection does the
		// rest of what it does (chain, validity, usage) and compares the server id instead.
		InsecureSkipVerify: true, //nolint:gosec // replaced, not skipped
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyServer(state.PeerCertificates, held.roots, serverID)
		},
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}
}

func verifyServer(chain []*x509.Certificate, roots *x509.CertPool, serverID string) error {
	if len(chain) == 0 {
		return errdefs.New(errdefs.ErrPermissionDenied, "", "verify server %s: no certificate", serverID)
	}
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	verify := func(at time.Time) error {
		_, err := chain[0].Verify(x509.VerifyOptions{
			Roots:         roots,
			Intermediates: intermediates,
			CurrentTime:   at,
			KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		return err
	}
	err := verify(time.Now())
	invalid, expired := outOfTime(err)
	if expired {
		// Of another fleet's it has to be said that it is that: the dates are what is looked at first.
		if err = verify(chain[0].NotAfter); err != nil {
			if _, authority := outOfTime(err); authority {
				err = nil
			}
		}
	}
	if err != nil {
		return errdefs.New(errdefs.ErrPermissionDenied, "", "verify server %s", serverID).WithCause(err)
	}
	actual, err := Identity(chain[0])
	if err != nil {
		return fmt.Errorf("verify server %s: %w", serverID, err)
	}
	if actual != serverID {
		return errdefs.New(errdefs.ErrPermissionDenied, "", "verify server %s: the certificate is server %s's", serverID, actual)
	}
	if expired {
		// Not for ever: it is renewed, or a clock set. What waits for that server goes on waiting.
		return errdefs.New(errdefs.ErrUnavailable, "", "verify server %s", serverID).WithCause(invalid)
	}
	return nil
}

// outOfTime tells whether a certificate was found to have expired, or not to be valid yet.
func outOfTime(err error) (invalid x509.CertificateInvalidError, is bool) {
	is = errors.As(err, &invalid) && invalid.Reason == x509.Expired
	return invalid, is
}

// parseMaterial checks that key, certificate and authority belong together, so that a damaged set is found when it
// is loaded and not by every peer's refusal.
func parseMaterial(bundle, caPEM []byte) (*material, error) {
	pair, err := tls.X509KeyPair(bundle, bundle)
	if err != nil {
		return nil, errdefs.New(errdefs.ErrCorrupt, "", "load certificate").WithCause(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(caPEM) {
		return nil, errdefs.New(errdefs.ErrCorrupt, "", "load trusted certificates: none found")
	}
	serverID, err := Identity(pair.Leaf)
	if err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	// An expired certificate loads: the agent still has local work to do, and a renewal will come.
	chains, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: pair.Leaf.NotBefore.Add(time.Second)})
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return nil, errdefs.New(errdefs.ErrCorrupt, "", "load certificate: the trusted authority did not sign it").WithCause(err)
	}
	held := &material{certificate: pair, roots: roots, serverID: serverID}
	if len(chains) > 0 {
		held.authority = chains[0][len(chains[0])-1]
	}
	return held, nil
}
