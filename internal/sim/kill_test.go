package sim_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/sim"
)

// killedDir makes the test binary the process that TestKilledProcess kills.
const killedDir = "HOODY_SIM_KILLED_DIR"

// TestKilledProcess kills a process that works on a pool, again and again, wherever it may be. What it said is done must be
// there afterwards, with the right content.
func TestKilledProcess(t *testing.T) {
	if dir := os.Getenv(killedDir); dir != "" {
		work(dir)
		return
	}
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(1, 2))
	rounds := 8
	if testing.Short() {
		rounds = 4
	}
	said := 0 // the newest generation that is said to be whole
	for range rounds {
		said = max(said, killAfter(t, dir, 5+random.IntN(40)))
		pool := openPool(t, dir, sim.Options{})
		verify(t, pool, said)
		if err := pool.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d generations", said)
	if said == 0 {
		t.Error("no process came far enough to show anything")
	}
}

// killAfter starts a worker, kills it when it has said something so many times, and returns the last whole generation.
func killAfter(t *testing.T, dir string, words int) (generation int) {
	t.Helper()
	worker := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
	worker.Env = append(os.Environ(), killedDir+"="+dir)
	worker.Stderr = os.Stderr
	output, err := worker.StdoutPipe()
	if err == nil {
		err = worker.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	for n := 0; lines.Scan(); n++ {
		if n == words {
			if err := worker.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		// Lines that were said before the kill and read after it count, too.
		if _, err := fmt.Sscanf(lines.Text(), "whole %d", &generation); err != nil {
			var word string
			if _, err := fmt.Sscanf(lines.Text(), "at %s", &word); err != nil {
				t.Fatalf("worker says %q", lines.Text())
			}
		}
	}
	_ = worker.Wait() // it was killed
	return generation
}

// verify looks at every generation that the pool has.
func verify(t *testing.T, pool *sim.Pool, said int) {
	t.Helper()
	for _, dataset := range []string{"containers/work", "containers/copy"} {
		d, err := pool.Dataset(t.Context(), dataset)
		if errors.Is(err, errdefs.ErrNotFound) && said == 0 {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Snapshots) < said {
			t.Fatalf("%s has %d snapshots, %d were said to be there", dataset, len(d.Snapshots), said)
		}
		for i, snap := range d.Snapshots {
			look := fmt.Sprintf("containers/look-%d", i)
			if err := pool.Clone(t.Context(), dataset+"@"+snap.Name, look, nil); err != nil {
				t.Fatal(err)
			}
			if get(t, pool, look, "data") != generation(i+1) {
				t.Errorf("%s@%s has other content", dataset, snap.Name)
			}
			if err := pool.Destroy(t.Context(), look); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// generation is what the n-th snapshot holds: mostly what the one before held.
func generation(n int) string { return noise(0, 200<<10) + noise(n, 150<<10) }

// work makes snapshots and copies them within the pool, and says so. It takes up what a former process left.
func work(dir string) {
	ctx := context.Background()
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			os.Exit(1)
		}
	}
	pool, err := sim.NewPool(dir, sim.Options{Fault: func(op, _ string) error {
		fmt.Println("at", op)
		return nil
	}})
	fail(err)
	if err := pool.Create(ctx, "containers/work", nil); !errors.Is(err, errdefs.ErrAlreadyExists) {
		fail(err)
	}
	for {
		d, err := pool.Dataset(ctx, "containers/work")
		fail(err)
		n := len(d.Snapshots) + 1
		mount, err := pool.Mount(ctx, "containers/work")
		fail(err)
		fail(mount.Root().WriteFile("data", []byte(generation(n)), 0o644))
		fail(mount.Unmount(ctx))
		_, err = pool.Snapshot(ctx, "containers/work", fmt.Sprintf("s%d", n))
		fail(err)
		for caughtUp := false; !caughtUp; {
			caughtUp = replicateOne(ctx, pool, n, fail)
		}
		fmt.Println("whole", n)
	}
}

// replicateOne brings the copy one snapshot further, and tells whether it has all n.
func replicateOne(ctx context.Context, pool *sim.Pool, n int, fail func(error)) bool {
	copied, err := pool.Dataset(ctx, "containers/copy")
	if !errors.Is(err, errdefs.ErrNotFound) {
		fail(err)
	}
	have := len(copied.Snapshots)
	if have == n {
		return true
	}
	spec := agent.SendSpec{To: fmt.Sprintf("containers/work@s%d", have+1), Token: copied.ResumeToken}
	if have > 0 {
		spec.From = fmt.Sprintf("containers/work@s%d", have)
	}
	stream, err := pool.Send(ctx, spec)
	fail(err)
	defer stream.Close()
	fail(pool.Receive(ctx, agent.ReceiveSpec{To: fmt.Sprintf("containers/copy@s%d", have+1)}, stream))
	return false
}
