package agent

import (
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

func snapshots(guids ...lineage.GUID) (arrivals []arrival) {
	for _, guid := range guids {
		arrivals = append(arrivals, arrival{guid: guid})
	}
	return arrivals
}

func isOver(wait <-chan struct{}) bool {
	select {
	case <-wait:
		return true
	default:
		return false
	}
}

func TestWhatIsInFlightIsClaimedOnce(t *testing.T) {
	f := newInFlight()
	planned := f.endings()
	claimed, _, ok := f.claim(snapshots(1, 2), planned)
	if !ok {
		t.Fatal("the first claim is refused")
	}
	_, wait, ok := f.claim(snapshots(2, 3), planned)
	if ok {
		t.Fatal("a snapshot in flight is claimed again")
	}
	if other, _, ok := f.claim(snapshots(4), planned); !ok {
		t.Error("a snapshot that is not in flight is refused")
	} else {
		other.end()
	}
	if isOver(wait) {
		t.Fatal("the wait is over before the replication is")
	}
	claimed.end()
	<-wait
	// Planned before the replication ended: what it brought may be among the claimed.
	if _, wait, ok := f.claim(snapshots(2, 3), planned); ok {
		t.Error("an outdated plan is accepted")
	} else {
		<-wait
	}
	// Of what else has ended meanwhile the plan does not depend.
	if other, _, ok := f.claim(snapshots(5), planned); !ok {
		t.Error("a plan is refused for what has nothing to do with it")
	} else {
		other.end()
	}
	if _, _, ok := f.claim(snapshots(3), f.endings()); !ok {
		t.Error("a fresh plan is refused")
	}
}

// Only so many endings are remembered; a plan from before them is out of date, whatever it brings.
func TestAPlanFromLongAgoIsOutOfDate(t *testing.T) {
	f := newInFlight()
	for i := range endingsKept + 1 {
		claimed, _, ok := f.claim(snapshots(lineage.GUID(i+10)), f.endings())
		if !ok {
			t.Fatal("a fresh plan is refused")
		}
		claimed.end()
	}
	if _, _, ok := f.claim(snapshots(1), 0); ok || len(f.latest) != endingsKept {
		t.Errorf("accepted %t with %d endings remembered", ok, len(f.latest))
	}
	if _, _, ok := f.claim(snapshots(1), 1); !ok {
		t.Error("a plan from before what is remembered is refused")
	}
}

func TestAnImageThatHasArrivedIsFree(t *testing.T) {
	f := newInFlight()
	image := arrival{1, "alice"}
	claimed, _, ok := f.claim([]arrival{image, {guid: 2}}, f.endings())
	if !ok {
		t.Fatal("the first claim is refused")
	}
	if other, _, ok := f.claim([]arrival{{1, "bob"}, {guid: 3}}, f.endings()); !ok {
		t.Error("one owner waits for another's image")
	} else {
		other.end()
	}
	planned := f.endings()
	_, wait, ok := f.claim([]arrival{image, {guid: 4}}, planned)
	if ok || isOver(wait) {
		t.Fatal("an image in flight is claimed again")
	}
	claimed.arrived(image)
	claimed.arrived(image) // once more changes nothing
	<-wait
	if _, _, ok := f.claim([]arrival{image, {guid: 4}}, planned); ok {
		t.Error("a plan from before it arrived is accepted")
	}
	if _, _, ok := f.claim([]arrival{{guid: 4}}, f.endings()); !ok {
		t.Error("who has the image waits for what else comes")
	}
	if _, wait, ok = f.claim([]arrival{{guid: 2}}, f.endings()); ok {
		t.Error("what has not arrived is free")
	}
	claimed.end()
	<-wait
}

func TestWhatIsLeftWaitsForWhoWantsIt(t *testing.T) {
	f := newInFlight()
	release := f.want([]lineage.GUID{1})
	f.leave("hoody/incoming/a", 1)
	f.leave("hoody/incoming/b", 2)
	if left := f.leftBehind(); len(left) != 1 || !left["hoody/incoming/a"] {
		t.Errorf("left: %v", left)
	}
	release()
	if left := f.leftBehind(); len(left) > 0 {
		t.Errorf("left for nobody: %v", left)
	}
}
