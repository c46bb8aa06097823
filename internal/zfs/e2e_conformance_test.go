//go:build e2e

package zfs

import (
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/agent/conformance"
)

// The promises that the agent is built on, kept by real ZFS.
func TestRealConformance(t *testing.T) {
	conformance.Pool(t, func(t *testing.T) agent.Pool { return openReal(t).Pool })
}
