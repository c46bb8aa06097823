//go:build e2e

package e2e

import (
	"strings"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

// restoreAndUndo: what a copy lists is its own to restore, a sync can be taken back, and what an admin snapshot with Incus counts.
func (s *story) restoreAndUndo() {
	s.restoresAll(s.local)

	s.local.put(s.ctx, "data/local", "made on the copy\n")
	changed := s.local.treeHash(s.ctx)
	last := s.a.sync(s.ctx, s.local.id, "running")
	s.equal("content after the sync", s.local.treeHash(s.ctx), s.source.treeHash(s.ctx))
	undo := s.newestUndo(s.local)
	if !strings.HasPrefix(undo.Name, "before-sync-") || undo.ExpiresAt == nil {
		s.t.Fatalf("kept of what the sync displaced: %+v", undo)
	}
	s.t.Logf("sync of a changed copy, with a snapshot to undo it: down for %d ms", last.DownMillis)
	s.restore(s.local, undo.Name)
	s.equal("content after the sync was undone", s.local.treeHash(s.ctx), changed)

	s.a.run(s.ctx, "incus", "snapshot", "create", s.local.instance(), "by-hand")
	s.local.put(s.ctx, "data/small", "after the snapshot by hand\n")
	s.restore(s.local, s.first.Name)
	s.equal("what Incus says it could restore", s.a.run(s.ctx, "incus", "query", "/1.0/instances/"+s.local.instance()+"/snapshots"), "[]")
	s.restore(s.local, "by-hand")
	s.equal("content of what Incus had snapshot", s.local.treeHash(s.ctx), changed)

	s.must(s.a.api.Operate(s.ctx, s.local.id, "stop"))
	s.restore(s.local, s.second.Name)
	s.equal("a stopped container after a restore", s.local.state(s.ctx), "STOPPED")
	s.must(s.a.api.Operate(s.ctx, s.local.id, "start"))
	s.equal("a file read inside", s.local.exec(s.ctx, "cat", "/data/small"), "version 2")
	s.equal("owner of a file, seen from inside", s.local.exec(s.ctx, "stat", "-c", "%u", "/bin/sh"), "0")

	s.a.sync(s.ctx, s.local.id, "running")
	s.equal("content after a sync after a restore", s.local.treeHash(s.ctx), s.source.treeHash(s.ctx))
}

// restoresAll restores the source's snapshots on a copy, by name and alias; it runs all the while.
func (s *story) restoresAll(b box) {
	s.t.Helper()
	for _, wanted := range []struct{ name, content string }{{s.second.Name, "version 2"}, {"v1", "version 1"}} {
		s.restore(b, wanted.name)
		s.equal("a file read inside after the restore", b.exec(s.ctx, "cat", "/data/small"), wanted.content)
	}
}

func (s *story) restore(b box, name string) {
	s.t.Helper()
	began := time.Now()
	before := b.state(s.ctx)
	restored, err := b.api.Restore(s.ctx, b.id, name)
	s.must(err)
	container, err := b.api.Container(s.ctx, b.id)
	s.must(err)
	if restored.LastUsedAt == nil || container.LastUsedSnapshot == nil || *container.LastUsedSnapshot != restored.Name {
		s.t.Errorf("restored %+v, last used %v", restored, container.LastUsedSnapshot)
	}
	s.equal("state after the restore", b.state(s.ctx), before)
	s.t.Logf("restore of %s: %s, down for %d ms", name, time.Since(began).Round(time.Millisecond), container.LastOperation.DownMillis)
}

// newestUndo is what the container kept of what was displaced last.
func (s *story) newestUndo(b box) contract.Snapshot {
	s.t.Helper()
	listed, err := b.api.Snapshots(s.ctx, b.id)
	s.must(err)
	for _, snapshot := range listed {
		if snapshot.Undo != nil && *snapshot.Undo {
			return snapshot
		}
	}
	s.t.Fatalf("nothing to undo among %+v", listed)
	return contract.Snapshot{}
}
