package agent

import (
	"slices"
	"sync"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// inFlight knows which snapshots are on their way into this pool, so that no two replications fetch the same one:
// who wants a snapshot in flight waits for it and plans again.
type inFlight struct {
	mu       sync.Mutex
	ended    int                       // snapshots that were claimed and are no more, so far
	latest   []arrival                 // the last of them, at most endingsKept
	arrivals map[arrival]chan struct{} // closed when it is there, or the replication that brings it ends
	wanted   map[lineage.GUID]int      // by how many jobs that still lack it
	left     map[string]lineage.GUID   // datasets with a stream half received that such a job will take over
}

// endingsKept is how many endings are remembered for plans that were made before them. Of more a plan counts as out of date.
const endingsKept = 4096

// arrival is a snapshot on its way. Each owner brings an image of his own.
type arrival struct {
	guid  lineage.GUID
	owner string // of an image; else empty
}

func newInFlight() *inFlight {
	return &inFlight{arrivals: make(map[arrival]chan struct{}), wanted: make(map[lineage.GUID]int), left: make(map[string]lineage.GUID)}
}

// want notes that a job lacks the snapshots, until release.
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

// isWanted tells whether any job lacks the snapshot.
func (f *inFlight) isWanted(guid lineage.GUID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wanted[guid] > 0
}

// leave notes that a dataset with a stream half received is left for who wants its snapshot.
func (f *inFlight) leave(dataset string, guid lineage.GUID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left[dataset] = guid
}

// leftBehind returns the datasets that were left for a job that still wants what they are to hold.
func (f *inFlight) leftBehind() map[string]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := make(map[string]bool)
	for dataset, guid := range f.left {
		if f.wanted[guid] == 0 {
			delete(f.left, dataset)
			continue
		}
		left[dataset] = true
	}
	return left
}

// endings is how many claims of a snapshot have ended; see claim.
func (f *inFlight) endings() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}

// claim reserves all of the snapshots or none. If one is on its way, ok is false, and wait closes when it has arrived or its
// replication ends. planned is what endings said before the plan was made: if the claim of one of them has ended since, that one may be
// there or half received, the plan is out of date, ok is false and wait is closed already. When ok is true the caller must end the claim.
func (f *inFlight) claim(wanted []arrival, planned int) (claimed *claim, wait <-chan struct{}, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, snapshot := range wanted {
		if busy, taken := f.arrivals[snapshot]; taken {
			return nil, busy, false
		}
	}
	if f.endedSince(planned, wanted) {
		past := make(chan struct{})
		close(past)
		return nil, past, false
	}
	for _, snapshot := range wanted {
		f.arrivals[snapshot] = make(chan struct{})
	}
	return &claim{inFlight: f, open: slices.Clone(wanted)}, nil, true
}

// endedSince tells whether the claim of one of the snapshots has ended since, as far as is remembered. It is called under the lock.
func (f *inFlight) endedSince(planned int, wanted []arrival) bool {
	since := f.ended - planned
	if since > len(f.latest) {
		return true
	}
	return slices.ContainsFunc(f.latest[len(f.latest)-since:], func(over arrival) bool { return slices.Contains(wanted, over) })
}

// claim is what one replication brings.
type claim struct {
	inFlight *inFlight
	open     []arrival
}

// arrived gives one of the snapshots up, which is there: whoever waits for it need not wait for the others.
func (c *claim) arrived(snapshot arrival) {
	c.inFlight.mu.Lock()
	defer c.inFlight.mu.Unlock()
	if i := slices.Index(c.open, snapshot); i >= 0 {
		c.release(snapshot)
		c.open = slices.Delete(c.open, i, i+1)
	}
}

// end gives up whatever is left.
func (c *claim) end() {
	c.inFlight.mu.Lock()
	defer c.inFlight.mu.Unlock()
	c.release(c.open...)
	c.open = nil
}

// release is called under the lock.
func (c *claim) release(snapshots ...arrival) {
	for _, snapshot := range snapshots {
		close(c.inFlight.arrivals[snapshot])
		delete(c.inFlight.arrivals, snapshot)
	}
	c.inFlight.ended += len(snapshots)
	c.inFlight.latest = append(c.inFlight.latest, snapshots...)
	if surplus := len(c.inFlight.latest) - endingsKept; surplus > 0 {
		c.inFlight.latest = slices.Delete(c.inFlight.latest, 0, surplus)
	}
}
