package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestNewVerifierRefuses(t *testing.T) {
	directory := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(directory, name)
		write(t, path, []byte(content))
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	private, public := keyPair(t, EdDSA)
	_, rsaPublic := keyPair(t, RS256)
	secret := strings.Repeat("s", minSecret)

	cases := map[string]struct {
		config Config
		says   string
	}{
		"no algorithm":        {Config{KeyFile: public}, "algorithm"},
		"other algorithm":     {Config{Algorithm: "none", KeyFile: public}, "algorithm"},
		"no file":             {Config{Algorithm: EdDSA}, "one is needed"},
		"two files":           {Config{Algorithm: EdDSA, KeyFile: public, JWKSFile: public}, "one is needed"},
		"file is not there":   {Config{Algorithm: EdDSA, KeyFile: filepath.Join(directory, "gone")}, "no such file"},
		"file is a directory": {Config{Algorithm: EdDSA, KeyFile: directory}, "regular file"},
		"leeway too long":     {Config{Algorithm: EdDSA, KeyFile: public, Leeway: MaxLeeway + 1}, "leeway"},
		"negative leeway":     {Config{Algorithm: EdDSA, KeyFile: public, Leeway: -1}, "leeway"},
		"private key":         {Config{Algorithm: EdDSA, KeyFile: private}, "PUBLIC KEY"},
		"key of another kind": {Config{Algorithm: EdDSA, KeyFile: rsaPublic}, "not for EdDSA"},
		"weak RSA key":        {Config{Algorithm: RS256, KeyFile: file("weak", weakRSA(t), 0o644)}, "2048"},
		"short secret":        {Config{Algorithm: HS256, KeyFile: file("short", secret[1:]+"\n", 0o600)}, "32"},
		"public secret":       {Config{Algorithm: HS256, KeyFile: file("open", secret, 0o644)}, "0644"},
		"PEM as a secret":     {Config{Algorithm: HS256, KeyFile: public}, "PEM"},
		"empty file":          {Config{Algorithm: EdDSA, KeyFile: file("empty", "", 0o644)}, "PUBLIC KEY"},
		"huge file":           {Config{Algorithm: HS256, KeyFile: file("huge", strings.Repeat("s", maxKeyFile+1), 0o600)}, "bytes"},
		"no key set":          {Config{Algorithm: EdDSA, JWKSFile: public}, "key set"},
		"empty key set":       {Config{Algorithm: EdDSA, JWKSFile: file("none.json", `{"keys":[]}`, 0o644)}, "no key"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := NewVerifier(c.config, nil)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error about %q", err, c.says)
			}
		})
	}
}

func TestLoadSigningKeyRefuses(t *testing.T) {
	private, public := keyPair(t, EdDSA)
	rsaPrivate, _ := keyPair(t, RS256)
	open := filepath.Join(t.TempDir(), "open")
	write(t, open, read(t, private))
	if err := os.Chmod(open, 0o604); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		algorithm  Algorithm
		path, says string
	}{
		"public key":      {EdDSA, public, "PRIVATE KEY"},
		"another kind":    {EdDSA, rsaPrivate, "not for EdDSA"},
		"other algorithm": {"ES256", private, "algorithm"},
		"readable by all": {EdDSA, open, "0604"},
		"not there":       {EdDSA, open + "x", "no such file"},
	} {
		if _, err := LoadSigningKey(c.algorithm, c.path, ""); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want an error about %q", name, err, c.says)
		}
	}
}

func TestKeySet(t *testing.T) {
	first, firstPublic := keyPair(t, EdDSA)
	second, secondPublic := keyPair(t, EdDSA)
	_, rsaPublic := keyPair(t, RS256)
	set := filepath.Join(t.TempDir(), "keys.json")
	write(t, set, keySet(t,
		jose.JSONWebKey{KeyID: "a", Key: publicKey(t, firstPublic), Use: "sig", Algorithm: "EdDSA"},
		jose.JSONWebKey{KeyID: "b", Key: publicKey(t, secondPublic)},
		jose.JSONWebKey{KeyID: "c", Key: publicKey(t, firstPublic), Use: "enc"},
		jose.JSONWebKey{KeyID: "a", Key: publicKey(t, rsaPublic)},
	))
	verifier := verifierOf(t, Config{Algorithm: EdDSA, JWKSFile: set})
	for name, c := range map[string]struct {
		private, id string
		good        bool
	}{
		"first":           {first, "a", true},
		"second":          {second, "b", true},
		"the other's id":  {first, "b", false},
		"for encryption":  {first, "c", false},
		"unknown id":      {first, "z", false},
		"no id, two keys": {first, "", false},
	} {
		key, err := LoadSigningKey(EdDSA, c.private, c.id)
		if err != nil {
			t.Fatal(err)
		}
		token, err := Sign(key, Token{UserID: alice, IssuedAt: noon(), Lifetime: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verifier.Authenticate(request("Bearer " + token)); (err == nil) != c.good {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestKeySetWithOneIDTwice(t *testing.T) {
	_, public := keyPair(t, EdDSA)
	set := filepath.Join(t.TempDir(), "keys.json")
	key := jose.JSONWebKey{KeyID: "a", Key: publicKey(t, public)}
	write(t, set, keySet(t, key, key))
	if _, err := NewVerifier(Config{Algorithm: EdDSA, JWKSFile: set}, nil); err == nil || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("got %v", err)
	}
}

func TestKeyFileIsReadAgainWhenItChanges(t *testing.T) {
	first, public := keyPair(t, EdDSA)
	second, secondPublic := keyPair(t, EdDSA)
	clock := noon()
	verifier := verifierOf(t, Config{Algorithm: EdDSA, KeyFile: public, Now: func() time.Time { return clock }})
	token := func(private string) string {
		return "Bearer " + signed(t, EdDSA, private, Token{UserID: alice, IssuedAt: noon(), Lifetime: time.Hour})
	}
	expect := func(when string, firstGood, secondGood bool) {
		t.Helper()
		_, err := verifier.Authenticate(request(token(first)))
		_, err2 := verifier.Authenticate(request(token(second)))
		if (err == nil) != firstGood || (err2 == nil) != secondGood {
			t.Errorf("%s: first key %v, second key %v", when, err, err2)
		}
	}
	expect("at first", true, false)

	write(t, public, []byte("broken"))
	clock = clock.Add(recheckEvery)
	expect("after a slip", true, false)

	if err := os.Remove(public); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(recheckEvery)
	expect("while it is gone", true, false)

	write(t, public, read(t, secondPublic))
	expect("before the next look", true, false)
	clock = clock.Add(recheckEvery)
	expect("after the change", false, true)
}

func publicKey(t *testing.T, path string) any {
	t.Helper()
	block, _ := pem.Decode(read(t, path))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keySet(t *testing.T, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func weakRSA(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}
