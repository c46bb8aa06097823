package auth

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// SigningKey makes tokens.
type SigningKey struct {
	method jwt.SigningMethod
	key    any
	id     string
}

// LoadSigningKey reads a private key (PEM, PKCS #8), or for HS256 the secret, that only trusted users may read.
// The id goes into tokens for verifiers that have several keys; empty for none.
func LoadSigningKey(algorithm Algorithm, path, id string) (SigningKey, error) {
	data, _, err := readKeyFile(path, true)
	if err != nil {
		return SigningKey{}, fmt.Errorf("signing key file %s: %w", path, err)
	}
	key, err := parseSigningKey(algorithm, data)
	if err != nil {
		return SigningKey{}, fmt.Errorf("signing key file %s: %w", path, err)
	}
	return SigningKey{method: jwt.GetSigningMethod(string(algorithm)), key: key, id: id}, nil
}

func parseSigningKey(algorithm Algorithm, data []byte) (any, error) {
	switch algorithm {
	case HS256:
		return parseSecret(data)
	case EdDSA, RS256:
	default:
		return nil, fmt.Errorf("token algorithm %q: must be %s, %s or %s", algorithm, EdDSA, RS256, HS256)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New(`want a PEM block of type "PRIVATE KEY" (PKCS #8)`)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the private key cannot be parsed") // the cause might quote the key
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	return signer, fits(algorithm, signer.Public())
}

// Token is what a token says.
type Token struct {
	UserID   string
	Operator bool
	Issuer   string // empty for none
	Audience string // empty for none
	IssuedAt time.Time
	Lifetime time.Duration
}

// Sign makes a token.
func Sign(key SigningKey, token Token) (string, error) {
	if key.method == nil {
		return "", errors.New("sign a token: no signing key")
	}
	if !userID.MatchString(token.UserID) {
		return "", fmt.Errorf("sign a token: user id %q: must be 24 lower-case hexadecimal characters", token.UserID)
	}
	if token.Lifetime <= 0 {
		return "", fmt.Errorf("sign a token: lifetime %s: must be positive", token.Lifetime)
	}
	said := claims{RegisteredClaims: jwt.RegisteredClaims{
		Subject:   token.UserID,
		Issuer:    token.Issuer,
		IssuedAt:  jwt.NewNumericDate(token.IssuedAt),
		ExpiresAt: jwt.NewNumericDate(token.IssuedAt.Add(token.Lifetime)),
	}}
	if token.Audience != "" {
		said.Audience = jwt.ClaimStrings{token.Audience}
	}
	if token.Operator {
		said.Scope = scopes{OperatorScope}
	}
	made := jwt.NewWithClaims(key.method, &said)
	if key.id != "" {
		made.Header["kid"] = key.id
	}
	signed, err := made.SignedString(key.key)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return signed, nil
}
