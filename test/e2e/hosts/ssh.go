package hosts

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/crypto/ssh"
)

// writeKey makes the key that opens the guests: path and path.pub.
func writeKey(path string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "hoody-e2e")
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	authorized, err := ssh.NewPublicKey(public)
	if err != nil {
		return fmt.Errorf("encode public key: %w", err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	if err := os.WriteFile(path+".pub", ssh.MarshalAuthorizedKey(authorized), 0o644); err != nil {
		return fmt.Errorf("write public key: %w", err)
	}
	return nil
}

func readKey(path string) (ssh.Signer, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(content)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	return key, nil
}

// dialTimeout bounds one attempt to connect: a guest that boots neither answers nor refuses.
const dialTimeout = 2 * time.Second

// dialSSH logs in at addr as root.
func dialSSH(ctx context.Context, ns *netns, addr string, key ssh.Signer) (*ssh.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*dialTimeout)
	defer cancel()
	conn, err := dial(ctx, ns, "tcp", net.JoinHostPort(addr, "22"))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	config := &ssh.ClientConfig{
		User: "root",
		Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		// The other end of a wire that this process owns: there is nobody in between.
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	}
	handshake, channels, requests, err := ssh.NewClientConn(conn, addr, config)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("log in at %s: %w", addr, err)
	}
	return ssh.NewClient(handshake, channels, requests), nil
}

// dial connects to an address of the namespace. It must be numeric: names are resolved on other threads.
func dial(ctx context.Context, ns *netns, network, addr string) (conn net.Conn, err error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	err = ns.do(func() (err error) {
		conn, err = dialer.DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}
