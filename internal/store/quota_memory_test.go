package store

import (
	"errors"
	"testing"
	"time"
)

// A member is asked for its quota once an hour, sooner if it did not tell, and each time while its database is nearly that large.
func TestQuotasAreRemembered(t *testing.T) {
	var q quotas
	asked := 0
	for _, step := range []struct {
		endpoint string
		at       time.Duration
		size     int64
		answer   int64
		failure  error
		want     int64
		asked    int
	}{
		{"a", 0, 10, 100, nil, 100, 1},
		{"a", 59 * time.Minute, 79, 200, nil, 100, 1},
		{"b", 59 * time.Minute, 10, 0, errors.New("no metrics"), 0, 2},
		{"b", 63 * time.Minute, 10, 100, nil, 0, 2},
		{"b", 64 * time.Minute, 10, 100, nil, 100, 3},
		{"a", time.Hour, 10, 0, errors.New("slow"), 100, 4},
		{"a", time.Hour + 5*time.Minute, 10, 100, nil, 100, 5},
		{"a", time.Hour + 6*time.Minute, 80, 100, nil, 100, 6},
		{"a", time.Hour + 7*time.Minute, 80, 200, nil, 200, 7},
		{"a", time.Hour + 8*time.Minute, 80, 200, nil, 200, 7},
	} {
		got := q.of(step.endpoint, step.size, time.Unix(0, 0).Add(step.at), func() (int64, error) { asked++; return step.answer, step.failure })
		if got != step.want || asked != step.asked {
			t.Errorf("%s at %v: %d after %d questions, want %d and %d", step.endpoint, step.at, got, asked, step.want, step.asked)
		}
	}
}
