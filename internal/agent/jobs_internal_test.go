package agent

import (
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Only what cannot have left anything starts no collection.
func TestWhatLeavesNothing(t *testing.T) {
	idle := store.Job{Kind: store.JobSync, State: store.JobDone, Progress: store.Progress{NoOp: true}, Freeze: store.Freeze{Reused: true}}
	frozen, failed := idle, idle
	frozen.Freeze.Reused = false
	failed.State = store.JobFailed
	for _, c := range []struct {
		job  store.Job
		want bool
	}{
		{store.Job{Kind: store.JobStart, State: store.JobFailed}, true},
		{store.Job{Kind: store.JobRestart, State: store.JobDone}, true},
		{store.Job{Kind: store.JobSnapshot, State: store.JobDone}, true},
		{store.Job{Kind: store.JobSnapshot, State: store.JobFailed}, false},
		{idle, true},
		{frozen, false},
		{failed, false},
		{store.Job{Kind: store.JobCopy, State: store.JobDone}, false},
		{store.Job{Kind: store.JobRestore, State: store.JobDone}, false},
		{store.Job{Kind: store.JobDelete, State: store.JobDone}, false},
	} {
		if got := leavesNothing(c.job); got != c.want {
			t.Errorf("%s that is %s, %+v: %v", c.job.Kind, c.job.State, c.job.Progress, got)
		}
	}
}
