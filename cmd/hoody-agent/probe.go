package main

import "sync"

// probe is told of every effect on a server's stand-ins before and after it happens (sim.Options.Fault). It outlives the
// server's agents.
type probe struct {
	mu      sync.Mutex
	started map[string]int // instance: how often
	pause   *pause
}

func newProbe() *probe { return &probe{started: make(map[string]int)} }

// see never fails an effect; at most it holds one up.
func (p *probe) see(effect, object string) error {
	switch effect {
	case "start:after":
		p.mu.Lock()
		p.started[object]++
		p.mu.Unlock()
	case "receive:frame":
		p.mu.Lock()
		pause := p.pause
		p.mu.Unlock()
		if pause != nil {
			pause.check()
		}
	}
	return nil
}

// boots is how often an instance was started.
func (p *probe) boots(instance string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.started[instance]
}

// pauseWhen holds up the stream that is being received as soon as due says so, until over is called.
func (p *probe) pauseWhen(due func() bool) *pause {
	set := &pause{due: due, reached: make(chan struct{}), released: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pause = set
	return set
}

// pause is a point at which streams wait.
type pause struct {
	due      func() bool
	reached  chan struct{}
	released chan struct{}
	reach    sync.Once
	release  sync.Once
}

func (p *pause) check() {
	select {
	case <-p.released:
		return
	default:
	}
	if p.due() {
		p.reach.Do(func() { close(p.reached) })
		<-p.released
	}
}

// over lets the stream go on. It may be called more than once.
func (p *pause) over() { p.release.Do(func() { close(p.released) }) }
