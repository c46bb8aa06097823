package transfer

import (
	"net"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
)

// Whoever has read a whole window, in pieces of whatever size, has made room for a whole one: the sender gets rid of it before anything more is read.
func TestAWindowThatWasReadIsGrantedWhole(t *testing.T) {
	const window = 1 << 20
	near, far := net.Pipe()
	dialler, err := yamux.Client(near, muxConfig(window, streamCloseTimeout, nopLog))
	must(t, err)
	defer dialler.Close()
	acceptor, err := yamux.Server(far, muxConfig(window, streamCloseTimeout, nopLog))
	must(t, err)
	defer acceptor.Close()
	opened, err := dialler.OpenStream()
	must(t, err)
	receiver := newSession(dialler, bob, window, time.Now().Add(time.Hour)).wrap(opened, 0)
	defer receiver.Close()
	sender, err := acceptor.AcceptStream()
	must(t, err)
	defer sender.Close()
	data := noise(window)
	for range 3 {
		must(t, sender.SetWriteDeadline(time.Now().Add(10*time.Second)))
		if n, err := sender.Write(data); err != nil {
			t.Fatalf("%d of %d bytes sent before anything more was read: %v", n, window, err)
		}
		for left := window; left > 0; {
			n, err := receiver.Read(make([]byte, min(left, 100_000)))
			must(t, err)
			left -= n
		}
	}
}
