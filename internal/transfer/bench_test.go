package transfer

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/pki"
)

// benchSize is how much one iteration sends.
const benchSize = 256 << 20

// repeat is a source of size bytes that costs a copy, as a pipe does.
type repeat struct {
	data []byte
	left int
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.left)], r.data[r.at:])
	r.at = (r.at + n) % len(r.data)
	r.left -= n
	return n, nil
}

// rawTLS returns a function that sends a source over one plain TLS 1.3 connection in writes of 256 KiB.
func rawTLS(b *testing.B, ca *pki.CA, dial func(ctx context.Context, network, address string) (net.Conn, error)) func(io.Reader) {
	server, err := ca.Credentials(pki.Request{ServerID: bob})
	must(b, err)
	client, err := ca.Credentials(pki.Request{ServerID: alice})
	must(b, err)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := socket.Accept()
		if err == nil {
			accepted <- tls.Server(conn, server.ServerConfig())
		}
	}()
	raw, err := dial(b.Context(), "tcp", socket.Addr().String())
	must(b, err)
	down := tls.Client(raw, client.ClientConfig(bob))
	up := await(b, "the connection", accepted)
	go func() { _ = up.(*tls.Conn).Handshake() }()
	must(b, down.Handshake())
	b.Cleanup(func() { _, _, _ = up.Close(), down.Close(), socket.Close() })
	return func(src io.Reader) {
		go func() {
			buffer := make([]byte, 256<<10)
			for {
				n, err := src.Read(buffer)
				if n > 0 {
					if _, err := up.Write(buffer[:n]); err != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		}()
		_, err := io.CopyBuffer(onlyWriter{io.Discard}, io.LimitReader(down, benchSize), make([]byte, 256<<10))
		must(b, err)
	}
}

// onlyWriter hides that io.Discard reads in small pieces of its own.
type onlyWriter struct{ io.Writer }

// cpuTime is what the process has used of all processors. On a machine with other work it says more than the clock.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkStream compares one stream with plain TLS, in turns, so that whatever else the machine does hits both.
func BenchmarkStream(b *testing.B) {
	for name, rtt := range map[string]time.Duration{"loopback": 0, "rtt=10ms": 10 * time.Millisecond, "rtt=50ms": 50 * time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			dial := new(net.Dialer).DialContext
			if rtt > 0 {
				dial = delayedDial(rtt)
			}
			data := noise(8 << 20)
			f := newFleet(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = WriteStream(w, r, &repeat{data: data, left: benchSize}, StreamOptions{})
			}), dialThrough(dial))
			raw := rawTLS(b, f.ca, dial)
			var ours, plain, oursCPU, plainCPU time.Duration
			for b.Loop() {
				start, cpu := time.Now(), cpuTime(b)
				raw(&repeat{data: data, left: benchSize})
				plain, plainCPU = plain+time.Since(start), plainCPU+cpuTime(b)-cpu
				start, cpu = time.Now(), cpuTime(b)
				stream := f.open(b, b.Context(), true, StreamOptions{})
				_, err := stream.WriteTo(io.Discard)
				must(b, err)
				ours, oursCPU = ours+time.Since(start), oursCPU+cpuTime(b)-cpu
			}
			sent := float64(benchSize) * float64(b.N) / 1e6
			b.ReportMetric(sent/ours.Seconds(), "stream-MB/s")
			b.ReportMetric(sent/plain.Seconds(), "TLS-MB/s")
			b.ReportMetric(plain.Seconds()/ours.Seconds(), "ratio")
			b.ReportMetric(oursCPU.Seconds()/sent*1e3, "stream-CPUs/GB")
			b.ReportMetric(plainCPU.Seconds()/sent*1e3, "TLS-CPUs/GB")
			if rtt > 0 {
				bound := maxWindow / 1e6 / rtt.Seconds()
				b.ReportMetric(bound, "window/RTT-MB/s")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkStreamCompressed measures what the content's size makes of it.
func BenchmarkStreamCompressed(b *testing.B) {
	data := prose(8 << 20)
	f := newFleet(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = WriteStream(w, r, &repeat{data: data, left: benchSize}, StreamOptions{})
	}))
	b.SetBytes(benchSize)
	var wire uint64
	for b.Loop() {
		stream := f.open(b, b.Context(), true, StreamOptions{})
		_, err := stream.WriteTo(io.Discard)
		must(b, err)
		wire = stream.Received().Wire
	}
	b.ReportMetric(float64(wire)/benchSize, "wire/content")
}

// BenchmarkCall measures a small request on an open session.
func BenchmarkCall(b *testing.B) {
	f := newFleet(b, Handle(nopLog, func(_ context.Context, in int) (int, error) { return in + 1, nil }))
	client := f.dialer.Client(bob)
	for b.Loop() {
		var out int
		must(b, Call(b.Context(), client, http.MethodPost, "/", 1, &out))
	}
}
