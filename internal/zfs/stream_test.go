package zfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestSendArguments(t *testing.T) {
	p := &Pool{root: "p"}
	for _, c := range []struct {
		spec agent.SendSpec
		want string
	}{
		{agent.SendSpec{To: "a@s"}, "-L -c p/a@s"},
		{agent.SendSpec{To: "a@s", Embed: true}, "-L -c -e p/a@s"},
		{agent.SendSpec{From: "a@r", To: "a@s"}, "-L -c -i p/a@r p/a@s"},
		{agent.SendSpec{From: "b#m", To: "a@s"}, "-L -c -i p/b#m p/a@s"},
		{agent.SendSpec{Token: tokens[0].token, To: "ignored", Embed: true}, "-t " + tokens[0].token},
	} {
		if got, err := p.sendArgs(c.spec); err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %q, %v", c.spec, got, err)
		}
	}
	for _, spec := range []agent.SendSpec{
		{}, {To: "a"}, {To: "a#b"}, {To: "-R@s"}, {From: "a", To: "a@s"}, {From: "-i@r", To: "a@s"}, {Token: "-R"}, {Token: "p/a@s"},
	} {
		if got, err := p.sendArgs(spec); err == nil {
			t.Errorf("%+v: %q", spec, got)
		}
	}
}

func TestEstimate(t *testing.T) {
	for text, want := range map[string]uint64{
		"full\tp/a@s\t18388464\nsize\t18388464\n":                              18388464,
		"resume token contents:\nnvlist version: 0\n\tobject = 0x2\nsize\t7\n": 7,
		"size\t0\n":                    0,
		"size\t18446744073709551000\n": 0, // not believed
	} {
		p := fakePool(t, patient, map[string]string{"send": "print:" + text})
		if got, err := p.Estimate(t.Context(), agent.SendSpec{To: "a@s"}); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "full\tp/a@s\n", "size\tmany\n"} {
		p := fakePool(t, patient, map[string]string{"send": "print:" + text})
		if got, err := p.Estimate(t.Context(), agent.SendSpec{To: "a@s"}); !errors.Is(err, errdefs.ErrInternal) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func TestEstimateTakesAHistoryAsARange(t *testing.T) {
	p := fakePool(t, patient, nil)
	step := func(from, to string) agent.SendSpec { return agent.SendSpec{From: from, To: to} }
	for name, c := range map[string]struct {
		specs []agent.SendSpec
		want  string
		taken int
	}{
		"full":            {[]agent.SendSpec{{To: "a@s1"}, step("a@s1", "a@s2")}, "-L -c p/a@s1", 1},
		"chain":           {[]agent.SendSpec{step("a@s1", "a@s2"), step("a@s2", "a@s3"), step("a@s3", "b@s4")}, "-L -c -I p/a@s1 p/a@s3", 2},
		"one of a chain":  {[]agent.SendSpec{step("a@s1", "a@s2"), step("a@s1", "a@s3")}, "-L -c -i p/a@s1 p/a@s2", 1},
		"from a bookmark": {[]agent.SendSpec{step("a#b", "a@s2"), step("a@s2", "a@s3")}, "-L -c -i p/a#b p/a@s2", 1},
		"of a clone":      {[]agent.SendSpec{step("a@s1", "b@s2"), step("b@s2", "b@s3")}, "-L -c -i p/a@s1 p/b@s2", 1},
	} {
		args, taken, err := p.estimateArgs(c.specs)
		got := strings.ReplaceAll(strings.Join(args, " "), p.root+"/", "p/")
		if err != nil || got != c.want || taken != c.taken {
			t.Errorf("%s: %q for %d, %v; want %q for %d", name, got, taken, err, c.want, c.taken)
		}
	}
}

func TestSend(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"send": "print:stream"})
	sending, err := p.Send(t.Context(), agent.SendSpec{To: "a@s"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(sending); err != nil || string(got) != "stream" {
		t.Errorf("%q, %v", got, err)
	}
	if err := sending.Close(); err != nil {
		t.Error(err)
	}
}

// The end of the pipe must not look like the end of the stream when the sender failed.
func TestSendFails(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"send": "cut:half"})
	sending, err := p.Send(t.Context(), agent.SendSpec{To: "a@s"})
	if err != nil {
		t.Fatal(err)
	}
	var failed *CommandError
	if got, err := io.ReadAll(sending); string(got) != "half" || !errors.As(err, &failed) {
		t.Errorf("%q, %v", got, err)
	}
	if err := sending.Close(); err != nil {
		t.Error(err)
	}
}

func TestSendClosedEarly(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"send": "flood"})
	sending, err := p.Send(t.Context(), agent.SendSpec{To: "a@s"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(sending, make([]byte, 10)); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := sending.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := sending.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read after close: %v", err)
	}
}

func TestSendCancelled(t *testing.T) {
	for _, behaviour := range []string{"flood", "wait", "deaf"} {
		p := fakePool(t, hasty, map[string]string{"send": behaviour})
		ctx, cancel := context.WithCancel(t.Context())
		sending, err := p.Send(ctx, agent.SendSpec{To: "a@s"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(sending, make([]byte, 5)); err != nil {
			t.Error(err)
		}
		cancel()
		if _, err := io.Copy(io.Discard, sending); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", behaviour, err)
		}
		if err := sending.Close(); err != nil {
			t.Error(err)
		}
	}
}

// goodStream is a header that is accepted, and some more.
func goodStream(t *testing.T) []byte {
	t.Helper()
	return append([]byte(readFile(t, recorded+"stream-single.bin")), make([]byte, 1<<20)...)
}

func TestReceive(t *testing.T) {
	for list, class := range map[string]error{
		arrived: nil,
		missing: errdefs.ErrStale, // ignored: the dataset has it under another name
		strings.Replace(arrived, "10145888123756461233", "7", 1): errdefs.ErrAlreadyExists,
	} {
		p := fakePool(t, patient, map[string]string{"list": list, "receive": "swallow"})
		err := p.Receive(t.Context(), agent.ReceiveSpec{To: "a@s"}, bytes.NewReader(goodStream(t)))
		if !errors.Is(err, class) {
			t.Errorf("%v, want %v", err, class)
		}
	}
}

func TestReceiveArguments(t *testing.T) {
	for _, c := range []struct {
		list string
		spec agent.ReceiveSpec
		want string
	}{
		{arrived, agent.ReceiveSpec{To: "a@s", Origin: "b@r", Properties: agent.Properties{"hoody:role": "replica"}}, "-s -u p/a@s"},
		{"fail:1:not to be asked for", agent.ReceiveSpec{To: "a@s", Continues: true, Properties: agent.Properties{"hoody:role": "replica"}}, "-s -u p/a@s"},
		{missing, agent.ReceiveSpec{To: "a@s"}, "-s -u -o atime=off -o canmount=noauto -o mountpoint=legacy p/a@s"},
		{
			missing, agent.ReceiveSpec{To: "a@s", Origin: "b@r", Properties: agent.Properties{"hoody:role": "replica", "atime": "", "mountpoint": ""}},
			"-s -u -o origin=p/b@r -o canmount=noauto -o hoody:role=replica -x mountpoint p/a@s",
		},
	} {
		p := fakePool(t, patient, map[string]string{"list": c.list})
		if got, err := p.receiveArgs(t.Context(), c.spec); err != nil || strings.Join(got, " ") != "zfs receive "+c.want {
			t.Errorf("%+v: %q, %v", c.spec, got, err)
		}
		for _, spec := range []agent.ReceiveSpec{
			{}, {To: "a"}, {To: "a@-F"}, {To: "-F@s"}, {To: "a@s", Properties: agent.Properties{"origin": "x@y"}},
		} {
			if got, err := p.receiveArgs(t.Context(), spec); !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("%+v: %q, %v", spec, got, err)
			}
		}
	}
}

func TestReceiveFails(t *testing.T) {
	lost := errors.New("connection lost")
	good := goodStream(t)
	compound := []byte(readFile(t, recorded+"stream-compound.bin"))
	for name, c := range map[string]struct {
		behaviour string
		stream    io.Reader
		class     error
		cause     error
	}{
		"refused at once":     {"fail:1:destination p/a has been modified\nsince most recent snapshot", bytes.NewReader(good), errdefs.ErrStale, nil},
		"fails at the end":    {"swallow:cannot receive: space quota exceeded", bytes.NewReader(good), errdefs.ErrExhausted, nil},
		"stream breaks off":   {"swallow:cannot receive: incomplete stream", io.MultiReader(bytes.NewReader(good), failing{lost}), errdefs.ErrAborted, lost},
		"breaks off at once":  {"swallow:cannot receive: failed to read from stream", failing{lost}, errdefs.ErrAborted, lost},
		"no stream":           {"swallow:cannot receive: failed to read from stream", strings.NewReader(strings.Repeat("x", 1000)), errdefs.ErrCorrupt, nil},
		"carries properties":  {"swallow:cannot receive: failed to read from stream", bytes.NewReader(compound), errdefs.ErrUnsupported, nil},
		"nothing in a stream": {"swallow:cannot receive: failed to read from stream", bytes.NewReader(nil), errdefs.ErrAborted, nil},
	} {
		p := fakePool(t, patient, map[string]string{"list": arrived, "receive": c.behaviour})
		err := p.Receive(t.Context(), agent.ReceiveSpec{To: "a@s"}, c.stream)
		if !errors.Is(err, c.class) || c.cause != nil && !errors.Is(err, c.cause) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a pool cannot take is refused by the stream's first record, with the features that it lacks.
func TestReceiveWantsThePoolsFeatures(t *testing.T) {
	stream := bytes.Clone(goodStream(t))
	version := stream[headerVersionAt:]
	binary.LittleEndian.PutUint64(version, binary.LittleEndian.Uint64(version)|(1<<19|1<<25)<<2)
	for _, c := range []struct {
		features string
		missing  string
	}{
		{"feature@large_blocks\tactive\nfeature@zstd_compress\tenabled\nfeature@lz4_compress\tactive\nfeature@embedded_data\tactive\n", ""},
		{"feature@large_blocks\tdisabled\nfeature@zstd_compress\tenabled\nfeature@lz4_compress\tactive\nfeature@embedded_data\tactive\n", "large_blocks"},
		{"feature@lz4_compress\tactive\nfeature@embedded_data\tactive\n", "large_blocks, zstd_compress"}, // of a pool before there was any
		{"size\t1000\n", ""},
	} {
		p := fakePool(t, patient, map[string]string{"list": arrived, "receive": "swallow", "get": "print:" + c.features})
		err := p.Receive(t.Context(), agent.ReceiveSpec{To: "a@s"}, bytes.NewReader(stream))
		if c.missing == "" && err != nil || c.missing != "" && (!errors.Is(err, errdefs.ErrUnsupported) || !strings.Contains(err.Error(), "needs: "+c.missing+";")) {
			t.Errorf("%q: %v", c.features, err)
		}
	}
}

func TestIdleStreams(t *testing.T) {
	ioClass := func(pid int) (class uintptr, ok bool) {
		class, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, ioprioWhoProcess, uintptr(pid), 0)
		return class, errno == 0
	}
	if own, ok := ioClass(0); !ok || own == ioprioClassIdle {
		t.Skip("this system knows no I/O classes, or lets these tests run in the idle one")
	}
	p := fakePool(t, patient, map[string]string{"send": "wait"})
	for _, idle := range []bool{false, true} {
		p.idle = idle
		stream, err := p.Send(t.Context(), agent.SendSpec{To: "a@s"})
		if err != nil {
			t.Fatal(err)
		}
		if class, ok := ioClass(stream.(*sender).process.cmd.Process.Pid); !ok || (class == ioprioClassIdle) != idle {
			t.Errorf("idle %t: class %#x", idle, class)
		}
		if err := stream.Close(); err != nil {
			t.Error(err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// After the cancellation the command gets an end of file, and ends by itself: a grace that is never used up.
func TestReceiveCancelled(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"list": arrived, "receive": "swallow:cannot receive: incomplete stream"})
	ctx, cancel := context.WithCancel(t.Context())
	reading, writing := pipe(t)
	go func() {
		_, _ = writing.Write(goodStream(t))
		cancel() // and says nothing more
	}()
	err := p.Receive(ctx, agent.ReceiveSpec{To: "a@s"}, reading)
	if !errors.Is(err, errdefs.ErrAborted) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func pipe(t *testing.T) (reading, writing *os.File) {
	t.Helper()
	reading, writing, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reading.Close(); writing.Close() })
	return reading, writing
}

// silent is a stream that says nothing until it is closed.
type silent struct {
	once   sync.Once
	closed chan struct{}
}

func (s *silent) Read([]byte) (int, error) { <-s.closed; return 0, io.ErrClosedPipe }
func (s *silent) Close() error             { s.once.Do(func() { close(s.closed) }); return nil }

// A command that gives up while its stream is silent must not wait for the stream.
func TestReceiveUnblocksASilentStream(t *testing.T) {
	stream := &silent{closed: make(chan struct{})}
	p := fakePool(t, patient, map[string]string{"list": arrived, "receive": "fail:1:cannot receive: space quota exceeded"})
	err := p.Receive(t.Context(), agent.ReceiveSpec{To: "a@s"}, stream)
	if class := errdefs.ClassOf(err); !errors.Is(class, errdefs.ErrExhausted) {
		t.Error(err)
	}
}

// One that cannot be ended at all costs the grace time, no more.
func TestReceiveLeavesADeafStream(t *testing.T) {
	stream := &silent{closed: make(chan struct{})}
	defer stream.Close()
	p := fakePool(t, hasty, map[string]string{"list": arrived, "receive": "fail:1:cannot receive: space quota exceeded"})
	err := p.Receive(t.Context(), agent.ReceiveSpec{To: "a@s"}, struct{ io.Reader }{stream})
	if !errors.Is(err, errdefs.ErrExhausted) {
		t.Error(err)
	}
}
