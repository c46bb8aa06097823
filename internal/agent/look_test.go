package agent

import (
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// What two looks at a container's files tell of the time between them.
func TestLook(t *testing.T) {
	state := func(newest, written, referenced uint64) store.FileState {
		return store.FileState{Newest: lineage.GUID(newest), Written: written, Referenced: referenced}
	}
	for name, c := range map[string]struct {
		look look
		want bool
	}{
		"first, as snapshot":              {look{now: state(1, 0, 10), byAgent: true, marker: 1}, false},
		"first, written to":               {look{now: state(1, 5, 10), byAgent: true, marker: 1}, true},
		"nothing":                         {look{known: true, past: state(1, 5, 10), now: state(1, 5, 10)}, false},
		"more written":                    {look{known: true, past: state(1, 5, 10), now: state(1, 6, 11)}, true},
		"less written":                    {look{known: true, past: state(1, 5, 10), now: state(1, 4, 9)}, true},
		"as much, other sizes":            {look{known: true, past: state(1, 5, 10), now: state(1, 5, 9)}, true},
		"frozen, and quiet since":         {look{known: true, past: state(1, 5, 10), now: state(2, 0, 12), byAgent: true}, false},
		"frozen, and written to since":    {look{known: true, past: state(1, 5, 10), now: state(2, 1, 12), byAgent: true}, true},
		"somebody else's snapshot":        {look{known: true, past: state(1, 5, 10), now: state(2, 0, 10)}, true},
		"another generation":              {look{known: true, past: state(1, 5, 10), now: state(2, 0, 10), byAgent: true, marker: 2}, true},
		"an older snapshot was destroyed": {look{known: true, past: state(2, 5, 10), now: state(2, 5, 10), byAgent: true}, false},
	} {
		if got := c.look.changed(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
