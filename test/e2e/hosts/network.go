package hosts

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
)

const (
	bridgeName = "br-e2e"
	prefixBits = 24
)

// testerAddr is the address of the machine that runs the tests, on the bridge.
var testerAddr = netip.AddrFrom4([4]byte{10, 99, 0, 254})

// network is a bridge with a tap device for each guest, in a namespace.
type network struct {
	ns   *netns
	taps []string
}

// up makes the bridge and the taps. The names are fixed: every cluster has a namespace of its own.
func (n *network) up(ctx context.Context) error {
	steps := [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "link", "add", bridgeName, "type", "bridge", "forward_delay", "0"},
		{"ip", "address", "add", fmt.Sprintf("%s/%d", testerAddr, prefixBits), "dev", bridgeName},
		{"ip", "link", "set", bridgeName, "up"},
	}
	for _, tap := range n.taps {
		steps = append(steps,
			[]string{"ip", "tuntap", "add", tap, "mode", "tap", "vnet_hdr"},
			[]string{"ip", "link", "set", tap, "master", bridgeName, "up"},
		)
	}
	for _, argv := range steps {
		if err := n.run(ctx, argv...); err != nil {
			return fmt.Errorf("set up network: %w", err)
		}
	}
	return nil
}

// down removes what up made, whether up got to it or not. It works after the context of a test has ended.
func (n *network) down() error {
	for _, device := range append([]string{bridgeName}, n.taps...) {
		_ = n.run(context.Background(), "ip", "link", "delete", device)
	}
	return nil
}

// unplug takes a guest off the bridge. Neither end notices: no frame arrives, no carrier is lost, and
// connections hang as they do when a switch dies.
func (n *network) unplug(ctx context.Context, tap string) error {
	return n.run(ctx, "ip", "link", "set", tap, "nomaster")
}

func (n *network) plug(ctx context.Context, tap string) error {
	return n.run(ctx, "ip", "link", "set", tap, "master", bridgeName)
}

// isolate keeps a guest from the other isolated guests; the tester still reaches it.
func (n *network) isolate(ctx context.Context, tap string, on bool) error {
	state := "off"
	if on {
		state = "on"
	}
	return n.run(ctx, "bridge", "link", "set", "dev", tap, "isolated", state)
}

func (n *network) run(ctx context.Context, argv ...string) error {
	return n.ns.do(func() error { return runCommand(exec.CommandContext(ctx, argv[0], argv[1:]...)) })
}
