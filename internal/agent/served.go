package agent

import (
	"context"
	"errors"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// jobOfPeer reads, where it is true, the open copy or sync of a peer's own server that reads from this one. Anything else
// a peer may name is answered alike: it learns nothing about what exists here.
func (a *Agent) jobOfPeer(ctx context.Context, peer, jobID string) (store.Job, error) {
	job, err := a.store.GetJob(ctx, jobID)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return store.Job{}, err
	}
	reads := job.Kind == store.JobCopy || job.Kind == store.JobSync
	if err != nil || !job.Open() || job.CancelledAt != nil && job.Freeze.GUID == 0 || !reads || job.ServerID != peer || job.SourceServerID != a.serverID {
		return store.Job{}, errdefs.New(errdefs.ErrPermissionDenied, "", "server %s has no open job %s on this server", peer, jobID)
	}
	return job, nil
}

// served returns an open job of a peer with what it may fetch.
func (a *Agent) served(ctx context.Context, peer, jobID string) (store.Job, Manifest, error) {
	job, err := a.jobOfPeer(ctx, peer, jobID)
	if err != nil {
		return store.Job{}, Manifest{}, err
	}
	manifest, known := a.manifests.get(job.ID)
	if !known {
		if manifest, err = a.manifest(ctx, job); err != nil {
			return store.Job{}, Manifest{}, err
		}
	}
	return job, manifest, nil
}
