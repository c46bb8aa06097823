package transfer

import (
	"sync"

	"golang.org/x/time/rate"
)

const (
	// limitBurst is how many bytes may pass at once under a limit: a piece as large as the sender's.
	limitBurst = pieceSize + storedOverhead
	// minLimitPiece is the least that streams take from a limit at a time in bytes: what a record of TLS holds.
	minLimitPiece = 16 << 10
)

// Limits bound the bandwidth of streams in one direction, of all together and of those with each peer. They can be changed
// while streams run. Safe for concurrent use.
type Limits struct {
	all bandwidth

	mu      sync.Mutex
	perPeer rate.Limit
	peers   map[string]bandwidth // of every peer there has been: as many as there are servers
}

// NewLimits returns limits in bytes per second; 0 is none.
func NewLimits(all, perPeer uint64) *Limits {
	return &Limits{all: newBandwidth(limit(all)), perPeer: limit(perPeer), peers: map[string]bandwidth{}}
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
	limiter, known := l.peers[peer]
	if !known {
		limiter = newBandwidth(l.perPeer)
		l.peers[peer] = limiter
	}
	return []Limiter{limiter, l.all}
}

// bandwidth is one limit. Streams under it take turns, in the order in which they ask.
type bandwidth struct{ *rate.Limiter }

func newBandwidth(limit rate.Limit) bandwidth { return bandwidth{rate.NewLimiter(limit, limitBurst)} }

// Burst is how much a stream takes at a time: what passes in a quarter of a second. Under a low limit larger pieces would make the
// turns so long that receivers took their streams for dead. What the limiter itself lets pass at once stays, so that a piece cut
// before a change of the limit still passes after it.
func (b bandwidth) Burst() int {
	return int(min(max(b.Limit()/4, minLimitPiece), limitBurst))
}

func limit(bytesPerSecond uint64) rate.Limit {
	if bytesPerSecond == 0 {
		return rate.Inf
	}
	return rate.Limit(bytesPerSecond)
}
