package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Certificate is the agent's own, as its peers will see it.
type Certificate struct {
	Leaf     *x509.Certificate
	Roots    *x509.CertPool
	ServerID string // that it carries
}

// Certificates checks the certificate of a server: that the fleet's authority signed it, that it is the server's, that it is
// valid now and stays so, and that it carries the names under which other agents look for its store. Where clients of the API look for another
// name than stands in it, that is a warning: they may know it by a name that nothing here tells.
func Certificates(load func() (Certificate, error), serverID string, store, api []string, now time.Time) Check {
	return Check{Name: "certificate", Look: func(context.Context) []Finding {
		c, err := load()
		has := c.Leaf
		if c.ServerID != serverID {
			has = nil
		}
		issue := issuing(serverID, slices.Concat(store, api), has)
		if err != nil {
			return fail(issue, "it cannot be read: %v", err)
		}
		switch {
		case c.ServerID != serverID:
			return fail(issue, "it is server %s's, this is %s", c.ServerID, serverID)
		case now.After(c.Leaf.NotAfter):
			return fail(issue, "it expired at %s", c.Leaf.NotAfter.UTC().Format(time.RFC3339))
		case now.Before(c.Leaf.NotBefore):
			return fail("set the clock, on this machine or the one with the authority", "it is not valid before %s", c.Leaf.NotBefore.UTC().Format(time.RFC3339))
		}
		options := x509.VerifyOptions{Roots: c.Roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if _, err := c.Leaf.Verify(options); err != nil {
			return fail(issue, "the fleet's authority did not sign it: %v", err)
		}
		for _, name := range store {
			if err := c.Leaf.VerifyHostname(name); err != nil {
				return fail(issue, "others reach this server's store as %s, which does not stand in it", name)
			}
		}
		for _, name := range api {
			if err := c.Leaf.VerifyHostname(name); err != nil {
				return warn(issue, "clients of the API that reach it as %s refuse it: that does not stand in it", name)
			}
		}
		left, life := c.Leaf.NotAfter.Sub(now), c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)
		if left < min(14*24*time.Hour, life/3) {
			return warn(issue, "it expires in %.0f days", left.Hours()/24)
		}
		return ok("valid for %.0f days", left.Hours()/24)
	}}
}

// issuing tells how to get a certificate for a server: with the names that it needs, and those that it has.
func issuing(serverID string, names []string, has *x509.Certificate) string {
	all := slices.Clone(names)
	if has != nil {
		all = append(all, has.DNSNames...)
		for _, address := range has.IPAddresses {
			all = append(all, address.String())
		}
	}
	slices.Sort(all)
	command := "hoody-agent pki issue --ca ./ca --out ./new --server " + serverID
	for _, name := range slices.Compact(all) {
		command += " --name " + name
	}
	return "on the machine with the authority: " + command + "; bring agent.pem from there (and ca.crt, if there is none) into peer.credentials here, the agent takes it up by itself"
}

// Peer is how it went to reach another server's agent.
type Peer struct {
	Name, Address string
	There         string        // why it cannot be reached; empty: it can
	Back          string        // why it cannot reach this one
	Skew          time.Duration // its clock's lead
}

const (
	smallSkew = 2 * time.Second
	largeSkew = 30 * time.Second // tokens and certificates begin to be refused
)

// Peers checks that every other agent can be reached and can reach this one.
func Peers(peers []Peer) Check {
	return Check{Name: "peers", Look: func(context.Context) []Finding {
		var findings []Finding
		for _, peer := range peers {
			switch {
			case peer.There != "":
				findings = append(findings, fail("is it up, does "+orUnknown(peer.Address)+" lead to it, are both certificates of the same authority?",
					"%s cannot be reached: %s", peer.Name, peer.There)...)
			case peer.Back != "":
				findings = append(findings, fail("does peer.advertise of this server lead here from there, past every firewall?",
					"%s cannot reach this server: %s", peer.Name, peer.Back)...)
			}
		}
		if findings == nil {
			return ok("%s, both ways", counted(len(peers)))
		}
		return findings
	}}
}

func counted(n int) string {
	if n == 1 {
		return "1 other server"
	}
	return fmt.Sprintf("%d other servers", n)
}

func orUnknown(address string) string {
	if address == "" {
		return "its address"
	}
	return address
}

// Clock checks that the clock is kept by somebody and agrees with those of the peers that answer; there may be none. synchronised asks the kernel.
func Clock(synchronised func() (bool, error), peers []Peer) Check {
	const hint = "keep the clocks of all servers with NTP: systemctl status systemd-timesyncd, chronyc tracking"
	return Check{Name: "clock", Look: func(context.Context) []Finding {
		var far, near []string
		compared := 0
		for _, peer := range peers {
			if peer.There != "" {
				continue
			}
			compared++
			said := fmt.Sprintf("%s is %s off", peer.Name, peer.Skew.Round(100*time.Millisecond))
			switch skew := peer.Skew.Abs(); {
			case skew >= largeSkew:
				far = append(far, said)
			case skew >= smallSkew:
				near = append(near, said)
			}
		}
		switch kept, err := synchronised(); {
		case len(far) > 0:
			return fail(hint, "%s: tokens and certificates are refused", strings.Join(slices.Concat(far, near), ", "))
		case len(near) > 0:
			return warn(hint, "%s", strings.Join(near, ", "))
		case err != nil:
			return warn(hint, "the kernel does not say whether anybody keeps the clock right: %v", err)
		case !kept:
			return warn(hint, "nobody keeps the clock right")
		case compared == 0:
			return ok("kept right; there was none to compare it with")
		}
		return ok("agrees with the others'")
	}}
}
