package transfer

import (
	"cmp"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/pki"
)

// rawTCP sends over one TCP connection that stays, in writes of 256 KiB.
func rawTCP(b *testing.B, l link) run {
	up, down := connected(b, l)
	return plain(up, down)
}

// rawTLS does so over TLS 1.3.
func rawTLS(b *testing.B, l link) run {
	ca, err := pki.NewCA("benchmark", 0)
	must(b, err)
	server, err := ca.Credentials(pki.Request{ServerID: bob})
	must(b, err)
	client, err := ca.Credentials(pki.Request{ServerID: alice})
	must(b, err)
	up, down := connected(b, l)
	sender, receiver := tls.Server(up, server.ServerConfig()), tls.Client(down, client.ClientConfig(bob))
	done := make(chan error, 1)
	go func() { done <- sender.Handshake() }()
	must(b, receiver.Handshake())
	must(b, <-done)
	return plain(sender, receiver)
}

// connected returns both ends of a connection over a link.
func connected(b *testing.B, l link) (up, down net.Conn) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	defer func() { must(b, socket.Close()) }()
	down, err = l.dial(b.Context(), "tcp", socket.Addr().String())
	must(b, err)
	up, err = socket.Accept()
	must(b, err)
	b.Cleanup(func() { _, _ = up.Close(), down.Close() })
	return up, down
}

func plain(up io.Writer, down io.Reader) run {
	return func(src io.Reader, size int) (time.Duration, error) {
		began := time.Now()
		sent := make(chan error, 1)
		go func() {
			_, err := io.CopyBuffer(onlyWriter{up}, src, make([]byte, 256<<10))
			sent <- err
		}()
		_, err := io.CopyBuffer(onlyWriter{io.Discard}, io.LimitReader(down, int64(size)), make([]byte, 256<<10))
		took := time.Since(began)
		if err != nil {
			return 0, err // up waits for nobody any more once the connection is closed
		}
		return took, cmp.Or(<-sent, nil)
	}
}
