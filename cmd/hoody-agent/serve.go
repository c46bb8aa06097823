package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"github.com/hoodynetwork/hoody-agent/internal/admin"
	"github.com/hoodynetwork/hoody-agent/internal/health"
)

const (
	// answerGrace is how long open requests may go on at a shutdown; then their contexts end, and those that wait
	// for a job answer that they could not.
	answerGrace = 5 * time.Second
	// farewell is how long those answers may take to leave.
	farewell = 2 * time.Second
)

// servers are the HTTP servers of the agent.
type servers struct {
	log        *zap.Logger
	api        served
	others     []served           // admin socket; metrics, unless they are turned off
	endAnswers context.CancelFunc // ends the contexts of all open API requests
}

// served is a server and where it listens.
type served struct {
	server   *http.Server
	listener net.Listener
}

// openServers binds the addresses, so that a taken one is known before anybody is told that the agent is up.
func openServers(d daemon, agent *node) (_ *servers, err error) {
	requests, endAnswers := context.WithCancel(context.Background())
	s := &servers{log: d.log, endAnswers: endAnswers}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	s.api.server = d.httpServer(probed(agent.api, d.health))
	s.api.server.BaseContext = func(net.Listener) context.Context { return requests }
	s.api.server.RegisterOnShutdown(agent.endStreams)
	if s.api.listener, err = listenAPI(d); err != nil {
		return nil, fmt.Errorf("serve API: %w", err)
	}
	socket, err := admin.Listen(d.cfg.AdminSocket(), d.cfg.Admin.Group)
	if err != nil {
		return nil, err
	}
	s.others = append(s.others, served{d.httpServer(agent.admin), socket})
	if d.cfg.Metrics.Listen == "" {
		return s, nil
	}
	scrapes, err := net.Listen("tcp", d.cfg.Metrics.Listen)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	scrapes = netutil.LimitListener(scrapes, maxScrapers)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", d.metrics.Handler())
	s.others = append(s.others, served{d.httpServer(probed(mux, d.health)), scrapes})
	return s, nil
}

// How many connections are open at a time; who comes then waits for one to end. They must not use up the process's files, which transfers
// and the runtime need.
const (
	maxClients  = 4096
	maxScrapers = 256
)

func listenAPI(d daemon) (net.Listener, error) {
	listener, err := net.Listen("tcp", d.cfg.API.Listen)
	if err != nil {
		return nil, err
	}
	listener = netutil.LimitListener(listener, maxClients)
	pair := d.cfg.API.TLS
	if pair.Cert == "" {
		return listener, nil
	}
	certificate, err := loadCertificate(pair.Cert, pair.Key, d.log)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return tls.NewListener(listener, &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: certificate.get,
	}), nil
}

// probed adds the probes of load balancers and the like, which have no token.
func probed(next http.Handler, registry *health.Registry) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path { // no mux: it would redirect what it finds untidy
		case "/healthz":
			registry.ServeLive(w, r)
		case "/readyz":
			registry.ServeReady(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// httpServer has limits for clients that are slow, silent or do not read, but none on how long an answer takes: some wait for a job.
func (d daemon) httpServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           patient(handler, answerPatience),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		// Over HTTP/2 a deadline resets the stream, which takes a connection that somebody reads.
		HTTP2:    &http.HTTP2Config{WriteByteTimeout: answerPatience},
		ErrorLog: zap.NewStdLog(d.log.Named("http")),
	}
}

func (s *servers) address() string { return s.api.listener.Addr().String() }

// serve answers until shutdown.
func (s *servers) serve() error {
	var group errgroup.Group
	for _, one := range append([]served{s.api}, s.others...) {
		group.Go(one.serve)
	}
	return group.Wait()
}

func (o served) serve() error {
	if err := o.server.Serve(o.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", o.listener.Addr(), err)
	}
	return nil
}

// shutdown takes no more requests and ends the open ones. Metrics and the admin socket go last: a shutdown can be watched.
func (s *servers) shutdown() {
	if !drained(s.api.server, answerGrace) {
		s.endAnswers()
		if !drained(s.api.server, farewell) {
			s.log.Warn("requests were cut off")
		}
	}
	s.close()
}

func drained(server *http.Server, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return server.Shutdown(ctx) == nil
}

// close ends what is left at once.
func (s *servers) close() {
	s.endAnswers()
	for _, one := range append([]served{s.api}, s.others...) {
		_ = one.server.Close() // connections are cut: there is nothing to be told about them
		if one.listener != nil {
			_ = one.listener.Close() // a server that never served does not own it; twice does no harm
		}
	}
}
