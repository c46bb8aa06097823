package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Sources are asked at every scrape. They must answer from memory. A nil one is left out.
type Sources struct {
	Jobs         func() []JobCount
	Transfers    func() Transfers
	Mirror       func() Mirror
	Database     func() Database
	Pool         func() Pool
	Health       func() Health
	Certificates func() map[string]time.Time // when each ends, by what it is for
	Copies       func() []Copy
	Fleet        func() (alive, gone int) // servers, this one included
	Containers   func() map[string]int    // of this server, by status
	// MaxCopies is how many copies have series of their own, those that lag most; 0 for none.
	MaxCopies int
}

// JobCount is how many of this server's jobs are of one kind and in one state.
type JobCount struct {
	Kind, State string
	Count       int
}

// Transfers is how many snapshot streams are under way.
type Transfers struct {
	Sending, Receiving, Waiting int
	Remaining                   uint64 // bytes that those being received are to bring still, as far as known
}

// Mirror is how well the in-memory copy of the store follows it.
type Mirror struct {
	Lag   time.Duration // since it was last known to be up to date
	Stale bool          // the store does not answer; reads are as old as Lag says
}

// Database is etcd's. A zero Size means that it has not answered, a zero Quota that it does not tell.
type Database struct {
	Size, Used, Quota int64
	Alarms            map[string]bool // whether each there is is raised
}

// Pool is the storage pool. A zero Size means that its datasets do not answer.
type Pool struct {
	Health        string // ONLINE, …; empty when it does not answer at all
	Size, Free    uint64
	Fragmentation float64 // 0 to 1; negative for not known
}

// Health is which degraded states there are, and which of them hold.
type Health struct {
	Ready  bool
	States map[string]bool
}

// Copy is a copy of a source that is still there.
type Copy struct {
	Container, Source string        // ids
	Lag               time.Duration // since the state of the source that it holds
	Written           uint64        // bytes written on the source since then
	WrittenKnown      bool
	Follows           bool // a sync has been asked for since it was made
	Here              bool // the copy is this server's, which tells its lag; else only the source is, which tells what was written
}

// Watch adds the sources to what is served. It is for one call, when the parts behind the sources exist.
func (m *Metrics) Watch(sources Sources) error {
	return m.registry.Register(&scraper{sources: sources, words: &m.words, gauges: newGauges()})
}

// gauges are the descriptions of what is read at scrape time.
type gauges struct {
	jobs, transfers, waiting, remaining, lag, stale, containers, servers *prometheus.Desc
	databaseSize, databaseUsed, databaseQuota, alarm                     *prometheus.Desc
	poolSize, poolFree, fragmentation, poolHealth, degraded, ready       *prometheus.Desc
	certificate, copies, copyLag, copyLagMax, copyWritten                *prometheus.Desc
}

func newGauges() gauges {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return gauges{
		jobs:          describe("jobs", "Jobs of this server that are not finished, by kind and state.", "kind", "state"),
		containers:    describe("containers", "Containers of this server, by status.", "status"),
		servers:       describe("servers", "Servers of the fleet as this agent sees them: alive, or gone.", "state"),
		transfers:     describe("transfers_active", "Snapshot streams under way.", "direction"),
		waiting:       describe("transfers_waiting", "Requests of other servers for a stream that wait for a slot."),
		remaining:     describe("transfers_remaining_bytes", "Bytes of stream that operations of this server are to receive still, as far as estimated."),
		lag:           describe("store_mirror_lag_seconds", "Time since the in-memory mirror was last known to be up to date."),
		stale:         describe("store_mirror_stale", "1 while the store does not answer and reads come from an old mirror."),
		databaseSize:  describe("store_database_size_bytes", "Size of etcd's database file, of the member with the largest."),
		databaseUsed:  describe("store_database_used_bytes", "What is in etcd's database file; compaction and defragmentation return the rest."),
		databaseQuota: describe("store_database_quota_bytes", "Size of the database file at which etcd stops taking writes, where etcd tells."),
		alarm:         describe("store_alarm", "1 while etcd has raised the alarm: of no space it takes no writes, of corruption it needs its admin.", "alarm"),
		poolSize:      describe("pool_size_bytes", "Size of the storage pool, as far as it is the agent's."),
		poolFree:      describe("pool_free_bytes", "Free space of the storage pool, as far as it is the agent's."),
		fragmentation: describe("pool_fragmentation_ratio", "Fragmentation of the pool's free space, 0 to 1."),
		poolHealth:    describe("pool_health", "1 for the state that zpool reports, 0 for the others.", "state"),
		degraded:      describe("degraded", "1 while the degraded state holds.", "code"),
		ready:         describe("ready", "1 while nothing keeps the agent from its work."),
		certificate:   describe("certificate_expiry_timestamp_seconds", "When the certificate ends.", "certificate"),
		copies:        describe("copies", "Copies on this server whose source is still there."),
		copyLag: describe("copy_lag_seconds",
			"Age of the state of its source that a copy on this server holds; for the copies that lag most.", "container", "source"),
		copyLagMax: describe("copy_lag_max_seconds", "The largest copy_lag_seconds of the copies on this server that somebody has asked to sync since they were made."),
		copyWritten: describe("copy_source_written_bytes",
			"Bytes written on a source on this server since the state that its copy holds.", "container", "source"),
	}
}

// scraper turns sources into metrics while a scrape waits.
type scraper struct {
	sources Sources
	words   *words
	gauges  gauges
}

// Describe implements prometheus.Collector.
func (s *scraper) Describe(ch chan<- *prometheus.Desc) {
	g := s.gauges
	for _, desc := range []*prometheus.Desc{
		g.jobs, g.transfers, g.waiting, g.remaining, g.lag, g.stale, g.containers, g.servers,
		g.databaseSize, g.databaseUsed, g.databaseQuota, g.alarm,
		g.poolSize, g.poolFree, g.fragmentation, g.poolHealth, g.degraded, g.ready,
		g.certificate, g.copies, g.copyLag, g.copyLagMax, g.copyWritten,
	} {
		ch <- desc
	}
}

func gauge(desc *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}
