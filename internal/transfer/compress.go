package transfer

import (
	"net/http"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

const encodingZstd = "zstd"

const (
	// probeSize is how much of a source is compressed to find out whether it pays, in bytes. ZFS streams begin with
	// metadata, which compresses well whatever follows; 4 MiB look past it.
	probeSize = 4 << 20
	// probeTime is how long at most the first bytes are held back for that.
	probeTime = time.Second

	// zstdWindow is how far back the compressor looks, in bytes; both sides hold it in memory a few times.
	zstdWindow = 4 << 20
	// zstdMaxWindow is what the decompressor grants a sender. A frame can ask for 2 GiB and more.
	zstdMaxWindow = 8 << 20
)

// AcceptCompression marks a request for a stream: its answer may be compressed.
func AcceptCompression(request *http.Request) { request.Header.Set("Accept-Encoding", encodingZstd) }

func accepts(header http.Header) bool {
	for _, value := range header.Values("Accept-Encoding") {
		for encoding := range strings.SplitSeq(value, ",") {
			if strings.TrimSpace(encoding) == encodingZstd {
				return true
			}
		}
	}
	return false
}

// effort is how much a stretch of a stream is worked on.
type effort int

const (
	stored effort = iota // as it is
	fast                 // 2.8 to 1 on binaries
	strong               // 7 % less than fast, for half as much processor time again
)

var levels = map[effort]zstd.EncoderLevel{fast: zstd.SpeedFastest, strong: zstd.SpeedDefault}

const (
	// stretchSize is how much of a source passes between two decisions, in bytes.
	stretchSize = 16 << 20
	// What has to remain, in percent: compressing begins when a trial leaves less than the first, and ends when a stretch left
	// more than the second. A saving below a tenth is not worth the processor time.
	startPercent = 87
	stopPercent  = 92
	// strong begins when sending takes that many times as long as compressing, and ends when it takes fewer than the second.
	strongFrom, strongTo = 8, 4
	// Trials that do not pay may take this part of the time, so that a fast network is not slowed down by them; and however
	// long one took on a busy machine, the next comes after longestPause.
	trialShare   = 100
	longestPause = 10 * time.Second
)

// stretch is what a part of a stream was like.
type stretch struct {
	source, wire uint64        // bytes
	compressing  time.Duration // in the compressor
	sending      time.Duration // until the network had taken it
	waiting      time.Duration // for the source, with nothing to do
}

// took is how long the stretch took in all.
func (s stretch) took() time.Duration { return s.compressing + s.sending + s.waiting }

// trialPause is how long nothing is tried after a trial that did not pay.
func trialPause(trial time.Duration) time.Duration { return min(trialShare*trial, longestPause) }

// next decides on the stretch that follows. Compressing is there to save time on the network: what it costs, beyond the time
// that the source leaves, has to be less than what the bytes that are left out would have taken.
func (s stretch) next(now effort) effort {
	if s.wire*100 > s.source*stopPercent {
		return stored
	}
	leftOut := float64(s.source)/float64(max(s.wire, 1)) - 1 // for each byte that was sent
	saved := time.Duration(leftOut * float64(s.sending))
	switch {
	case s.compressing > saved*5/4+s.waiting && s.waiting < s.compressing/8: // else the source is what everything waits for
		return now - 1
	case now == fast && s.sending > strongFrom*s.compressing:
		return strong
	case now == strong && s.sending < strongTo*s.compressing:
		return fast
	}
	return now
}

// resume decides whether to compress again after a stored stretch, by a trial on a piece of the source.
func (s stretch) resume(trial stretch) bool {
	if trial.wire*100 >= trial.source*startPercent {
		return false
	}
	if s.source == 0 {
		return true // the beginning of a stream: nothing is known of the network
	}
	part := float64(trial.source) / float64(s.source)
	saved := part * (1 - float64(trial.wire)/float64(trial.source)) * float64(s.sending)
	return float64(trial.compressing) < saved*4/5+part*float64(s.waiting)
}
