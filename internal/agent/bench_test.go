package agent_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api"
	"github.com/hoodynetwork/hoody-agent/internal/sim"
	"github.com/hoodynetwork/hoody-agent/internal/store"
	"github.com/hoodynetwork/hoody-agent/internal/store/embedded"
)

const (
	benchContainers = 10_000
	benchProjects   = 1_000
	benchServers    = 50
	benchUsers      = 100
)

func benchID(kind byte, i int) string { return fmt.Sprintf("64c1aa00b2d34e5f%02x%06x", kind, i) }

// BenchmarkList is listing, sorting and paging over 10,000 containers in 1,000 projects, from the request to the bytes of
// the answer, in CPU time of one core: as the operator, who sees all, and as a user, who sees a hundredth.
func BenchmarkList(b *testing.B) {
	handler := benchAPI(b)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, list := range []struct{ name, token, query string }{
		{"containers/all/created", "operator", "containers"},
		{"containers/all/updated", "operator", "containers?sort_by=updated_at&page=100"},
		{"containers/all/name", "operator", "containers?sort_by=name&sort_order=asc&limit=100"},
		{"containers/all/realm", "operator", "containers?sort_by=status&realm_id=" + benchID('r', 1)},
		{"containers/own", "user", "containers?sort_by=updated_at"},
		{"containers/project", "user", "projects/" + benchID('p', 7) + "/containers"},
		{"projects/all", "operator", "projects?sort_by=alias&page=50"},
		{"projects/own", "user", "projects"},
	} {
		b.Run(list.name, func(b *testing.B) {
			request := httptest.NewRequest(http.MethodGet, "/api/v1/"+list.query, nil)
			request.Header.Set("Authorization", list.token)
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			took := make([]time.Duration, 0, 1<<12)
			for b.Loop() {
				answer := httptest.NewRecorder()
				began := cpuTime(b)
				handler.ServeHTTP(answer, request.Clone(b.Context()))
				took = append(took, cpuTime(b)-began)
				if answer.Code != http.StatusOK {
					b.Fatal(answer.Body)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// cpuTime is what the thread has used so far: on a machine with other work, the clock on the wall tells about that.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Nano())
}

// benchAuth knows callers by what they call themselves.
type benchAuth struct{}

func (benchAuth) Authenticate(r *http.Request) (agent.Caller, error) {
	return agent.Caller{UserID: benchID('u', 7), Operator: r.Header.Get("Authorization") == "operator"}, nil
}

// benchAPI serves a store that holds a large fleet's records.
func benchAPI(b *testing.B) http.Handler {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	etcd, err := embedded.Start(b.Context(), embedded.Options{Dir: b.TempDir()}, zap.NewNop())
	must(err)
	b.Cleanup(etcd.Close)
	records, err := store.Open(b.Context(), store.Options{Endpoints: []string{etcd.Endpoint()}})
	must(err)
	b.Cleanup(func() { _ = records.Close() })
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	write := func(count int, put func(tx *store.Tx, i int) error) {
		b.Helper()
		const batch = 30
		for from := 0; from < count; from += batch {
			_, err := records.Update(b.Context(), func(tx *store.Tx) error {
				for i := from; i < min(from+batch, count); i++ {
					if err := put(tx, i); err != nil {
						return err
					}
				}
				return nil
			})
			must(err)
		}
	}
	write(benchServers, func(tx *store.Tx, i int) error {
		seen := store.Activity{ServerID: benchID('s', i), Containers: make(map[string]store.FileState)}
		for c := i; c < benchContainers; c += benchServers {
			seen.Containers[benchID('c', c)] = store.FileState{ChangedAt: began.Add(time.Duration(c*7919%benchContainers) * time.Hour)}
		}
		if err := tx.PutActivity(seen); err != nil {
			return err
		}
		return tx.PutServer(store.Server{ID: seen.ServerID, Name: fmt.Sprint("node-", i)})
	})
	write(benchProjects, func(tx *store.Tx, i int) error {
		return tx.PutProject(store.Project{
			ID: benchID('p', i), UserID: benchID('u', i%benchUsers), Alias: fmt.Sprint("project ", i*7919%benchProjects), CreatedAt: began.Add(time.Duration(i) * time.Minute),
		})
	})
	write(benchContainers, func(tx *store.Tx, i int) error {
		at := began.Add(time.Duration(i*7919%benchContainers) * time.Minute)
		return tx.PutContainer(store.Container{
			ID: benchID('c', i), ProjectID: benchID('p', i%benchProjects), ServerID: benchID('s', i%benchServers), OwnerID: benchID('u', i%benchUsers),
			Name: fmt.Sprint("container-", i*7919%benchContainers), Status: store.StatusRunning, RealmIDs: []string{benchID('r', i%3)},
			Env: map[string]string{"A": "1", "B": "2"}, CreatedAt: at, UpdatedAt: at,
		})
	})
	pool, err := sim.NewPool(filepath.Join(b.TempDir(), "pool"), sim.Options{})
	must(err)
	b.Cleanup(func() { _ = pool.Close() })
	instances, err := sim.NewRuntime(pool, filepath.Join(b.TempDir(), "runtime"), sim.RuntimeOptions{})
	must(err)
	b.Cleanup(func() { _ = instances.Close() })
	_, err = records.Barrier(b.Context())
	must(err)
	served, err := agent.New(agent.Options{
		Server: store.Server{ID: benchID('s', 0)}, Store: records, Pool: pool, Runtime: instances, Peers: &fleet{},
	})
	must(err)
	return api.New(served, benchAuth{}, api.Options{})
}
