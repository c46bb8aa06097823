//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
)

// full tells whether everything is to be told, however long it takes, or what a gate has time for.
func full() bool { return os.Getenv("HOODY_E2E_FULL") != "" }

// driverTest is a test binary with the tests of a real driver, on one host.
type driverTest struct {
	binary, run string
	n           *node
	dataset     string // made for it, and destroyed with all that it holds; empty for none
	env         string
}

// drivers runs the conformance suite that the stand-ins pass against the real pool and the real runtime, one on each host; in
// full, everything else that the drivers' own tests try on a real host, too.
func (s *story) drivers() {
	run := "RealConformance"
	if full() {
		run = "Real"
	}
	s.runDrivers(driverTest{"zfs.test", run, s.a, "tank/drivers", ""}, driverTest{"lxc.test", run, s.b, "", ""})
}

// programs runs random programs against the model of what they are to do, on three roots in a real pool.
func (s *story) programs() {
	programs, steps := 2, 5
	if full() {
		programs, steps = 20, 30
	}
	settings := fmt.Sprintf("PROGRAMS=%d STEPS=%d SEED=%d TMPDIR=/dev/shm", programs, steps, rand.Uint32())
	s.runDrivers(driverTest{"modeltest.test", "RealPrograms", s.b, "tank/programs", settings})
}

// runDrivers runs tests on their hosts, all at once.
func (s *story) runDrivers(tests ...driverTest) {
	s.t.Helper()
	dir := os.Getenv("HOODY_DRIVER_TESTS")
	if dir == "" {
		s.t.Fatal("HOODY_DRIVER_TESTS names no directory with zfs.test, lxc.test and modeltest.test; run make e2e")
	}
	var group errgroup.Group
	for _, test := range tests {
		group.Go(func() error {
			remote := "/var/tmp/" + test.binary
			if err := test.n.Push(s.ctx, filepath.Join(dir, test.binary), remote, 0o755); err != nil {
				return err
			}
			env, setUp, tearDown := test.env, "", ""
			if test.dataset != "" {
				env += " HOODY_TEST_DATASET=" + test.dataset
				setUp = "zfs create -o mountpoint=none " + test.dataset + " || exit; "
				tearDown = "zfs destroy -R " + test.dataset + " 2>/dev/null; "
			}
			out, err := test.n.Run(s.ctx, setUp+"cd /var/tmp && env "+env+" "+remote+" -test.v -test.timeout 170m -test.run "+test.run+" 2>&1; status=$?; "+tearDown+"exit $status")
			s.t.Logf("%s on %s: %d tests passed %s", test.binary, test.n.Name(), strings.Count(out, "--- PASS"), test.env)
			if err != nil {
				s.t.Logf("%s", lastLines(out, 80))
			}
			return err
		})
	}
	s.must(group.Wait())
}

func lastLines(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
