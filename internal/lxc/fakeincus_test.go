package lxc

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/lxc/incus/v6/shared/api"
)

// fakeIncus is an HTTP server on a unix socket that answers as Incus does, as far as a test says so.
type fakeIncus struct {
	t      *testing.T
	mux    *http.ServeMux
	socket string

	mu         sync.Mutex
	calls      []string                 // "METHOD path" in order of arrival
	operations map[string]api.Operation // how an operation ends, by id
}

// newFake starts a server without any routes but those of operations, and a Runtime on it that does not wait long.
func newFake(t *testing.T) (*fakeIncus, *Runtime) {
	t.Helper()
	fake := &fakeIncus{
		t:          t,
		mux:        http.NewServeMux(),
		socket:     filepath.Join(t.TempDir(), "s"),
		operations: map[string]api.Operation{},
	}
	fake.mux.HandleFunc("GET /1.0/operations/{id}/wait", func(w http.ResponseWriter, r *http.Request) {
		fake.mu.Lock()
		operation, ok := fake.operations[r.PathValue("id")]
		fake.mu.Unlock()
		if !ok {
			refuse(w, http.StatusNotFound, "Operation not found")
			return
		}
		if operation.Err != "" {
			refuse(w, http.StatusOK, operation.Err) // so it is: 200 with an error inside
			return
		}
		answer(w, operation)
	})
	fake.mux.HandleFunc("GET /1.0/operations/{id}", func(w http.ResponseWriter, r *http.Request) {
		fake.mu.Lock()
		operation, ok := fake.operations[r.PathValue("id")]
		fake.mu.Unlock()
		if !ok {
			refuse(w, http.StatusNotFound, "Operation not found")
			return
		}
		answer(w, operation)
	})
	fake.serve()
	runtime := New(Options{Socket: fake.socket, AnswerTimeout: 5 * time.Second, BusyTimeout: 5 * time.Second})
	runtime.busyPause = pace{first: time.Millisecond, most: time.Millisecond}
	runtime.connectPause = runtime.busyPause
	return fake, runtime
}

// serve listens on the socket until the test ends or the returned server is closed.
func (f *fakeIncus) serve() *httptest.Server {
	f.t.Helper()
	listener, err := net.Listen("unix", f.socket)
	if err != nil {
		f.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.calls = append(f.calls, r.Method+" "+r.URL.Path)
		f.mu.Unlock()
		f.mux.ServeHTTP(w, r)
	}))
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	f.t.Cleanup(server.Close)
	return server
}

// handle adds a route whose answers are given call by call; the last one stays.
func (f *fakeIncus) handle(pattern string, handlers ...http.HandlerFunc) {
	var mu sync.Mutex
	call := 0
	f.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		handler := handlers[min(call, len(handlers)-1)]
		call++
		mu.Unlock()
		handler(w, r)
	})
}

// count tells how often a request came.
func (f *fakeIncus) count(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, got := range f.calls {
		if got == call {
			n++
		}
	}
	return n
}

// started answers with an operation that runs, and ends as told: an empty text is success.
func (f *fakeIncus) started(failure string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		operation := api.Operation{ID: fmt.Sprintf("op%d", len(f.operations)), Class: "task", Status: "Running", StatusCode: api.Running}
		final := operation
		final.Status, final.StatusCode = "Success", api.Success
		if failure != "" {
			final.Status, final.StatusCode, final.Err = "Failure", api.Failure, failure
		}
		f.operations[operation.ID] = final
		f.mu.Unlock()
		respond(w, http.StatusAccepted, api.AsyncResponse, operation)
	}
}

func answer(w http.ResponseWriter, metadata any) {
	respond(w, http.StatusOK, api.SyncResponse, metadata)
}

func respond(w http.ResponseWriter, status int, kind api.ResponseType, metadata any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": kind, "status_code": status, "metadata": metadata})
}

func answers(metadata any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { answer(w, metadata) }
}

func refuse(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": api.ErrorResponse, "error_code": status, "error": text})
}

func refuses(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { refuse(w, status, text) }
}

// instanceIn answers with an instance in a state.
func instanceIn(code api.StatusCode) http.HandlerFunc {
	return answers(api.Instance{Name: "c1", Type: "container", StatusCode: code, Status: code.String()})
}

// lifecycle is a message of the event stream.
func lifecycle(action, source string, context map[string]any) []byte {
	metadata, _ := json.Marshal(api.EventLifecycle{Action: action, Source: source, Context: context})
	message, _ := json.Marshal(api.Event{Type: api.EventTypeLifecycle, Metadata: metadata})
	return message
}

// streams adds the event stream: each connection sends what arrives on the returned channel; nil breaks it.
func (f *fakeIncus) streams() chan<- []byte {
	messages := make(chan []byte)
	ctx, cancel := context.WithCancel(context.Background())
	f.t.Cleanup(cancel)
	f.mux.HandleFunc("GET /1.0/events", func(w http.ResponseWriter, r *http.Request) {
		conn, err := new(websocket.Upgrader).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case message := <-messages:
				if message == nil || conn.WriteMessage(websocket.TextMessage, message) != nil {
					return
				}
			}
		}
	})
	return messages
}
