//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

const prometheusAddr = "127.0.0.1:9090"

// monitor is a real Prometheus that scrapes both agents.
type monitor struct {
	t *testing.T
}

// monitored starts Prometheus, on this machine, until the test ends.
func (f *fleet) monitored(rules string) monitor {
	f.t.Helper()
	dir := f.t.TempDir()
	configuration := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n- job_name: hoody-agent\n  static_configs: [{targets: [%q, %q]}]\n",
		rules, f.a.Addr()+":6473", f.b.Addr()+":6473")
	path := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(path, []byte(configuration), 0o600); err != nil {
		f.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(f.ctx)
	command := exec.CommandContext(ctx, "prometheus", "--config.file="+path, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+prometheusAddr)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		f.t.Fatal(err)
	}
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		stop()
		_ = command.Wait() // killed
		_ = log.Close()
		if f.t.Failed() {
			if said, err := os.ReadFile(log.Name()); err == nil {
				f.t.Logf("prometheus: %s", lastLines(string(said), 20))
			}
		}
	})
	return monitor{f.t}
}

// get asks Prometheus's API and decodes the data of its answer.
func (m monitor) get(ctx context.Context, path string, query url.Values, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+prometheusAddr+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	var body struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil {
		return err
	}
	if body.Status != "success" {
		return fmt.Errorf("%s: %s", path, body.Error)
	}
	return json.Unmarshal(body.Data, into)
}

// value is what a query that gives one number gives now; nothing counts as 0.
func (m monitor) value(ctx context.Context, query string) (float64, error) {
	var data struct {
		Result []struct{ Value [2]any }
	}
	if err := m.get(ctx, "/api/v1/query", url.Values{"query": {query}}, &data); err != nil {
		return 0, err
	}
	if len(data.Result) == 0 {
		return 0, nil
	}
	if len(data.Result) > 1 {
		return 0, fmt.Errorf("%s has %d results", query, len(data.Result))
	}
	text, _ := data.Result[0].Value[1].(string)
	return strconv.ParseFloat(text, 64)
}

// becomes waits until a query gives a value that is right; want says in words what that is.
func (m monitor) becomes(n *node, query, want string, right func(float64) bool) float64 {
	m.t.Helper()
	var value float64
	n.eventually(m.t.Context(), query+" "+want, func() error {
		var err error
		if value, err = m.value(m.t.Context(), query); err == nil && !right(value) {
			err = fmt.Errorf("it is %v", value)
		}
		return err
	})
	return value
}

func exactly(want float64) func(float64) bool { return func(got float64) bool { return got == want } }

// prometheus: what a real Prometheus has seen of a sync is what happened.
func (s *story) prometheus() {
	rules, err := filepath.Abs(repository("configs/prometheus/alerts.yml"))
	s.must(err)
	watching := time.Now()
	m := s.monitored(rules)
	m.becomes(s.a, "sum(up)", "is 2", exactly(2))
	on := func(n *node, metric string) string {
		return fmt.Sprintf("sum(hoody_agent_%s) without (job)", fmt.Sprintf(metric, n.Addr()+":6473"))
	}
	syncs := on(s.b, `jobs_finished_total{instance=%q,kind="sync",state="done"}`)
	received := on(s.b, `transfer_stream_bytes_total{instance=%q,direction="received"}`)
	sent := on(s.a, `transfer_stream_bytes_total{instance=%q,direction="sent"}`)
	lag := fmt.Sprintf("hoody_agent_copy_lag_seconds{container=%q}", s.remote.id)
	before := make(map[string]float64)
	for _, query := range []string{syncs, received, sent} {
		before[query], err = m.value(s.ctx, query)
		s.must(err)
	}
	s.source.fill(s.ctx, "data/second", 8<<20, 9)
	s.a.run(s.ctx, "zpool sync tank")
	behind := m.becomes(s.b, lag, "is some seconds", func(got float64) bool { return got > 5 })
	began := time.Now()
	last := s.b.sync(s.ctx, s.remote.id, "running")
	moved := float64(last.BytesDone)
	m.becomes(s.b, syncs, "counts the sync", exactly(before[syncs]+1))
	m.becomes(s.b, received, "counts its bytes", exactly(before[received]+moved))
	m.becomes(s.a, sent, "counts its bytes", exactly(before[sent]+moved))
	caughtUp := m.becomes(s.b, lag, "has fallen", func(got float64) bool { return got <= time.Since(began).Seconds()+5 && got < behind+60 })
	s.t.Logf("a sync as Prometheus saw it: %s received and sent, lag %.0f s before, %.0f s after", mib(int64(moved)), behind, caughtUp)
	m.becomes(s.a, "min(hoody_agent_ready)", "is 1", exactly(1))
	if full() {
		s.dashboard(m, watching)
	}
}
