package transfer

import (
	"net"
	"sync"
)

// handshakes counts the connections of whom it is not known yet who they are, in all and by address: one address cannot keep all
// others from coming in.
type handshakes struct {
	mu        sync.Mutex
	most      int // in all; a quarter of them from one address
	open      int
	byAddress map[string]int
}

// begin counts a connection, unless there are too many already. A counted one must be ended.
func (h *handshakes) begin(conn net.Conn) bool {
	address := hostOf(conn)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open >= h.most || h.byAddress[address] >= max(1, h.most/4) {
		return false
	}
	if h.byAddress == nil {
		h.byAddress = make(map[string]int)
	}
	h.open++
	h.byAddress[address]++
	return true
}

func (h *handshakes) end(conn net.Conn) {
	address := hostOf(conn)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open--
	if h.byAddress[address]--; h.byAddress[address] == 0 {
		delete(h.byAddress, address)
	}
}

func hostOf(conn net.Conn) string {
	if host, _, err := net.SplitHostPort(conn.RemoteAddr().String()); err == nil {
		return host
	}
	return conn.RemoteAddr().String()
}
