package agent_test

import (
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// A history of small snapshots comes in one stream after the first, whatever its length.
func TestAHistoryComesInOneStream(t *testing.T) {
	t.Parallel()
	const history = 10
	f, source, there := historyFleet(t, history)
	asked := make(chan agent.StreamRequest, 100)
	f.asked = func(request agent.StreamRequest) { asked <- request }
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	close(asked)
	streams, most := 0, 0
	for request := range asked {
		streams++
		most = max(most, len(request.Between)+1)
	}
	if streams > 4 || most < history-1 {
		t.Errorf("%d streams, of %d snapshots at most", streams, most)
	}
	f.holdsHistory(copied, source, history)
}

// A source that does not send what was asked for together is asked for one after the other.
func TestASeriesThatIsRefusedComesApart(t *testing.T) {
	for name, substitute := range map[string]func(*agent.StreamRequest, []lineage.Node){
		"the source knows other snapshots": func(request *agent.StreamRequest, _ []lineage.Node) {
			if len(request.Between) > 0 {
				request.Between = request.Between[1:]
			}
		},
		"one stream comes": func(request *agent.StreamRequest, _ []lineage.Node) { request.Between = nil },
		"a shorter series comes": func(request *agent.StreamRequest, _ []lineage.Node) {
			if last := len(request.Between) - 1; last > 0 {
				request.Between, request.To = request.Between[:last], request.Between[last]
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const history = 5
			f, source, there := historyFleet(t, history)
			series := f.countSeries()
			f.substitute = substitute
			copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
			if *series != 1 {
				t.Errorf("a series was asked for %d times", *series)
			}
			f.holdsHistory(copied, source, history)
		})
	}
}

// What one pool does not take in a series, it may take by itself.
func TestASeriesThatThePoolRefusesComesApart(t *testing.T) {
	t.Parallel()
	const history = 5
	f, source, there := historyFleet(t, history)
	series, started := f.countSeries(), 0
	there.setFault(func(op, _ string) error {
		if op == "receive:started" {
			started++
		}
		if op == "receive:started" && *series == 1 && started == 4 { // within the series
			return errdefs.New(errdefs.ErrUnsupported, "", "a record of an unknown kind")
		}
		return nil
	})
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	there.setFault(nil)
	if *series != 1 || started < 5 {
		t.Errorf("a series was asked for %d times, %d streams began", *series, started)
	}
	f.holdsHistory(copied, source, history)
}

// historyFleet has a source on one of two servers with snapshots of small changes.
func historyFleet(t *testing.T, count int) (f *fleet, source store.Container, there *server) {
	f = newFleet(t, 2)
	source = f.create(f.servers[0], "source")
	for i := range count {
		f.write(source, "data/file", random(byte(i), 10<<10))
		f.snapshot(source, "")
	}
	return f, source, f.servers[1]
}

// countSeries counts how often several snapshots are asked for together.
func (f *fleet) countSeries() *int {
	series := new(int)
	f.asked = func(request agent.StreamRequest) {
		if len(request.Between) > 0 {
			*series++
		}
	}
	return series
}

// holdsHistory wants a copy to have the content of its source and of each of the snapshots that history made of it.
func (f *fleet) holdsHistory(copied, source store.Container, count int) {
	f.t.Helper()
	if f.hash(copied) != f.hash(source) {
		f.t.Error("the copy's content is not the source's")
	}
	listed := f.listed(copied)
	if len(listed) != count {
		f.t.Fatalf("%d snapshots are listed, want %d", len(listed), count)
	}
	for i, snapshot := range listed {
		restored := f.restore(copied, snapshot.Name, store.StatusRunning)
		if f.read(restored, "data/file") != string(random(byte(i), 10<<10)) {
			f.t.Errorf("snapshot %d holds something else", i)
		}
	}
}

// A history of small snapshots does not wait for an answer between one stream and the next, from a source that sends one at a time.
func TestTheNextStreamIsAskedForWhileOneIsReceived(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	const history = 10
	for i := range history {
		f.write(source, "data/file", random(byte(i), 10<<10))
		f.must(second(here.agent.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{})))
	}
	asked := make(chan agent.StreamRequest, 100)
	f.asked = func(request agent.StreamRequest) { asked <- request }
	total := 0
	f.tamper = func(manifest *agent.Manifest) { manifest.Series, total = false, len(manifest.Wanted) }
	overlapped, streams := 0, 0
	there.setFault(func(op, _ string) error {
		if op != "receive:started" { // until it is over, nothing is asked for that was not asked for ahead
			return nil
		}
		if streams++; streams == 1 {
			<-asked // itself
		}
		if streams == total {
			return nil
		}
		select {
		case <-asked:
			overlapped++
		case <-time.After(10 * time.Second): // it does not come
		}
		return nil
	})
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	there.setFault(nil)
	if f.hash(copied) != f.hash(source) {
		t.Error("the copy's content is not the source's")
	}
	if streams < history || overlapped != streams-1 {
		t.Errorf("of %d streams %d were asked for ahead", streams, overlapped)
	}
}
