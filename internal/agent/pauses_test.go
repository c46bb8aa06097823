package agent

import (
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/store"
)

func TestPausesStartAnewAfterProgress(t *testing.T) {
	progress := store.Progress{BytesDone: 5 << 30, Snapshots: 3} // of before a restart
	p := newPauses(progress)
	const jitter = 2 // a pause is at most half as long again, and at least half as long
	short := func(what string) {
		t.Helper()
		if pause := p.next(progress); pause > firstPause*3/2 {
			t.Errorf("%s the pause is %v", what, pause)
		}
	}
	long := func(what string) {
		t.Helper()
		if pause := p.next(progress); pause < longestPause/jitter {
			t.Errorf("%s the pause is %v", what, pause)
		}
	}
	lengthen := func() {
		for range 20 {
			p.next(progress)
		}
	}
	short("at first")
	lengthen()
	long("after many failures")
	progress.BytesDone += progressCounts
	short("after progress")
	lengthen()
	long("after many more failures")
	progress.BytesDone += progressCounts - 1
	long("after hardly any progress")
	progress.Snapshots++
	short("after a whole snapshot")
	for i, least := range []time.Duration{150, 225, 337} { // milliseconds: half again as long each time, within the jitter
		if pause := p.next(progress); pause < least*time.Millisecond {
			t.Errorf("pause %d after progress is %v", i+2, pause)
		}
	}
}
