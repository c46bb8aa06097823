package agent

import (
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestWhenAPhaseIsGivenUp(t *testing.T) {
	refused := errdefs.New(errdefs.ErrInvalid, "", "never")
	busy := errdefs.New(errdefs.ErrBusy, "", "mounted")
	away := errdefs.New(errdefs.ErrUnavailable, "", "the runtime does not answer")
	dark := errdefs.New(errdefs.ErrInternal, "", "exit status 1")
	for name, test := range map[string]struct {
		phase       phase
		err         error
		attempt     int
		want        bool
		unexplained int
	}{
		"an error that stays":                       {phase{}, refused, 1, true, 0},
		"a busy mount":                              {phase{}, busy, maxAttempts - 1, false, 0},
		"a mount that stays busy":                   {phase{}, busy, maxAttempts, true, 0},
		"a mount that stays busy, patiently":        {phase{patient: true}, busy, 10 * maxAttempts, false, 0},
		"no runtime":                                {phase{}, away, maxAttempts, true, 0},
		"no runtime, outlasted":                     {phase{outlastsRuntime: true}, away, 10 * maxAttempts, false, 0},
		"a busy mount, the runtime being outlasted": {phase{outlastsRuntime: true}, busy, maxAttempts, true, 0},
		"a start that fails, nobody knows why":      {phase{outlastsRuntime: true, costly: true}, dark, costlyAttempts - 1, false, costlyAttempts - 1},
		"a start that keeps failing":                {phase{outlastsRuntime: true, costly: true}, dark, costlyAttempts, true, costlyAttempts},
		"a start that fails once, after an outage":  {phase{outlastsRuntime: true, costly: true}, dark, 10 * maxAttempts, false, 1},
		"a swap that fails, nobody knows why":       {phase{outlastsRuntime: true}, dark, 1, true, 1},
		"a transfer that fails, nobody knows why":   {phase{patient: true, costly: true}, dark, costlyAttempts - 1, false, costlyAttempts - 1},
		"a transfer that keeps failing":             {phase{patient: true, costly: true}, dark, costlyAttempts, true, costlyAttempts},
		"a start that is refused":                   {phase{outlastsRuntime: true}, refused, 1, true, 0},
		"an undoing that is refused":                {phase{name: phaseUndo, patient: true, outlastsRuntime: true}, refused, maxAttempts - 1, false, maxAttempts - 1},
		"an undoing that keeps being refused":       {phase{name: phaseUndo, patient: true, outlastsRuntime: true}, refused, maxAttempts, true, maxAttempts},
		"an undoing of what is busy":                {phase{name: phaseUndo, patient: true, outlastsRuntime: true}, busy, 10 * maxAttempts, false, 0},
		"an error that stays, concluding":           {phase{concluding: true}, refused, 10 * maxAttempts, false, 0},
	} {
		if got := test.phase.givesUp(test.err, test.attempt, min(test.attempt, test.unexplained)); got != test.want {
			t.Errorf("%s: given up: %t", name, got)
		}
	}
	for _, operation := range []operation{createOperation, copyOperation, syncOperation, restoreOperation, restartOperation} {
		for _, p := range operation.phases {
			if p.name == "start" && !(p.outlastsRuntime && p.costly) {
				t.Errorf("a start is given up while the runtime is away: %+v", p)
			}
		}
	}
}
