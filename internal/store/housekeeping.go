package store

import (
	"context"
	"fmt"
	"slices"
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
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		if stepped(now.Round(0).Sub(last.Round(0)), now.Sub(last)) {
			s.logger.Warn("the clock was set; nothing is removed for its age this time")
		} else {
			if err := s.sweepJobs(ctx, now); err != nil && ctx.Err() == nil {
				s.logger.Warn("remove finished jobs", zap.Error(err))
			}
			if err := s.sweepEvents(ctx, now); err != nil && ctx.Err() == nil {
				s.logger.Warn("remove old events", zap.Error(err))
			}
		}
		last = now
		if err := s.relieveQuota(ctx); err != nil && ctx.Err() == nil {
			s.logger.Warn("relieve etcd's quota", zap.Error(err))
		}
	}
}

// stepped tells that the clock was set: it has gone further, or less far, than time has passed by the one that nobody sets. One that is
// slewed goes wrong by 0.05 % at most (adjtimex(2)).
func stepped(wall, passed time.Duration) bool {
	return (wall - passed).Abs() > time.Second+passed/1000
}

// sweepJobs removes jobs of this server, and of servers that are no longer registered, that finished long ago.
func (s *Store) sweepJobs(ctx context.Context, now time.Time) error {
	of := make(map[string][]*Job)
	for _, job := range s.mirror.Jobs() {
		if _, registered := s.mirror.Server(job.ServerID); job.ServerID == s.opts.ServerID || !registered {
			of[job.ServerID] = append(of[job.ServerID], job)
		}
	}
	var old []*Job
	for _, jobs := range of {
		old = append(old, outdated(jobs, now, s.opts.JobRetention, s.opts.MaxJobs)...)
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

// receiptsOutlive is longer than receipts last: etcd gives a lease its whole time again when it changes its leader.
const receiptsOutlive = 2 * (receiptsFor + receiptLeaseReuse)

// muchTooMany times as many finished jobs as are kept of a server are too many whatever their age: one who asks for thousands an hour must
// not fill the store before they are old.
const muchTooMany = 10

// outdated are those of a server's jobs that finished longer than retention ago, and of those that went well all but the newest, unless a repeated request
// may ask for them yet. A finished job is final, so the mirror's word is enough to remove it.
func outdated(jobs []*Job, now time.Time, retention time.Duration, newest int) (old []*Job) {
	finished := func(job *Job) time.Time {
		if job.FinishedAt != nil {
			return *job.FinishedAt
		}
		return job.UpdatedAt
	}
	jobs = slices.DeleteFunc(slices.Clone(jobs), (*Job).Open)
	slices.SortFunc(jobs, func(a, b *Job) int { return finished(b).Compare(finished(a)) })
	done := 0
	for i, job := range jobs {
		age := now.Sub(finished(job))
		if job.State == JobDone {
			done++
		}
		if age > retention || job.State == JobDone && done > newest && age > receiptsOutlive || i >= muchTooMany*max(newest, 100) {
			old = append(old, job)
		}
	}
	return old
}

// relieveQuota gets the embedded etcd out of its read-only state after the quota was reached: compaction frees what
// history held, defragmentation returns it, and the alarm must be lifted by hand. An external cluster is its admins'.
func (s *Store) relieveQuota(ctx context.Context) error {
	if s.server == nil {
		return nil
	}
	var alarms *clientv3.AlarmResponse
	if err := s.bounded(ctx, func(ctx context.Context) (err error) {
		alarms, err = s.client.AlarmList(ctx)
		return etcdError("list alarms", err)
	}); err != nil {
		return err
	}
	for _, alarm := range alarms.Alarms {
		if alarm.Alarm != etcdserverpb.AlarmType_NOSPACE {
			return fmt.Errorf("etcd raised the alarm %s", alarm.Alarm)
		}
		if err := s.relieve(ctx, (*clientv3.AlarmMember)(alarm)); err != nil {
			return err
		}
	}
	return nil
}

const (
	// reliefTimeout bounds each step of making room, which takes as long as the database is large: etcd goes on defragmenting whoever
	// waits for it, and only then the alarm can be lifted.
	reliefTimeout = 5 * time.Minute
	openingRelief = 2 * time.Minute // for all of it when the store is opened: who waits for the agent's start does not wait for ever
)

func (s *Store) relieve(ctx context.Context, alarm *clientv3.AlarmMember) error {
	s.logger.Error("etcd's quota is used up, compacting", zap.Int64("revision", s.mirror.Revision()))
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"compact", func(ctx context.Context) error {
			_, err := s.client.Compact(ctx, s.mirror.Revision(), clientv3.WithCompactPhysical())
			if err != nil && etcdClass(err) == errdefs.ErrStale {
				return nil // somebody has
			}
			return err
		}},
		{"defragment", func(ctx context.Context) error {
			_, err := s.client.Defragment(ctx, s.server.Endpoint())
			return err
		}},
		{"disarm", func(ctx context.Context) error {
			_, err := s.client.AlarmDisarm(ctx, alarm)
			return err
		}},
	} {
		bounded, cancel := context.WithTimeout(ctx, reliefTimeout)
		err := step.do(bounded)
		cancel()
		if err != nil {
			return etcdError(step.name, err)
		}
	}
	return nil
}
