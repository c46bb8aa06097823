package store

import (
	"errors"
	"testing"
	"time"
)

// A member is asked for its quota once an hour, one that did not tell sooner.
func TestQuotasAreRemembered(t *testing.T) {
	var q quotas
	asked := 0
	answer, failure := int64(7), error(nil)
	ask := func(endpoint string, at time.Duration) int64 {
		return q.of(endpoint, time.Unix(0, 0).Add(at), func() (int64, error) { asked++; return answer, failure })
	}
	for _, step := range []struct {
		endpoint string
		at       time.Duration
		answer   int64
		failure  error
		want     int64
		asked    int
	}{
		{"a", 0, 7, nil, 7, 1},
		{"a", 59 * time.Minute, 8, nil, 7, 1},
		{"b", 59 * time.Minute, 9, nil, 9, 2},
		{"a", time.Hour, 8, nil, 8, 3},
		{"a", 2 * time.Hour, 0, errors.New("no metrics"), 0, 4},
		{"a", 2*time.Hour + 4*time.Minute, 8, nil, 0, 4},
		{"a", 2*time.Hour + 5*time.Minute, 8, nil, 8, 5},
	} {
		answer, failure = step.answer, step.failure
		if got := ask(step.endpoint, step.at); got != step.want || asked != step.asked {
			t.Errorf("%s at %v: %d after %d questions, want %d and %d", step.endpoint, step.at, got, asked, step.want, step.asked)
		}
	}
}
