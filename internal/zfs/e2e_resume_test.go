//go:build e2e

package zfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// cutReader fails after n bytes, as a lost connection does.
type cutReader struct {
	from io.Reader
	left int64
}

var errCut = errors.New("connection lost")

func (c *cutReader) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errCut
	}
	n, err := c.from.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, err
}

func TestRealResumeAfterCut(t *testing.T) {
	p := openReal(t)
	p.create("src")
	p.fill("src", "f", 24<<20)
	s1 := p.snap("src", "s1")
	sending, err := p.Send(t.Context(), agent.SendSpec{To: "src@s1"})
	p.must(err)
	err = p.Receive(t.Context(), agent.ReceiveSpec{To: "dst@s1", Properties: agent.Properties{"hoody:job": "j"}}, &cutReader{sending, 12 << 20})
	p.must(sending.Close())
	p.want(err, errdefs.ErrAborted)
	if !errors.Is(err, errCut) {
		t.Errorf("the reader's error is lost: %v", err)
	}
	p.resume("dst", s1.GUID.String(), 11<<20)
	if got := p.get("dst").Properties["hoody:job"]; got != "j" {
		t.Errorf("property of the first attempt is %q", got)
	}
}

// token returns a dataset's resume token, which must exist.
func (p *realPool) token(dataset string) string {
	p.t.Helper()
	token := p.get(dataset).ResumeToken
	if token == "" {
		p.t.Fatalf("%s has no resume token", dataset)
	}
	return token
}

// resume goes on with dataset's interrupted receive, checking the token on the way.
func (p *realPool) resume(dataset, guid string, arrived uint64) {
	p.t.Helper()
	token := p.token(dataset)
	point, err := p.DescribeToken(p.t.Context(), token)
	p.must(err)
	p.compareToken(token, point)
	if point.To.String() != guid || point.Bytes < arrived {
		p.t.Errorf("resume point %+v, want guid %s and %d bytes", point, guid, arrived)
	}
	rest := agent.SendSpec{Token: token}
	left, err := p.Estimate(p.t.Context(), rest)
	p.must(err)
	p.t.Logf("%d bytes had arrived, %d are left", point.Bytes, left)
	p.replicate(rest, agent.ReceiveSpec{To: dataset + "@s1"})
	if got := p.newestGUID(dataset).String(); got != guid {
		p.t.Errorf("guid %s, want %s", got, guid)
	}
	if token := p.get(dataset).ResumeToken; token != "" {
		p.t.Errorf("token after the end: %q", token)
	}
	// The token is used up now.
	stream := p.stream(rest)
	p.want(p.receiveBytes(agent.ReceiveSpec{To: dataset + "@again"}, stream), errdefs.ErrStale)
}

// compareToken checks our decoder against zfs itself.
func (p *realPool) compareToken(token string, point agent.ResumePoint) {
	p.t.Helper()
	said := map[string]uint64{}
	for line := range strings.SplitSeq(shell(p.t, "zfs send -nvP -t "+token), "\n") {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " = ")
		if number, err := strconv.ParseUint(strings.TrimPrefix(value, "0x"), 16, 64); ok && err == nil {
			said[name] = number
		}
	}
	if said["toguid"] != uint64(point.To) || said["fromguid"] != uint64(point.From) || said["bytes"] != point.Bytes {
		p.t.Errorf("decoded %+v, zfs says %v", point, said)
	}
}

func TestRealResumeAfterKillOfReceive(t *testing.T) {
	p := openReal(t)
	p.create("src")
	p.fill("src", "f", 24<<20)
	s1 := p.snap("src", "s1")
	sending, err := p.Send(t.Context(), agent.SendSpec{To: "src@s1"})
	p.must(err)
	stream := &hookReader{from: sending, at: 16 << 20, hook: func() { killChild(t, "receive") }}
	p.want(p.Receive(t.Context(), agent.ReceiveSpec{To: "dst@s1"}, stream), errdefs.ErrAborted)
	p.must(sending.Close())
	p.resume("dst", s1.GUID.String(), 8<<20)
}

// hookReader calls hook once, when that many bytes were read.
type hookReader struct {
	from io.Reader
	read int64
	at   int64
	hook func()
}

func (h *hookReader) Read(b []byte) (int, error) {
	if h.read >= h.at && h.hook != nil {
		h.hook()
		h.hook = nil
	}
	n, err := h.from.Read(b)
	h.read += int64(n)
	return n, err
}

// killChild sends SIGKILL to this process's child with that zfs verb.
func killChild(t *testing.T, verb string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, _ := os.ReadFile(file)
		args := strings.Split(string(line), "\x00")
		status, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "status"))
		if len(args) < 2 || args[1] != verb || !strings.Contains(string(status), fmt.Sprintf("PPid:\t%d\n", os.Getpid())) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		return
	}
	t.Errorf("no zfs %s runs", verb)
}

func TestRealCancelReceive(t *testing.T) {
	p := openReal(t)
	p.create("src")
	p.fill("src", "f", 24<<20)
	s1 := p.snap("src", "s1")
	sending, err := p.Send(t.Context(), agent.SendSpec{To: "src@s1"})
	p.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = p.Receive(ctx, agent.ReceiveSpec{To: "dst@s1"}, &hookReader{from: sending, at: 16 << 20, hook: cancel})
	p.must(sending.Close())
	p.want(err, errdefs.ErrAborted)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("not a cancellation: %v", err)
	}
	p.resume("dst", s1.GUID.String(), 8<<20)
}

// A reader that hangs is ended by its deadline, as a connection's is.
func TestRealCancelReceiveOfSilentStream(t *testing.T) {
	p := openReal(t)
	reading, writing, err := os.Pipe()
	p.must(err)
	defer writing.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	p.want(p.Receive(ctx, agent.ReceiveSpec{To: "dst@s1"}, reading), errdefs.ErrAborted)
}

func TestRealCloseSendEarly(t *testing.T) {
	p := openReal(t)
	p.create("src")
	p.fill("src", "f", 16<<20)
	p.snap("src", "s1")
	sending, err := p.Send(t.Context(), agent.SendSpec{To: "src@s1"})
	p.must(err)
	_, err = io.ReadFull(sending, make([]byte, 1000))
	p.must(err)
	p.must(sending.Close())
	p.must(sending.Close())
	if _, err := sending.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read after close: %v", err)
	}
	p.must(p.DestroySnapshot(t.Context(), "src@s1")) // nobody sends it any more
}

func TestRealCancelSend(t *testing.T) {
	p := openReal(t)
	p.create("src")
	p.fill("src", "f", 16<<20)
	p.snap("src", "s1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sending, err := p.Send(ctx, agent.SendSpec{To: "src@s1"})
	p.must(err)
	_, err = io.ReadFull(sending, make([]byte, 1000))
	p.must(err)
	p.want(p.DestroySnapshot(t.Context(), "src@s1"), errdefs.ErrBusy) // being sent
	cancel()
	if _, err = io.Copy(io.Discard, sending); !errors.Is(err, context.Canceled) {
		t.Errorf("read after cancel: %v", err)
	}
	p.must(sending.Close())
}

func TestRealAbortReceive(t *testing.T) {
	p := openReal(t)
	p.create("src")
	p.fill("src", "f", 8<<20)
	p.snap("src", "s1")
	p.fill("src", "g", 8<<20)
	p.snap("src", "s2")
	full := p.stream(agent.SendSpec{To: "src@s1"})
	increment := p.stream(agent.SendSpec{From: "src@s1", To: "src@s2"})

	// The first receive of a dataset: the dataset goes.
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "dst@s1"}, full[:6<<20]), errdefs.ErrAborted)
	p.must(p.AbortReceive(t.Context(), "dst"))
	p.want(p.AbortReceive(t.Context(), "dst"), errdefs.ErrNotFound)

	// A later one: the dataset stays, and so does its base until then.
	p.must(p.receiveBytes(agent.ReceiveSpec{To: "dst@s1"}, full))
	p.must(p.AbortReceive(t.Context(), "dst"))
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "dst@s2"}, increment[:6<<20]), errdefs.ErrAborted)
	p.want(p.DestroySnapshot(t.Context(), "dst@s1"), errdefs.ErrBusy)
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "dst@s2"}, increment), errdefs.ErrBusy) // partly received already
	p.must(p.AbortReceive(t.Context(), "dst"))
	if got := p.get("dst"); len(got.Snapshots) != 1 || got.ResumeToken != "" {
		t.Errorf("after abort %+v", got)
	}

	// Destroy takes partly received state along: of a dataset with a base, and of one that has nothing else.
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "dst@s2"}, increment[:6<<20]), errdefs.ErrAborted)
	p.must(p.Destroy(t.Context(), "dst"))
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "dst@s1"}, full[:6<<20]), errdefs.ErrAborted)
	p.must(p.Destroy(t.Context(), "dst"))
	_, err := p.Dataset(t.Context(), "dst")
	p.want(err, errdefs.ErrNotFound)
}

// While a receive runs, its dataset has a token, and neither abort nor destroy gets through.
func TestRealRunningReceive(t *testing.T) {
	p := openReal(t)
	p.create("src")
	p.fill("src", "f", 8<<20)
	p.snap("src", "s1")
	p.replicate(agent.SendSpec{To: "src@s1"}, agent.ReceiveSpec{To: "dst@s1"})
	p.fill("src", "g", 24<<20)
	p.snap("src", "s2")
	sending, err := p.Send(t.Context(), agent.SendSpec{From: "src@s1", To: "src@s2"})
	p.must(err)
	defer sending.Close()
	stream := &hookReader{from: sending, at: 16 << 20, hook: func() {
		if got := p.get("dst"); got.ResumeToken == "" {
			t.Error("no token while the receive runs")
		}
		for name, err := range map[string]error{
			"abort":   p.AbortReceive(t.Context(), "dst"),
			"destroy": p.Destroy(t.Context(), "dst"),
		} {
			if errdefs.ClassOf(err) != errdefs.ErrBusy {
				t.Errorf("%s: %v", name, err)
			}
		}
	}}
	p.must(p.Receive(t.Context(), agent.ReceiveSpec{To: "dst@s2"}, stream))
}

// A snapshot that appears on the target meanwhile makes the receive fail at its end; without it, the token finishes it.
func TestRealSnapshotDuringReceive(t *testing.T) {
	p := openReal(t)
	p.create("src")
	p.fill("src", "f", 4<<20)
	p.snap("src", "s1")
	p.replicate(agent.SendSpec{To: "src@s1"}, agent.ReceiveSpec{To: "dst@s1"})
	p.fill("src", "g", 24<<20)
	s2 := p.snap("src", "s2")
	sending, err := p.Send(t.Context(), agent.SendSpec{From: "src@s1", To: "src@s2"})
	p.must(err)
	stream := &hookReader{from: sending, at: 16 << 20, hook: func() { p.snap("dst", "intruder") }}
	p.want(p.Receive(t.Context(), agent.ReceiveSpec{To: "dst@s2"}, stream), errdefs.ErrStale)
	p.must(sending.Close())
	p.must(p.DestroySnapshot(t.Context(), "dst@intruder"))
	p.replicate(agent.SendSpec{Token: p.token("dst")}, agent.ReceiveSpec{To: "dst@s2"})
	if p.newestGUID("dst") != s2.GUID {
		t.Error("another guid")
	}
}

func TestRealTokenOfVanishedSnapshot(t *testing.T) {
	p := openReal(t)
	p.create("src")
	p.fill("src", "f", 8<<20)
	p.snap("src", "s1")
	full := p.stream(agent.SendSpec{To: "src@s1"})
	p.want(p.receiveBytes(agent.ReceiveSpec{To: "dst@s1"}, full[:6<<20]), errdefs.ErrAborted)
	token := p.token("dst")
	// A renamed source is found by its guid.
	p.must(p.Rename(t.Context(), "src", "elsewhere"))
	_, err := p.Estimate(t.Context(), agent.SendSpec{Token: token})
	p.must(err)
	p.must(p.DestroySnapshot(t.Context(), "elsewhere@s1"))
	_, err = p.Estimate(t.Context(), agent.SendSpec{Token: token})
	p.want(err, errdefs.ErrStale)
	sending, err := p.Send(t.Context(), agent.SendSpec{Token: token})
	p.must(err)
	_, err = io.Copy(io.Discard, sending)
	p.want(err, errdefs.ErrStale)
	p.must(sending.Close())
}

func TestRealQuotaExceeded(t *testing.T) {
	p := openReal(t)
	p.create("src")
	p.fill("src", "f", 24<<20)
	s1 := p.snap("src", "s1")
	p.create("limited")
	p.must(p.SetProperties(t.Context(), "limited", agent.Properties{"quota": "12582912"}))
	sending, err := p.Send(t.Context(), agent.SendSpec{To: "src@s1"})
	p.must(err)
	err = p.Receive(t.Context(), agent.ReceiveSpec{To: "limited/dst@s1"}, sending)
	p.must(sending.Close())
	p.want(err, errdefs.ErrExhausted)
	p.must(p.SetProperties(t.Context(), "limited", agent.Properties{"quota": ""}))
	p.resume("limited/dst", s1.GUID.String(), 1<<20)
}
