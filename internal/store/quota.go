package store

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// quotaMetric is a gauge of every etcd since 3.2, on its client URL. The status of a member has the quota from 3.6 on only.
const quotaMetric = "etcd_server_quota_backend_bytes"

// maxMetrics bounds what is read of a member's metrics, in bytes; etcd 3.5 has some 150 KiB of them.
const maxMetrics = 4 << 20

// quotaLasts is how long a quota that was read counts: it changes with a restart of the member alone, and its metrics are long. One that could
// not be read is asked for again sooner.
const (
	quotaLasts   = time.Hour
	noQuotaLasts = 5 * time.Minute
)

// quotas remembers the quotas of members that tell theirs by their metrics only.
type quotas struct {
	mu    sync.Mutex
	known map[string]knownQuota // by endpoint
}

type knownQuota struct {
	bytes int64
	until time.Time
}

// of returns the quota of a member whose database has a size, read again when what is known is old or nearly reached: then somebody may be
// about to raise it. Questions wait for each other.
func (q *quotas) of(endpoint string, size int64, now time.Time, read func() (int64, error)) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	known, ok := q.known[endpoint]
	if ok && now.Before(known.until) && (known.bytes == 0 || size < known.bytes/5*4) {
		return known.bytes
	}
	bytes, err := read()
	lasts := quotaLasts
	if err != nil {
		bytes, lasts = known.bytes, noQuotaLasts
	}
	if q.known == nil {
		q.known = make(map[string]knownQuota)
	}
	q.known[endpoint] = knownQuota{bytes, now.Add(lasts)}
	return bytes
}

// quotaByMetrics reads a member's quota from its metrics, in bytes; 0 where it is off. A member whose client URL is for gRPC
// alone (--listen-client-http-urls) has them elsewhere and fails.
func (s *Store) quotaByMetrics(ctx context.Context, endpoint string) (int64, error) {
	address, err := url.JoinPath(endpoint, "metrics")
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	// Asked too seldom to keep a connection for.
	transport := &http.Transport{TLSClientConfig: s.opts.TLS.Clone(), DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s: %s", address, response.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(http.MaxBytesReader(nil, response.Body, maxMetrics))
	if err != nil {
		return 0, fmt.Errorf("GET %s: %w", address, err)
	}
	metrics := families[quotaMetric].GetMetric()
	if len(metrics) == 0 {
		return 0, fmt.Errorf("GET %s: no %s", address, quotaMetric)
	}
	return max(0, int64(metrics[0].GetGauge().GetValue())), nil
}
