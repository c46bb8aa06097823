package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/auth"
)

const testUser = "64c1aa00b2d34e5f60718001"

// accepts tells whether an agent with that public key takes the token, and for whom.
func accepts(t *testing.T, publicKey, token string) (user string, operator bool) {
	t.Helper()
	verifier, err := auth.NewVerifier(auth.Config{Algorithm: auth.EdDSA, KeyFile: publicKey}, nil)
	if err != nil {
		t.Fatal(err)
	}
	caller, err := verifier.Authenticate(&http.Request{Header: http.Header{"Authorization": {"Bearer " + strings.TrimSpace(token)}}})
	if err != nil {
		t.Fatal(err)
	}
	return caller.UserID, caller.Operator
}

func TestTokenOfAnAgentWithoutKeys(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	environ := []string{"HOODY_STATE_DIR=" + state}
	code, token, stderr := invoke(t, environ, "token", "--user", testUser, "--operator")
	if code != exitOK {
		t.Fatal(stderr)
	}
	public := filepath.Join(state, "auth", publicKeyName)
	if user, operator := accepts(t, public, token); user != testUser || !operator {
		t.Errorf("user %s, operator %t", user, operator)
	}
	// The pair stays, also when the public half got lost.
	if err := os.Remove(public); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := invoke(t, environ, "token", "--user", testUser); code != exitOK {
		t.Fatal(stderr)
	}
	if user, operator := accepts(t, public, token); user != testUser || !operator {
		t.Errorf("first token, later: user %s, operator %t", user, operator)
	}
}

func TestTokenKeygen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	code, public, stderr := invoke(t, nil, "token", "keygen", "--dir", dir)
	if code != exitOK {
		t.Fatal(stderr)
	}
	public = strings.TrimSpace(public)
	private := filepath.Join(dir, privateKeyName)
	if info, err := os.Stat(private); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("private key: %v, %v", info, err)
	}
	before, _ := os.ReadFile(private)
	if code, _, stderr := invoke(t, nil, "token", "keygen", "--dir", dir); code != exitOK {
		t.Fatal(stderr)
	}
	if after, _ := os.ReadFile(private); string(after) != string(before) {
		t.Error("a second keygen replaced the key")
	}
	_, token, stderr := invoke(t, nil, "token", "--key", private, "--user", testUser, "--expires", "12h")
	if stderr != "" {
		t.Fatal(stderr)
	}
	if user, operator := accepts(t, public, token); user != testUser || operator {
		t.Errorf("user %s, operator %t", user, operator)
	}

	// An agent that was given the public key only must not pretend that it can sign.
	code, token, stderr = invoke(t, []string{"HOODY_AUTH_KEY_FILE=" + public}, "token", "--user", testUser)
	if code != exitFailed || token != "" || !strings.Contains(stderr, "this agent can only check tokens; name the private key with --key") {
		t.Errorf("code %d, %q, %q", code, token, stderr)
	}
}

func TestTokenProblems(t *testing.T) {
	environ := []string{"HOODY_STATE_DIR=" + filepath.Join(t.TempDir(), "state")}
	for _, test := range []struct {
		name   string
		args   []string
		code   int
		stderr string
	}{
		{"no user", nil, exitUsage, "--user is needed"},
		{"not a user id", []string{"--user", "me"}, exitFailed, "must be 24 lower-case hexadecimal characters"},
		{"no lifetime", []string{"--user", testUser, "--expires", "0s"}, exitFailed, "must be positive"},
		{"missing key", []string{"--user", testUser, "--key", "/none"}, exitFailed, "no such file"},
		{"keygen without a directory", []string{"keygen"}, exitUsage, "--dir is needed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := invoke(t, environ, append([]string{"token"}, test.args...)...)
			if code != test.code || stdout != "" || !strings.Contains(stderr, test.stderr) {
				t.Errorf("code %d, %q, %q; want %d, %q", code, stdout, stderr, test.code, test.stderr)
			}
		})
	}
}
