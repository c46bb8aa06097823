package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// await waits for a job to end and returns its failure, if it failed, in the class it failed with. It gives up on a server that is gone for longer than
// its agent takes to be restarted; the job goes on when the server is back.
func (a *Agent) await(ctx context.Context, job store.Job) (store.Job, error) {
	ended, err := a.waitJob(ctx, job)
	if err != nil {
		return store.Job{}, fmt.Errorf("wait for job %s of container %s: %w", job.ID, job.ContainerID, err)
	}
	if ended.State != store.JobDone && ended.Error != nil {
		return ended, asError(*ended.Error)
	}
	return ended, nil
}

// errServerGone is behind the answer to a request whose server went away after the request was accepted.
var errServerGone = errors.New("the server is gone")

func (a *Agent) waitJob(ctx context.Context, job store.Job) (store.Job, error) {
	for {
		bounded, cancel := context.WithTimeout(ctx, a.options.AnswerGrace/10)
		ended, err := a.store.WaitJob(bounded, job.ServerID, job.ID)
		expired := err != nil && bounded.Err() != nil && ctx.Err() == nil
		cancel()
		if !expired {
			return ended, err
		}
		if alive, seen := a.store.Mirror().Alive(job.ServerID); !alive && a.now().Sub(seen) > a.options.AnswerGrace {
			return store.Job{}, errdefs.New(errdefs.ErrUnavailable, "", "The container's server does not answer; the operation goes on when it does").WithCause(errServerGone)
		}
	}
}

// hostFailure gives the failure of a job that was accepted the route's code for what the container's host could not do, unless it has a code of its
// own. Its class goes no further: what a pool or a runtime says of itself, such as "permission denied", is not about the caller.
func hostFailure(failed *errdefs.Error, code string) *errdefs.Error {
	if failed.Code != "" {
		return failed
	}
	return errdefs.New(errdefs.ErrInternal, code, "%s", failed.Message).WithCause(failed)
}

// awaitReceipt waits for the job that a request was accepted with, be it this time or earlier: then the caller may have
// lost sight of the container.
func (a *Agent) awaitReceipt(ctx context.Context, caller Caller, receipt store.Receipt) (store.Job, error) {
	if caller.repeats() {
		if _, err := a.readContainer(ctx, caller, receipt.ContainerID); err != nil {
			return store.Job{}, err
		}
	}
	return a.await(ctx, store.Job{ID: receipt.JobID, ServerID: receipt.ServerID, ContainerID: receipt.ContainerID})
}
