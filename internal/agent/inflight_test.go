package agent

import (
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

func TestWhatIsInFlightIsClaimedOnce(t *testing.T) {
	f := newInFlight()
	planned := f.endings()
	done, _, ok := f.claim([]lineage.GUID{1, 2}, planned)
	if !ok {
		t.Fatal("the first claim is refused")
	}
	_, wait, ok := f.claim([]lineage.GUID{2, 3}, planned)
	if ok {
		t.Fatal("a snapshot in flight is claimed again")
	}
	if other, _, ok := f.claim([]lineage.GUID{4}, planned); !ok {
		t.Error("a snapshot that is not in flight is refused")
	} else {
		other()
	}
	select {
	case <-wait:
		t.Fatal("the wait is over before the replication is")
	default:
	}
	done()
	<-wait
	// Planned before the replication ended: what it brought may be among the claimed.
	if _, wait, ok := f.claim([]lineage.GUID{2, 3}, planned); ok {
		t.Error("an outdated plan is accepted")
	} else {
		<-wait
	}
	if _, _, ok := f.claim([]lineage.GUID{3}, f.endings()); !ok {
		t.Error("a fresh plan is refused")
	}
}
