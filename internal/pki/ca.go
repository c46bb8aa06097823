package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const (
	// DefaultCALifetime is how long an authority's certificate is valid. Replacing it means touching every host
	// twice (trust both, then drop the old one), so it outlives the hosts.
	DefaultCALifetime = 10 * 365 * 24 * time.Hour
	// DefaultLifetime is how long an agent's certificate is valid. There is no revocation list: the lifetime bounds
	// how long a stolen key is of use, and leaves weeks to notice that renewals fail.
	DefaultLifetime = 90 * 24 * time.Hour
	// clockSkew is how far a certificate is dated back, for hosts whose clocks are behind the authority's.
	clockSkew = 10 * time.Minute
)

const (
	pemCertificate = "CERTIFICATE"
	pemPrivateKey  = "PRIVATE KEY"
)

// CA is a certificate authority in memory. It is immutable and safe for concurrent use.
//
// Keys are ECDSA P-256: crypto/tls has it in assembly, and unlike Ed25519 every HSM and cloud key store can hold it,
// should a fleet want to keep its authority there.
type CA struct {
	cert    *x509.Certificate
	key     crypto.Signer
	certPEM []byte
}

// Request says what an agent's certificate is to carry.
type Request struct {
	ServerID string
	// Names are DNS names and IP addresses for clients that check those, as etcd does. Agents check the server id only.
	Names []string
	// NotBefore is when validity starts; the zero value is now, dated back a little for clocks that are behind.
	NotBefore time.Time
	// Lifetime is how long it is valid; 0 is DefaultLifetime. It never outlives the authority.
	Lifetime time.Duration
}

// NewCA makes an authority with a new key. lifetime 0 is DefaultCALifetime. It is kept nowhere: Init is NewCA on disk.
func NewCA(name string, lifetime time.Duration) (*CA, error) {
	if lifetime <= 0 {
		lifetime = DefaultCALifetime
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make CA key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // it signs agents, never another authority
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign CA certificate: %w", err)
	}
	return newCA(der, key)
}

func newCA(der []byte, key crypto.Signer) (*CA, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse CA certificate: %w", err)
	}
	return &CA{cert: cert, key: key, certPEM: encodeCertificate(der)}, nil
}

// CertificatePEM returns the certificate that agents trust.
func (ca *CA) CertificatePEM() []byte { return bytes.Clone(ca.certPEM) }

// Issue makes a key and a certificate for an agent and returns both in PEM, key first: the content of an agent.pem.
// A malformed request is ErrInvalid.
func (ca *CA) Issue(request Request) ([]byte, error) {
	template, err := ca.template(request)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for server %q: %w", request.ServerID, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key for server %s: %w", request.ServerID, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate for server %s: %w", request.ServerID, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return append(keyPEM, encodeCertificate(der)...), nil
}

// Credentials issues a certificate and returns it ready for use, without files: for tests and for agents that share
// one process.
func (ca *CA) Credentials(request Request) (*Credentials, error) {
	bundle, err := ca.Issue(request)
	if err != nil {
		return nil, err
	}
	held, err := parseMaterial(bundle, ca.certPEM)
	if err != nil {
		return nil, err
	}
	return &Credentials{source: fixed{held}, serverID: held.serverID}, nil
}

func (ca *CA) template(request Request) (*x509.Certificate, error) {
	if !ValidServerID(request.ServerID) {
		return nil, errdefs.New(errdefs.ErrInvalid, "", "a server id is %d lower-case hex digits", serverIDLength)
	}
	notBefore := request.NotBefore
	if notBefore.IsZero() {
		notBefore = time.Now().Add(-clockSkew)
	}
	lifetime := request.Lifetime
	if lifetime <= 0 {
		lifetime = DefaultLifetime
	}
	notAfter := notBefore.Add(lifetime)
	if notAfter.After(ca.cert.NotAfter) {
		notAfter = ca.cert.NotAfter
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: request.ServerID},
		NotBefore:   notBefore,
		NotAfter:    notAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	template.URIs = append(template.URIs, identityURI(request.ServerID))
	for _, name := range request.Names {
		switch ip := net.ParseIP(name); {
		case name == "":
			return nil, errdefs.New(errdefs.ErrInvalid, "", "an empty name")
		case ip != nil:
			template.IPAddresses = append(template.IPAddresses, ip)
		default:
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return template, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: der}), nil
}
