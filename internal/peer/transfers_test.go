package peer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
	"github.com/hoodynetwork/hoody-agent/internal/transfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transfers is how many the tests run between two agents.
const transfers = 24

// sending is a source's agent whose streams wait until a test lets them go. Each snapshot's stream is bytes of its own.
type sending struct {
	Serving // nothing but streams is asked for
	size    int
	started chan string // jobs, as their streams are opened
	flow    func(jobID string) <-chan struct{}

	mu      sync.Mutex
	running map[string]int // by peer
	most    map[string]int
	all     int // running, and at most
	mostAll int
}

func newSending(size int, flow func(jobID string) <-chan struct{}) *sending {
	return &sending{size: size, started: make(chan string, transfers), flow: flow, running: map[string]int{}, most: map[string]int{}}
}

func (s *sending) OpenStream(_ context.Context, peer string, request agent.StreamRequest) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[peer]++
	s.all++
	s.most[peer], s.mostAll = max(s.most[peer], s.running[peer]), max(s.mostAll, s.all)
	s.started <- request.JobID
	return &held{Reader: content(request.To, s.size), flow: s.flow(request.JobID), closed: sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running[peer]--
		s.all--
	})}, nil
}

// content is what a snapshot's stream holds.
func content(guid lineage.GUID, size int) io.Reader {
	var seed [32]byte
	copy(seed[:], guid.String())
	return io.LimitReader(rand.NewChaCha8(seed), int64(size))
}

type held struct {
	io.Reader
	flow   <-chan struct{}
	closed func()
}

func (h *held) Read(p []byte) (int, error) {
	<-h.flow
	return h.Reader.Read(p)
}

func (h *held) Close() error {
	h.closed()
	return nil
}

// sendingAgent runs an agent that sends and returns how an agent of another id reaches it.
func sendingAgent(t *testing.T, serving Serving, options ServerOptions) func(id string) *transfer.Dialer {
	t.Helper()
	ca, err := pki.NewCA("transfers", 0)
	must(t, err)
	credentials := func(id string) *pki.Credentials {
		c, err := ca.Credentials(pki.Request{ServerID: id})
		must(t, err)
		return c
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	listener := transfer.NewListener(transfer.ListenerConfig{TLS: credentials(sourceID).ServerConfig(), Handler: NewHandler(serving, options)})
	served := make(chan error, 1)
	go func() { served <- listener.Serve(socket) }()
	t.Cleanup(func() {
		must(t, listener.Close())
		must(t, <-served)
	})
	return func(id string) *transfer.Dialer {
		dialer := transfer.NewDialer(transfer.DialerConfig{
			TLS:     credentials(id).ClientConfig,
			Resolve: func(context.Context, string) (string, error) { return socket.Addr().String(), nil },
		})
		t.Cleanup(func() { must(t, dialer.Close()) })
		return dialer
	}
}

const (
	sourceID = "aaaaaaaaaaaaaaaaaaaaaaaa"
	busyID   = "bbbbbbbbbbbbbbbbbbbbbbbb"
	lateID   = "cccccccccccccccccccccccc"
)

// receive takes one stream to its end and says what was wrong with it. moved is told of what arrives.
func receive(ctx context.Context, clients Clients, jobID string, guid lineage.GUID, size int, moved func(n int)) error {
	stream, err := clients.Peer(sourceID).Stream(ctx, agent.StreamRequest{JobID: jobID, To: guid})
	if err != nil {
		return err
	}
	defer stream.Close()
	want, got, expected := content(guid, size), make([]byte, 64<<10), make([]byte, 64<<10)
	for total := 0; ; {
		n, err := stream.Read(got)
		if _, short := io.ReadFull(want, expected[:n]); short != nil || !bytes.Equal(got[:n], expected[:n]) {
			return fmt.Errorf("content differs within %d bytes after %d", n, total)
		}
		total += n
		moved(n)
		if err == io.EOF && total == size {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", total, size, err)
		}
	}
}

// Transfers start in the order in which they were asked for, but for those whose peer is at its limit; nobody is forgotten, whichever
// of those at work end first.
func TestTransfersStartInTheOrderInWhichTheyAreAskedFor(t *testing.T) {
	const total, perPeer, size = 6, 4, 100 << 10
	gate := transfer.NewGate(total, perPeer)
	var flows sync.Map
	serving := newSending(size, func(jobID string) <-chan struct{} {
		flow, _ := flows.LoadOrStore(jobID, make(chan struct{}))
		return flow.(chan struct{})
	})
	dial := sendingAgent(t, serving, ServerOptions{Gate: gate})
	clients := map[string]Clients{busyID: {Dial: dial(busyID).Client}, lateID: {Dial: dial(lateID).Client}}

	type asked struct{ job, peer string }
	var queue, running []asked
	ended := make(chan error, transfers)
	runs := map[string]int{}
	// settle starts what the rule starts, and requires that the source does the same.
	settle := func() {
		t.Helper()
		for i := 0; i < len(queue) && len(running) < total; {
			next := queue[i]
			if runs[next.peer] == perPeer {
				i++
				continue
			}
			queue = slices.Delete(queue, i, i+1)
			running = append(running, next)
			runs[next.peer]++
			if got := await(t, "a transfer to start", serving.started); got != next.job {
				t.Fatalf("%s starts, it is the turn of %s", got, next.job)
			}
		}
	}
	for i := range transfers {
		next := asked{fmt.Sprintf("job-%02d", i), busyID}
		if i >= 2*transfers/3 { // behind a queue of the other's that is longer than the total
			next.peer = lateID
		}
		go func() {
			ended <- receive(t.Context(), clients[next.peer], next.job, lineage.GUID(i+1), size, func(int) {})
		}()
		for held, waiting := gate.Load(); held+waiting <= i; held, waiting = gate.Load() {
			runtime.Gosched() // on its way
		}
		queue = append(queue, next)
		settle()
	}
	for i := 0; len(running) > 0; i++ {
		k := i % len(running) // any of them
		flow, _ := flows.Load(running[k].job)
		close(flow.(chan struct{}))
		must(t, await(t, "a transfer to end", ended))
		runs[running[k].peer]--
		running = slices.Delete(running, k, k+1)
		settle()
	}
	if len(queue) != 0 {
		t.Errorf("%v never started", queue)
	}
	if serving.mostAll != total || serving.most[busyID] != perPeer || serving.most[lateID] > perPeer {
		t.Errorf("at most %d ran at once, %v by peer; the limits are %d and %d", serving.mostAll, serving.most, total, perPeer)
	}
}

// All at once: each gets its share and arrives whole, and every byte has passed the limits.
func TestTransfersShareALink(t *testing.T) {
	const size = 2 << 20
	begin := make(chan struct{})
	serving := newSending(size, func(string) <-chan struct{} { return begin })
	sent, received := &counter{}, &counter{}
	limits := transfer.NewLimits(0, 0)
	dial := sendingAgent(t, serving, ServerOptions{Gate: transfer.NewGate(transfers, transfers), Limits: limits, Stream: transfer.StreamOptions{Limiters: []transfer.Limiter{sent}}})
	clients := Clients{Dial: dial(busyID).Client, Stream: transfer.StreamOptions{Limiters: []transfer.Limiter{received}}}
	var moved [transfers]atomic.Int64
	var all atomic.Int64
	var shares [transfers]int64 // when half of everything has arrived
	half := sync.OnceFunc(func() {
		for i := range moved {
			shares[i] = moved[i].Load()
		}
	})
	ended := make(chan error, transfers)
	for i := range transfers {
		go func() {
			ended <- receive(t.Context(), clients, fmt.Sprintf("job-%02d", i), lineage.GUID(i+1), size, func(n int) {
				moved[i].Add(int64(n))
				if all.Add(int64(n)) >= transfers*size/2 {
					half()
				}
			})
		}()
	}
	for range transfers {
		await(t, "a transfer to start", serving.started)
	}
	close(begin)
	for range transfers {
		must(t, await(t, "a transfer to end", ended))
	}
	slices.Sort(shares[:])
	mean := float64(transfers*size/2) / transfers
	least, most := float64(shares[0])/mean, float64(shares[transfers-1])/mean
	t.Logf("shares of %d transfers when half of everything had arrived, in units of an equal share: %.2f the least, %.2f the median, %.2f the most",
		transfers, least, float64(shares[transfers/2])/mean, most)
	// One after the other half of them would have nothing yet.
	if quarter := float64(shares[transfers/4]) / mean; quarter < 0.1 {
		t.Errorf("a quarter of all transfers have less than %.2f of an equal share", quarter)
	}
	if serving.mostAll != transfers {
		t.Errorf("%d ran at once, want %d", serving.mostAll, transfers)
	}
	if got := received.passed.Load(); got != transfers*size {
		t.Errorf("%d bytes passed the receivers' limits, %d arrived", got, transfers*size)
	}
	// Random bytes are stored as they are, in frames that take a little.
	if got := sent.passed.Load(); got < transfers*size || got > transfers*size*101/100 {
		t.Errorf("%d bytes passed the senders' limits, %d were sent", got, transfers*size)
	}
	if sent.largest.Load() > counterBurst || received.largest.Load() > counterBurst {
		t.Errorf("pieces of %d and %d bytes passed limits of %d", sent.largest.Load(), received.largest.Load(), counterBurst)
	}
}

// counterBurst is what a counter lets pass at once.
const counterBurst = 200_000

// counter is a limit that lets everything pass and counts it.
type counter struct{ passed, largest atomic.Int64 }

func (c *counter) Burst() int { return counterBurst }

func (c *counter) WaitN(_ context.Context, n int) error {
	c.passed.Add(int64(n))
	for largest := c.largest.Load(); int64(n) > largest && !c.largest.CompareAndSwap(largest, int64(n)); largest = c.largest.Load() {
	}
	return nil
}

// The network has carried what was sent, and metrics say so, whatever became of it.
func TestAStreamThatIsCutOffCounts(t *testing.T) {
	type seen struct{ content, wire uint64 }
	told := make(chan seen, 1)
	flow := make(chan struct{})
	close(flow)
	serving := newSending(64<<20, func(string) <-chan struct{} { return flow })
	dial := sendingAgent(t, serving, ServerOptions{Observe: func(content, wire uint64, _ string) { told <- seen{content, wire} }})
	stream, err := (Clients{Dial: dial(busyID).Client}).Peer(sourceID).Stream(t.Context(), agent.StreamRequest{JobID: "job", To: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stream, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-told; got.wire < 1<<20 || got.content < 1<<20 || got.content >= 64<<20 {
		t.Errorf("%+v", got)
	}
}

// The limits of a peer and of all take from their allowance what was sent, each from its own. They refill so slowly here that nothing
// comes back meanwhile, and no transfer is so large that it has to wait for that.
func TestTransfersUseUpTheirPeersBandwidth(t *testing.T) {
	const size, ofLate = 20_000, 6
	serving := newSending(size, func(string) <-chan struct{} {
		flow := make(chan struct{})
		close(flow)
		return flow
	})
	limits := transfer.NewLimits(1, 1)
	var wire atomic.Int64
	dial := sendingAgent(t, serving, ServerOptions{Gate: transfer.NewGate(4, 2), Limits: limits, Observe: func(_, sent uint64, _ string) { wire.Add(int64(sent)) }})
	left := func(peer string) (own, all float64) {
		limiters := limits.For(peer)
		return limiters[0].(allowance).Tokens(), limiters[1].(allowance).Tokens()
	}
	full, _ := left(busyID)
	received := transfer.NewLimits(1, 1)
	clients := map[string]Clients{
		busyID: {Dial: dial(busyID).Client, Limits: received},
		lateID: {Dial: dial(lateID).Client, Limits: received},
	}
	ended := make(chan error, transfers)
	for i := range transfers {
		peer := busyID
		if i < ofLate {
			peer = lateID
		}
		go func() {
			ended <- receive(t.Context(), clients[peer], fmt.Sprintf("job-%02d", i), lineage.GUID(i+1), size, func(int) {})
		}()
	}
	for range transfers {
		must(t, await(t, "a transfer to end", ended))
	}
	if serving.mostAll > 4 || serving.most[busyID] > 2 || serving.most[lateID] > 2 {
		t.Errorf("at most %d ran at once, %v by peer; the limits are 4 and 2", serving.mostAll, serving.most)
	}
	const slack = 1000 // what comes back in a quarter of an hour, and the frames of what is stored
	near := func(what string, tokens float64, transfers int) {
		t.Helper()
		if used := full - tokens; used < float64(transfers*size)-slack || used > float64(transfers*size)+float64(transfers)*slack {
			t.Errorf("%s: %d transfers of %d bytes used up %.0f", what, transfers, size, used)
		}
	}
	busy, all := left(busyID)
	late, _ := left(lateID)
	near("sent to one peer", busy, transfers-ofLate)
	near("sent to the other", late, ofLate)
	near("sent in all", all, transfers)
	taken := received.For(sourceID)
	near("received from one peer", taken[0].(allowance).Tokens(), transfers)
	near("received in all", taken[1].(allowance).Tokens(), transfers)
}

type allowance interface{ Tokens() float64 }

// A transfer that waits for its turn is told so, again and again: else its receiver would give up, and lose its place.
func TestWhoWaitsForItsTurnIsToldSo(t *testing.T) {
	const size = 10 << 10
	gate := transfer.NewGate(1, 1)
	flow := make(chan struct{})
	close(flow)
	serving := newSending(size, func(string) <-chan struct{} { return flow })
	dial := sendingAgent(t, serving, ServerOptions{Gate: gate, notices: time.Millisecond})
	release, err := gate.Acquire(t.Context(), lateID)
	must(t, err)
	notices := make(chan struct{}, 1)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
		select {
		case notices <- struct{}{}:
		default:
		}
		return nil
	}})
	ended := make(chan error, 1)
	go func() {
		ended <- receive(ctx, Clients{Dial: dial(busyID).Client}, "job", 1, size, func(int) {})
	}()
	for range 6 {
		await(t, "a notice", notices)
	}
	if _, waiting := gate.Load(); waiting != 1 {
		t.Errorf("%d wait, want 1", waiting)
	}
	release()
	must(t, await(t, "the transfer", ended))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within is how long anything in a test may take before it counts as hanging.
const within = 30 * time.Second

func await[T any](t testing.TB, what string, c <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-c:
	case <-time.After(within):
		t.Fatalf("waited in vain for %s", what)
	}
	return value
}
