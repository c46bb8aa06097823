package agent_test

import (
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// BenchmarkHistory copies a container with a history of 200 small snapshots over a link of 50 ms: in one stream; from a source that
// sends one at a time, the next one asked for while one is received; and one after the other, as streams are that look large. waits/op are
// the streams that were asked for when none was under way: the round trips in sequence.
func BenchmarkHistory(b *testing.B) {
	const history, rtt = 200, 50 * time.Millisecond
	for _, way := range []struct {
		name     string
		estimate func(*agent.Estimate)
		tamper   func(*agent.Manifest)
	}{
		{"together", nil, nil},
		{"ahead", nil, func(manifest *agent.Manifest) { manifest.Series = false }},
		{"one by one", func(estimate *agent.Estimate) { estimate.Bytes = (history + 10) * 9 << 20 }, nil},
	} {
		b.Run(way.name, func(b *testing.B) {
			f := newFleet(b, 2, withNetwork, func(f *fleet) { f.network.rtt, f.network.estimate, f.network.tamper = rtt, way.estimate, way.tamper })
			here, there := f.servers[0], f.servers[1]
			for b.Loop() {
				b.StopTimer()
				source := f.create(here, "source")
				for i := range history {
					f.write(source, "data/file", random(byte(i), 10<<10))
					f.must(second(here.agent.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{})))
				}
				b.StartTimer()
				copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
				b.StopTimer()
				if f.hash(copied) != f.hash(source) {
					b.Error("the copy's content is not the source's")
				}
				f.delete(copied)
				f.delete(source)
				b.StartTimer()
			}
			streams := &f.network.streams
			b.ReportMetric(float64(streams.asked)/float64(b.N), "streams/op")
			b.ReportMetric(float64(streams.alone)/float64(b.N), "waits/op")
			b.ReportMetric(float64(streams.most), "at-once")
		})
	}
}
