package agent

// Awaited tells whether a replication waits for a snapshot that another one brings.
func (a *Agent) Awaited() bool {
	a.inFlight.mu.Lock()
	defer a.inFlight.mu.Unlock()
	for coming := range a.inFlight.arrivals {
		if a.inFlight.wanted[coming.guid] > 1 {
			return true
		}
	}
	return false
}
