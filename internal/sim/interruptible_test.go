package sim_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/sim"
)

// silent is a stream of which nothing comes until it is closed.
type silent struct {
	*io.PipeReader
	asked   context.CancelFunc
	reading atomic.Bool
}

func (s *silent) Read(p []byte) (int, error) {
	s.reading.Store(true)
	s.asked()
	n, err := s.PipeReader.Read(p)
	s.reading.Store(false)
	return n, err
}

// A stream may be asked how far it came as soon as Receive returned.
func TestCancelledReceiveLeavesTheStreamAlone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	reader, _ := io.Pipe()
	stream := &silent{PipeReader: reader, asked: cancel}
	err := newPool(t, sim.Options{}).Receive(ctx, agent.ReceiveSpec{To: "hoody/incoming/x@s"}, stream)
	if !errors.Is(err, context.Canceled) || stream.reading.Load() {
		t.Errorf("%v; still reading: %v", err, stream.reading.Load())
	}
}
