package transfer

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

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

// A run moves a source of size bytes and tells how long the moving itself took.
type run func(src io.Reader, size int) (time.Duration, error)

// course is a way to send, and what it took on one link with one kind of data.
type course struct {
	name  string
	run   run
	share int // it moves only one part in so many of the size, since it is slow there
	took  []float64
	cpu   []float64
}

// stretchOfRoad is a row of the table: a link and what is sent over it.
type stretchOfRoad struct {
	link
	size       int
	compresses bool
	courses    []*course
}

// several is the agent with as many connections as it takes for a peer that is far away.
// manyConnections are those of a session that has several.
const manyConnections = 4

var several = fmt.Sprintf("agent×%d", manyConnections)

// BenchmarkTransport sends the same over the same links in different ways, in turns, so that whatever else the machine does hits all of
// them, and prints the medians as one table. The processor time is that of both ends, emulation included, and so only told where there is none.
func BenchmarkTransport(b *testing.B) {
	noisy, plain := noise(8<<20), prose(8<<20)
	ms := time.Millisecond
	rows := []*stretchOfRoad{
		{size: 1 << 30},
		{size: 1 << 30, compresses: true},
		{link: link{rtt: 20 * ms}, size: 1 << 30},
		{link: link{rtt: 50 * ms}, size: 1 << 30},
		{link: link{rtt: 50 * ms}, size: 1 << 30, compresses: true},
		{link: link{rtt: 100 * ms}, size: 1 << 30},
		{link: link{rtt: 20 * ms, loss: 0.001}, size: 8 << 20},
		{link: link{rtt: 50 * ms, loss: 0.001}, size: 4 << 20},
		{link: link{rtt: 50 * ms, loss: 0.001}, size: 4 << 20, compresses: true},
		{link: link{rtt: 100 * ms, loss: 0.001}, size: 2 << 20},
	}
	programs := newPrograms(b)
	for _, row := range rows {
		b.Run(row.String(), func(b *testing.B) {
			data := noisy
			if row.compresses {
				data = plain
			}
			row.measure(b, data, programs)
		})
	}
	if !b.Failed() {
		printTransport(rows, programs.missing)
	}
}

func (s *stretchOfRoad) measure(b *testing.B, data []byte, programs *programs) {
	s.courses = []*course{
		{name: "TCP", run: rawTCP(b, s.link)},
		{name: "TLS", run: rawTLS(b, s.link)},
		{name: "agent", run: agentStream(b, s.link, 1)},
		{name: several, run: agentStream(b, s.link, manyConnections)},
	}
	if !s.compresses { // those that do not look at the data are not run twice
		s.courses = append(s.courses, programs.courses(b, s.link)...)
	}
	for b.Loop() {
		for _, c := range s.courses {
			size := s.size / max(c.share, 1)
			before := cpuTime(b)
			took, err := c.run(&repeat{data: data, left: size}, size)
			if err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
			c.took = append(c.took, float64(size)/1e6/took.Seconds())
			c.cpu = append(c.cpu, (cpuTime(b)-before).Seconds()*1e9/float64(size))
		}
	}
	for _, c := range s.courses {
		b.ReportMetric(median(c.took), c.name+"-MB/s")
	}
	b.ReportMetric(0, "ns/op")
}

// String tells a row's link and data.
func (s *stretchOfRoad) String() string {
	name := "loopback"
	if s.rtt > 0 {
		name = s.rtt.String()
	}
	if s.loss > 0 {
		name += fmt.Sprintf(", %g %% loss", s.loss*100)
	}
	if s.compresses {
		name += ", compressible"
	}
	return name
}

func printTransport(rows []*stretchOfRoad, missing []string) {
	rows = slices.DeleteFunc(rows, func(s *stretchOfRoad) bool { return len(s.courses) == 0 }) // not selected
	names := []string{"TCP", "TLS", "agent", several, "ssh", "mbuffer"}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	line := func(cells ...string) { _, _ = fmt.Fprintf(out, "| %s\t|\n", strings.Join(cells, "\t| ")) }
	for _, name := range missing {
		fmt.Println(name)
	}
	line(append(append([]string{"link and data", "unit"}, names...), "agent / TLS", several+" / agent", "window / RTT")...)
	line(slices.Repeat([]string{"---"}, len(names)+5)...)
	for _, row := range rows {
		values := func(unit string, digits int, of func(*course) []float64, more ...string) {
			cells := []string{row.String(), unit}
			medians := map[string]float64{}
			for _, name := range names {
				cell := ""
				if i := slices.IndexFunc(row.courses, func(c *course) bool { return c.name == name }); i >= 0 {
					medians[name] = median(of(row.courses[i]))
					cell = fmt.Sprintf("%.*f", digits, medians[name])
				}
				cells = append(cells, cell)
			}
			line(append(append(cells, fmt.Sprintf("%.2f", medians["agent"]/medians["TLS"]), fmt.Sprintf("%.2f", medians[several]/medians["agent"])), more...)...)
		}
		digits, ideal := 0, ""
		switch {
		case row.loss > 0:
			digits = 2
		case row.rtt > 0:
			ideal = fmt.Sprintf("%.0f", float64(windowFor(row.rtt))/1e6/row.rtt.Seconds())
		}
		values("MB/s", digits, func(c *course) []float64 { return c.took }, ideal)
		if row.link == (link{}) {
			values("CPU s/GB", 2, func(c *course) []float64 { return c.cpu }, "")
		}
	}
	_ = out.Flush()
	fmt.Println()
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// cpuTime is what this process and its children that ended have used of all processors. On a machine with other work it says more than the clock.
func cpuTime(b *testing.B) time.Duration {
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		must(b, syscall.Getrusage(who, &usage))
		sum += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	return sum
}

// agentStream is our own way: a stream of a session that stays.
func agentStream(b *testing.B, l link, connections int) run {
	var src io.Reader
	f := newFleet(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = WriteStream(w, r, src, StreamOptions{})
	}), dialThrough(l.dial), func(_ *ListenerConfig, dc *DialerConfig) { dc.Connections = connections })
	return func(source io.Reader, _ int) (time.Duration, error) {
		src = source
		began := time.Now()
		response, err := f.get(context.Background(), "/stream", true)
		if err != nil {
			return 0, err
		}
		stream, err := OpenStream(response, StreamOptions{})
		if err != nil {
			return 0, err
		}
		_, err = stream.WriteTo(io.Discard)
		took := time.Since(began)
		return took, cmp.Or(err, stream.Close())
	}
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
