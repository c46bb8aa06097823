package transfer

import (
	"io"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// maxTransferMemory is what a transfer may hold at worst, on both sides together.
const maxTransferMemory = 64 << 20

// A transfer holds most when its window is the largest, full, and nobody reads: here several do so at once, sender and receiver
// in one process.
func TestMemoryOfATransferIsBounded(t *testing.T) {
	t.Run("over one connection", func(t *testing.T) { memoryOfTransfers(t, 1) })
	t.Run("over four connections", func(t *testing.T) { memoryOfTransfers(t, 4) })
}

func memoryOfTransfers(t *testing.T, count int) {
	const transfers = 8
	data := noise(8 << 20)
	var ahead [transfers]atomic.Int64 // what each sender has got rid of
	full := make(chan int, transfers)
	f := newFleet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := int(r.URL.Query().Get("i")[0] - 'a')
		_, _ = WriteStream(w, r, &repeat{data: data, left: 1 << 40}, StreamOptions{StallTimeout: time.Hour, Observe: func(_, wire int) {
			was := ahead[i].Add(int64(wire)) - int64(wire)
			if was < maxWindow-2*pieceSize && was+int64(wire) >= maxWindow-2*pieceSize {
				full <- i
			}
		}})
	}), connections(count), dialThrough(delayedDial(20*time.Millisecond)))
	before := liveHeap()
	for i := range transfers {
		response, err := f.get(t.Context(), "/stream?i="+string(rune('a'+i)), true)
		must(t, err)
		stream, err := OpenStream(response, StreamOptions{})
		must(t, err)
		defer stream.Close()
		_, err = io.ReadFull(stream, make([]byte, 1))
		must(t, err)
	}
	for range transfers {
		await(t, "a window to fill", full)
	}
	perTransfer := (liveHeap() - before) / transfers
	t.Logf("%d transfers with full windows of %d MiB hold %.1f MiB each, sender and receiver together", transfers, maxWindow>>20, float64(perTransfer)/(1<<20))
	if perTransfer > maxTransferMemory {
		t.Errorf("a transfer holds %d MiB, at most %d", perTransfer>>20, maxTransferMemory>>20)
	}
	if perTransfer < maxWindow/2 { // what earlier tests have left in pools is not counted
		t.Errorf("a transfer holds %d MiB: the windows are not full, this test looks at the wrong moment", perTransfer>>20)
	}
}

// liveHeap is what is in use after a collection, in bytes.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools let go of
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
