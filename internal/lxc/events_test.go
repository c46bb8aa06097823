package lxc

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
)

func expect(t *testing.T, events <-chan agent.RuntimeEvent, want ...agent.RuntimeEvent) {
	t.Helper()
	for _, want := range want {
		select {
		case got, ok := <-events:
			if !ok || got != want {
				t.Fatalf("got %v (%v), want %v", got, ok, want)
			}
		case <-t.Context().Done():
			t.Fatalf("no event, want %v", want)
		}
	}
}

func TestEventsInOrderAndAfterAReconnect(t *testing.T) {
	fake, runtime := newFake(t)
	stream := fake.streams()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := runtime.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, events, resync)
	stream <- lifecycle("instance-started", "/1.0/instances/c1", nil)
	stream <- lifecycle("image-created", "/1.0/images/abc", nil)
	stream <- []byte("no json")
	stream <- lifecycle("instance-shutdown", "/1.0/instances/c1?project=default", nil)
	stream <- lifecycle("instance-snapshot-created", "/1.0/instances/c1/snapshots/s0", nil)
	stream <- lifecycle("instance-renamed", "/1.0/instances/c2", map[string]any{"old_name": "c1"})
	expect(t, events,
		agent.RuntimeEvent{Kind: agent.EventStarted, Instance: "c1"},
		agent.RuntimeEvent{Kind: agent.EventStopped, Instance: "c1"},
		agent.RuntimeEvent{Kind: agent.EventUpdated, Instance: "c1"},
		agent.RuntimeEvent{Kind: agent.EventDeleted, Instance: "c1"},
		agent.RuntimeEvent{Kind: agent.EventCreated, Instance: "c2"})
	stream <- nil // the connection breaks
	expect(t, events, resync)
	stream <- lifecycle("instance-paused", "/1.0/instances/c2", nil)
	expect(t, events, agent.RuntimeEvent{Kind: agent.EventPaused, Instance: "c2"})
	cancel()
	for range events { // closed in the end
	}
}

// TestEventsBeforeTheDaemon starts to listen when there is no daemon yet.
func TestEventsBeforeTheDaemon(t *testing.T) {
	late := &fakeIncus{t: t, mux: http.NewServeMux(), socket: filepath.Join(t.TempDir(), "s")}
	runtime := New(Options{Socket: late.socket})
	runtime.connectPause = pace{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := runtime.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stream := late.streams()
	late.serve()
	expect(t, events, resync)
	stream <- lifecycle("instance-created", "/1.0/instances/c1", nil)
	expect(t, events, agent.RuntimeEvent{Kind: agent.EventCreated, Instance: "c1"})
	cancel()
	for range events {
	}
}

// TestEventsAcrossARestart lets the daemon go with its socket and come back.
func TestEventsAcrossARestart(t *testing.T) {
	fake := &fakeIncus{t: t, mux: http.NewServeMux(), socket: filepath.Join(t.TempDir(), "s")}
	breaks := make(chan struct{})
	fake.mux.HandleFunc("GET /1.0/events", func(w http.ResponseWriter, r *http.Request) {
		conn, err := new(websocket.Upgrader).Upgrade(w, r, nil)
		if err == nil {
			<-breaks
			conn.Close()
		}
	})
	server := fake.serve()
	runtime := New(Options{Socket: fake.socket})
	runtime.connectPause = pace{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := runtime.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, events, resync)
	_ = os.Remove(fake.socket)
	breaks <- struct{}{}
	server.Close()
	fake.serve()
	expect(t, events, resync)
	cancel()
	close(breaks)
	for range events {
	}
}

func TestSlowConsumerGetsResync(t *testing.T) {
	queue := newEventQueue()
	for i := range eventLimit {
		queue.put(agent.RuntimeEvent{Kind: agent.EventUpdated, Instance: fmt.Sprint("c", i)})
	}
	if first, _ := queue.take(); first.Instance != "c0" {
		t.Fatalf("first is %v", first)
	}
	queue.put(agent.RuntimeEvent{Kind: agent.EventStarted, Instance: "fits"})
	queue.put(agent.RuntimeEvent{Kind: agent.EventStarted, Instance: "too much"})
	queue.put(agent.RuntimeEvent{Kind: agent.EventStopped, Instance: "after"})
	var left []agent.RuntimeEvent
	for event, ok := queue.take(); ok; event, ok = queue.take() {
		left = append(left, event)
	}
	if want := []agent.RuntimeEvent{resync, {Kind: agent.EventStopped, Instance: "after"}}; !slices.Equal(left, want) {
		t.Fatalf("left %v, want %v", left, want)
	}
}
