package transfer

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// programs are what others send with. Those that are not installed are left out, and named in missing.
type programs struct {
	missing []string
	sshd    string // address of the one that was started; empty for none
	client  []string
	mbuffer bool
}

func newPrograms(b *testing.B) *programs {
	p := &programs{}
	if err := p.serveSSH(b); err != nil {
		p.missing = append(p.missing, fmt.Sprintf("Without ssh: %v", err))
	}
	if _, err := exec.LookPath("mbuffer"); err != nil {
		p.missing = append(p.missing, fmt.Sprintf("Without mbuffer: %v", err))
	} else {
		p.mbuffer = true
	}
	return p
}

func (p *programs) courses(b *testing.B, l link) (all []*course) {
	if p.sshd != "" {
		c := &course{name: "ssh", run: p.throughSSH(b, l.relay(b, p.sshd))}
		if l.loss == 0 {
			c.share = 8 // it makes many small writes, and has a window of 2 MiB
		}
		all = append(all, c)
	}
	if p.mbuffer {
		all = append(all, &course{name: "mbuffer", run: throughMbuffer(b, l)})
	}
	return all
}

// serveSSH starts an sshd for each connection to a random port of the loopback, as inetd would: so each is a child of this process, and is waited for.
// Keys and configuration are in a temporary directory.
func (p *programs) serveSSH(b *testing.B) error {
	server, err := exec.LookPath("sshd")
	if err != nil {
		if server, err = exec.LookPath("/usr/sbin/sshd"); err != nil {
			return err
		}
	}
	if _, err := exec.LookPath("ssh"); err != nil {
		return err
	}
	me, err := user.Current()
	if err != nil {
		return err
	}
	dir := b.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	host, err := writeKey(file("host"))
	if err != nil {
		return err
	}
	own, err := writeKey(file("own"))
	if err != nil {
		return err
	}
	settings := strings.Join([]string{
		"HostKey " + file("host"), "AuthorizedKeysFile " + file("authorized"), "StrictModes no", "UsePAM no", "PidFile none",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password", "PrintMotd no",
	}, "\n") + "\n"
	if err := cmp.Or(
		os.WriteFile(file("config"), []byte(settings), 0o600),
		os.WriteFile(file("authorized"), own, 0o600),
		os.WriteFile(file("known"), append([]byte("bench "), host...), 0o600),
	); err != nil {
		return err
	}
	// What systemd makes for the service. A container without that has none.
	if os.Mkdir("/run/sshd", 0o755) == nil {
		b.Cleanup(func() { _ = os.Remove("/run/sshd") })
	}
	if out, err := exec.Command(server, "-t", "-f", file("config")).CombinedOutput(); err != nil {
		return fmt.Errorf("sshd: %s", bytes.TrimSpace(out))
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() {
				defer func() { _ = conn.Close() }()
				handed, err := conn.(*net.TCPConn).File()
				if err != nil {
					return
				}
				daemon := exec.Command(server, "-i", "-e", "-f", file("config"))
				daemon.Stdin, daemon.Stdout = handed, handed
				err = daemon.Start()
				_, _ = handed.Close(), conn.Close() // the child has it
				if err == nil {
					_ = daemon.Wait()
				}
			})
		}
	})
	b.Cleanup(func() {
		must(b, socket.Close())
		tasks.Wait()
	})
	p.sshd = socket.Addr().String()
	p.client = []string{
		"-F", "none", "-i", file("own"), "-l", me.Username, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
		"-o", "UserKnownHostsFile=" + file("known"), "-o", "GlobalKnownHostsFile=none", "-o", "HostKeyAlias=bench", "-o", "StrictHostKeyChecking=yes",
	}
	return nil
}

// writeKey makes a key; it returns the public half as known and authorized keys have it.
func writeKey(path string) ([]byte, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	return ssh.MarshalAuthorizedKey(key), os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

// throughSSH pipes a source into ssh. Logging in does not count towards the time.
func (p *programs) throughSSH(b *testing.B, address string) run {
	return func(src io.Reader, _ int) (time.Duration, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return 0, err
		}
		args := append(append([]string{}, p.client...), "-p", port, host, "echo; cat >/dev/null; echo")
		client := exec.CommandContext(b.Context(), "ssh", args...)
		var said bytes.Buffer
		client.Stderr = &said
		in, err := client.StdinPipe()
		if err != nil {
			return 0, err
		}
		out, err := client.StdoutPipe()
		if err != nil {
			return 0, err
		}
		if err := client.Start(); err != nil {
			return 0, err
		}
		took, err := feed(in, bufio.NewReader(out), src)
		if waited := client.Wait(); err != nil || waited != nil {
			return 0, fmt.Errorf("%w: %s", cmp.Or(waited, err), bytes.TrimSpace(said.Bytes()))
		}
		return took, nil
	}
}

// feed waits for a line, sends a source, and waits for another line.
func feed(in io.WriteCloser, out *bufio.Reader, src io.Reader) (time.Duration, error) {
	defer func() { _ = in.Close() }()
	if _, err := out.ReadString('\n'); err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := io.CopyBuffer(onlyWriter{in}, src, make([]byte, 256<<10)); err != nil {
		return 0, err
	}
	if err := in.Close(); err != nil {
		return 0, err
	}
	_, err := out.ReadString('\n')
	return time.Since(began), err
}

// throughMbuffer pipes a source into an mbuffer that sends to another. It does not encrypt.
func throughMbuffer(b *testing.B, l link) run {
	port := freePort(b)
	address := l.relay(b, net.JoinHostPort("127.0.0.1", port))
	return func(src io.Reader, _ int) (time.Duration, error) {
		settings := []string{"-4", "-q", "-s", "256k", "-m", "16M"}
		receiver := exec.CommandContext(b.Context(), "mbuffer", append(settings, "-I", "127.0.0.1:"+port, "-o", "/dev/null")...)
		var said bytes.Buffer
		receiver.Stderr = &said
		if err := receiver.Start(); err != nil {
			return 0, err
		}
		if err := listening(port); err != nil {
			_ = receiver.Process.Kill()
			_ = receiver.Wait()
			return 0, fmt.Errorf("%w: %s", err, bytes.TrimSpace(said.Bytes()))
		}
		sender := exec.CommandContext(b.Context(), "mbuffer", append(settings, "-O", address)...)
		sender.Stdin = onlyReader{src}
		began := time.Now()
		if out, err := sender.CombinedOutput(); err != nil {
			_ = receiver.Process.Kill()
			_ = receiver.Wait()
			return 0, fmt.Errorf("%w: %s", err, out)
		}
		if err := receiver.Wait(); err != nil {
			return 0, fmt.Errorf("%w: %s", err, bytes.TrimSpace(said.Bytes()))
		}
		return time.Since(began), nil
	}
}

func freePort(b *testing.B) string {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	defer func() { must(b, socket.Close()) }()
	_, port, err := net.SplitHostPort(socket.Addr().String())
	must(b, err)
	return port
}

// listening waits for a listener on a port of the loopback without connecting to it: mbuffer takes the first connection for its only one.
func listening(port string) error {
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	wanted := fmt.Sprintf(":%04X 00000000:0000 0A ", number)
	for range 500 {
		sockets, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			return err
		}
		if bytes.Contains(sockets, []byte(wanted)) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("nobody listens on port %s", port)
}
