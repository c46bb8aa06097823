//go:build e2e

package lxc_test

import (
	"context"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/agent/conformance"
	"github.com/hoodynetwork/hoody-agent/internal/zfs"
)

func TestRealConformance(t *testing.T) {
	conformance.Runtime(t, func(t *testing.T) (agent.Runtime, agent.Pool) {
		runtime, ctx := open(t)
		root, err := runtime.PoolDataset(ctx)
		must(t, err)
		pool, err := zfs.Open(ctx, root, zfs.Options{StateDir: t.TempDir()})
		must(t, err)
		t.Cleanup(func() {
			if err := pool.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		return runtime, pool
	})
}
