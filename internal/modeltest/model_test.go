package modeltest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/hoodynetwork/hoody-agent/internal/modeltest"
)

// setting reads a number from the environment, as make model hands it on.
func setting(t *testing.T, name string, fallback uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestMain collects Go's garbage less often: programs make much of it and keep little.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}

// fastDir is a directory in memory where there is room: what programs do to it is thrown away, and slow to do on a disk.
func fastDir(t *testing.T) string {
	t.Helper()
	const memory, enough = "/dev/shm", 2 << 30
	var free unix.Statfs_t
	if err := unix.Statfs(memory, &free); err != nil || free.Bavail*uint64(free.Bsize) < enough {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "modeltest-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func openBase(t *testing.T) *modeltest.Base {
	t.Helper()
	base := &modeltest.Base{
		Dir: fastDir(t), Host: func(dir string) (modeltest.Host, error) { return &modeltest.SimHost{Dir: dir}, nil },
		RecordPace: 100 * time.Millisecond, CollectPace: 20 * time.Millisecond, Patience: 5 * time.Minute,
		Stuck: func() { _ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1) },
	}
	if err := base.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(base.Close)
	return base
}

// TestPrograms runs random programs: PROGRAMS of them from SEED on, or new ones for MODEL_SECONDS.
func TestPrograms(t *testing.T) {
	programs, seconds := setting(t, "PROGRAMS", 0), setting(t, "MODEL_SECONDS", 5)
	seed, steps := setting(t, "SEED", uint64(rand.Uint32())), int(setting(t, "STEPS", 50))
	fmt.Printf("model: seed %d\n", seed)
	began := time.Now()
	until := began.Add(time.Duration(seconds) * time.Second)
	var mu sync.Mutex
	started, failed := uint64(0), []uint64(nil)
	next := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if t.Failed() || programs > 0 && started == programs || programs == 0 && time.Now().After(until) {
			return 0, false
		}
		if started++; started%progressEvery == 0 {
			fmt.Printf("model: %d programs begun in %.1f s\n", started, time.Since(began).Seconds())
		}
		return seed + started - 1, true
	}
	var workers sync.WaitGroup
	for range setting(t, "WORKERS", 2) {
		base := openBase(t)
		workers.Go(func() {
			for seed, more := next(); more; seed, more = next() {
				if !runSeed(t, base, seed, steps, programs > 0) {
					mu.Lock()
					failed = append(failed, seed)
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	fmt.Printf("model: %d programs of %d steps in %.1f s\n", started, steps, time.Since(began).Seconds())
	for _, seed := range failed { // again, where the end of a log is all that is left of it
		fmt.Printf("model: FAILED seed %d; again: make model SEED=%d PROGRAMS=1 STEPS=%d\n", seed, seed, steps)
	}
}

// progressEvery is how many programs pass between two signs of life.
const progressEvery = 25

// shrinking bounds what a failure costs beyond itself.
const shrinking = 3 * time.Minute

// runSeed runs the program of a seed and tells whether all was well; if not and asked to, it looks for a shorter one. Who runs
// every test has no time for that, and the seed says it all.
func runSeed(t *testing.T, base *modeltest.Base, seed uint64, steps int, shrink bool) bool {
	program := modeltest.Generate(seed, steps)
	log := zap.NewNop()
	if os.Getenv("MODEL_LOG") != "" {
		log = zaptest.NewLogger(t)
	}
	err := base.Run(t.Context(), program, log)
	if err == nil {
		return true
	}
	t.Errorf("seed %d: %v\nagain: make model SEED=%d PROGRAMS=1 STEPS=%d", seed, err, seed, steps)
	if !shrink {
		return false
	}
	ctx, cancel := context.WithTimeout(t.Context(), shrinking)
	defer cancel()
	shrunk := base.Shrink(ctx, program, int(setting(t, "SHRINK", 100)))
	t.Errorf("seed %d, for testdata/programs:\n%s", seed, shrunk)
	return false
}

// TestKnownPrograms runs what went wrong once.
func TestKnownPrograms(t *testing.T) {
	files, err := filepath.Glob("testdata/programs/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	base := openBase(t)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			program, err := modeltest.Parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if err := base.Run(t.Context(), program, zaptest.NewLogger(t)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestProgramsHoldEveryOperation(t *testing.T) {
	missing := make(map[string]bool)
	for _, op := range modeltest.Operations() {
		missing[op] = true
	}
	for seed := range uint64(50) {
		for _, step := range modeltest.Generate(seed, 50) {
			for _, action := range step.Actions {
				delete(missing, action.Op)
			}
		}
	}
	if len(missing) > 0 {
		t.Errorf("never made: %v", missing)
	}
}

func TestProgramsReadAsTheyAreWritten(t *testing.T) {
	for seed := range uint64(20) {
		program := modeltest.Generate(seed, 50)
		again, err := modeltest.Parse(program.String())
		if err != nil {
			t.Fatal(err)
		}
		if again.String() != program.String() {
			t.Errorf("seed %d reads otherwise:\n%s", seed, again)
		}
	}
}
