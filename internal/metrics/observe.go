package metrics

import (
	"strconv"
	"strings"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const (
	directionSent     = "sent"
	directionReceived = "received"

	resultOK     = "ok"
	resultFailed = "failed"
	jobDone      = "done"
	jobFailed    = "failed"
)

// ZFSCommand takes note of one finished zfs or zpool command, such as "zfs snapshot".
func (m *Metrics) ZFSCommand(command string, took time.Duration, err error) {
	m.observe(m.zfs, took, err, "command", command)
}

// IncusCall takes note of one finished call to the Incus daemon.
func (m *Metrics) IncusCall(call string, took time.Duration, err error) {
	m.observe(m.incus, took, err, "call", call)
}

// StoreOperation takes note of one finished operation on the store.
func (m *Metrics) StoreOperation(operation string, took time.Duration, err error) {
	m.observe(m.store, took, err, "operation", operation)
}

// JobPhase takes note of one attempt at a job's phase.
func (m *Metrics) JobPhase(kind, phase string, took time.Duration, err error) {
	m.observe(m.phases, took, err, "kind", kind, "phase", phase)
}

// FinishedJob is a job that will not run again.
type FinishedJob struct {
	Kind, State string
	Class       string // of the error of a failed one, in the words of package errdefs
	Moved       uint64 // stream bytes received
	Size        uint64 // what the generation that it made amounts to; 0 for none made
}

// JobFinished takes note of a job that will not run again. done and failed are the states it tells apart.
func (m *Metrics) JobFinished(job FinishedJob) {
	kind := m.words.bound("kind", job.Kind)
	m.jobsFinished.WithLabelValues(kind, m.words.bound("state", job.State)).Inc()
	switch job.State {
	case jobDone:
		m.lastSuccess.WithLabelValues(kind).SetToCurrentTime()
	case jobFailed:
		m.lastFailure.WithLabelValues(kind, m.words.bound("class", label(job.Class))).SetToCurrentTime()
	}
	if job.Size > job.Moved {
		m.saved.Add(float64(job.Size - job.Moved))
	}
}

// Resumed takes note of how it went to complete a stream that was cut off before.
func (m *Metrics) Resumed(err error) { m.resumes.WithLabelValues(result(err)).Inc() }

// Collected takes note of a garbage collection: what it removed, by kind, and how much space came free.
func (m *Metrics) Collected(removed map[string]int, freed uint64, err error) {
	m.collections.WithLabelValues(result(err)).Inc()
	for kind, count := range removed {
		m.collected.WithLabelValues(m.words.bound("removed", kind)).Add(float64(count))
	}
	m.freed.Add(float64(freed))
	if err == nil {
		m.lastCollected.SetToCurrentTime()
	}
}

func result(err error) string {
	if err != nil {
		return resultFailed
	}
	return resultOK
}

// BytesSent counts what has passed of streams to other servers: bytes of their content, and on the wire.
func (m *Metrics) BytesSent(content, wire int) { m.moved(directionSent, content, wire) }

// BytesReceived counts what has passed of streams from other servers, like BytesSent.
func (m *Metrics) BytesReceived(content, wire int) { m.moved(directionReceived, content, wire) }

func (m *Metrics) moved(direction string, content, wire int) {
	m.streamBytes.WithLabelValues(direction).Add(float64(content))
	m.wireBytes.WithLabelValues(direction).Add(float64(wire))
}

// StreamSent counts a stream that this server sent, however it ended: how many bytes of its content there were and on the wire, and its compression.
func (m *Metrics) StreamSent(content, wire uint64, compression string) {
	m.stream(directionSent, content, wire, compression)
}

// StreamReceived counts a stream that this server received, like StreamSent.
func (m *Metrics) StreamReceived(content, wire uint64, compression string) {
	m.stream(directionReceived, content, wire, compression)
}

func (m *Metrics) stream(direction string, content, wire uint64, compression string) {
	m.streams.WithLabelValues(direction, m.words.bound("compression", compression)).Inc()
	if wire > 0 {
		m.compression.Observe(float64(content) / float64(wire))
	}
}

// APIRequest takes note of one answered request. The route is the pattern that matched, never the path.
func (m *Metrics) APIRequest(method, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(
		m.words.bound("method", method), m.words.bound("route", route), strconv.Itoa(status),
	).Observe(took.Seconds())
}

// observe takes labels as name, value, name, value.
func (m *Metrics) observe(c calls, took time.Duration, err error, labels ...string) {
	values := make([]string, 0, len(labels)/2+1)
	for i := 0; i+1 < len(labels); i += 2 {
		values = append(values, m.words.bound(labels[i], labels[i+1]))
	}
	c.duration.WithLabelValues(values...).Observe(took.Seconds())
	if err != nil {
		c.failures.WithLabelValues(append(values, class(err))...).Inc()
	}
}

// class is the error's class as a label: "failed_precondition".
func class(err error) string { return label(errdefs.ClassOf(err).Error()) }

func label(class string) string { return strings.ReplaceAll(class, " ", "_") }
