package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// JobChanges signals that jobs of the server were added, changed or removed; read them from Mirror.OpenJobs. Signals
// coalesce: after one, everything that happened before it is visible. The caller must call cancel.
func (s *Store) JobChanges(server string) (changed <-chan struct{}, cancel func()) {
	return s.mirror.listen(server)
}

// WaitJob returns the server's job once it is finished. It returns errdefs.ErrNotFound when there is no such job or it
// is removed meanwhile, errdefs.ErrUnavailable when ctx ends first or the store closes; the job goes on then. The job's
// slices are shared and must not be changed.
func (s *Store) WaitJob(ctx context.Context, server, id string) (Job, error) {
	if err := checkJobID(server, id); err != nil {
		return Job{}, err
	}
	changed, cancel := s.mirror.listen(jobPath(server, id))
	defer cancel()
	if _, ok := s.mirror.Job(id); !ok {
		if _, err := s.GetJob(ctx, id); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return Job{}, err
		}
	}
	for {
		job, ok := s.mirror.Job(id)
		switch {
		case !ok || job.ServerID != server:
			return Job{}, notFound(KindJob, id)
		case !job.Open():
			return *job, nil
		}
		select {
		case <-changed:
		case <-s.mirror.closed:
			return Job{}, fmt.Errorf("wait for job %s: %w: %w", id, errdefs.ErrUnavailable, errClosed)
		case <-ctx.Done():
			return Job{}, fmt.Errorf("wait for job %s: %w: %w", id, errdefs.ErrUnavailable, ctx.Err())
		}
	}
}
