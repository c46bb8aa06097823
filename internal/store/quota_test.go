package store

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestQuotaByMetrics(t *testing.T) {
	t.Parallel()
	s := &Store{}
	for _, c := range []struct {
		name, metrics string
		status        int
		quota         int64
		fails         string
	}{
		{name: "etcd 3.5", status: 200, quota: 2 << 30, metrics: "# HELP etcd_server_quota_backend_bytes Current backend storage quota size in bytes.\n" +
			"# TYPE etcd_server_quota_backend_bytes gauge\netcd_server_quota_backend_bytes 2.147483648e+09\n"},
		{name: "switched off", status: 200, metrics: "# TYPE etcd_server_quota_backend_bytes gauge\netcd_server_quota_backend_bytes -1\n"},
		{name: "of another kind", status: 200, metrics: "# TYPE etcd_server_quota_backend_bytes counter\netcd_server_quota_backend_bytes 5\n"},
		{name: "without it", status: 200, metrics: "# TYPE up gauge\nup 1\n", fails: "no etcd_server_quota_backend_bytes"},
		{name: "garbled", status: 200, metrics: "<html>", fails: "parsing error"},
		{name: "endless", status: 200, metrics: strings.Repeat("up 1\n", maxMetrics/4), fails: "too large"},
		{name: "elsewhere", status: 404, fails: "404 Not Found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			member := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/metrics" {
					t.Errorf("asked for %s", r.URL.Path)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.metrics)
			}))
			defer member.Close()
			quota, err := s.quotaByMetrics(testContext(t), member.URL)
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Fatalf("want error %q, got %v", c.fails, err)
			}
			if quota != c.quota {
				t.Errorf("quota %d, want %d", quota, c.quota)
			}
		})
	}
}

// A member's metrics are read with the certificate that its records are read with.
func TestQuotaByMetricsOfAMemberThatWantsACertificate(t *testing.T) {
	t.Parallel()
	_, client := certificates(t)
	member := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "# TYPE etcd_server_quota_backend_bytes gauge\netcd_server_quota_backend_bytes 8192\n")
	}))
	member.TLS = &tls.Config{Certificates: client.Certificates, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: client.RootCAs}
	member.Config.ErrorLog = log.New(io.Discard, "", 0)
	member.StartTLS()
	defer member.Close()
	if quota, err := (&Store{opts: Options{TLS: client}}).quotaByMetrics(testContext(t), member.URL); err != nil || quota != 8192 {
		t.Errorf("quota %d, %v", quota, err)
	}
	bare := &Store{opts: Options{TLS: &tls.Config{RootCAs: client.RootCAs}}}
	if quota, err := bare.quotaByMetrics(testContext(t), member.URL); err == nil {
		t.Errorf("without a certificate: quota %d", quota)
	}
}
