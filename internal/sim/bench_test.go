package sim_test

import (
	"math/rand/v2"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/sim"
)

// BenchmarkCopy is a first copy of a container with 256 MiB that nothing compresses: snapshot, stream, checkout.
func BenchmarkCopy(b *testing.B) {
	const size = 256 << 20
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	b.SetBytes(size)
	for b.Loop() {
		b.StopTimer()
		from, to := newPool(b, sim.Options{}), newPool(b, sim.Options{})
		ctx := b.Context()
		put(b, from, "containers/a", map[string]string{"rootfs/data": string(data)})
		b.StartTimer()
		snapshot(b, from, "containers/a", "hoody-1")
		stream, err := from.Send(ctx, agent.SendSpec{To: "containers/a@hoody-1"})
		if err != nil {
			b.Fatal(err)
		}
		if err := to.Create(ctx, "containers", nil); err != nil {
			b.Fatal(err)
		}
		if err := to.Receive(ctx, agent.ReceiveSpec{To: "containers/a@hoody-1"}, stream); err != nil {
			b.Fatal(err)
		}
		stream.Close()
		put(b, to, "containers/a", map[string]string{"rootfs/hostname": "a"})
		snapshot(b, to, "containers/a", "hoody-2")
	}
}
