package sim_test

import (
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/agent/conformance"
	"github.com/hoodynetwork/hoody-agent/internal/sim"
)

func TestPoolConforms(t *testing.T) {
	pool := newPool(t, sim.Options{})
	conformance.Pool(t, func(*testing.T) agent.Pool { return pool })
	inv, err := pool.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range inv.Datasets {
		if d.Name != "hoody" && d.Name != "containers" {
			t.Errorf("the suite left %s", d.Name)
		}
	}
}
