package api

import (
	"crypto/sha256"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Limits are what one token may ask for, and what one user may hold open.
type Limits struct {
	PerSecond int // requests of one token, on average; 0 = no limit
	Burst     int // requests of one token at once
	Streams   int // open streams of events of one user; 0 = no limit
}

// maxTokens is how many tokens are told apart. Beyond it the one that was silent for longest starts afresh.
const maxTokens = 10_000

// maxStreams bounds the open streams of all users together, where there is a limit at all.
const maxStreams = 1000

// Limiter keeps clients within Limits. The control plane is not limited: all users' requests come through it.
type Limiter struct {
	now func() time.Time

	mu      sync.Mutex
	limits  Limits
	tokens  *simplelru.LRU[[sha256.Size]byte, *rate.Limiter]
	streams map[string]int // by user
	open    int
}

// NewLimiter returns a limiter; Set changes its limits later.
func NewLimiter(limits Limits) *Limiter {
	tokens, err := simplelru.NewLRU[[sha256.Size]byte, *rate.Limiter](maxTokens, nil)
	if err != nil {
		panic(err) // says that maxTokens is not positive
	}
	return &Limiter{now: time.Now, limits: limits, tokens: tokens, streams: make(map[string]int)}
}

// Set changes the limits. All tokens start afresh under other ones; streams that are open stay.
func (l *Limiter) Set(limits Limits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if limits == l.limits {
		return
	}
	l.limits = limits
	l.tokens.Purge()
}

// admit takes one request of a token into account, or refuses it.
func (l *Limiter) admit(r *http.Request, caller agent.Caller) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limits.PerSecond <= 0 || caller.Operator {
		return nil
	}
	token := sha256.Sum256([]byte(r.Header.Get("Authorization")))
	bucket, known := l.tokens.Get(token)
	if !known {
		bucket = rate.NewLimiter(rate.Limit(l.limits.PerSecond), max(1, l.limits.Burst))
		l.tokens.Add(token, bucket)
	}
	now := l.now()
	reserved := bucket.ReserveN(now, 1)
	wait := reserved.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	reserved.CancelAt(now)
	return &tooMany{wait: wait}
}

// holdStream counts an open stream until it is released. Operators' are not counted.
func (l *Limiter) holdStream(caller agent.Caller) (release func(), err error) {
	if caller.Operator {
		return func() {}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if limit := l.limits.Streams; limit > 0 && (l.streams[caller.UserID] >= limit || l.open >= maxStreams) {
		return nil, &tooMany{wait: time.Second}
	}
	l.streams[caller.UserID]++
	l.open++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open--
		if l.streams[caller.UserID]--; l.streams[caller.UserID] == 0 {
			delete(l.streams, caller.UserID)
		}
	}, nil
}

// tooMany refuses a request that comes too soon.
type tooMany struct{ wait time.Duration }

func (e *tooMany) Error() string { return fmt.Sprintf("rate limit exceeded for another %s", e.wait) }

// seconds is how long to wait, as Retry-After has it.
func (e *tooMany) seconds() string { return fmt.Sprint(max(1, int(math.Ceil(e.wait.Seconds())))) }

// Unwrap says it in the contract's words.
func (e *tooMany) Unwrap() error {
	return errdefs.New(errdefs.ErrExhausted, "RATE_LIMIT_EXCEEDED", "Rate limit exceeded")
}
