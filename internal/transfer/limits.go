package transfer

import (
	"sync"

	"golang.org/x/time/rate"
)

// limitBurst is how many bytes may pass at once under a limit: a piece as large as the sender's.
const limitBurst = pieceSize + storedOverhead

// Limits bound the bandwidth of streams in one direction, of all together and of those with each peer. They can be changed
// while streams run. Safe for concurrent use.
type Limits struct {
	all *rate.Limiter

	mu      sync.Mutex
	perPeer rate.Limit
	peers   map[string]*rate.Limiter // of every peer there has been: as many as there are servers
}

// NewLimits returns limits in bytes per second; 0 is none.
func NewLimits(all, perPeer uint64) *Limits {
	return &Limits{all: rate.NewLimiter(limit(all), limitBurst), perPeer: limit(perPeer), peers: map[string]*rate.Limiter{}}
}

// Set changes the limits, for streams under way, too.
func (l *Limits) Set(all, perPeer uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.SetLimit(limit(all))
	l.perPeer = limit(perPeer)
	for _, peer := range l.peers {
		peer.SetLimit(l.perPeer)
	}
}

// For returns what a stream with a peer has to wait for: the peer's limit, then everybody's. Of nil Limits it is nothing.
func (l *Limits) For(peer string) []Limiter {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.peers[peer]
	if limiter == nil {
		limiter = rate.NewLimiter(l.perPeer, limitBurst)
		l.peers[peer] = limiter
	}
	return []Limiter{limiter, l.all}
}

func limit(bytesPerSecond uint64) rate.Limit {
	if bytesPerSecond == 0 {
		return rate.Inf
	}
	return rate.Limit(bytesPerSecond)
}
