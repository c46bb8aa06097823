package metrics

import (
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// busy returns a Metrics in which everything has happened once.
func busy(t *testing.T) *Metrics {
	t.Helper()
	m := New(Build{Version: "v1.2.3", Revision: "abc"}, []string{"copy", "restore"})
	m.ZFSCommand("zfs snapshot", 20*time.Millisecond, nil)
	m.ZFSCommand("zfs destroy", time.Second, fmt.Errorf("destroy x: %w", errdefs.ErrBusy))
	m.IncusCall("start", 2*time.Second, errors.New("unclassified"))
	m.StoreOperation("put", time.Millisecond, nil)
	m.StoreOperation("put", time.Second, errdefs.ErrUnavailable)
	m.JobPhase("copy", "replicate", time.Minute, nil)
	m.JobPhase("copy", "checkout", time.Second, errdefs.ErrFailedPrecondition)
	m.JobFinished(FinishedJob{Kind: "copy", State: "done", Moved: 100, Size: 1000})
	m.JobFinished(FinishedJob{Kind: "sync", State: "failed", Class: "permission denied"})
	m.Resumed(nil)
	m.Resumed(errdefs.ErrAborted)
	m.Collected(map[string]int{"snapshot": 3}, 500, nil)
	m.Collected(nil, 0, errdefs.ErrUnavailable)
	m.BytesSent(1000, 400)
	m.BytesReceived(500, 500)
	m.StreamSent(1000, 400, "zstd")
	m.StreamReceived(500, 500, "none")
	m.APIRequest("GET", "/api/v1/containers/{id}", 200, 3*time.Millisecond)
	err := m.Watch(Sources{
		Jobs: func() []JobCount {
			return []JobCount{{"copy", "running", 2}, {"sync", "queued", 1}, {"copy", "running", 1}}
		},
		Transfers: func() Transfers { return Transfers{Sending: 3, Receiving: 1, Waiting: 2, Remaining: 1 << 20} },
		Mirror:    func() Mirror { return Mirror{Lag: 1500 * time.Millisecond, Stale: true} },
		Database: func() Database {
			return Database{Size: 4096, Used: 1024, Quota: 8192, Alarms: map[string]bool{"NOSPACE": true, "CORRUPT": false}}
		},
		Pool:         func() Pool { return Pool{Health: "DEGRADED", Size: 1000, Free: 300, Fragmentation: 0.12} },
		Health:       func() Health { return Health{States: map[string]bool{"pool_not_online": true, "draining": false}} },
		Certificates: func() map[string]time.Time { return map[string]time.Time{"peer": time.Unix(1800000000, 0)} },
		Fleet:        func() (alive, gone int) { return 2, 1 },
		Containers:   func() map[string]int { return map[string]int{"running": 4, "stopped": 1} },
		MaxCopies:    2,
		Copies: func() []Copy {
			return []Copy{
				{Container: "c1", Source: "s", Lag: time.Minute, Here: true, Follows: true},
				{Container: "c2", Source: "s", Lag: time.Hour, Here: true},
				{Container: "c3", Source: "s", Lag: 30 * time.Minute, Written: 4096, WrittenKnown: true, Follows: true},
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The golden file is what dashboards and alerts are written against: a change to it is a change to them.
func TestScrape(t *testing.T) {
	recorder := httptest.NewRecorder()
	busy(t).Handler().ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	if recorder.Code != 200 {
		t.Fatalf("status %d: %s", recorder.Code, recorder.Body)
	}
	body := recorder.Body.String()
	for _, family := range []string{"go_goroutines", "process_open_fds"} {
		if !strings.Contains(body, "\n"+family+" ") {
			t.Errorf("no %s", family)
		}
	}
	var ours []string
	for line := range strings.Lines(body) {
		if strings.Contains(line, namespace) {
			line = regexp.MustCompile(`goversion="[^"]*"`).ReplaceAllString(line, `goversion="GO"`)
			ours = append(ours, regexp.MustCompile(`(_last_(?:success|failure)_timestamp_seconds.*) 1\.\S+$`).ReplaceAllString(strings.TrimSuffix(line, "\n"), "$1 1.7e+09")+"\n")
		}
	}
	got := strings.Join(ours, "")
	const golden = "testdata/scrape.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got (go test -update when it is meant):\n%s", diff)
	}
}

func TestNamesFollowTheConventions(t *testing.T) {
	families, err := busy(t).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestLabelsAreBounded(t *testing.T) {
	m := New(Build{}, nil)
	for i := range 10 * maxWords {
		m.APIRequest(fmt.Sprintf("M%d", i), "/x", 200, 0)
	}
	m.APIRequest("M0", "/x", 200, 0)
	m.APIRequest("\xff\xfe", "\xff", 200, 0)
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if got := len(family.GetMetric()); got > maxWords+2 {
			t.Errorf("%s has %d series, want at most %d", family.GetName(), got, maxWords+2)
		}
	}
}

func TestSourcesMayBeMissing(t *testing.T) {
	m := New(Build{}, nil)
	if err := m.Watch(Sources{}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.registry.Gather(); err != nil {
		t.Error(err)
	}
}

func TestConcurrentUse(t *testing.T) {
	m := busy(t)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for n := range 200 {
				m.ZFSCommand(fmt.Sprint("c", n), time.Millisecond, errdefs.ErrBusy)
				m.JobFinished(FinishedJob{Kind: "copy", State: fmt.Sprint("s", i)})
			}
			if _, err := m.registry.Gather(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}
