package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/peer"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
	"github.com/hoodynetwork/hoody-agent/internal/store"
	"github.com/hoodynetwork/hoody-agent/internal/transfer"
)

// links are the agent's connections with other agents; without credentials there are none.
type links struct {
	d       daemon
	dialer  *transfer.Dialer
	server  *pki.Credentials
	stream  transfer.StreamOptions
	receive *transfer.Limits
	send    *transfer.Limits
	gate    *transfer.Gate
}

func newLinks(d daemon, credentials *pki.Credentials, records *store.Store) *links {
	l := &links{d: d}
	if d.cfg.Standalone() {
		return l
	}
	l.server = credentials
	l.gate = transfer.NewGate(d.cfg.Peer.MaxTransfers, d.cfg.Peer.MaxTransfersPerPeer)
	l.stream = transfer.StreamOptions{StallTimeout: d.cfg.Peer.StallTimeout}
	l.receive, l.send = transfer.NewLimits(0, 0), transfer.NewLimits(0, 0)
	l.reload(d.cfg)
	l.dialer = transfer.NewDialer(transfer.DialerConfig{
		TLS: credentials.ClientConfig, Log: d.log.Named("transfer"), Connections: d.cfg.Peer.Connections,
		Resolve: func(_ context.Context, serverID string) (string, error) {
			server, ok := records.Mirror().Server(serverID)
			if !ok || server.PeerAddress == "" {
				return "", errdefs.New(errdefs.ErrUnavailable, "", "server %s has no address for other agents", serverID)
			}
			return server.PeerAddress, nil
		},
	})
	return l
}

// reload takes over the limits; streams under way follow.
func (l *links) reload(cfg config.Config) {
	if l.send == nil {
		return // it stands alone
	}
	p := cfg.Peer
	l.receive.Set(uint64(p.ReceiveLimit), uint64(p.ReceiveLimitPerPeer))
	l.send.Set(uint64(p.SendLimit), uint64(p.SendLimitPerPeer))
}

func (l *links) clients() agent.Peers {
	if l.dialer == nil {
		return noPeers{}
	}
	stream := l.stream
	stream.Observe = l.d.metrics.BytesReceived
	return peer.Clients{Dial: l.dialer.Client, Stream: stream, Limits: l.receive}
}

// serve answers other agents until ctx ends.
func (l *links) serve(ctx context.Context, a *agent.Agent) error {
	if l.dialer == nil {
		<-ctx.Done()
		return nil
	}
	socket, err := net.Listen("tcp", l.d.cfg.Peer.Listen)
	if err != nil {
		return fmt.Errorf("listen for other agents: %w", err)
	}
	log := l.d.log.Named("transfer")
	mux := http.NewServeMux()
	mux.Handle("POST "+peer.PathHello, l.greetings())
	stream := l.stream
	stream.Observe = l.d.metrics.BytesSent
	mux.Handle("/", peer.NewHandler(a, peer.ServerOptions{Log: log, Stream: stream, Limits: l.send, Observe: l.d.metrics.StreamSent, Gate: l.gate}))
	listener := transfer.NewListener(transfer.ListenerConfig{
		TLS: l.server.ServerConfig(), Log: log,
		Handler: mux, RequestLimit: peer.RequestLimit,
	})
	served := make(chan error, 1)
	go func() { served <- listener.Serve(socket) }()
	select {
	case err := <-served:
		return errors.Join(fmt.Errorf("serve other agents: %w", err), listener.Close())
	case <-ctx.Done():
	}
	// Streams are cut, not waited for: the other side resumes them.
	closed := listener.Close()
	<-served
	return closed
}

// load is how many streams other agents are being sent, and how many of their requests wait.
func (l *links) load() (sending, waiting int) {
	if l.gate == nil {
		return 0, 0
	}
	return l.gate.Load()
}

func (l *links) close() error {
	if l.dialer == nil {
		return nil
	}
	return l.dialer.Close()
}

// noPeers is an agent that stands alone.
type noPeers struct{}

func (noPeers) Measure(_ context.Context, serverID string, _ []string) ([]agent.Measured, error) {
	return nil, absentPeer(serverID).err()
}

func (noPeers) Digests(_ context.Context, serverID string, _ agent.DigestRequest) (agent.Digests, error) {
	return agent.Digests{}, absentPeer(serverID).err()
}

func (noPeers) Peer(serverID string) agent.Source { return absentPeer(serverID) }

type absentPeer string

func (p absentPeer) Freeze(context.Context, string) (agent.Manifest, error) {
	return agent.Manifest{}, p.err()
}

func (p absentPeer) Estimate(context.Context, agent.EstimateRequest) (agent.Estimate, error) {
	return agent.Estimate{}, p.err()
}

func (p absentPeer) Stream(context.Context, agent.StreamRequest) (agent.Stream, error) {
	return nil, p.err()
}

func (p absentPeer) err() error {
	return errdefs.New(errdefs.ErrUnsupported, "", "this agent stands alone and cannot reach server %s: peer.listen is not set", string(p))
}
