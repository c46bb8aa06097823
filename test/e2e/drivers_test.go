//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
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

// programs runs random programs against the model of what they are to do, on three roots in a real pool; in full, on either host.
func (s *story) programs() {
	on := func(n *node, programs, steps int) driverTest {
		settings := fmt.Sprintf("PROGRAMS=%d STEPS=%d SEED=%d TMPDIR=/dev/shm", programs, steps, rand.Uint32())
		return driverTest{"modeltest.test", "RealPrograms", n, "tank/programs", settings}
	}
	if !full() {
		s.runDrivers(on(s.b, 2, 5))
		return
	}
	s.runDrivers(on(s.a, 10, 30), on(s.b, 10, 30))
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
			for _, figure := range figures.FindAllString(out, -1) {
				s.t.Logf("%s on %s: %s", test.binary, test.n.Name(), figure)
			}
			if err != nil {
				s.t.Logf("%s", lastLines(out, 80))
			}
			return err
		})
	}
	s.must(group.Wait())
}

// figures are what tests say of how long they took.
var figures = regexp.MustCompile(`\d+ steps in [0-9.]+ s.*`)

func lastLines(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
