package agent

import (
	"errors"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// What was promised counts as taken until the job ends, whether its stream is cut off or not.
func TestRoomIsPromisedOnce(t *testing.T) {
	var p promises
	first, second, third := &progress{}, &progress{}, &progress{}
	p.begin("a", snapshots(1, 2))
	p.begin("b", snapshots(3))
	p.begin("c", snapshots(4))
	if !p.grant("a", first, 80, 80, 100) {
		t.Fatal("80 of 100 are refused")
	}
	if p.grant("b", second, 30, 30, 100) {
		t.Error("30 of 100 are promised beside 80")
	}
	first.bytes.Add(40) // and the pool has as much less; then its stream is cut off
	if p.grant("b", second, 30, 30, 60) {
		t.Error("what a cut stream was promised is promised to another")
	}
	p.begin("a", snapshots(2))
	again := &progress{}
	if !p.grant("a", again, 40, 40, 60) {
		t.Error("who comes back is refused what it was promised")
	}
	if !p.grant("b", second, 1, 30, 60) || second.promised.Load() != 20 {
		t.Errorf("promised %d, want the 20 that are left", second.promised.Load())
	}
	if p.grant("c", third, 1, 30, 60) {
		t.Error("more is promised than there is")
	}
	p.begin("d", snapshots(2)) // instead of the first, which is cut off
	if !p.grant("d", &progress{}, 40, 40, 60) {
		t.Error("who brings the same instead of another needs room beside it")
	}
	p.end("d")
	if !p.grant("c", third, 40, 40, 60) {
		t.Error("a promise outlives its job")
	}
	// What is asked for when all is over holds nothing.
	if !p.grant("d", &progress{}, 1, 50, 200) || p.byJob["d"] != nil {
		t.Errorf("a job that has ended is promised %+v", p.byJob["d"])
	}
}

// zipped is a stream of which every read took half as much on the wire.
type zipped struct{ wire uint64 }

func (z *zipped) Read(p []byte) (int, error) { z.wire += uint64(len(p) / 2); return len(p), nil }
func (*zipped) Close() error                 { return nil }
func (z *zipped) Wire() (uint64, string)     { return z.wire, "zstd" }

// What a stream took on the wire shows while it comes, which may be for hours.
func TestTheWireIsCountedAsItGoes(t *testing.T) {
	p := &progress{}
	p.promised.Store(1 << 20)
	c := &countingReader{Stream: &zipped{}, progress: p}
	for i := range uint64(3) {
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		now := p.since(store.Progress{})
		if now.BytesDone != 100*(i+1) || now.BytesWire != 50*(i+1) || now.Compression != "zstd" {
			t.Errorf("after %d reads: %+v", i+1, now)
		}
	}
}

// A manifest that was made anew may lack what a plan stands on: that is a reason to plan again.
func TestWhatAManifestLacksIsNotThere(t *testing.T) {
	if _, err := (Manifest{}).send(StreamRequest{To: 1}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
