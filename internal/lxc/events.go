package lxc

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/lxc/incus/v6/shared/api"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
)

// pingTimeout is how long the event stream may be silent. Incus pings its listeners every ten seconds.
const pingTimeout = 45 * time.Second

// Events reports changes of instances in the default project, in Incus's order, until ctx ends; then the channel is
// closed. The first event is always EventResync, and each lost connection gives another one when it is back: what
// happened between is not told. A consumer that falls behind gets EventResync in place of what it missed.
//
// A change that is made after Events returned is reported, or covered by a later EventResync. If Incus cannot be reached
// it is tried again in the background: the error is only that of ctx.
func (r *Runtime) Events(ctx context.Context) (<-chan agent.RuntimeEvent, error) {
	if err := ctx.Err(); err != nil {
		return nil, describe("events", "", err)
	}
	queue := newEventQueue()
	conn, err := r.subscribe(ctx)
	if err != nil {
		r.log.Warn("cannot listen to incus, trying on", zap.Error(err))
	} else {
		queue.put(resync)
	}
	events := make(chan agent.RuntimeEvent)
	go func() {
		defer close(events)
		var listener sync.WaitGroup
		listener.Go(func() { r.listen(ctx, conn, queue) })
		defer listener.Wait()
		queue.deliver(ctx, events)
	}()
	return events, nil
}

// listen keeps the queue fed until ctx ends, through one connection after the other. The first may be there already.
func (r *Runtime) listen(ctx context.Context, conn *websocket.Conn, queue *eventQueue) {
	for failures := 0; ; {
		if conn != nil {
			failures = 0
			err := read(ctx, conn, queue)
			if ctx.Err() == nil {
				r.log.Warn("lost the event stream of incus", zap.Error(err))
			}
		}
		if r.connectPause.wait(ctx, failures) != nil {
			return
		}
		var err error
		if conn, err = r.subscribe(ctx); err != nil {
			failures++
			r.log.Debug("cannot listen to incus", zap.Error(err))
			continue
		}
		r.log.Info("listening to incus again")
		queue.put(resync)
	}
}

// subscribe opens the event stream. It uses the client's raw websocket and not its event listener: that one runs every
// handler in a goroutine of its own, so that a stop may overtake the start before it, and its own goroutines stay for
// up to a minute after the end. The client bounds the handshake by five seconds.
func (r *Runtime) subscribe(ctx context.Context) (*websocket.Conn, error) {
	server, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := server.RawWebsocket("/events?type=" + api.EventTypeLifecycle + "&project=" + api.ProjectDefaultName)
	if err != nil {
		conn = nil
	}
	return conn, describe("events", "", err)
}

// read feeds the queue from one connection until that breaks, falls silent or ctx ends, and closes it.
func read(ctx context.Context, conn *websocket.Conn, queue *eventQueue) error {
	defer conn.Close()
	unhook := context.AfterFunc(ctx, func() { _ = conn.Close() }) // closing is what ends a blocked read
	defer unhook()
	alive := func() error { return conn.SetReadDeadline(time.Now().Add(pingTimeout)) }
	pong := conn.PingHandler()
	conn.SetPingHandler(func(data string) error {
		return errors.Join(alive(), pong(data))
	})
	for {
		if err := alive(); err != nil {
			return err
		}
		_, message, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		for _, event := range translate(message) {
			queue.put(event)
		}
	}
}

// eventKinds are the lifecycle events that matter. A restart ends as a start; a snapshot changes what Instance reports.
var eventKinds = map[string]agent.EventKind{
	api.EventLifecycleInstanceStarted:         agent.EventStarted,
	api.EventLifecycleInstanceRestarted:       agent.EventStarted,
	api.EventLifecycleInstanceStopped:         agent.EventStopped,
	api.EventLifecycleInstanceShutdown:        agent.EventStopped,
	api.EventLifecycleInstancePaused:          agent.EventPaused,
	api.EventLifecycleInstanceResumed:         agent.EventResumed,
	api.EventLifecycleInstanceCreated:         agent.EventCreated,
	api.EventLifecycleInstanceDeleted:         agent.EventDeleted,
	api.EventLifecycleInstanceUpdated:         agent.EventUpdated,
	api.EventLifecycleInstanceRestored:        agent.EventUpdated,
	api.EventLifecycleInstanceSnapshotCreated: agent.EventUpdated,
	api.EventLifecycleInstanceSnapshotDeleted: agent.EventUpdated,
	api.EventLifecycleInstanceSnapshotRenamed: agent.EventUpdated,
	api.EventLifecycleInstanceSnapshotUpdated: agent.EventUpdated,
}

// translate turns a message into events; what does not concern instances, or is not understood, is none.
func translate(message []byte) []agent.RuntimeEvent {
	var event api.Event
	var lifecycle api.EventLifecycle
	if json.Unmarshal(message, &event) != nil || event.Type != api.EventTypeLifecycle ||
		json.Unmarshal(event.Metadata, &lifecycle) != nil {
		return nil
	}
	instance := instanceOf(lifecycle.Source)
	if instance == "" {
		return nil
	}
	if lifecycle.Action == api.EventLifecycleInstanceRenamed {
		old, _ := lifecycle.Context["old_name"].(string)
		return []agent.RuntimeEvent{
			{Kind: agent.EventDeleted, Instance: old},
			{Kind: agent.EventCreated, Instance: instance},
		}
	}
	kind, ok := eventKinds[lifecycle.Action]
	if !ok {
		return nil
	}
	return []agent.RuntimeEvent{{Kind: kind, Instance: instance}}
}

// instanceOf finds the instance in the source of a lifecycle event, such as /1.0/instances/c1/snapshots/s0?project=p.
func instanceOf(source string) string {
	location, err := url.Parse(source)
	if err != nil {
		return ""
	}
	rest, ok := strings.CutPrefix(location.Path, "/1.0/instances/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}
