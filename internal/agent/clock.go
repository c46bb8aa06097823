package agent

import "time"

// clockStep is how far the clock may go from the time that passes between two looks at it. Slewing it moves it by 0.05 % at
// most (adjtimex(2)), stepping it moves it by more than that.
const clockStep = 2 * time.Second

// steadyClock watches whether the clock goes as time does. A host whose clock is ahead after a boot is told the right
// time within minutes as a rule; what the wrong one made expire would be gone by then.
type steadyClock struct {
	wall   time.Time
	steady time.Duration // for how long it has gone as time does
}

// look takes what the clock shows, and how much time has passed since the last look by one that nobody sets.
func (c *steadyClock) look(wall time.Time, passed time.Duration) {
	wall = wall.Round(0) // without the monotonic reading, which nobody sets either
	if step := wall.Sub(c.wall) - passed; step.Abs() > clockStep {
		c.steady = 0
	} else {
		c.steady += passed
	}
	c.wall = wall
}
