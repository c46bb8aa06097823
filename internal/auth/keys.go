package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

const (
	minSecret  = 32   // bytes; as many as SHA-256 has
	minRSABits = 2048 // RFC 7518, section 3.3
)

// keyring is the keys that tokens may be signed with, by id. A single key file has one, without an id, that fits all.
type keyring struct {
	only any
	byID map[string]any
}

// find returns the key for a token that names id; empty when it names none, which is enough where there is only one.
func (k keyring) find(id string) (any, bool) {
	if k.only != nil {
		return k.only, true
	}
	if id == "" && len(k.byID) == 1 {
		for _, key := range k.byID {
			return key, true
		}
	}
	key, ok := k.byID[id]
	return key, ok
}

// parseKey reads a single key.
func parseKey(algorithm Algorithm, data []byte) (keyring, error) {
	if algorithm == HS256 {
		secret, err := parseSecret(data)
		return keyring{only: secret}, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" {
		return keyring{}, errors.New(`want a PEM block of type "PUBLIC KEY"`)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return keyring{}, fmt.Errorf("parse the public key: %w", err)
	}
	if err := fits(algorithm, key); err != nil {
		return keyring{}, err
	}
	return keyring{only: key}, nil
}

// parseSecret takes the file's bytes without the line break that editors and shells put at its end.
func parseSecret(data []byte) ([]byte, error) {
	if bytes.HasPrefix(data, []byte("-----BEGIN ")) {
		return nil, errors.New("a PEM file is no secret: everybody may know a public key, and then make tokens with it")
	}
	secret := bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(secret) < minSecret {
		return nil, fmt.Errorf("the secret has %d bytes: at least %d are needed", len(secret), minSecret)
	}
	return secret, nil
}

// parseKeySet reads a JSON Web Key Set. Keys for other purposes may be in it; they are passed over.
func parseKeySet(algorithm Algorithm, data []byte) (keyring, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(data, &set); err != nil {
		return keyring{}, fmt.Errorf("parse the key set: %w", err)
	}
	ring := keyring{byID: map[string]any{}}
	for _, key := range set.Keys {
		material, ok := usable(algorithm, key)
		if !ok {
			continue
		}
		if _, taken := ring.byID[key.KeyID]; taken {
			return keyring{}, fmt.Errorf("two keys have the id %q", key.KeyID)
		}
		ring.byID[key.KeyID] = material
	}
	if len(ring.byID) == 0 {
		return keyring{}, fmt.Errorf("no key in the set can be used for %s", algorithm)
	}
	return ring, nil
}

// usable returns what checks signatures of a key that is for signatures by the algorithm.
func usable(algorithm Algorithm, key jose.JSONWebKey) (any, bool) {
	if key.Use != "" && key.Use != "sig" {
		return nil, false
	}
	if key.Algorithm != "" && key.Algorithm != string(algorithm) {
		return nil, false
	}
	material := key.Key
	switch private := material.(type) {
	case ed25519.PrivateKey:
		material = private.Public()
	case *rsa.PrivateKey:
		material = private.Public()
	}
	return material, fits(algorithm, material) == nil
}

// fits tells whether the key is one for the algorithm, and strong enough.
func fits(algorithm Algorithm, key any) error {
	switch key := key.(type) {
	case ed25519.PublicKey:
		if algorithm == EdDSA {
			return nil
		}
	case *rsa.PublicKey:
		if algorithm == RS256 {
			if bits := key.N.BitLen(); bits < minRSABits {
				return fmt.Errorf("the RSA key has %d bits: at least %d are needed", bits, minRSABits)
			}
			return nil
		}
	case []byte:
		if algorithm == HS256 {
			if len(key) < minSecret {
				return fmt.Errorf("the secret has %d bytes: at least %d are needed", len(key), minSecret)
			}
			return nil
		}
	}
	return fmt.Errorf("a key of type %T is not for %s", key, algorithm)
}
