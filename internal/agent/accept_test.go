package agent

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// A store that is full is no quota of the caller's.
func TestFullStoreIsUnavailable(t *testing.T) {
	err := new(Agent).outcome(0, fmt.Errorf("put container: %w", store.ErrFull))
	if errdefs.ClassOf(err) != errdefs.ErrUnavailable || !errors.Is(err, store.ErrFull) {
		t.Errorf("%v (%v)", err, errdefs.ClassOf(err))
	}
}
