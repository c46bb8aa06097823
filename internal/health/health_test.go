package health

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func codes(states []State) []Code {
	var all []Code
	for _, state := range states {
		all = append(all, state.Code)
	}
	return all
}

func TestStatesComeAndGo(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	r := New(zap.New(core))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r.now = func() time.Time { return now }

	r.Set(PoolNearlyFull, nil) // nothing to recover from
	r.Set(PoolNearlyFull, &Problem{Text: "91 %", Hint: "add disks"})
	now = now.Add(time.Minute)
	r.Set(StoreUnreachable, &Problem{Text: "no answer", Blocks: true})
	r.Set(PoolNearlyFull, &Problem{Text: "92 %", Hint: "add disks"})
	want := []State{
		{Code: PoolNearlyFull, Text: "92 %", Hint: "add disks", Since: now.Add(-time.Minute)},
		{Code: StoreUnreachable, Text: "no answer", Blocks: true, Since: now},
	}
	if diff := cmp.Diff(want, r.States()); diff != "" {
		t.Error(diff)
	}
	if r.Ready() {
		t.Error("ready without a store")
	}
	r.Set(StoreUnreachable, nil)
	if !r.Ready() {
		t.Error("a full pool alone does not end readiness")
	}
	var said []string
	for _, entry := range logs.All() {
		said = append(said, entry.Message+" "+entry.ContextMap()["code"].(string))
	}
	if got := strings.Join(said, ", "); got != "degraded pool_nearly_full, degraded store_unreachable, recovered store_unreachable" {
		t.Errorf("log: %s", got)
	}
}

func TestWatch(t *testing.T) {
	r := New(zap.NewNop())
	r.Set(PoolNotOnline, &Problem{Text: "of an earlier look"})
	ctx, stop := context.WithCancel(t.Context())
	looked := make(chan bool, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Watch(ctx, Check{
			Every: time.Millisecond, Limit: time.Minute, Codes: []Code{PoolUnreachable, PoolNotOnline},
			Look: func(ctx context.Context) map[Code]Problem {
				if _, limited := ctx.Deadline(); !limited {
					t.Error("a look without a limit")
				}
				select {
				case looked <- true:
				default:
				}
				return map[Code]Problem{PoolUnreachable: {Text: "gone"}}
			},
		})
	}()
	<-looked
	<-looked // the first look is recorded by now
	stop()
	<-ended
	if got := codes(r.States()); !cmp.Equal(got, []Code{PoolUnreachable}) {
		t.Errorf("states %v", got)
	}
}

// What a check says while the agent shuts down is about the shutdown.
func TestWatchIgnoresTheShutdown(t *testing.T) {
	r := New(zap.NewNop())
	ctx, stop := context.WithCancel(t.Context())
	r.Watch(ctx, Check{Every: time.Hour, Limit: time.Minute, Codes: []Code{PoolUnreachable}, Look: func(context.Context) map[Code]Problem {
		stop()
		return map[Code]Problem{PoolUnreachable: {Text: "context canceled"}}
	}})
	if states := r.States(); len(states) != 0 {
		t.Errorf("states %v", states)
	}
}

func TestProbes(t *testing.T) {
	r := New(zap.NewNop())
	for _, step := range []struct {
		set         Code
		blocks      bool
		live, ready string
	}{
		{"", false, `200 {"status":"ok","states":[]}`, `200 {"status":"ok","states":[]}`},
		{Draining, false, `200 {"status":"degraded","states":["draining"]}`, `200 {"status":"degraded","states":["draining"]}`},
		{PoolUnreachable, true, `200 {"status":"degraded","states":["draining","pool_unreachable"]}`,
			`503 {"status":"not ready","states":["draining","pool_unreachable"]}`},
	} {
		if step.set != "" {
			r.Set(step.set, &Problem{Text: "not for everybody", Blocks: step.blocks})
		}
		if got := ask(r.ServeLive); got != step.live {
			t.Errorf("/healthz after %q: %s, want %s", step.set, got, step.live)
		}
		if got := ask(r.ServeReady); got != step.ready {
			t.Errorf("/readyz after %q: %s, want %s", step.set, got, step.ready)
		}
	}
}

func ask(serve http.HandlerFunc) string {
	recorder := httptest.NewRecorder()
	serve(recorder, httptest.NewRequest("GET", "/", nil))
	return strings.TrimSpace(fmt.Sprint(recorder.Code, " ", recorder.Body))
}
