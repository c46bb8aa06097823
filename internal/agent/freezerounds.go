package agent

import (
	"sync"

	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// maxFreezeRound bounds how many jobs share one freeze, and with it the transaction that records it. Each job gets the
// source's history written along; maxFreezeHistory bounds how many bytes of them are in one, as JSON.
const (
	maxFreezeRound   = 20
	maxFreezeHistory = 700 << 10
)

// freezeRounds lets jobs that wait to freeze the same container share one snapshot. A snapshot serves every job that
// asked before it was made.
type freezeRounds struct {
	mu      sync.Mutex
	waiting map[string]*freezeRound  // by container: the round that still takes jobs
	turn    map[string]chan struct{} // by container: held by the round at work; never deleted, one small entry per source
}

type freezeRound struct {
	jobs []store.Job
	done chan struct{}
	err  error
}

func newFreezeRounds() *freezeRounds {
	return &freezeRounds{waiting: make(map[string]*freezeRound), turn: make(map[string]chan struct{})}
}

// join adds the job to the container's next round; the first of a round leads it.
func (f *freezeRounds) join(job store.Job) (round *freezeRound, turn chan struct{}, leads bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	turn = f.turn[job.SourceID]
	if turn == nil {
		turn = make(chan struct{}, 1)
		f.turn[job.SourceID] = turn
	}
	round = f.waiting[job.SourceID]
	if round == nil || len(round.jobs) == maxFreezeRound {
		round, leads = &freezeRound{done: make(chan struct{})}, true
		f.waiting[job.SourceID] = round
	}
	round.jobs = append(round.jobs, job)
	return round, turn, leads
}

// underWay tells whether a round is at work on the container, from before its snapshot is made until it is recorded.
func (f *freezeRounds) underWay(container string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.turn[container]) > 0
}

// close ends the taking of jobs: who comes from here on wants a later state.
func (f *freezeRounds) close(container string, round *freezeRound) []store.Job {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting[container] == round {
		delete(f.waiting, container)
	}
	return round.jobs
}
