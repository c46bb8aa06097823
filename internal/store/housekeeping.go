package store

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// sweepBatch is how many jobs one transaction removes: each takes up to two reads and two writes of its 128.
const sweepBatch = 25

// keepHouse removes old jobs and events and looks after the embedded etcd's space until ctx ends.
func (s *Store) keepHouse(ctx context.Context) {
	ticker := time.NewTicker(s.opts.Housekeeping)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if err := s.sweepJobs(ctx, now.Add(-s.opts.JobRetention)); err != nil && ctx.Err() == nil {
				s.logger.Warn("remove finished jobs", zap.Error(err))
			}
			if err := s.sweepEvents(ctx, now); err != nil && ctx.Err() == nil {
				s.logger.Warn("remove old events", zap.Error(err))
			}
			if err := s.relieveQuota(ctx); err != nil && ctx.Err() == nil {
				s.logger.Warn("relieve etcd's quota", zap.Error(err))
			}
		}
	}
}

// sweepJobs removes the jobs of this server, and of servers that are no longer registered, that finished before the
// given time.
func (s *Store) sweepJobs(ctx context.Context, before time.Time) error {
	var old []*Job
	for _, job := range s.mirror.Jobs() {
		_, registered := s.mirror.Server(job.ServerID)
		if (job.ServerID == s.opts.ServerID || !registered) && finishedBefore(job, before) {
			old = append(old, job)
		}
	}
	for len(old) > 0 {
		batch := old[:min(len(old), sweepBatch)]
		old = old[len(batch):]
		_, err := s.Update(ctx, func(tx *Tx) error {
			for _, job := range batch {
				if err := tx.DeleteJob(job.ServerID, job.ID); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// finishedBefore: a finished job is final, so the mirror's word is enough to remove it.
func finishedBefore(job *Job, before time.Time) bool {
	if job.Open() {
		return false
	}
	at := job.UpdatedAt
	if job.FinishedAt != nil {
		at = *job.FinishedAt
	}
	return at.Before(before)
}

// relieveQuota gets the embedded etcd out of its read-only state after the quota was reached: compaction frees what
// history held, defragmentation returns it, and the alarm must be lifted by hand. An external cluster is its admins'.
func (s *Store) relieveQuota(ctx context.Context) error {
	if s.server == nil {
		return nil
	}
	return s.bounded(ctx, func(ctx context.Context) error {
		alarms, err := s.client.AlarmList(ctx)
		if err != nil {
			return etcdError("list alarms", err)
		}
		for _, alarm := range alarms.Alarms {
			if alarm.Alarm != etcdserverpb.AlarmType_NOSPACE {
				return fmt.Errorf("etcd raised the alarm %s", alarm.Alarm)
			}
			s.logger.Error("etcd's quota is used up, compacting", zap.Int64("revision", s.mirror.Revision()))
			if _, err := s.client.Compact(ctx, s.mirror.Revision(), clientv3.WithCompactPhysical()); err != nil && etcdClass(err) != errdefs.ErrStale {
				return etcdError("compact", err)
			}
			if _, err := s.client.Defragment(ctx, s.server.Endpoint()); err != nil {
				return etcdError("defragment", err)
			}
			if _, err := s.client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(alarm)); err != nil {
				return etcdError("disarm", err)
			}
		}
		return nil
	})
}
