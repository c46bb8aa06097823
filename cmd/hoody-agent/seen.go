package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/health"
	"github.com/hoodynetwork/hoody-agent/internal/metrics"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

func newMetrics(b build) *metrics.Metrics {
	var kinds []string
	for _, kind := range store.JobKinds() {
		kinds = append(kinds, string(kind))
	}
	return metrics.New(metrics.Build{Version: b.version, Revision: b.revision}, kinds)
}

// observerOf hands what the agent does to metrics and vitals.
func observerOf(m *metrics.Metrics, v *vitals) agent.Observer {
	return agent.Observer{
		Phase: func(kind store.JobKind, phase string, took time.Duration, err error) {
			m.JobPhase(string(kind), phase, took, err)
		},
		Finished: func(job store.Job, size uint64) {
			finished := metrics.FinishedJob{Kind: string(job.Kind), State: string(job.State), Moved: job.Progress.BytesDone, Size: size}
			if job.Error != nil {
				finished.Class = job.Error.Class
			}
			m.JobFinished(finished)
		},
		Received: m.StreamReceived,
		Resumed:  m.Resumed, Collected: v.collected,
	}
}

// seen is what metrics show of an agent that is looked up at each scrape, from memory.
type seen struct {
	d       daemon
	records *store.Store
	agent   *agent.Agent
	links   *links
	vitals  *vitals
	written *writtenBytes
}

func (s seen) sources() metrics.Sources {
	return metrics.Sources{
		Jobs: s.jobs, Transfers: s.transfers, Mirror: s.mirror, Database: s.database, Pool: s.pool, Health: s.health, Certificates: s.certificates,
		Copies: s.copies, Fleet: s.fleet, Containers: s.containers, MaxCopies: s.d.cfg.Metrics.MaxCopies,
	}
}

func (s seen) jobs() []metrics.JobCount {
	var counts []metrics.JobCount
	for _, job := range s.records.Mirror().OpenJobs(s.d.serverID) {
		counts = append(counts, metrics.JobCount{Kind: string(job.Kind), State: string(job.State), Count: 1})
	}
	return counts
}

func (s seen) transfers() metrics.Transfers {
	sending, waiting := s.links.load()
	receiving, remaining := s.agent.Replications()
	return metrics.Transfers{Sending: sending, Waiting: waiting, Receiving: receiving, Remaining: remaining}
}

func (s seen) mirror() metrics.Mirror {
	since, stale := s.records.Mirror().Stale()
	state := metrics.Mirror{Stale: stale}
	if stale {
		state.Lag = time.Since(since)
	}
	return state
}

func (s seen) database() metrics.Database {
	etcd := s.vitals.lastCondition()
	alarms := make(map[string]bool)
	for _, alarm := range []string{store.AlarmNoSpace, store.AlarmCorrupt} {
		alarms[alarm] = slices.Contains(etcd.Alarms, alarm)
	}
	return metrics.Database{Size: etcd.Size, Used: etcd.InUse, Quota: etcd.Quota, Alarms: alarms}
}

func (s seen) pool() metrics.Pool {
	pool := s.vitals.lastPool()
	return metrics.Pool{Health: pool.Health, Size: pool.Size, Free: pool.Free, Fragmentation: float64(pool.Fragmentation) / 100}
}

func (s seen) health() metrics.Health {
	states := make(map[string]bool)
	for _, code := range health.Codes() {
		states[string(code)] = false
	}
	for _, state := range s.d.health.States() {
		states[string(state.Code)] = true
	}
	return metrics.Health{Ready: s.d.health.Ready(), States: states}
}

func (s seen) certificates() map[string]time.Time {
	ends := make(map[string]time.Time)
	for name, certificate := range s.vitals.certificates() {
		ends[name] = certificate.end
	}
	return ends
}

func (s seen) fleet() (alive, gone int) {
	for _, server := range s.records.Mirror().Servers() {
		if living, _ := s.records.Mirror().Alive(server.ID); living {
			alive++
		} else {
			gone++
		}
	}
	return alive, gone
}

func (s seen) containers() map[string]int {
	counts := make(map[string]int)
	for _, container := range s.records.Mirror().ContainersOnServer(s.d.serverID) {
		counts[string(container.Status)]++
	}
	return counts
}

// copies are those that are here, and those elsewhere whose source is here. A copy without a source cannot sync: nobody
// can do anything about its lag.
func (s seen) copies() []metrics.Copy {
	mirror, now := s.records.Mirror(), time.Now()
	var copies []metrics.Copy
	for _, container := range mirror.Containers() {
		source, ok := mirror.Container(container.SourceContainerID)
		if container.SyncedAt.IsZero() || !ok || container.ServerID != s.d.serverID && source.ServerID != s.d.serverID {
			continue
		}
		written, known := s.written.of(container.ID)
		copies = append(copies, metrics.Copy{
			Container: container.ID, Source: source.ID, Lag: max(0, now.Sub(container.SyncedAt)),
			Here: container.ServerID == s.d.serverID, Follows: container.Follows, Written: written, WrittenKnown: known,
		})
	}
	return copies
}

// writtenBytes keeps what was last found out about sources (agent.SourceWritten).
type writtenBytes struct {
	mu     sync.Mutex
	byCopy map[string]uint64
}

// writtenInterval is long: each source that has copies costs a command.
const writtenInterval = 10 * time.Minute

func (w *writtenBytes) of(copyID string) (bytes uint64, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	bytes, known = w.byCopy[copyID]
	return bytes, known
}

// follow refreshes until ctx ends.
func (w *writtenBytes) follow(ctx context.Context, log *zap.Logger, look func(context.Context) (map[string]uint64, error)) {
	ticker := time.NewTicker(writtenInterval)
	defer ticker.Stop()
	for {
		found, err := look(ctx)
		if err != nil && ctx.Err() == nil {
			log.Warn("bytes written on sources not known", zap.Error(err))
		}
		w.mu.Lock()
		w.byCopy = found
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
