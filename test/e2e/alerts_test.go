//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/client"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
)

// alarm is what an alert is for: something that happens, and how it ends.
type alarm struct {
	alert         string
	cause, remedy func()
}

// alerts makes every alert fire and clear, by what it is meant for, on the real hosts. The rules are those of configs/,
// without their patience: nobody waits a day for a lag of a day.
func (s *story) alerts() {
	if !full() {
		s.t.Skip("only in full: it takes its time")
	}
	m := s.monitored(s.impatientRules())
	m.becomes(s.a, "sum(up)", "is 2", exactly(2))
	nothing := func() {}
	onB := func(command string) func() { return func() { s.b.run(s.ctx, command) } }
	etcd := func(verb string) func() { return func() { s.a.run(s.ctx, "systemctl "+verb+" etcd") } }
	etcdctl := "ETCDCTL_API=3 etcdctl --endpoints https://" + s.a.Addr() + ":" + etcdPort +
		" --cacert /etc/etcd-pki/ca.crt --cert /etc/etcd-pki/agent.pem --key /etc/etcd-pki/agent.pem "
	unlimited := func() {
		s.a.run(s.ctx, "sed -i /QUOTA/d /etc/default/etcd && systemctl restart etcd && "+etcdctl+"alarm disarm")
	}
	credentials := filepath.Join(s.pki, s.b.Name())
	for _, alarm := range []alarm{
		{"HoodyAgentCopyLag", s.syncBoth, s.syncBoth}, // who has synced once is meant to again
		{"HoodyAgentServerGone", onB("systemctl stop hoody-agent"), onB("systemctl start hoody-agent")},
		{"HoodyAgentDown", onB("systemctl stop hoody-agent"), onB("systemctl start hoody-agent")},
		{"HoodyAgentStoreUnreachable", etcd("stop"), etcd("start")},
		{"HoodyAgentNotReady", etcd("stop"), etcd("start")},
		{"HoodyAgentDegraded", onB("systemctl kill -s STOP incus"), onB("systemctl kill -s CONT incus")},
		{"HoodyAgentPoolNearlyFull", onB("zfs set quota=$(($(zfs get -Hp -o value used " + pool + ") * 11 / 10)) " + pool), onB("zfs set quota=none " + pool)},
		{"HoodyAgentPoolNotOnline",
			onB("truncate -s $(blockdev --getsize64 /dev/ubdb) /var/tmp/mirror && zpool attach -f -w tank /dev/ubdb /var/tmp/mirror && zpool offline tank /var/tmp/mirror"),
			onB("zpool detach tank /var/tmp/mirror && rm /var/tmp/mirror")},
		{"HoodyAgentCertificateExpiring",
			func() {
				short := filepath.Join(s.t.TempDir(), "short")
				s.fleet.local("pki", "issue", "--ca", filepath.Join(s.pki, "ca"), "--out", short, "--server", serverB, "--name", s.b.Addr(), "--name", s.b.Name(), "--lifetime", "24h")
				s.b.push(s.ctx, filepath.Join(short, "agent.pem"), "/etc/hoody-agent/pki/agent.pem", 0o600)
			},
			func() {
				s.b.push(s.ctx, filepath.Join(credentials, "agent.pem"), "/etc/hoody-agent/pki/agent.pem", 0o600)
			}},
		{"HoodyAgentAuthorityExpiring", s.underAShortAuthority, func() {
			s.b.push(s.ctx, filepath.Join(credentials, "agent.pem"), "/etc/hoody-agent/pki/agent.pem", 0o600)
		}},
		{"HoodyAgentGCFailing",
			func() { etcd("stop")(); _, _ = s.b.Run(s.ctx, "for i in 1 2 3 4 5; do hoody-agent gc --apply; done") },
			func() { etcd("start")(); s.waitAlive(); s.settleGarbage() }},
		{"HoodyAgentAPIErrors", func() {
			etcd("stop")()
			for range 20 {
				_ = s.b.impatient().Sync(s.ctx, s.remote.id) // 503
			}
		}, etcd("start")},
		{"HoodyAgentStoreNearlyFull",
			func() {
				s.a.run(s.ctx, "size=$("+etcdctl+"endpoint status -w fields | sed -n 's/^\"DBSize\" : //p'); echo ETCD_QUOTA_BACKEND_BYTES=$((size * 115 / 100)) >>/etc/default/etcd && systemctl restart etcd")
			},
			unlimited},
		{"HoodyAgentStoreAlarm",
			func() {
				s.a.run(s.ctx, "echo ETCD_QUOTA_BACKEND_BYTES=65536 >>/etc/default/etcd && systemctl restart etcd")
				s.a.eventually(s.ctx, "write that finds no space", func() error {
					_, refused := s.a.impatient().CreateProject(s.ctx, "one too many")
					raised, err := s.a.Run(s.ctx, etcdctl+"alarm list")
					if err == nil && !strings.Contains(raised, "NOSPACE") {
						err = fmt.Errorf("no alarm; the write: %v", refused)
					}
					return err
				})
			},
			unlimited},
		{"HoodyAgentJobsFailing", s.failingCopies, nothing},
		{"HoodyAgentJobsStuck", s.stuckSync, func() { s.a.run(s.ctx, "nft delete table inet fault") }},
	} {
		alarm.cause()
		firing := fmt.Sprintf(`count(ALERTS{alertname=%q,alertstate="firing"})`, alarm.alert)
		m.becomes(s.a, firing, "is more than 0", func(got float64) bool { return got > 0 })
		alarm.remedy()
		m.becomes(s.a, firing, "is nothing", exactly(0))
		s.t.Logf("%s fired and cleared", alarm.alert)
	}
	s.waitAlive()
	s.becomes(s.b, s.remote.id, "running")
}

// syncBoth syncs the two copies at once: the first would be behind again before long.
func (s *story) syncBoth() {
	for _, behind := range []box{s.local, s.remote} {
		s.must(behind.api.Sync(s.ctx, behind.id))
	}
	s.local.settled(s.ctx, s.local.id, "running")
	s.remote.settled(s.ctx, s.remote.id, "running")
}

// impatientRules are the project's rules with short times, for a test to see them fire.
func (s *story) impatientRules() string {
	rules, err := os.ReadFile(repository("configs/prometheus/alerts.yml"))
	s.must(err)
	text := regexp.MustCompile(`(?m)^ +for: .*\n`).ReplaceAllString(string(rules), "")
	text = strings.NewReplacer("> 86400", "> 180", "[1h]", "[40s]", "[30m]", "[40s]", "[10m]", "[20s]", "> 20\n", "> 2\n").Replace(text)
	path := filepath.Join(s.t.TempDir(), "alerts.yml")
	s.must(os.WriteFile(path, []byte(text), 0o600))
	return path
}

// underAShortAuthority gives the second host a certificate of another authority, which ends soon and which all trust.
func (s *story) underAShortAuthority() {
	authority, err := pki.NewCA("for a month", 30*24*time.Hour)
	s.must(err)
	agent, err := authority.Issue(pki.Request{ServerID: serverB, Names: []string{s.b.Addr(), s.b.Name()}})
	s.must(err)
	for _, n := range s.nodes() {
		n.write(s.ctx, "/root/short.crt", string(authority.CertificatePEM()))
		n.run(s.ctx, "cat /root/short.crt >>/etc/hoody-agent/pki/ca.crt")
	}
	s.a.run(s.ctx, "cat /root/short.crt >>/etc/etcd-pki/ca.crt && systemctl restart etcd")
	s.b.write(s.ctx, "/etc/hoody-agent/pki/agent.pem", string(agent))
}

// failingCopies: what has a dataset inside cannot be copied, however often it is tried.
func (s *story) failingCopies() {
	odd := s.container("odd-again", 1<<10)
	s.a.run(s.ctx, "zfs create -o mountpoint=none "+odd.dataset()+"/inner")
	var refused []client.Created
	for i := range 4 { // at once: the alert counts those of the last seconds
		refused = append(refused, s.a.copy(s.ctx, odd.id, map[string]any{"target_project_id": s.project.ID, "name": fmt.Sprintf("refused-%d", i)}))
	}
	for _, copied := range refused {
		s.a.settled(s.ctx, copied.ID, "failed")
	}
	for _, copied := range refused {
		s.must(s.a.api.Delete(s.ctx, copied.ID))
	}
	s.a.run(s.ctx, "zfs destroy "+odd.dataset()+"/inner")
	s.must(s.a.api.Delete(s.ctx, odd.id))
}

// stuckSync: a sync whose source does not answer is tried again and again.
func (s *story) stuckSync() {
	s.source.put(s.ctx, "data/small", "for a sync that has to wait\n")
	s.a.run(s.ctx, "nft add table inet fault; nft add chain inet fault in '{ type filter hook input priority 0; }'; nft add rule inet fault in tcp dport "+peerPort+" reject with tcp reset")
	s.must(s.b.api.Sync(s.ctx, s.remote.id))
}
