// Package doctor looks for what keeps an agent from working well, and says what to do about it.
//
// Each check is a function of what it looks at, given as a small interface or function, and knows nothing of the others. A check
// changes nothing.
package doctor

import (
	"context"
	"fmt"
	"time"
)

// Level is how bad a finding is.
type Level string

// The levels.
const (
	OK   Level = "OK"
	Warn Level = "WARN" // works, but somebody should look
	Fail Level = "FAIL" // keeps the agent from (part of) its work
)

// Finding is what a check has to say.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	Text  string `json:"text"`           // what is the case
	Hint  string `json:"hint,omitempty"` // what to do about it; empty for OK
}

// Check looks at one thing. It returns when ctx ends.
type Check struct {
	Name string
	Look func(ctx context.Context) []Finding
}

// Examine runs the checks one after the other, each within the limit, and returns their findings in that order. A check with
// nothing to say is left out.
func Examine(ctx context.Context, limit time.Duration, checks ...Check) []Finding {
	findings := []Finding{}
	for _, check := range checks {
		bounded, cancel := context.WithTimeout(ctx, limit)
		found := check.Look(bounded)
		cancel()
		for _, finding := range found {
			finding.Check = check.Name
			findings = append(findings, finding)
		}
	}
	return findings
}

// Failed tells whether a finding is a failure.
func Failed(findings []Finding) bool {
	for _, finding := range findings {
		if finding.Level == Fail {
			return true
		}
	}
	return false
}

func ok(format string, args ...any) []Finding {
	return []Finding{{Level: OK, Text: fmt.Sprintf(format, args...)}}
}

func warn(hint, format string, args ...any) []Finding {
	return []Finding{{Level: Warn, Text: fmt.Sprintf(format, args...), Hint: hint}}
}

func fail(hint, format string, args ...any) []Finding {
	return []Finding{{Level: Fail, Text: fmt.Sprintf(format, args...), Hint: hint}}
}
