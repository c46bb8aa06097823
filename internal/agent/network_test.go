package agent_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/peer"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
	"github.com/hoodynetwork/hoody-agent/internal/transfer"
	"github.com/hoodynetwork/hoody-agent/internal/transfer/delay"
)

// network is what is between a fleet's servers in tests that break it: real sessions, over connections that can be cut,
// frozen and corrupted. A source is never far ahead of its target, so that a moment of the target's is one of the source's.
type network struct {
	ca *pki.CA

	received atomic.Uint64 // bytes of streams that reached a target
	cutEvery atomic.Uint64 // of those, after which connections are cut; 0 for never
	rtt      time.Duration // of connections; set before anything uses it
	streams  streamCounts
	estimate func(*agent.Estimate) // changes a peer's estimate; nil to leave it, set before anything uses it
	tamper   func(*agent.Manifest) // changes a peer's manifest, likewise

	mu        sync.Mutex
	addresses map[string]string // by server
	conns     map[*fragile]struct{}
	flows     map[lineage.GUID]*flow
	sendError error // what the next read of a sender's output fails with; once
}

// withNetwork gives a fleet a network that can break.
func withNetwork(f *fleet) {
	ca, err := pki.NewCA("faults", time.Hour)
	f.must(err)
	f.network = &network{ca: ca, addresses: map[string]string{}, conns: map[*fragile]struct{}{}, flows: map[lineage.GUID]*flow{}}
}

// peers returns how a server reaches the others.
func (s *server) peers() (agent.Peers, func()) {
	n := s.fleet.network
	if n == nil {
		return s.fleet, func() {}
	}
	credentials, err := n.ca.Credentials(pki.Request{ServerID: s.id})
	s.fleet.must(err)
	dialer := transfer.NewDialer(transfer.DialerConfig{
		TLS: credentials.ClientConfig, BackoffMin: 5 * time.Millisecond, BackoffMax: 50 * time.Millisecond,
		Resolve: func(_ context.Context, id string) (string, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.addresses[id], nil
		},
		DialContext: n.dial,
	})
	clients := peer.Clients{Dial: dialer.Client, Stream: transfer.StreamOptions{
		StallTimeout: 500 * time.Millisecond, StartTimeout: 2 * time.Second, NoCompression: true,
	}}
	return counted{clients, n}, func() { _ = dialer.Close() }
}

// serve answers a server's peers; the returned function cuts them off.
func (s *server) serve(a *agent.Agent) (stop func()) {
	n := s.fleet.network
	if n == nil {
		return func() {}
	}
	credentials, err := n.ca.Credentials(pki.Request{ServerID: s.id})
	s.fleet.must(err)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	s.fleet.must(err)
	n.mu.Lock()
	n.addresses[s.id] = socket.Addr().String()
	n.mu.Unlock()
	listener := transfer.NewListener(transfer.ListenerConfig{
		TLS: credentials.ServerConfig(), Handler: peer.NewHandler(paced{a, n}, peer.ServerOptions{Gate: transfer.NewGate(4, 4)}),
	})
	served := make(chan error, 1)
	go func() { served <- listener.Serve(socket) }()
	return func() {
		_ = listener.Close()
		<-served
	}
}

func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	dial := new(net.Dialer).DialContext
	if n.rtt > 0 {
		dial = delay.Dial(func() time.Duration { return n.rtt })
	}
	conn, err := dial(ctx, kind, address)
	if err != nil {
		return nil, err
	}
	c := &fragile{Conn: conn, network: n, closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[c] = struct{}{}
	return c, nil
}

func (n *network) each(do func(*fragile)) {
	n.mu.Lock()
	conns := slices.Collect(maps.Keys(n.conns))
	n.mu.Unlock()
	for _, c := range conns {
		do(c)
	}
}

func (n *network) cut()     { n.each(func(c *fragile) { _ = c.Close() }) }
func (n *network) corrupt() { n.each(func(c *fragile) { c.corrupt.Store(true) }) }

// freeze stops everything on the connections of now, without a word. It returns what a keep-alive does in the end: it ends them.
func (n *network) freeze() (giveUp func()) {
	n.each(func(c *fragile) { c.frozen.Store(true) })
	return n.cut
}

// fragile is a connection that can break.
type fragile struct {
	net.Conn
	network *network
	frozen  atomic.Bool
	corrupt atomic.Bool
	once    sync.Once
	closed  chan struct{}
}

func (c *fragile) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil && c.frozen.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	if n > 0 && c.corrupt.CompareAndSwap(true, false) {
		p[n/2] ^= 0x10
	}
	return n, err
}

func (c *fragile) Write(p []byte) (int, error) {
	if c.frozen.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *fragile) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.network.mu.Lock()
		delete(c.network.conns, c)
		c.network.mu.Unlock()
	})
	return c.Conn.Close()
}

// flow is one stream, from its source's output to its target's pool.
type flow struct {
	mu       sync.Mutex
	sent     uint64
	received uint64
	moved    chan struct{} // replaced whenever something was received
}

// maxAhead is how far a source may be ahead of its target's pool, in bytes.
const maxAhead = 256 << 10

func (n *network) flow(to lineage.GUID, fresh bool) *flow {
	n.mu.Lock()
	defer n.mu.Unlock()
	if fresh || n.flows[to] == nil {
		n.flows[to] = &flow{moved: make(chan struct{})}
	}
	return n.flows[to]
}

// counted are peers whose streams are counted where they arrive.
type counted struct {
	agent.Peers
	network *network
}

func (c counted) Peer(id string) agent.Source { return countedSource{c.Peers.Peer(id), c.network} }

type countedSource struct {
	agent.Source
	network *network
}

func (c countedSource) Stream(ctx context.Context, request agent.StreamRequest) (agent.Stream, error) {
	flow := c.network.flow(request.To, true)
	ended := c.network.streams.begin()
	stream, err := c.Source.Stream(ctx, request)
	if err != nil {
		ended()
		return nil, err
	}
	return &countedStream{stream, c.network, flow, ended}, nil
}

func (c countedSource) Freeze(ctx context.Context, jobID string) (agent.Manifest, error) {
	manifest, err := c.Source.Freeze(ctx, jobID)
	if change := c.network.tamper; change != nil {
		change(&manifest)
	}
	return manifest, err
}

func (c countedSource) Estimate(ctx context.Context, request agent.EstimateRequest) (agent.Estimate, error) {
	estimate, err := c.Source.Estimate(ctx, request)
	if change := c.network.estimate; change != nil {
		change(&estimate)
	}
	return estimate, err
}

// streamCounts tells whether streams are asked for one after the other.
type streamCounts struct {
	mu    sync.Mutex
	open  int // asked for and not ended
	most  int
	asked int
	alone int // asked for when none was open: their round trips are waited for in full
}

func (s *streamCounts) begin() (ended func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.open == 0 {
		s.alone++
	}
	s.open++
	s.most = max(s.most, s.open)
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open--
	})
}

type countedStream struct {
	agent.Stream
	network *network
	flow    *flow
	ended   func()
}

func (c *countedStream) Close() error {
	defer c.ended()
	return c.Stream.Close()
}

func (c *countedStream) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	received := c.network.received.Add(uint64(n))
	if every := c.network.cutEvery.Load(); every > 0 && received/every > (received-uint64(n))/every {
		c.network.cut()
	}
	c.flow.mu.Lock()
	defer c.flow.mu.Unlock()
	c.flow.received += uint64(n)
	close(c.flow.moved)
	c.flow.moved = make(chan struct{})
	return n, err
}

// paced is an agent whose senders wait for their targets, and can be killed.
type paced struct {
	*agent.Agent
	network *network
}

func (p paced) OpenStream(ctx context.Context, server string, request agent.StreamRequest) (io.ReadCloser, error) {
	stream, err := p.Agent.OpenStream(ctx, server, request)
	if err != nil {
		return nil, err
	}
	return &pacedStream{ReadCloser: stream, network: p.network, flow: p.network.flow(request.To, false), closed: make(chan struct{})}, nil
}

type pacedStream struct {
	io.ReadCloser
	network *network
	flow    *flow
	once    sync.Once
	closed  chan struct{}
}

func (p *pacedStream) Read(b []byte) (int, error) {
	for {
		p.network.mu.Lock()
		killed := p.network.sendError
		p.network.sendError = nil
		p.network.mu.Unlock()
		if killed != nil {
			return 0, killed
		}
		p.flow.mu.Lock()
		ahead, moved := p.flow.sent > p.flow.received+maxAhead, p.flow.moved
		p.flow.mu.Unlock()
		if !ahead {
			break
		}
		select {
		case <-moved:
		case <-p.closed:
			return 0, errdefs.New(errdefs.ErrAborted, "", "sender ended")
		}
	}
	n, err := p.ReadCloser.Read(b[:min(len(b), 64<<10)])
	p.flow.mu.Lock()
	p.flow.sent += uint64(n)
	p.flow.mu.Unlock()
	return n, err
}

func (p *pacedStream) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.ReadCloser.Close()
}

// killSender makes the next read of a sender's output fail, the way it does when the command was killed.
func (n *network) killSender() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sendError = errdefs.New(errdefs.ErrAborted, "", "zfs send was killed")
}

// etcdProxy is what agents reach the store through; it can be away.
type etcdProxy struct {
	listener net.Listener
	behind   string

	mu    sync.Mutex
	away  bool
	conns map[net.Conn]struct{}
	tasks sync.WaitGroup
}

// withProxy puts a proxy before the store.
func withProxy(f *fleet) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	f.must(err)
	p := &etcdProxy{listener: listener, behind: strings.TrimPrefix(f.etcd.Endpoint(), "unix://"), conns: map[net.Conn]struct{}{}}
	f.proxy = p
	p.tasks.Go(p.run)
	f.t.Cleanup(func() {
		_ = listener.Close()
		p.set(true)
		p.tasks.Wait()
	})
}

// endpoint is where agents find the store.
func (f *fleet) endpoint() string {
	if f.proxy == nil {
		return f.etcd.Endpoint()
	}
	return "http://" + f.proxy.listener.Addr().String()
}

func (p *etcdProxy) run() {
	for {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		behind, err := net.Dial("unix", p.behind)
		p.mu.Lock()
		if err != nil || p.away {
			_ = conn.Close()
			if err == nil {
				_ = behind.Close()
			}
			p.mu.Unlock()
			continue
		}
		p.conns[conn], p.conns[behind] = struct{}{}, struct{}{}
		p.mu.Unlock()
		for _, pair := range [][2]net.Conn{{conn, behind}, {behind, conn}} {
			p.tasks.Go(func() {
				_, _ = io.Copy(pair[0], pair[1])
				_, _ = pair[0].Close(), pair[1].Close()
				p.mu.Lock()
				defer p.mu.Unlock()
				delete(p.conns, pair[0])
			})
		}
	}
}

// set takes the store away, or gives it back.
func (p *etcdProxy) set(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = away
	if away {
		for conn := range p.conns {
			_ = conn.Close()
		}
	}
}
