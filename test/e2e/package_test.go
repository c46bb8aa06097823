//go:build e2e

package e2e

import (
	"path/filepath"
)

// nextPackage is the package under test as if it were a later version.
func (f *fleet) nextPackage() string {
	f.t.Helper()
	dir := f.t.TempDir()
	tree, next := filepath.Join(dir, "tree"), filepath.Join(dir, "next.deb")
	runLocal(f.t, "dpkg-deb", "--raw-extract", f.deb, tree)
	runLocal(f.t, "sed", "-i", "/^Version:/s/$/+next/", filepath.Join(tree, "DEBIAN", "control"))
	runLocal(f.t, "dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z1", tree, next)
	return next
}

// removePackage: without the package, containers run on; with it again, the agent takes up where it was; purged, what
// the containers need is still there.
func (s *story) removePackage() {
	s.t.Log(s.b.run(s.ctx, "systemd-analyze security --no-pager hoody-agent | tail -n 1"))
	s.settleGarbage()
	before := s.b.holdings(s.ctx)
	s.b.run(s.ctx, "dpkg --remove hoody-agent")
	s.equal("the agent's process", s.b.run(s.ctx, "pgrep -x hoody-agent || true"), "")
	s.equal("state of a container", s.remote.state(s.ctx), "RUNNING")
	s.equal("configuration", s.b.run(s.ctx, "ls /etc/hoody-agent/hoody-agent.yaml"), "/etc/hoody-agent/hoody-agent.yaml")
	s.b.installPackage(s.ctx, s.deb)
	s.b.run(s.ctx, "systemctl start hoody-agent")
	s.waitAlive()
	s.becomes(s.b, s.remote.id, "running")

	s.b.run(s.ctx, "dpkg --purge hoody-agent")
	s.equal("what is left of it", s.b.run(s.ctx, "ls -d /etc/hoody-agent/hoody-agent.yaml /usr/bin/hoody-agent /usr/lib/systemd/system/hoody-agent.service /var/lib/hoody-agent 2>/dev/null || true"),
		"/var/lib/hoody-agent")
	s.equal("what the host holds", s.b.holdings(s.ctx), before)
	s.equal("state of a container", s.remote.state(s.ctx), "RUNNING")
}
