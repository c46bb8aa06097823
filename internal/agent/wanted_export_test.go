package agent

// Awaited tells whether a replication waits for a snapshot that another one brings.
func (a *Agent) Awaited() bool {
	a.inFlight.mu.Lock()
	defer a.inFlight.mu.Unlock()
	for guid, count := range a.inFlight.wanted {
		if _, coming := a.inFlight.arrival[guid]; coming && count > 1 {
			return true
		}
	}
	return false
}
