package agent

import "sync"

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
// up: what has arrived of it would be lost if others took the rest of its room meanwhile.
type promises struct {
	mu    sync.Mutex
	byJob map[string]*progress
}

// promise gives a job's progress room for at least so many more bytes, and for at most so many, if room holds that and what all others are
// still to bring.
func (s *promises) promise(jobID string, p *progress, least, most, room uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other, promised := range s.byJob {
		if other != jobID {
			room -= min(room, promised.outstanding())
		}
	}
	if least > room {
		return false
	}
	p.promised.Store(p.bytes.Load() + min(most, room))
	if s.byJob == nil {
		s.byJob = make(map[string]*progress)
	}
	s.byJob[jobID] = p
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
