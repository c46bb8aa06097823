package contract

import (
	"encoding/json"
	"fmt"
	"time"
)

// timestampLayout has exactly milliseconds; RFC 3339 as package time writes it drops trailing zeros.
const timestampLayout = "2006-01-02T15:04:05.000Z"

// Timestamp is a time that travels as ISO 8601 in UTC with exactly milliseconds.
type Timestamp struct{ time.Time }

// At returns t as it travels.
func At(t time.Time) Timestamp { return Timestamp{t} }

// AtIfAny returns t as it travels, nil for none.
func AtIfAny(t *time.Time) *Timestamp {
	if t == nil || t.IsZero() {
		return nil
	}
	return &Timestamp{*t}
}

// MarshalJSON writes t in UTC, cut to milliseconds.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	return json.Marshal(t.UTC().Format(timestampLayout))
}

// UnmarshalJSON accepts only what MarshalJSON writes.
func (t *Timestamp) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("timestamp: %w", err)
	}
	parsed, err := time.Parse(timestampLayout, text)
	if err != nil {
		return fmt.Errorf("timestamp: %w", err)
	}
	t.Time = parsed.UTC()
	return nil
}

// OptionalLimit is a limit in a request that changes only what it names: null means no limit there, and silence that the
// limit stays.
type OptionalLimit struct {
	Given bool
	Limit *int // nil for none
}

// UnmarshalJSON reads a limit that is given; nobody calls it for one that is not.
func (l *OptionalLimit) UnmarshalJSON(data []byte) error {
	l.Given = true
	return json.Unmarshal(data, &l.Limit)
}

// OptionalText is a text in a request that changes only what it names: null means none there, and silence that the text
// stays.
type OptionalText struct {
	Given bool
	Text  *string // nil for none
}

// UnmarshalJSON reads a text that is given; nobody calls it for one that is not.
func (t *OptionalText) UnmarshalJSON(data []byte) error {
	t.Given = true
	return json.Unmarshal(data, &t.Text)
}

// Error is the envelope of every failure.
type Error struct {
	StatusCode int    `json:"statusCode"`
	Reason     string `json:"error"` // reason phrase of the status, or the code where the contract puts it here
	Message    string `json:"message"`
	Code       string `json:"code"`
	Data       any    `json:"data,omitempty"` // []Issue, or an object with facts about the case
}

// Success is the envelope of every success that has something to hand over.
type Success[T any] struct {
	StatusCode int    `json:"statusCode"`
	Message    string `json:"message"`
	Data       T      `json:"data"`
}

// Done is the envelope of a success that has nothing to hand over.
type Done struct {
	StatusCode int    `json:"statusCode"`
	Message    string `json:"message"`
}
