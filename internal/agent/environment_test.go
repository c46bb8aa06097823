package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// An environment is bounded; one that is too large already may only shrink.
func TestEnvironmentIsBounded(t *testing.T) {
	large := func(bytes int) map[string]string { return map[string]string{"A": strings.Repeat("x", bytes-1)} }
	many := make(map[string]string)
	for i := range maxVariables + 1 {
		many[fmt.Sprint("A", i)] = "x"
	}
	for name, c := range map[string]struct {
		before, env map[string]string
		class       error
	}{
		"as large as may be":     {nil, large(maxEnvironment), nil},
		"too large":              {nil, large(maxEnvironment + 1), errdefs.ErrInvalid},
		"smaller than before":    {large(maxEnvironment + 2), large(maxEnvironment + 1), nil},
		"as large as before":     {large(maxEnvironment + 1), large(maxEnvironment + 1), nil},
		"too many":               {nil, many, errdefs.ErrInvalid},
		"nothing of a large one": {large(maxEnvironment + 1), nil, nil},
	} {
		if err := checkEnvironment("", c.before, c.env); !errors.Is(err, c.class) {
			t.Errorf("%s: %v, want %v", name, err, c.class)
		}
	}
}
