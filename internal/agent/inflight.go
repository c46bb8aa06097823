package agent

import (
	"sync"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// inFlight knows which snapshots are on their way into this pool, so that no two replications fetch the same one:
// who wants a snapshot in flight waits for it and plans again.
type inFlight struct {
	mu      sync.Mutex
	ended   int                            // replications so far: a plan made before the last one ended may be out of date
	arrival map[lineage.GUID]chan struct{} // closed when the replication that brings it ends, well or not
	wanted  map[lineage.GUID]int           // by how many replications that still lack it
}

func newInFlight() *inFlight {
	return &inFlight{arrival: make(map[lineage.GUID]chan struct{}), wanted: make(map[lineage.GUID]int)}
}

// want notes that a replication lacks the snapshots, until release.
func (f *inFlight) want(guids []lineage.GUID) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, guid := range guids {
		f.wanted[guid]++
	}
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, guid := range guids {
			if f.wanted[guid]--; f.wanted[guid] == 0 {
				delete(f.wanted, guid)
			}
		}
	})
}

// isWanted tells whether any replication lacks the snapshot.
func (f *inFlight) isWanted(guid lineage.GUID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wanted[guid] > 0
}

// endings is how many replications have ended; see claim.
func (f *inFlight) endings() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}

// claim reserves all of the snapshots, or none. planned is what endings said before the plan was made: when a replication has ended
// since, its snapshots may be among these, and ok is false. It is false, too, when one of them is on its way; wait closes then when that
// replication ends. done must be called when ok is true.
func (f *inFlight) claim(guids []lineage.GUID, planned int) (done func(), wait <-chan struct{}, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, guid := range guids {
		if busy, taken := f.arrival[guid]; taken {
			return nil, busy, false
		}
	}
	if f.ended != planned {
		past := make(chan struct{})
		close(past)
		return nil, past, false
	}
	over := make(chan struct{})
	for _, guid := range guids {
		f.arrival[guid] = over
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, guid := range guids {
			delete(f.arrival, guid)
		}
		f.ended++
		close(over)
	}, nil, true
}
