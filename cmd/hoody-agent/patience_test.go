package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A client that does not read its answer is cut off; how long the answer takes to come about, and how long a connection rests between
// requests, does not matter.
func TestAClientThatDoesNotRead(t *testing.T) {
	const short, long = 50 * time.Millisecond, time.Second
	written := make(chan error, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/much":
			_, err := w.Write(make([]byte, 64<<20))
			written <- err
		case "/late":
			time.Sleep(long + short)
			_, _ = io.WriteString(w, "late")
		case "/own": // it has a deadline of its own, in the past
			_ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
			_, err := w.Write(make([]byte, 16<<10))
			written <- err
		}
	})
	hasty, server := httptest.NewServer(patient(handler, short)), httptest.NewServer(patient(handler, long))
	defer hasty.Close()
	defer server.Close()
	ask := func(server *httptest.Server, path string) (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
		return conn, bufio.NewReader(conn)
	}
	ask(hasty, "/much")
	if err := <-written; err == nil {
		t.Error("an answer that nobody reads was written")
	}
	ask(server, "/own")
	if err := <-written; err == nil {
		t.Error("the handler's own deadline does not count")
	}
	conn, answers := ask(server, "/late")
	for _, want := range []string{"late", ""} {
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(answer.Body); string(body) != want || err != nil {
			t.Errorf("answered %q (%v), want %q", body, err, want)
		}
		time.Sleep(long + short) // a rest between requests
		_, _ = io.WriteString(conn, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
	}
}

// Over HTTP/2 a stream is cut off, and the connection goes on.
func TestAStreamThatIsNotRead(t *testing.T) {
	written := make(chan error, 1)
	server := httptest.NewUnstartedServer(patient(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/much" {
			_, err := w.Write(make([]byte, 64<<20))
			written <- err
		}
	}), time.Second))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	unread, err := server.Client().Get(server.URL + "/much")
	if err != nil {
		t.Fatal(err)
	}
	defer unread.Body.Close()
	if err := <-written; err == nil || unread.ProtoMajor != 2 {
		t.Errorf("HTTP/%d: an answer that nobody reads was written", unread.ProtoMajor)
	}
	next, err := server.Client().Get(server.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = next.Body.Close()
}
