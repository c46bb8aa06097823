package health

import (
	"encoding/json"
	"net/http"
)

// probe is what a probe answers. Anybody may ask, so it names states and tells nothing about them.
type probe struct {
	Status string `json:"status"` // ok, degraded or not ready
	States []Code `json:"states"`
}

// ServeLive answers GET /healthz: 200 as long as the process answers. Restarting it helps against none of the states.
func (r *Registry) ServeLive(w http.ResponseWriter, _ *http.Request) {
	answer := probeOf(r.States())
	answer.write(w, http.StatusOK)
}

// ServeReady answers GET /readyz: 200 when the agent can do its work, 503 when a state blocks it.
func (r *Registry) ServeReady(w http.ResponseWriter, _ *http.Request) {
	states := r.States()
	answer, status := probeOf(states), http.StatusOK
	for _, state := range states {
		if state.Blocks {
			answer.Status, status = "not ready", http.StatusServiceUnavailable
		}
	}
	answer.write(w, status)
}

func probeOf(states []State) probe {
	answer := probe{Status: "ok", States: []Code{}}
	for _, state := range states {
		answer.Status = "degraded"
		answer.States = append(answer.States, state.Code)
	}
	return answer
}

func (p probe) write(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p) // who asked may be gone
}
