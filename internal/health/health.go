// Package health is the one list of what is wrong with this agent now: probes, metrics, the command line and the log
// all show the same states.
package health

import (
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Code names a degraded state, for programs: in metrics, alerts and runbooks.
type Code string

// The states. docs/operations.md has the runbook of each, but of those that pass.
const (
	Starting            Code = "starting" // and Stopping: passing states of every life, which are not logged
	Stopping            Code = "stopping"
	StoreUnreachable    Code = "store_unreachable"
	LeaseLost           Code = "lease_lost"
	StoreUntrusted      Code = "store_untrusted"
	PoolUnreachable     Code = "pool_unreachable"
	PoolNotOnline       Code = "pool_not_online"
	PoolNearlyFull      Code = "pool_nearly_full"
	IncusUnreachable    Code = "incus_unreachable"
	CertificateExpiring Code = "certificate_expiring"
	GCFailing           Code = "gc_failing"
	Draining            Code = "draining"
	OutOfOrder          Code = "out_of_order"
	StoreDegraded       Code = "store_degraded"
)

// Codes lists all states there are.
func Codes() []Code {
	return []Code{
		Starting, Stopping, StoreUnreachable, LeaseLost, StoreUntrusted, PoolUnreachable, PoolNotOnline, PoolNearlyFull, IncusUnreachable,
		CertificateExpiring, GCFailing, Draining, OutOfOrder, StoreDegraded,
	}
}

func (c Code) passing() bool { return c == Starting || c == Stopping }

// Problem is what a degraded state is like at the moment.
type Problem struct {
	Text string // what is wrong
	Hint string // what to do about it
	// Blocks tells that the agent cannot do its work: it is not ready. Reads may still be answered.
	Blocks bool
}

// State is a degraded state that holds.
type State struct {
	Code   Code      `json:"code"`
	Text   string    `json:"text"`
	Hint   string    `json:"hint"`
	Blocks bool      `json:"blocks"`
	Since  time.Time `json:"since"`
}

// Registry holds the states. Its methods may be called concurrently.
type Registry struct {
	log *zap.Logger
	now func() time.Time

	mu     sync.Mutex
	states map[Code]State
}

// New returns a registry in which nothing is wrong. It logs what comes and goes.
func New(log *zap.Logger) *Registry {
	return &Registry{log: log, now: time.Now, states: make(map[Code]State)}
}

// Set raises the state, or describes it anew; nil clears it.
func (r *Registry) Set(code Code, problem *Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, held := r.states[code]
	if problem == nil {
		delete(r.states, code)
		if held && !code.passing() {
			r.log.Info("recovered", zap.String("code", string(code)), zap.Duration("after", r.now().Sub(was.Since)))
		}
		return
	}
	state := State{Code: code, Text: problem.Text, Hint: problem.Hint, Blocks: problem.Blocks, Since: was.Since}
	if !held {
		state.Since = r.now().UTC()
	}
	if !held && !code.passing() {
		r.log.Warn("degraded", zap.String("code", string(code)), zap.String("text", problem.Text), zap.String("hint", problem.Hint))
	}
	r.states[code] = state
}

// States returns what holds now, the oldest first.
func (r *Registry) States() []State {
	r.mu.Lock()
	defer r.mu.Unlock()
	states := make([]State, 0, len(r.states))
	for _, state := range r.states {
		states = append(states, state)
	}
	slices.SortFunc(states, func(x, y State) int {
		if order := x.Since.Compare(y.Since); order != 0 {
			return order
		}
		return slices.Index(Codes(), x.Code) - slices.Index(Codes(), y.Code)
	})
	return states
}

// Ready tells whether the agent can do its work: no state blocks it.
func (r *Registry) Ready() bool {
	return !slices.ContainsFunc(r.States(), func(s State) bool { return s.Blocks })
}
