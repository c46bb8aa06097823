// Package conformance tells whether a storage pool and a container runtime keep the promises that the agent is built on. The same suite runs
// against the embedded stand-ins and against ZFS and Incus, so that what the agent's tests prove on the one holds on the other.
//
// The suite only uses names below "containers/" and "hoody/" with a random part, does not assume an empty pool and removes
// what it made.
package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// patience bounds waiting for something that must happen. Nothing passes faster by making it shorter.
const patience = 2 * time.Minute

// sandbox is a part of a pool that belongs to one test.
type sandbox struct {
	*testing.T
	ctx  context.Context
	pool agent.Pool
	top  string
}

func newSandbox(t *testing.T, pool agent.Pool) *sandbox {
	t.Helper()
	s := &sandbox{T: t, ctx: t.Context(), pool: pool, top: "hoody/conformance-" + strings.ToLower(ulid.Make().String())}
	t.Cleanup(s.clean)
	s.ok(pool.Create(s.ctx, s.top, nil), "create %s", s.top)
	return s
}

// clean removes the sandbox. Whatever depends on something goes before it; promotions make that order hard to foresee, so it
// goes round until nothing is left or nothing moves.
func (s *sandbox) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for ctx.Err() == nil {
		inv, err := s.pool.Inventory(ctx)
		if err != nil {
			s.Errorf("clean up: %v", err)
			return
		}
		var left []string
		var last error
		moved := false
		for _, d := range slices.Backward(inv.Datasets) {
			if d.Name != s.top && !strings.HasPrefix(d.Name, s.top+"/") {
				continue
			}
			left = append(left, d.Name)
			if d.ResumeToken != "" {
				_ = s.pool.AbortReceive(ctx, d.Name) // if it fails, so will Destroy
			}
			err := s.pool.Destroy(ctx, d.Name)
			if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
				last = err
				continue
			}
			moved = true
		}
		if len(left) == 0 {
			return
		}
		if !moved {
			s.Errorf("clean up: %q stay: %v", left, last)
			return
		}
	}
}

// name is a dataset of the sandbox.
func (s *sandbox) name(part string) string { return path.Join(s.top, part) }

// ok ends the test on an error.
func (s *sandbox) ok(err error, format string, args ...any) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", fmt.Sprintf(format, args...), err)
	}
}

// fails wants an error of one of the classes; none given means any error.
func (s *sandbox) fails(err error, what string, classes ...error) {
	s.Helper()
	if err == nil {
		s.Errorf("%s: succeeded, want %v", what, classes)
		return
	}
	for _, class := range classes {
		if errors.Is(err, class) {
			return
		}
	}
	if len(classes) > 0 {
		s.Errorf("%s: %v (class %v), want %v", what, err, errdefs.ClassOf(err), classes)
	}
}

// create makes a dataset of the sandbox and returns its full name.
func (s *sandbox) create(part string) string {
	s.Helper()
	name := s.name(part)
	s.ok(s.pool.Create(s.ctx, name, nil), "create %s", name)
	return name
}

// snapshot makes a snapshot.
func (s *sandbox) snapshot(dataset, name string) lineage.Snapshot {
	s.Helper()
	snap, err := s.pool.Snapshot(s.ctx, dataset, name)
	s.ok(err, "snapshot %s@%s", dataset, name)
	return snap
}

// clone makes a clone and returns its full name.
func (s *sandbox) clone(snapshot, part string) string {
	s.Helper()
	name := s.name(part)
	s.ok(s.pool.Clone(s.ctx, snapshot, name, nil), "clone %s to %s", snapshot, name)
	return name
}

// dataset reads a dataset.
func (s *sandbox) dataset(name string) lineage.Dataset {
	s.Helper()
	d, err := s.pool.Dataset(s.ctx, name)
	s.ok(err, "dataset %s", name)
	return d
}

// guids lists a dataset's snapshots.
func (s *sandbox) guids(name string) []lineage.GUID {
	s.Helper()
	var guids []lineage.GUID
	for _, snap := range s.dataset(name).Snapshots {
		guids = append(guids, snap.GUID)
	}
	return guids
}

// with runs use on a dataset's files.
func (s *sandbox) with(dataset string, use func(m agent.Mount) error) {
	s.Helper()
	m, err := s.pool.Mount(s.ctx, dataset)
	s.ok(err, "mount %s", dataset)
	err = use(m)
	if unmount := m.Unmount(s.ctx); err == nil {
		err = unmount
	}
	s.ok(err, "files of %s", dataset)
}

// write makes a file, with its directories.
func (s *sandbox) write(dataset, file string, content []byte) {
	s.Helper()
	s.with(dataset, func(m agent.Mount) error {
		if err := m.Root().MkdirAll(path.Dir(file), 0o755); err != nil {
			return err
		}
		return m.Root().WriteFile(file, content, 0o644)
	})
}

// holds wants a file to have a content; nil wants it not to exist.
func (s *sandbox) holds(dataset, file string, want []byte) {
	s.Helper()
	s.with(dataset, func(m agent.Mount) error {
		got, err := m.Root().ReadFile(file)
		if want == nil && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && (want == nil || !bytes.Equal(got, want)) {
			s.Errorf("%s of %s has %d bytes that differ from the %d wanted", file, dataset, len(got), len(want))
		}
		return err
	})
}

// snapshotHolds wants a file of a snapshot to have a content, seen through a clone.
func (s *sandbox) snapshotHolds(snapshot, file string, want []byte) {
	s.Helper()
	look := s.clone(snapshot, "look-"+strings.ToLower(ulid.Make().String()))
	s.holds(look, file, want)
	s.ok(s.pool.Destroy(s.ctx, look), "destroy %s", look)
}

// send reads a whole stream.
func (s *sandbox) send(spec agent.SendSpec) []byte {
	s.Helper()
	stream, err := s.pool.Send(s.ctx, spec)
	s.ok(err, "send %+v", spec)
	data, err := io.ReadAll(stream)
	s.ok(err, "stream of %+v", spec)
	s.ok(stream.Close(), "close stream of %+v", spec)
	return data
}

// sendError returns why a stream cannot be sent, be it found out at once or on the way.
func (s *sandbox) sendError(spec agent.SendSpec) error {
	s.Helper()
	stream, err := s.pool.Send(s.ctx, spec)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, stream)
	stream.Close()
	return err
}

// receive receives a stream.
func (s *sandbox) receive(to, origin string, stream []byte) {
	s.Helper()
	s.ok(s.tryReceive(to, origin, stream), "receive %s", to)
}

func (s *sandbox) tryReceive(to, origin string, stream []byte) error {
	return s.pool.Receive(s.ctx, agent.ReceiveSpec{To: to, Origin: origin}, bytes.NewReader(stream))
}

// until asks again until done says yes.
func (s *sandbox) until(what string, done func() bool) {
	s.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-deadline.C:
			s.Fatalf("never: %s", what)
		}
	}
}

// noise is data that neither compression nor equality makes smaller; the same for the same seed.
func noise(seed uint64, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 'n'}).Read(data) // never fails
	return data
}

const (
	kib = 1 << 10
	mib = 1 << 20
)
