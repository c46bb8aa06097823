package transfer

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bundleProtocol is what both sides name in the TLS handshake when a connection may be one of several. A side that knows of none names nothing,
// and the connection is a session's only one, without a word more.
const bundleProtocol = "hoody-bundle/1"

// bundleHello is what the side that dials says first on each connection of a bundle: whose it is, and how many there are.
type bundleHello struct {
	id    [16]byte
	count byte
}

const bundleHelloSize = 17

// offering returns a server's configuration that accepts connections of bundles.
func offering(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.NextProtos = []string{bundleProtocol}
	if choose := config.GetConfigForClient; choose != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if chosen != nil {
				chosen = chosen.Clone()
				chosen.NextProtos = config.NextProtos
			}
			return chosen, err
		}
	}
	return config
}

// bind makes a session's connection of those that were dialled.
func bind(strands []strand) (*bundle, error) {
	hello := make([]byte, bundleHelloSize)
	_, _ = rand.Read(hello) // never fails
	hello[bundleHelloSize-1] = byte(len(strands))
	for _, s := range strands {
		if _, err := s.Write(hello); err != nil {
			return nil, err
		}
	}
	return newBundle(strands), nil
}

// joint is a bundle whose connections are still arriving.
type joint struct {
	strands []strand
	done    chan struct{} // closed when bundle is there
	bundle  *bundle
}

type jointKey struct {
	peer  string
	hello bundleHello
}

// join waits until a connection's bundle is complete. One of those that wait gets it to serve; first says which.
func (l *Listener) join(peer string, s strand) (whole *bundle, first bool, err error) {
	timeout := time.NewTimer(l.config.HandshakeTimeout)
	defer timeout.Stop()
	key, err := l.readHello(peer, s)
	if err != nil {
		return nil, false, fmt.Errorf("connection of a bundle: %w", err)
	}
	l.mu.Lock()
	j := l.joints[key]
	if j == nil {
		j = &joint{done: make(chan struct{})}
		l.joints[key] = j
		first = true
	}
	j.strands = append(j.strands, s)
	if len(j.strands) == int(key.hello.count) {
		j.bundle = newBundle(j.strands)
		delete(l.joints, key)
		close(j.done)
	}
	l.mu.Unlock()
	select {
	case <-j.done:
		return j.bundle, first, nil
	case <-timeout.C:
		err = errors.New("others of its bundle did not arrive")
	case <-l.done:
		err = errors.New("shutting down")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if j.bundle != nil { // at the same moment
		return j.bundle, first, nil
	}
	delete(l.joints, key) // those that still come wait for nothing, like the rest of it
	return nil, false, err
}

func (l *Listener) readHello(peer string, s strand) (jointKey, error) {
	key := jointKey{peer: peer}
	if err := s.SetReadDeadline(time.Now().Add(l.config.HandshakeTimeout)); err != nil {
		return key, err
	}
	var hello [bundleHelloSize]byte
	if _, err := io.ReadFull(s, hello[:]); err != nil {
		return key, err
	}
	copy(key.hello.id[:], hello[:])
	key.hello.count = hello[bundleHelloSize-1]
	if key.hello.count == 0 || key.hello.count > MaxConnections {
		return key, fmt.Errorf("%d connections", key.hello.count)
	}
	return key, s.SetReadDeadline(time.Time{})
}

// limitUnsent keeps the kernel from taking much more than the network does: what waits in one connection's buffer cannot go
// over another. Where that is not possible connections are only a little less even.
func limitUnsent(conn net.Conn) {
	if tcp, ok := conn.(syscall.Conn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 2*bundleChunk)
			})
		}
	}
}
