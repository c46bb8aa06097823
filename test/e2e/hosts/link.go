package hosts

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Link is the quality of the network between two hosts. The zero value is a plain local network.
type Link struct {
	Delay time.Duration // one way
	Loss  float64       // packets lost, in percent
	Rate  string        // bandwidth as tc takes it, such as "100mbit"; empty is unlimited
}

// Link changes the network between the hosts, for what each sends to the other. The tester's own traffic
// stays fast. It needs both hosts up and lasts until one of them boots.
func (c *Cluster) Link(ctx context.Context, link Link) error {
	for i, host := range c.Hosts {
		peer := c.Hosts[1-i]
		if _, err := host.Run(ctx, link.script(peer.addr)); err != nil {
			return fmt.Errorf("set link of %s: %w", host.name, err)
		}
	}
	return nil
}

// script shapes what goes to peer and leaves alone what goes elsewhere: band 1 of a prio qdisc takes all
// traffic, band 2 what the filter sends there. The guests do this, for the kernel below may lack netem.
func (l Link) script(peer string) string {
	const dev = "dev vec0"
	lines := []string{"tc qdisc delete " + dev + " root 2>/dev/null || true"}
	if l != (Link{}) {
		netem := fmt.Sprintf("netem limit 100000 delay %dus loss %g%%", l.Delay.Microseconds(), l.Loss)
		if l.Rate != "" {
			netem += " rate " + l.Rate
		}
		lines = append(lines,
			"tc qdisc add "+dev+" root handle 1: prio bands 2 priomap 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
			"tc qdisc add "+dev+" parent 1:2 handle 2: "+netem,
			"tc filter add "+dev+" parent 1: protocol ip u32 match ip dst "+peer+"/32 flowid 1:2",
		)
	}
	return "set -e\n" + strings.Join(lines, "\n")
}

// Cut takes a host off the network without its noticing: connections hang, nothing is refused. The tester
// does not reach it either, so commands on it last until their context ends.
func (c *Cluster) Cut(ctx context.Context, host *Host) error {
	if err := c.network.unplug(ctx, host.vm.tap); err != nil {
		return fmt.Errorf("cut %s: %w", host.name, err)
	}
	return nil
}

// Heal undoes Cut.
func (c *Cluster) Heal(ctx context.Context, host *Host) error {
	if err := c.network.plug(ctx, host.vm.tap); err != nil {
		return fmt.Errorf("heal %s: %w", host.name, err)
	}
	return nil
}

// Split keeps the hosts from each other as Cut does, while the tester reaches both.
func (c *Cluster) Split(ctx context.Context) error { return c.isolate(ctx, true) }

// Join undoes Split.
func (c *Cluster) Join(ctx context.Context) error { return c.isolate(ctx, false) }

func (c *Cluster) isolate(ctx context.Context, on bool) error {
	for _, host := range c.Hosts {
		if err := c.network.isolate(ctx, host.vm.tap, on); err != nil {
			return fmt.Errorf("isolate %s: %w", host.name, err)
		}
	}
	return nil
}
