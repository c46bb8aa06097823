package agent

import (
	"slices"
	"sync"
)

// transfersUnderWay knows the replications at work.
type transfersUnderWay struct {
	mu   sync.Mutex
	each map[*progress]struct{}
}

func (t *transfersUnderWay) add(p *progress) (forget func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.each == nil {
		t.each = make(map[*progress]struct{})
	}
	t.each[p] = struct{}{}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.each, p)
	}
}

func (t *transfersUnderWay) count() (transfers int, remaining uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range t.each {
		remaining += p.remaining()
	}
	return len(t.each), remaining
}

// Replications is how many replications are at work, and how many bytes they are to bring still, as far as known.
func (a *Agent) Replications() (transfers int, remaining uint64) { return a.underWay.count() }

// promises is the room in the pool that replications were promised, by job. One that is cut off keeps its promise until it is done or given
// up: what has arrived of it would be lost if others took the rest of its room meanwhile. It loses it to whoever brings the same
// snapshots in its place.
type promises struct {
	mu    sync.Mutex
	byJob map[string]*promise
}

// promise is room for the snapshots that a job brings.
type promise struct {
	brings   []arrival
	progress *progress // that has been promised some; nil before
}

// begin notes that a job, and no other, is about to bring snapshots.
func (s *promises) begin(jobID string, brings []arrival) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other, promised := range s.byJob {
		if other != jobID && slices.ContainsFunc(brings, func(a arrival) bool { return slices.Contains(promised.brings, a) }) {
			delete(s.byJob, other)
		}
	}
	if s.byJob == nil {
		s.byJob = make(map[string]*promise)
	}
	own := s.byJob[jobID]
	if own == nil {
		own = &promise{}
		s.byJob[jobID] = own
	}
	own.brings = brings
}

// grant promises the progress of a job room for least further bytes, and for up to most, if room holds that and what all other jobs are
// still to bring. It is remembered between begin and end only: a reader that outlasts its stream may still ask.
func (s *promises) grant(jobID string, p *progress, least, most, room uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other, promised := range s.byJob {
		if other != jobID && promised.progress != nil {
			room -= min(room, promised.progress.outstanding())
		}
	}
	if least > room {
		return false
	}
	p.promised.Store(p.bytes.Load() + min(most, room))
	if own := s.byJob[jobID]; own != nil {
		own.progress = p
	}
	return true
}

// end gives up what a job was promised.
func (s *promises) end(jobID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byJob, jobID)
}

// outstanding is what was promised room and has not come.
func (p *progress) outstanding() uint64 {
	promised, done := p.promised.Load(), p.bytes.Load()
	return promised - min(promised, done)
}
