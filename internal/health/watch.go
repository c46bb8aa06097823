package health

import (
	"context"
	"sync"
	"time"
)

// Check finds out whether states hold. It answers within its context's time; the states that it is about are its Codes.
type Check struct {
	Every time.Duration
	// Limit bounds one look. A look that takes longer is over when its context ends, as whatever it returns then.
	Limit time.Duration
	// Look returns the states that hold; those of Codes that it leaves out do not.
	Look  func(ctx context.Context) map[Code]Problem
	Codes []Code
}

// Watch runs the checks, each at once and then time after time, until ctx ends, and waits for them.
func (r *Registry) Watch(ctx context.Context, checks ...Check) {
	var looking sync.WaitGroup
	defer looking.Wait()
	for _, check := range checks {
		looking.Go(func() { r.repeat(ctx, check) })
	}
}

func (r *Registry) repeat(ctx context.Context, check Check) {
	ticker := time.NewTicker(check.Every)
	defer ticker.Stop()
	for {
		r.look(ctx, check)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (r *Registry) look(ctx context.Context, check Check) {
	limited, cancel := context.WithTimeout(ctx, check.Limit)
	defer cancel()
	found := check.Look(limited)
	if ctx.Err() != nil {
		return // a shutdown is no failure of what was looked at
	}
	for _, code := range check.Codes {
		problem, holds := found[code]
		if holds {
			r.Set(code, &problem)
		} else {
			r.Set(code, nil)
		}
	}
}
