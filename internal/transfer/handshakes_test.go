package transfer

import (
	"net"
	"testing"
)

type addressed struct {
	net.Conn
	address string
}

func (a addressed) RemoteAddr() net.Addr {
	address, _ := net.ResolveTCPAddr("tcp", a.address)
	return address
}

func TestHandshakesOfOneAddressLeaveRoom(t *testing.T) {
	h := handshakes{most: 8}
	stranger := func(port string) net.Conn { return addressed{address: "10.0.0.1:" + port} }
	for i, want := range []bool{true, true, false} {
		if got := h.begin(stranger([]string{"1", "2", "3"}[i])); got != want {
			t.Errorf("handshake %d of one address: %t, want %t", i+1, got, want)
		}
	}
	if !h.begin(addressed{address: "10.0.0.2:1"}) {
		t.Error("no room for another address")
	}
	h.end(stranger("1"))
	if !h.begin(stranger("4")) {
		t.Error("an ended handshake is still counted")
	}
	for _, address := range []string{"[::1]:1", "[::1]:2", "[::2]:1", "[::2]:2", "[::3]:1"} {
		if !h.begin(addressed{address: address}) {
			t.Errorf("no room for %s", address)
		}
	}
	if h.begin(addressed{address: "10.0.0.9:1"}) {
		t.Error("more handshakes than there may be")
	}
}
