//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/doctor"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
)

// ailment is something that goes wrong on a host, what doctor has to say of it there, and what its hint means. restore, where
// there is something left of it after that, puts the host back.
type ailment struct {
	name       string
	plant      func()
	check      string
	level      doctor.Level
	text, hint string // parts of what is said
	mend       func(hint string)
	restore    func()
	inTheGate  bool
}

// doctor: every planted fault is found on the host that has it, and doing what the hint says makes the finding go.
func (s *story) doctor() {
	s.b.eventually(s.ctx, "host that nothing is wrong with", func() error {
		for _, finding := range s.examine(s.b) {
			if finding.Level == doctor.Fail {
				return fmt.Errorf("%+v", finding)
			}
		}
		return nil
	})
	for _, ailment := range s.ailments() {
		if !full() && !ailment.inTheGate {
			continue
		}
		began := time.Now()
		ailment.plant()
		found := s.diagnosed(ailment)
		ailment.mend(found.Hint)
		s.b.eventually(s.ctx, "end of: "+found.Text, func() error {
			if still := ailment.among(s.examine(s.b)); still != nil {
				return fmt.Errorf("it still says %q", still.Text)
			}
			return nil
		})
		if ailment.restore != nil {
			ailment.restore()
		}
		s.t.Logf("%-20s %s %s: %s -> %s (mended after %s)", ailment.name, found.Level, found.Check, found.Text, found.Hint, time.Since(began).Round(100*time.Millisecond))
	}
	s.waitAlive()
	s.becomes(s.b, s.remote.id, "running")
}

func (s *story) ailments() []ailment {
	on := func(n *node, command string) func() { return func() { n.run(s.ctx, command) } }
	configured := func(more string) { s.b.write(s.ctx, "/etc/hoody-agent/hoody-agent.yaml", s.configuration(s.b)+more) }
	mending := func(n *node, command string) func(string) { return func(string) { n.run(s.ctx, command) } }
	asBefore := func(string) { configured("") }
	const firewall = "nft add table inet fault; nft add chain inet fault in '{ type filter hook input priority 0; }'; nft add rule inet fault in tcp "
	certificate := filepath.Join(s.t.TempDir(), "expired")
	return []ailment{
		{name: "foreign dataset", inTheGate: true,
			plant: on(s.b, "zfs create -o mountpoint=none "+pool+"/hoody/backup"),
			check: "datasets", level: doctor.Warn, text: "hoody/backup", hint: "zfs rename " + pool + "/hoody/backup tank/backup",
			mend:    mending(s.b, "zfs rename "+pool+"/hoody/backup tank/backup"),
			restore: on(s.b, "zfs destroy tank/backup")},
		{name: "full pool", inTheGate: true,
			plant: on(s.b, "zfs set quota=$(($(zfs get -Hp -o value used "+pool+") * 102 / 100)) "+pool),
			check: "pool", level: doctor.Fail, text: "% full", hint: "add disks",
			mend: mending(s.b, "zfs set quota=none "+pool)},
		{name: "wrong token key", inTheGate: true,
			plant: func() { s.b.write(s.ctx, "/etc/hoody-agent/auth.pub", s.rsaKey()) },
			check: "token key", level: doctor.Fail, text: "tokens cannot be checked", hint: "the public key that fits auth.algorithm",
			mend: func(string) {
				s.b.push(s.ctx, filepath.Join(s.pki, "auth", "auth.pub"), "/etc/hoody-agent/auth.pub", 0o600)
			}},
		{name: "wrong pool",
			plant: func() {
				s.b.run(s.ctx, "zfs create -o mountpoint=none tank/elsewhere")
				configured("zfs: {dataset: tank/elsewhere}\n")
			},
			check: "incus", level: doctor.Fail, text: "zfs.dataset is tank/elsewhere, but Incus keeps its instances in " + pool, hint: "leave zfs.dataset empty",
			mend:    asBefore,
			restore: on(s.b, "zfs destroy tank/elsewhere")},
		{name: "missing feature",
			plant: func() {
				s.b.run(s.ctx, "truncate -s 128M /var/tmp/old && zpool create -d -m none -o cachefile=none old /var/tmp/old")
				configured("zfs: {dataset: old}\n")
			},
			check: "features", level: doctor.Fail, text: "streams cannot be received", hint: "zpool upgrade old",
			mend: mending(s.b, "zpool upgrade old"),
			restore: func() {
				asBefore("")
				s.b.run(s.ctx, "zpool destroy old && rm /var/tmp/old")
			}},
		{name: "Incus down",
			plant: on(s.b, "systemctl stop incus.socket incus.service"),
			check: "incus", level: doctor.Fail, text: "Incus does not answer", hint: "systemctl status incus",
			mend: mending(s.b, "systemctl start incus.socket incus.service")},
		{name: "expired certificate",
			plant: func() {
				request := pki.Request{ServerID: serverB, Names: []string{s.b.Addr(), s.b.Name()}, NotBefore: time.Now().Add(-2 * time.Hour), Lifetime: time.Hour}
				s.must(pki.Issue(filepath.Join(s.pki, "ca"), certificate, request, false))
				s.b.push(s.ctx, filepath.Join(certificate, "agent.pem"), "/etc/hoody-agent/pki/agent.pem", 0o600)
			},
			check: "certificate", level: doctor.Fail, text: "it expired at", hint: "hoody-agent pki issue",
			mend: func(hint string) { // by the very command, where the authority is
				command := regexp.MustCompile(`hoody-agent (pki issue [^;]*)`).FindStringSubmatch(hint)[1]
				renewed := filepath.Join(s.t.TempDir(), "new")
				s.fleet.local(strings.Fields(strings.NewReplacer("./ca", filepath.Join(s.pki, "ca"), "./new", renewed).Replace(command))...)
				s.b.push(s.ctx, filepath.Join(renewed, "agent.pem"), "/etc/hoody-agent/pki/agent.pem", 0o600)
			}},
		{name: "clock off",
			plant: on(s.b, "date -s '+1 minute'"),
			check: "clock", level: doctor.Fail, text: s.a.Name() + " is -", hint: "NTP",
			mend: func(string) { s.b.run(s.ctx, fmt.Sprintf("date -s @%.3f", float64(time.Now().UnixMilli())/1000)) }},
		{name: "peer unreachable",
			plant: on(s.a, firewall+"dport "+peerPort+" reject with tcp reset"),
			check: "peers", level: doctor.Fail, text: s.a.Name() + " cannot be reached", hint: s.a.Addr() + ":" + peerPort,
			mend: mending(s.a, "nft delete table inet fault")},
		{name: "etcd down",
			plant: on(s.a, "systemctl stop etcd"),
			check: "etcd", level: doctor.Fail, text: "does not answer", hint: "start it",
			mend: mending(s.a, "systemctl start etcd")},
	}
}

// examine is what doctor says on a host.
func (s *story) examine(n *node) []doctor.Finding {
	s.t.Helper()
	out := n.run(s.ctx, "hoody-agent doctor -o json || test $? = 5")
	var findings []doctor.Finding
	if err := json.Unmarshal([]byte(out), &findings); err != nil {
		s.t.Fatalf("hoody-agent doctor: %v: %s", err, out)
	}
	return findings
}

// diagnosed waits until doctor has found it: what the agent itself has to see first takes it a moment.
func (s *story) diagnosed(a ailment) doctor.Finding {
	s.t.Helper()
	var found *doctor.Finding
	s.b.eventually(s.ctx, "finding of "+a.name, func() error {
		findings := s.examine(s.b)
		if found = a.among(findings); found == nil {
			return fmt.Errorf("it says %+v", findings)
		}
		return nil
	})
	if found.Level != a.level || !strings.Contains(found.Hint, a.hint) {
		s.t.Errorf("%s: %+v, want %s with the hint %q", a.name, found, a.level, a.hint)
	}
	return *found
}

// among returns the finding that is of the ailment, if there is one.
func (a ailment) among(findings []doctor.Finding) *doctor.Finding {
	i := slices.IndexFunc(findings, func(f doctor.Finding) bool {
		return f.Check == a.check && f.Level != doctor.OK && strings.Contains(f.Text, a.text)
	})
	if i < 0 {
		return nil
	}
	return &findings[i]
}

// rsaKey is a public key of another algorithm than the fleet's tokens have.
func (s *story) rsaKey() string {
	s.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	s.must(err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	s.must(err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}
