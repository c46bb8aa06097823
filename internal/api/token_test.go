package api_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api"
	"github.com/hoodynetwork/hoody-agent/internal/auth"
)

// Real tokens, from the signer through the verifier to the agent.
func TestRealTokens(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	verifier, err := auth.NewVerifier(auth.Config{Algorithm: auth.HS256, KeyFile: secret}, nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := auth.LoadSigningKey(auth.HS256, secret, "")
	if err != nil {
		t.Fatal(err)
	}
	ops := newFake()
	handler := api.New(ops, verifier, api.Options{})
	for name, c := range map[string]struct {
		token  auth.Token
		status int
		answer string
	}{
		"user":     {auth.Token{UserID: alice, IssuedAt: time.Now(), Lifetime: time.Hour}, http.StatusOK, "Servers retrieved successfully"},
		"operator": {auth.Token{UserID: bob, Operator: true, IssuedAt: time.Now(), Lifetime: time.Hour}, http.StatusOK, "Servers retrieved successfully"},
		"expired":  {auth.Token{UserID: alice, IssuedAt: time.Now().Add(-2 * time.Hour), Lifetime: time.Hour}, http.StatusUnauthorized, "TOKEN_EXPIRED"},
	} {
		t.Run(name, func(t *testing.T) {
			token, err := auth.Sign(key, c.token)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/servers", nil)
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.answer) {
				t.Fatalf("answered %d %s", w.Code, w.Body)
			}
			want := agent.Caller{UserID: c.token.UserID, Operator: c.token.Operator}
			if c.status == http.StatusOK {
				want.Expires = ops.last.caller.Expires
			}
			if c.status == http.StatusOK && (ops.last.caller != want || !want.Expires.After(time.Now())) {
				t.Errorf("called by %+v, want %+v", ops.last.caller, want)
			}
		})
	}
}

func BenchmarkListContainers(b *testing.B) {
	ops := newFake()
	ops.containers, ops.pageSize = 10_000, 100
	handler := api.New(ops, fakeAuth{}, api.Options{})
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/api/v1/containers?limit=100", nil)
		r.Header.Set("Authorization", "Bearer alice")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatalf("answered %d", w.Code)
		}
	}
}
