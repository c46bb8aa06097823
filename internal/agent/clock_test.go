package agent

import (
	"testing"
	"time"
)

func TestAClockThatIsSetIsNotSteady(t *testing.T) {
	wall := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	clock := steadyClock{}
	clock.look(wall, 0)
	pass := func(minutes int) {
		for range minutes {
			wall = wall.Add(time.Minute)
			clock.look(wall, time.Minute)
		}
	}
	expect := func(when string, minutes int) {
		t.Helper()
		if want := time.Duration(minutes) * time.Minute; clock.steady != want {
			t.Errorf("%s: steady for %s, want %s", when, clock.steady, want)
		}
	}
	expect("at the start", 0)
	pass(9)
	expect("undisturbed", 9)
	wall = wall.Add(time.Second)
	pass(1)
	expect("corrected by a second", 10)
	wall = wall.Add(-48 * time.Hour)
	pass(1)
	expect("set back", 0)
	pass(5)
	expect("undisturbed from then on", 5)
	wall = wall.Add(time.Hour) // a host that slept, too
	pass(1)
	expect("set ahead", 0)
}
