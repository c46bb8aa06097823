package pki

import (
	"crypto/x509"
	"net/url"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// IdentityScheme is the scheme of the URI that carries a server id in a certificate's subject alternative names.
const IdentityScheme = "hoody-server"

// serverIDLength is the length of a server id: 12 bytes in lower-case hex, like all ids of the API.
const serverIDLength = 24

// Identity returns the server id that a certificate carries. It says nothing about who signed it: verify the chain first.
//
// A certificate with no such URI, with a malformed one or with more than one is ErrPermissionDenied.
// More than one would leave it to the reader which of them counts.
func Identity(cert *x509.Certificate) (string, error) {
	if cert == nil {
		return "", errdefs.New(errdefs.ErrPermissionDenied, "", "identify peer: no certificate")
	}
	found := ""
	for _, uri := range cert.URIs {
		if uri.Scheme != IdentityScheme {
			continue
		}
		if found != "" {
			return "", errdefs.New(errdefs.ErrPermissionDenied, "", "identify peer: certificate carries more than one server id")
		}
		if !ValidServerID(uri.Opaque) || uri.RawQuery != "" || uri.Fragment != "" {
			return "", errdefs.New(errdefs.ErrPermissionDenied, "", "identify peer: certificate carries a malformed server id")
		}
		found = uri.Opaque
	}
	if found == "" {
		return "", errdefs.New(errdefs.ErrPermissionDenied, "", "identify peer: certificate carries no server id")
	}
	return found, nil
}

// ValidServerID tells whether id is 24 lower-case hex digits.
func ValidServerID(id string) bool {
	if len(id) != serverIDLength {
		return false
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func identityURI(serverID string) *url.URL {
	return &url.URL{Scheme: IdentityScheme, Opaque: serverID}
}
