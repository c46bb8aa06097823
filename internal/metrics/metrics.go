// Package metrics is what Prometheus sees of the agent.
//
// No package of the project imports it: they take observer functions, and the command that assembles the agent hands
// them methods of a Metrics. What is cheaper to look up than to keep count of, such as jobs by state, is read from
// Sources at scrape time.
package metrics

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const namespace = "hoody_agent"

// Build is what the running binary was made from.
type Build struct {
	Version, Revision string
}

// Metrics holds the agent's collectors in a registry of its own. Its methods may be called concurrently.
type Metrics struct {
	registry *prometheus.Registry

	zfs      calls
	incus    calls
	store    calls
	phases   calls
	requests *prometheus.HistogramVec

	jobsFinished *prometheus.CounterVec
	streamBytes  *prometheus.CounterVec
	wireBytes    *prometheus.CounterVec
	streams      *prometheus.CounterVec
	compression  prometheus.Histogram
	saved        prometheus.Counter
	resumes      *prometheus.CounterVec
	lastSuccess  *prometheus.GaugeVec
	lastFailure  *prometheus.GaugeVec

	collections   *prometheus.CounterVec
	collected     *prometheus.CounterVec
	freed         prometheus.Counter
	lastCollected prometheus.Gauge

	words words
}

// New returns the collectors of one agent. kinds are the kinds of its jobs.
func New(build Build, kinds []string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		zfs: newCalls("zfs_command", "zfs and zpool commands", []string{"command"},
			prometheus.ExponentialBuckets(0.005, 3, 12)), // 5 ms … 15 min: a send is a command, too
		incus: newCalls("incus_call", "calls to the Incus daemon", []string{"call"},
			prometheus.ExponentialBuckets(0.005, 3, 10)), // 5 ms … 100 s
		store: newCalls("store_operation", "operations on the store", []string{"operation"},
			prometheus.ExponentialBuckets(0.0005, 2.5, 11)), // 0.5 ms … 5 s
		phases: newCalls("job_phase", "phases of jobs", []string{"kind", "phase"},
			prometheus.ExponentialBuckets(0.01, 4, 11)), // 10 ms … 3 h
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "api_request_duration_seconds",
			Help:    "How long API requests took, by route pattern.",
			Buckets: prometheus.ExponentialBuckets(0.001, 3, 11), // 1 ms … 1 min: synchronous routes wait for a job
		}, []string{"method", "route", "status"}),
		jobsFinished: counter("jobs_finished_total", "Jobs that ended, by kind and final state.", "kind", "state"),
		streamBytes:  counter("transfer_stream_bytes_total", "Bytes of snapshot streams moved between servers, before compression.", "direction"),
		wireBytes:    counter("transfer_wire_bytes_total", "Bytes of snapshot streams as they were on the wire.", "direction"),
		streams:      counter("transfer_streams_total", "Snapshot streams that ended, by the compression they chose.", "direction", "compression"),
		compression: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "transfer_compression_ratio",
			Help:    "Stream bytes per byte on the wire, of streams that ended.",
			Buckets: []float64{1, 1.1, 1.25, 1.5, 2, 3, 5, 10, 20},
		}),
		saved: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "transfer_saved_bytes_total",
			Help: "Bytes of copies and syncs that did not have to be moved, because this pool held them already.",
		}),
		resumes:     counter("transfer_resumes_total", "Streams that were cut off and continued, by how that ended.", "result"),
		lastSuccess: gaugeVec("job_last_success_timestamp_seconds", "When a job of the kind last succeeded.", "kind"),
		lastFailure: gaugeVec("job_last_failure_timestamp_seconds", "When a job of the kind last failed for a reason of the class.", "kind", "class"),

		collections: counter("gc_runs_total", "Garbage collections, dry runs left out, by how they ended.", "result"),
		collected:   counter("gc_removed_total", "What garbage collection removed, by kind.", "kind"),
		freed: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "gc_freed_bytes_total", Help: "Space that came free during garbage collections.",
		}),
		lastCollected: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "gc_last_success_timestamp_seconds", Help: "When garbage was last collected.",
		}),
	}
	for _, c := range []calls{m.zfs, m.incus, m.store, m.phases} {
		m.registry.MustRegister(c.duration, c.failures)
	}
	m.registry.MustRegister(
		m.requests, m.jobsFinished, m.streamBytes, m.wireBytes, m.streams, m.compression, m.saved, m.resumes,
		m.lastSuccess, m.lastFailure, m.collections, m.collected, m.freed, m.lastCollected, buildInfo(build),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	for _, direction := range []string{directionSent, directionReceived} { // 0 and absent are not the same to a rate()
		m.streamBytes.WithLabelValues(direction)
		m.wireBytes.WithLabelValues(direction)
	}
	for _, kind := range kinds { // an increase of what was not there before is none
		m.jobsFinished.WithLabelValues(kind, jobDone)
		m.jobsFinished.WithLabelValues(kind, jobFailed)
	}
	for _, result := range []string{resultOK, resultFailed} {
		m.resumes.WithLabelValues(result)
		m.collections.WithLabelValues(result)
	}
	return m
}

// Handler serves the scrape.
func (m *Metrics) Handler() http.Handler {
	// A collector that fails must not hide the others: what works is served, the error is in the answer's log.
	return promhttp.InstrumentMetricHandler(m.registry,
		promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
}

// calls measures one kind of call: how long each took, and how those that failed did.
type calls struct {
	duration *prometheus.HistogramVec
	failures *prometheus.CounterVec
}

func newCalls(name, what string, labels []string, buckets []float64) calls {
	return calls{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: name + "_duration_seconds",
			Help: "How long " + what + " took, failed ones included.", Buckets: buckets,
		}, labels),
		failures: counter(name+"_failures_total", "Failed "+what+", by error class.", append(labels, "class")...),
	}
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func gaugeVec(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func buildInfo(build Build) prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info",
		Help: "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{
			"version": build.Version, "revision": build.Revision, "goversion": runtime.Version(),
		},
	})
	info.Set(1)
	return info
}
