//go:build e2e

package e2e

import (
	"fmt"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

// disaster: the store and both state directories are destroyed. The agents say that they do not trust what they find,
// `recover` brings the records back, and the lineage goes on as if nothing had happened.
func (s *story) disaster() {
	boxes := []box{s.source, s.local, s.remote}
	listed := make(map[string]string)
	for _, b := range boxes {
		listed[b.id] = s.listedSnapshots(b)
	}
	for _, n := range s.nodes() {
		s.recordsKept(n, listed)
	}
	holdings := map[*node]string{}
	for _, n := range s.nodes() {
		n.run(s.ctx, "systemctl stop hoody-agent")
		holdings[n] = n.run(s.ctx, "zfs list -H -o name -r "+pool+"/containers && incus list -f csv -c n")
	}
	s.a.run(s.ctx, "systemctl stop etcd && rm -rf /var/lib/etcd/* && systemctl start etcd")
	for _, n := range s.nodes() {
		n.run(s.ctx, "rm -rf --one-file-system /var/lib/hoody-agent && systemctl start hoody-agent")
	}
	s.waitAlive()
	for _, n := range s.nodes() {
		if said := n.run(s.ctx, "journalctl -u hoody-agent -o cat --no-pager | grep -c 'RECORDS NOT TRUSTED'"); said == "0" {
			s.t.Errorf("%s does not say that it does not trust its records", n.Name())
		}
	}
	for _, b := range boxes {
		s.equal("state of a container whose records are gone", b.state(s.ctx), "RUNNING")
	}

	for _, n := range s.nodes() {
		n.run(s.ctx, "systemctl stop hoody-agent")
		looked := n.run(s.ctx, "hoody-agent recover")
		if !strings.Contains(looked, "restored") || !strings.Contains(looked, "Nothing was changed") {
			s.t.Errorf("recover on %s:\n%s", n.Name(), looked)
		}
		s.t.Logf("%s:\n%s", n.Name(), n.run(s.ctx, "hoody-agent recover --apply"))
		n.run(s.ctx, "systemctl start hoody-agent")
	}
	s.waitAlive()
	for _, b := range boxes {
		s.becomes(b.node, b.id, contract.ContainerStatus("running"))
		now := s.listedSnapshots(b)
		for line := range strings.Lines(listed[b.id]) {
			if !strings.Contains(now, line) {
				s.t.Errorf("container %s does not list %s any more, but\n%s", b.id, line, now)
			}
		}
	}
	for _, n := range s.nodes() {
		s.equal("what "+n.Name()+" holds", n.run(s.ctx, "zfs list -H -o name -r "+pool+"/containers && incus list -f csv -c n"), holdings[n])
	}
	s.source.put(s.ctx, "data/small", "after the disaster\n")
	for _, b := range []box{s.local, s.remote} {
		last := b.sync(s.ctx, b.id, "running")
		s.t.Logf("sync after the disaster: %d bytes", last.BytesDone)
		s.equal("content", b.treeHash(s.ctx), s.source.treeHash(s.ctx))
		s.restore(b, s.first.Name)
		b.sync(s.ctx, b.id, "running")
	}
}

// listedSnapshots are the names, aliases and creation times of what a container lists.
func (s *story) listedSnapshots(b box) string {
	s.t.Helper()
	snapshots, err := b.api.Snapshots(s.ctx, b.id)
	s.must(err)
	var text strings.Builder
	for _, snapshot := range snapshots {
		alias := ""
		if snapshot.Alias != nil {
			alias = *snapshot.Alias
		}
		fmt.Fprintln(&text, snapshot.Name, alias, snapshot.CreatedAt)
	}
	return text.String()
}

// recordsKept waits until a host's pool holds the records of its containers as they are listed.
func (s *story) recordsKept(n *node, listed map[string]string) {
	s.t.Helper()
	n.eventually(s.ctx, "records in the pool", func() error {
		files := n.run(s.ctx, "mkdir -p /mnt/records && mount -t zfs -o ro "+pool+"/hoody/records /mnt/records && { tail -v -n +1 /mnt/records/*.json || true; } && umount /mnt/records")
		for _, b := range []box{s.source, s.local, s.remote} {
			if b.node != n {
				continue
			}
			_, record, found := strings.Cut(files, b.id+".json <==")
			if record, _, _ = strings.Cut(record, "==>"); !found {
				return fmt.Errorf("no record of container %s", b.id)
			}
			for line := range strings.Lines(listed[b.id]) {
				if name, _, _ := strings.Cut(line, " "); !strings.Contains(record, `"`+name+`"`) {
					return fmt.Errorf("no snapshot %s in the record of container %s", name, b.id)
				}
			}
		}
		return nil
	})
}
