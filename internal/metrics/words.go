package metrics

import (
	"strings"
	"sync"
)

// maxWords is how many values one label takes. Routes are the most varied, and there are fewer of them than this.
const maxWords = 100

// otherWord stands for every value that came too late.
const otherWord = "other"

// words keeps labels bounded, whoever calls: each distinct value is a time series for the life of the process, and a
// label that follows a request (a method, say, which clients invent) could fill the memory of agent and Prometheus.
// The first values of a label are kept, the rest are "other". The zero value is ready.
type words struct {
	mu    sync.RWMutex
	known map[string]map[string]bool
}

func (w *words) bound(label, value string) string {
	w.mu.RLock()
	known := w.known[label][value]
	w.mu.RUnlock()
	if known {
		return value
	}
	return w.learn(label, value)
}

func (w *words) learn(label, value string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known == nil {
		w.known = map[string]map[string]bool{}
	}
	values := w.known[label]
	if values == nil {
		values = map[string]bool{}
		w.known[label] = values
	}
	if len(values) >= maxWords && !values[value] {
		return otherWord
	}
	// Cloned, since a value may be a part of something large; repaired, since the registry panics on broken UTF-8.
	value = strings.ToValidUTF8(strings.Clone(value), "?")
	values[value] = true
	return value
}
