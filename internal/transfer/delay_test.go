package transfer

import (
	"context"
	"net"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/transfer/delay"
)

func delayedDial(rtt time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	return delay.Dial(func() time.Duration { return rtt })
}
