package sim_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/sim"
)

func TestPoolIsFull(t *testing.T) {
	source := newPool(t, sim.Options{})
	put(t, source, "containers/a", map[string]string{"data": noise(1, 2<<20)})
	snapshot(t, source, "containers/a", "s")
	full := send(t, source, agent.SendSpec{To: "containers/a@s"})

	small := newPool(t, sim.Options{Size: 1 << 20})
	put(t, small, "containers", nil)
	if err := receive(t, small, "containers/a@s", full); !errors.Is(err, errdefs.ErrExhausted) {
		t.Fatal(err)
	}
	resumeToken(t, small, "containers/a")
	if space, err := small.Space(t.Context()); err != nil || space.Size != 1<<20 || space.Free > 128<<10 {
		t.Errorf("space %+v, %v", space, err)
	}
}

func TestRefquota(t *testing.T) {
	source, target := newPool(t, sim.Options{}), newPool(t, sim.Options{})
	put(t, source, "containers/a", map[string]string{"data": noise(1, 1<<20)})
	snapshot(t, source, "containers/a", "s")
	full := send(t, source, agent.SendSpec{To: "containers/a@s"})
	put(t, target, "containers", nil)
	ctx := t.Context()
	spec := agent.ReceiveSpec{To: "containers/a@s", Properties: agent.Properties{"refquota": "0.5M"}}
	if err := target.Receive(ctx, spec, bytes.NewReader(full)); !errors.Is(err, errdefs.ErrExhausted) {
		t.Fatal(err)
	}
	if err := target.SetProperties(ctx, "containers/a", agent.Properties{"refquota": "2M"}); err != nil {
		t.Fatal(err)
	}
	rest := send(t, source, agent.SendSpec{Token: resumeToken(t, target, "containers/a")})
	if len(rest) > 1000 {
		t.Errorf("%d bytes again though all had arrived", len(rest))
	}
	if err := receive(t, target, "containers/a@s", rest); err != nil {
		t.Fatal(err)
	}
	err := target.SetProperties(ctx, "containers/a", agent.Properties{"refquota": "100K"})
	if !errors.Is(err, errdefs.ErrExhausted) {
		t.Errorf("a quota below what is in use: %v", err)
	}
}

// TestOneUserAtATime opens a directory twice.
func TestOneUserAtATime(t *testing.T) {
	dir := t.TempDir()
	first := openPool(t, dir, sim.Options{})
	if _, err := sim.NewPool(dir, sim.Options{}); !errors.Is(err, errdefs.ErrBusy) {
		t.Errorf("opened twice: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	openPool(t, dir, sim.Options{})
}

// TestReadersMeetDestroyers destroys what others are looking at; both have to end in a known way.
func TestReadersMeetDestroyers(t *testing.T) {
	pool := newPool(t, sim.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	known := []error{nil, errdefs.ErrNotFound, errdefs.ErrBusy, errdefs.ErrStale}
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_, err := pool.Written(ctx, "containers/a@s")
			if err == nil || errors.Is(err, errdefs.ErrNotFound) {
				var stream io.ReadCloser
				if stream, err = pool.Send(ctx, agent.SendSpec{To: "containers/a@s"}); err == nil {
					_, err = io.Copy(io.Discard, stream)
					stream.Close()
				}
			}
			if ctx.Err() == nil && !slices.Contains(known, errdefs.ClassOf(err)) {
				done <- err
				return
			}
		}
	}()
	for i := range 50 {
		put(t, pool, "containers/a", map[string]string{"data": noise(i, 200<<10)})
		snapshot(t, pool, "containers/a", "s")
		for {
			err := pool.DestroySnapshot(ctx, "containers/a@s")
			if err == nil {
				break
			}
			if !errors.Is(err, errdefs.ErrBusy) {
				t.Fatal(err)
			}
		}
		if i%10 == 9 {
			if err := pool.Destroy(ctx, "containers/a"); err != nil {
				t.Fatal(err)
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestOldTokenIsStale goes on from where a receive once was, after more has arrived.
func TestOldTokenIsStale(t *testing.T) {
	source, target := newPool(t, sim.Options{}), newPool(t, sim.Options{})
	want := noise(1, 2<<20)
	put(t, source, "containers/a", map[string]string{"data": want})
	snapshot(t, source, "containers/a", "s")
	put(t, target, "containers", nil)
	rest := send(t, source, agent.SendSpec{To: "containers/a@s"})
	var old []byte
	for range 2 {
		old = rest
		if err := receive(t, target, "containers/a@s", rest[:len(rest)/2]); !errors.Is(err, errdefs.ErrAborted) {
			t.Fatal(err)
		}
		rest = send(t, source, agent.SendSpec{Token: resumeToken(t, target, "containers/a")})
	}
	if err := receive(t, target, "containers/a@s", old); !errors.Is(err, errdefs.ErrStale) {
		t.Errorf("a rest that overlaps: %v", err)
	}
	if err := receive(t, target, "containers/a@s", rest); err != nil {
		t.Fatal(err)
	}
	if get(t, target, "containers/a", "data") != want {
		t.Error("content differs")
	}
}
