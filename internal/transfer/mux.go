package transfer

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/yamux"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// Facts about yamux below are from the source of hashicorp/yamux v0.1.2.
const (
	// acceptBacklog is how many streams may wait to be accepted before more are reset, and how many of its own a
	// session may have opened without an acknowledgement. http.Server accepts at once, so a longer queue could
	// only hold an attacker's streams, 256 KiB of window each.
	acceptBacklog = 64

	// keepAliveInterval is how often each side pings; the dialling one also looks how long the answer took (Dialer.watch). A
	// connection that died without a word is noticed within this plus connectionWriteTimeout.
	keepAliveInterval = 20 * time.Second

	// connectionWriteTimeout bounds queueing plus one socket write, and is the timeout of a ping as well. With the
	// default of 10 s a saturated link or a receiver that waits for its disk kills healthy sessions (hashicorp/yamux
	// #142, nomad #25380). When it does pass, a frame may be half written; see muxStream for the consequence.
	connectionWriteTimeout = 75 * time.Second

	// streamOpenTimeout is how long a stream may go unacknowledged; yamux closes the whole session then, so it
	// must not be shorter than what a busy but healthy link needs.
	streamOpenTimeout = connectionWriteTimeout

	// streamCloseTimeout is how long the remains of a stream wait on the dialling side for the peer to close its half. The accepting side closes
	// as soon as a request is over, so whoever waits longer is gone or hostile.
	streamCloseTimeout = time.Minute

	// requestWindow is the receive window of the accepting side, per stream: yamux's smallest, since only requests
	// arrive there. It bounds what a peer can make a listener hold.
	requestWindow = 256 << 10

	// frameSize is the largest frame written. A frame is sent without a break, so all other streams and the pings
	// wait for it; below 128 KiB the fixed cost of a frame begins to show.
	frameSize = 256 << 10

	// minWindow is the smallest receive window of the dialling side. Half of a window is used up before the sender
	// hears of more; on a fast network below 4 MiB that half does not cover the scheduling of both hosts.
	minWindow = 4 << 20
	// maxWindow bounds what a peer can make one stream buffer here. yamux buffers in a bytes.Buffer that may grow to
	// twice the window, and holds the old and the new array while it grows: 48 MiB at worst.
	maxWindow = 16 << 20
	// windowRate is the speed in bytes per second that a window is to sustain: 10 Gbit/s.
	windowRate = 1_250_000_000
)

// muxConfig returns the settings of a session whose streams receive through the given window; closeTimeout is how long the remains of a
// stream wait for the other side to close, 0 for no limit.
func muxConfig(window uint32, closeTimeout time.Duration, log *zap.Logger) *yamux.Config {
	return &yamux.Config{
		AcceptBacklog:          acceptBacklog,
		EnableKeepAlive:        true,
		KeepAliveInterval:      keepAliveInterval,
		ConnectionWriteTimeout: connectionWriteTimeout,
		MaxStreamWindowSize:    window,
		StreamOpenTimeout:      streamOpenTimeout,
		StreamCloseTimeout:     closeTimeout,
		Logger:                 &muxLogger{log: log, limit: rate.NewLimiter(1, 10)},
	}
}

// windowFor returns the receive window that keeps a stream flowing at windowRate over a round trip time: the sender may
// be that far ahead of what it knows to have been read. Doubled, since yamux announces more only when half is gone.
func windowFor(rtt time.Duration) uint32 {
	wanted := 2 * rtt.Seconds() * windowRate
	return uint32(min(max(wanted, minWindow), maxWindow))
}

// muxLogger passes yamux's lines on to zap. A peer decides how many there are, so their rate is limited.
type muxLogger struct {
	log   *zap.Logger
	limit *rate.Limiter
}

func (l *muxLogger) Print(args ...any)                 { l.write(fmt.Sprint(args...)) }
func (l *muxLogger) Println(args ...any)               { l.write(fmt.Sprintln(args...)) }
func (l *muxLogger) Printf(format string, args ...any) { l.write(fmt.Sprintf(format, args...)) }

func (l *muxLogger) write(line string) {
	if !l.limit.Allow() {
		return
	}
	// None of these is an error of ours: what matters reaches a request, which reports it.
	l.log.Debug("session: " + strings.TrimSpace(line))
}
