package sim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/sim"
)

// TestResumeFromEveryFrame kills the receiving pool before each frame of a stream and goes on with a new one.
func TestResumeFromEveryFrame(t *testing.T) {
	source := newPool(t, sim.Options{})
	want := noise(1, 900<<10)
	put(t, source, "containers/a", map[string]string{"data": want, "small": "x"})
	snap := snapshot(t, source, "containers/a", "s")
	full := send(t, source, agent.SendSpec{To: "containers/a@s"})

	dir := t.TempDir()
	stream, resumed := full, 0
	var last *sim.Pool
	for last == nil {
		if resumed > 50 {
			t.Fatal("the receive does not come forward")
		}
		var pool *sim.Pool
		frames := 0
		pool = openPool(t, dir, sim.Options{Fault: func(op, _ string) error {
			if op == "receive:frame" {
				if frames++; frames == 2 {
					return pool.Kill()
				}
			}
			return nil
		}})
		if err := pool.Create(t.Context(), "hoody/incoming", nil); err != nil && !errors.Is(err, errdefs.ErrAlreadyExists) {
			t.Fatal(err)
		}
		err := receive(t, pool, "hoody/incoming/a@s", stream)
		if err == nil {
			last = pool
			break
		}
		if !errors.Is(err, errdefs.ErrUnavailable) {
			t.Fatal(err)
		}
		again := openPool(t, dir, sim.Options{})
		token := resumeToken(t, again, "hoody/incoming/a")
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		resumed++
		stream = send(t, source, agent.SendSpec{Token: token})
	}
	if resumed < 5 {
		t.Errorf("resumed %d times only", resumed)
	}
	if d, err := last.Dataset(t.Context(), "hoody/incoming/a"); err != nil || d.Snapshots[0].GUID != snap.GUID {
		t.Errorf("%+v, %v", d, err)
	}
	if get(t, last, "hoody/incoming/a", "data") != want {
		t.Error("content differs")
	}
}

// TestCrashAroundEveryEffect lets the process die before and after each effect of a checkout; the pool must be as before or as
// after it, never between, and nothing may be left behind.
func TestCrashAroundEveryEffect(t *testing.T) {
	steps := []func(ctx context.Context, p *sim.Pool) error{
		func(ctx context.Context, p *sim.Pool) error { return p.Create(ctx, "containers/a", nil) },
		func(ctx context.Context, p *sim.Pool) error {
			_, err := p.Snapshot(ctx, "containers/a", "s1")
			return err
		},
		func(ctx context.Context, p *sim.Pool) error {
			return p.Clone(ctx, "containers/a@s1", "hoody/incoming/j", agent.Properties{"hoody:job": "j"})
		},
		func(ctx context.Context, p *sim.Pool) error {
			_, err := p.Snapshot(ctx, "hoody/incoming/j", "marker")
			return err
		},
		func(ctx context.Context, p *sim.Pool) error {
			return p.Rename(ctx, "containers/a", "hoody/generations/g")
		},
		func(ctx context.Context, p *sim.Pool) error {
			return p.Rename(ctx, "hoody/incoming/j", "containers/a")
		},
		func(ctx context.Context, p *sim.Pool) error { return p.Promote(ctx, "containers/a") },
		func(ctx context.Context, p *sim.Pool) error { return p.Bookmark(ctx, "containers/a@s1", "b") },
		func(ctx context.Context, p *sim.Pool) error { return p.Destroy(ctx, "hoody/generations/g") },
		func(ctx context.Context, p *sim.Pool) error { return p.DestroySnapshot(ctx, "containers/a@s1") },
		func(ctx context.Context, p *sim.Pool) error {
			return p.SetProperties(ctx, "containers/a", agent.Properties{"hoody:job": ""})
		},
	}
	// What the pool looks like after each number of steps.
	var looks []string
	plain := newPool(t, sim.Options{})
	looks = append(looks, look(t, plain))
	for i, step := range steps {
		if err := step(t.Context(), plain); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		looks = append(looks, look(t, plain))
	}
	for at := range 2 * len(steps) {
		dir := t.TempDir()
		var pool *sim.Pool
		seen := 0
		pool = openPool(t, dir, sim.Options{Fault: func(string, string) error {
			if seen++; seen == at+1 {
				if err := pool.Kill(); err != nil {
					return err
				}
				return errDied
			}
			return nil
		}})
		var err error
		for i := 0; i < len(steps) && err == nil; i++ {
			err = steps[i](t.Context(), pool)
		}
		if !errors.Is(err, errDied) {
			t.Fatalf("death at %d: %v", at, err)
		}
		if _, err := pool.Inventory(t.Context()); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("a killed pool answers: %v", err)
		}
		again := openPool(t, dir, sim.Options{})
		if got, want := look(t, again), looks[(at+1)/2]; got != want {
			t.Errorf("death at %d leaves\n%swant\n%s", at, got, want)
		}
		again.Close()
	}
}

var errDied = errors.New("died")

// look describes a pool without what is random in it.
func look(t *testing.T, pool *sim.Pool) string {
	t.Helper()
	inv, err := pool.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, d := range inv.Datasets {
		fmt.Fprintf(&text, "%s origin=%q properties=%v", d.Name, d.Origin, d.Properties)
		for _, s := range d.Snapshots {
			fmt.Fprintf(&text, " @%s", s.Name)
		}
		for _, b := range d.Bookmarks {
			fmt.Fprintf(&text, " #%s", b.Name)
		}
		fmt.Fprintln(&text)
	}
	return text.String()
}

// TestNothingLeaks counts files after everything was destroyed.
func TestNothingLeaks(t *testing.T) {
	dir := t.TempDir()
	pool := openPool(t, dir, sim.Options{})
	before, err := pool.Space(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	put(t, pool, "containers/a", map[string]string{"data": noise(1, 500<<10)})
	snapshot(t, pool, "containers/a", "s1")
	full := send(t, pool, agent.SendSpec{To: "containers/a@s1"})
	if used, _ := pool.Space(ctx); used.Free > before.Free-500<<10 {
		t.Errorf("%d bytes free of %d", used.Free, before.Free)
	}
	for i := range 3 {
		put(t, pool, "containers/a", map[string]string{"data": noise(i+2, 500<<10)})
		if _, err := pool.Written(ctx, "containers/a@s1"); err != nil { // reads what no snapshot keeps
			t.Fatal(err)
		}
	}
	snapshot(t, pool, "containers/a", "s2")
	if err := pool.Bookmark(ctx, "containers/a@s2", "b"); err != nil {
		t.Fatal(err)
	}
	if err := pool.Clone(ctx, "containers/a@s1", "containers/c", nil); err != nil {
		t.Fatal(err)
	}
	put(t, pool, "containers/c", map[string]string{"own": noise(9, 200<<10)})
	snapshot(t, pool, "containers/c", "own")
	if err := receive(t, pool, "containers/half@s1", full[:len(full)*2/3]); !errors.Is(err, errdefs.ErrAborted) {
		t.Fatal(err)
	}
	if err := receive(t, pool, "containers/bent@s1", append(bytes.Clone(full[:len(full)-30]), make([]byte, 30)...)); !errors.Is(err, errdefs.ErrCorrupt) {
		t.Fatal(err)
	}
	if err := pool.AbortReceive(ctx, "containers/half"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"containers/bent", "containers/c", "containers/a", "containers"} {
		if err := pool.Destroy(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	if after, err := pool.Space(ctx); err != nil || after != before {
		t.Errorf("space %+v, was %+v, %v", after, before, err)
	}
	for _, sub := range []string{"blocks", "trees", "data", "partial"} {
		err := filepath.WalkDir(filepath.Join(dir, sub), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				t.Errorf("left: %s", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestTornLog leaves half a record at the end of what had arrived, as a full disk or a power loss can.
func TestTornLog(t *testing.T) {
	source := newPool(t, sim.Options{})
	want := noise(1, 2<<20)
	put(t, source, "containers/a", map[string]string{"data": want})
	snapshot(t, source, "containers/a", "s")
	dir := t.TempDir()
	pool := openPool(t, dir, sim.Options{})
	put(t, pool, "containers", nil)
	stream := send(t, source, agent.SendSpec{To: "containers/a@s"})
	for range 3 {
		if err := receive(t, pool, "containers/a@s", stream[:len(stream)/2]); !errors.Is(err, errdefs.ErrAborted) {
			t.Fatal(err)
		}
		if err := pool.Kill(); err != nil {
			t.Fatal(err)
		}
		logs, err := filepath.Glob(filepath.Join(dir, "partial", "*"))
		if err != nil || len(logs) != 1 {
			t.Fatalf("logs %v, %v", logs, err)
		}
		log, err := os.OpenFile(logs[0], os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = log.WriteString("A\x00\x00\x00\x40{\"sum\":\"12")
		if err := errors.Join(err, log.Close()); err != nil {
			t.Fatal(err)
		}
		pool = openPool(t, dir, sim.Options{})
		rest := send(t, source, agent.SendSpec{Token: resumeToken(t, pool, "containers/a")})
		if len(rest) > len(stream)*3/4 {
			t.Errorf("%d of %d bytes again", len(rest), len(stream))
		}
		stream = rest
	}
	if err := receive(t, pool, "containers/a@s", stream); err != nil {
		t.Fatal(err)
	}
	if get(t, pool, "containers/a", "data") != want {
		t.Error("content differs")
	}
}
