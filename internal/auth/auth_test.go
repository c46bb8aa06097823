package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const alice = "64c1aa00b2d34e5f60718001"

// noon is what every clock of these tests shows at first.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func TestAuthenticateAcceptsEachAlgorithm(t *testing.T) {
	for _, algorithm := range []Algorithm{EdDSA, RS256, HS256} {
		t.Run(string(algorithm), func(t *testing.T) {
			private, public := keyPair(t, algorithm)
			verifier := verifierOf(t, Config{Algorithm: algorithm, KeyFile: public, Issuer: "control", Audience: "agents"})
			for _, operator := range []bool{false, true} {
				token := signed(t, algorithm, private, Token{
					UserID: alice, Operator: operator, Issuer: "control", Audience: "agents", IssuedAt: noon(), Lifetime: time.Hour,
				})
				got, err := verifier.Authenticate(request("Bearer " + token))
				if want := (agent.Caller{UserID: alice, Operator: operator, Expires: noon().Add(time.Hour).Local()}); err != nil || got != want {
					t.Errorf("got %+v, %v; want %+v", got, err, want)
				}
			}
		})
	}
}

func TestAuthenticateTellsMissingInvalidAndExpiredApart(t *testing.T) {
	private, public := keyPair(t, EdDSA)
	_, rsaPublic := keyPair(t, RS256)
	key := privateKey(t, private)
	verifier := verifierOf(t, Config{Algorithm: EdDSA, KeyFile: public, Issuer: "control", Leeway: 30 * time.Second})

	good := func() jwt.MapClaims {
		return jwt.MapClaims{"sub": alice, "iss": "control", "exp": noon().Add(time.Hour).Unix()}
	}
	with := func(name string, value any) string {
		claims := good()
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
		return "Bearer " + sign(t, jwt.SigningMethodEdDSA, key, claims, nil)
	}
	stranger, _ := keyPair(t, EdDSA)
	publicPEM := read(t, rsaPublic)

	cases := map[string]struct {
		header string
		code   string
	}{
		"no header":           {"", "MISSING_TOKEN"},
		"scheme only":         {"Bearer", "MISSING_TOKEN"},
		"scheme and blank":    {"Bearer ", "MISSING_TOKEN"},
		"good":                {with("x", 1), ""},
		"other scheme":        {"Basic YTpi", "INVALID_TOKEN"},
		"lower-case scheme":   {"bearer " + strings.TrimPrefix(with("x", 1), "Bearer "), "INVALID_TOKEN"},
		"two blanks":          {"Bearer  " + strings.TrimPrefix(with("x", 1), "Bearer "), "INVALID_TOKEN"},
		"nonsense":            {"Bearer nonsense", "INVALID_TOKEN"},
		"opaque token":        {"Bearer hdy_0123456789abcdef", "INVALID_TOKEN"},
		"too long":            {"Bearer " + strings.Repeat("a", maxToken+1), "INVALID_TOKEN"},
		"cut":                 {strings.TrimRight(with("x", 1), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), "INVALID_TOKEN"},
		"other key":           {"Bearer " + sign(t, jwt.SigningMethodEdDSA, privateKey(t, stranger), good(), nil), "INVALID_TOKEN"},
		"unsigned":            {"Bearer " + sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good(), nil), "INVALID_TOKEN"},
		"public key as hmac":  {"Bearer " + sign(t, jwt.SigningMethodHS256, publicPEM, good(), nil), "INVALID_TOKEN"},
		"critical header":     {"Bearer " + sign(t, jwt.SigningMethodEdDSA, key, good(), map[string]any{"crit": []string{"b64"}}), "INVALID_TOKEN"},
		"no expiry":           {with("exp", nil), "INVALID_TOKEN"},
		"expiry is text":      {with("exp", "tomorrow"), "INVALID_TOKEN"},
		"expired":             {with("exp", noon().Add(-31*time.Second).Unix()), "TOKEN_EXPIRED"},
		"within the leeway":   {with("exp", noon().Add(-29*time.Second).Unix()), ""},
		"expired, other key":  {"Bearer " + sign(t, jwt.SigningMethodEdDSA, privateKey(t, stranger), jwt.MapClaims{"exp": 1}, nil), "INVALID_TOKEN"},
		"not yet":             {with("nbf", noon().Add(time.Minute).Unix()), "INVALID_TOKEN"},
		"other issuer":        {with("iss", "somebody"), "INVALID_TOKEN"},
		"no subject":          {with("sub", nil), "INVALID_TOKEN"},
		"subject is a name":   {with("sub", "alice"), "INVALID_TOKEN"},
		"subject upper case":  {with("sub", strings.ToUpper(alice)), "INVALID_TOKEN"},
		"subject, line break": {with("sub", alice+"\n"), "INVALID_TOKEN"},
		"scope is a number":   {with("scope", 1), "INVALID_TOKEN"},
	}
	messages := map[string]string{
		"MISSING_TOKEN": "Authentication token required",
		"INVALID_TOKEN": "Invalid authentication token",
		"TOKEN_EXPIRED": "Token has expired",
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := verifier.Authenticate(request(c.header))
			if c.code == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			var told *errdefs.Error
			if !errors.As(err, &told) || !errors.Is(err, errdefs.ErrUnauthenticated) {
				t.Fatalf("got %v, want an unauthenticated error", err)
			}
			if told.Code != c.code || err.Error() != messages[c.code] {
				t.Errorf("got %s %q, want %s %q", told.Code, err, c.code, messages[c.code])
			}
		})
	}
	t.Run("two headers", func(t *testing.T) {
		r := request(with("x", 1))
		r.Header.Add("Authorization", with("x", 1))
		if _, err := verifier.Authenticate(r); err == nil {
			t.Error("accepted")
		}
	})
}

func TestScope(t *testing.T) {
	private, public := keyPair(t, EdDSA)
	verifier := verifierOf(t, Config{Algorithm: EdDSA, KeyFile: public})
	cases := map[string]struct {
		scope any
		want  bool
	}{
		"word":       {"operator", true},
		"words":      {"read operator write", true},
		"list":       {[]string{"read", "operator"}, true},
		"other word": {"operators", false},
		"upper case": {"OPERATOR", false},
		"empty":      {"", false},
		"null":       {nil, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			token := sign(t, jwt.SigningMethodEdDSA, privateKey(t, private),
				jwt.MapClaims{"sub": alice, "exp": noon().Add(time.Hour).Unix(), "scope": c.scope}, nil)
			got, err := verifier.Authenticate(request("Bearer " + token))
			if err != nil || got.Operator != c.want {
				t.Errorf("got %+v, %v; want operator %t", got, err, c.want)
			}
		})
	}
}

func TestRefusedTokensAreNotLogged(t *testing.T) {
	private, _ := keyPair(t, EdDSA)
	_, public := keyPair(t, EdDSA)
	core, logs := observer.New(zap.DebugLevel)
	verifier, err := NewVerifier(Config{Algorithm: EdDSA, KeyFile: public, Now: noon}, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	token := signed(t, EdDSA, private, Token{UserID: alice, IssuedAt: noon(), Lifetime: time.Hour})
	for _, sent := range []string{token, token + "!", "x." + token, base64.StdEncoding.EncodeToString([]byte(token))} {
		if _, err := verifier.Authenticate(request("Bearer " + sent)); err == nil {
			t.Fatal("accepted")
		}
	}
	if logs.Len() == 0 {
		t.Fatal("nothing logged")
	}
	for _, entry := range logs.All() {
		for _, field := range entry.Context {
			for _, part := range strings.Split(token, ".") {
				if strings.Contains(field.String, part[:8]) {
					t.Errorf("logged %q", field.String)
				}
			}
		}
	}
}

func TestSignRefuses(t *testing.T) {
	private, _ := keyPair(t, EdDSA)
	key, err := LoadSigningKey(EdDSA, private, "")
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		key   SigningKey
		token Token
	}{
		"no key":       {SigningKey{}, Token{UserID: alice, Lifetime: time.Hour}},
		"no user":      {key, Token{Lifetime: time.Hour}},
		"no lifetime":  {key, Token{UserID: alice}},
		"ends earlier": {key, Token{UserID: alice, Lifetime: -time.Hour}},
	}
	for name, c := range cases {
		if token, err := Sign(c.key, c.token); err == nil {
			t.Errorf("%s: made %s", name, token)
		}
	}
}

func FuzzAuthenticate(f *testing.F) {
	secret := filepath.Join(f.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", minSecret)), 0o600); err != nil {
		f.Fatal(err)
	}
	verifier, err := NewVerifier(Config{Algorithm: HS256, KeyFile: secret, Now: noon}, nil)
	if err != nil {
		f.Fatal(err)
	}
	key, err := LoadSigningKey(HS256, secret, "k")
	if err != nil {
		f.Fatal(err)
	}
	token, err := Sign(key, Token{UserID: alice, Operator: true, IssuedAt: noon(), Lifetime: time.Hour})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"", "Bearer", "Bearer ", "Bearer " + token, "bearer " + token, "Bearer ..", "Bearer " + token + ".", "Basic YTpi",
		"Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer eyJhbGciOiJIUzI1NiIsImNyaXQiOlsiYiJdfQ.e30.c2ln",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		caller, err := verifier.Authenticate(request(header))
		if err == nil && (header != "Bearer "+token || caller.UserID != alice) {
			t.Errorf("accepted %q as %+v", header, caller)
		}
		if err != nil && !errors.Is(err, errdefs.ErrUnauthenticated) {
			t.Errorf("got %v", err)
		}
	})
}

func request(authorization string) *http.Request {
	r := &http.Request{Header: http.Header{}}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return r
}

func verifierOf(t *testing.T, config Config) *Verifier {
	t.Helper()
	if config.Now == nil {
		config.Now = noon
	}
	verifier, err := NewVerifier(config, nil)
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}

// signed makes a token the way the command line does.
func signed(t *testing.T, algorithm Algorithm, private string, token Token) string {
	t.Helper()
	key, err := LoadSigningKey(algorithm, private, "")
	if err != nil {
		t.Fatal(err)
	}
	made, err := Sign(key, token)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// sign makes tokens that Sign would not.
func sign(t *testing.T, method jwt.SigningMethod, key any, claims jwt.Claims, header map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	for name, value := range header {
		token.Header[name] = value
	}
	made, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// keyPair makes the files of a private and a public key; for HS256 they are the same.
func keyPair(t *testing.T, algorithm Algorithm) (private, public string) {
	t.Helper()
	directory := t.TempDir()
	private, public = filepath.Join(directory, "private"), filepath.Join(directory, "public")
	var key, shown any
	switch algorithm {
	case HS256:
		write(t, private, []byte(rand.Text()+rand.Text()+"\n"))
		return private, private
	case EdDSA:
		pub, priv, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, shown = priv, pub
	case RS256:
		priv, err := rsa.GenerateKey(rand.Reader, minRSABits)
		if err != nil {
			t.Fatal(err)
		}
		key, shown = priv, &priv.PublicKey
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if der, err = x509.MarshalPKIXPublicKey(shown); err != nil {
		t.Fatal(err)
	}
	write(t, public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return private, public
}

func privateKey(t *testing.T, path string) any {
	t.Helper()
	block, _ := pem.Decode(read(t, path))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// write replaces a file the way careful tools do, so that it is another file afterwards.
func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
