//go:build e2e

package zfs

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// These tests run against a real pool, as root. HOODY_TEST_DATASET names a dataset below which they make what they need
// and take it away again; it is created when it is missing.

var poolNumber atomic.Int64

// realPool is a Pool on an empty root of its own, with what a test needs around it.
type realPool struct {
	*Pool
	t        *testing.T
	commands atomic.Int64
}

func openReal(t *testing.T) *realPool {
	t.Helper()
	base := os.Getenv("HOODY_TEST_DATASET")
	if base == "" {
		t.Skip("HOODY_TEST_DATASET names no dataset")
	}
	root := fmt.Sprintf("%s/p%d-%d", base, os.Getpid(), poolNumber.Add(1))
	shell(t, "zfs create -p -o canmount=off -o mountpoint=none "+root)
	t.Cleanup(func() {
		shell(t, "zfs destroy -R "+root)
		_ = exec.Command("zfs", "destroy", base).Run() // the last one out
	})
	real := &realPool{t: t}
	pool, err := Open(t.Context(), root, Options{
		StateDir: t.TempDir(),
		Log:      zaptest.NewLogger(t, zaptest.Level(zap.DebugLevel)),
		Observe:  func(string, time.Duration, error) { real.commands.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	real.Pool = pool
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(pool.CleanMounts(ctx), pool.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	return real
}

// shell runs a line and returns what it printed.
func shell(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("bash", "-o", "pipefail", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (p *realPool) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// want demands an error class; nil demands success.
func (p *realPool) want(err, class error) {
	p.t.Helper()
	if got := errdefs.ClassOf(err); got != class { //nolint:errorlint // classes are compared as they are
		p.t.Fatalf("class %v, want %v (%v)", got, class, err)
	}
}

func (p *realPool) create(dataset string) {
	p.t.Helper()
	p.must(p.Create(p.t.Context(), dataset, nil))
}

func (p *realPool) snap(dataset, name string) lineage.Snapshot {
	p.t.Helper()
	made, err := p.Snapshot(p.t.Context(), dataset, name)
	p.must(err)
	return made
}

// edit calls f with the dataset's files.
func (p *realPool) edit(dataset string, f func(root *os.Root) error) {
	p.t.Helper()
	mount, err := p.Mount(p.t.Context(), dataset)
	p.must(err)
	p.must(f(mount.Root()))
	p.must(mount.Unmount(p.t.Context()))
}

// fill writes a file of random bytes.
func (p *realPool) fill(dataset, name string, size int64) {
	p.t.Helper()
	p.edit(dataset, func(root *os.Root) error {
		file, err := root.Create(name)
		if err != nil {
			return err
		}
		_, err = io.CopyN(file, rand.Reader, size)
		return errors.Join(err, file.Close())
	})
}

func (p *realPool) get(dataset string) lineage.Dataset {
	p.t.Helper()
	got, err := p.Dataset(p.t.Context(), dataset)
	p.must(err)
	return got
}

func (p *realPool) property(dataset, name string) string {
	p.t.Helper()
	return shell(p.t, fmt.Sprintf("zfs get -Hp -o value,source %s %s/%s", name, p.root, dataset))
}

// stream returns a whole stream; for streams that fit in memory.
func (p *realPool) stream(spec agent.SendSpec) []byte {
	p.t.Helper()
	sending, err := p.Send(p.t.Context(), spec)
	p.must(err)
	defer sending.Close()
	stream, err := io.ReadAll(sending)
	p.must(err)
	return stream
}

func (p *realPool) receiveBytes(spec agent.ReceiveSpec, stream []byte) error {
	return p.Receive(p.t.Context(), spec, bytes.NewReader(stream))
}

// replicate moves one snapshot.
func (p *realPool) replicate(send agent.SendSpec, receive agent.ReceiveSpec) {
	p.t.Helper()
	sending, err := p.Send(p.t.Context(), send)
	p.must(err)
	defer sending.Close()
	p.must(p.Receive(p.t.Context(), receive, sending))
}

// newestGUID is the identity of a dataset's newest snapshot.
func (p *realPool) newestGUID(dataset string) lineage.GUID {
	p.t.Helper()
	newest, ok := p.get(dataset).Newest()
	if !ok {
		p.t.Fatalf("%s has no snapshot", dataset)
	}
	return newest.GUID
}

// shellRaw is shell without trimming: for streams.
func shellRaw(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("bash", "-c", line).Output()
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return string(out)
}
