package store

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Condition is what etcd says of its own space.
type Condition struct {
	Size, InUse int64    // of the database file of the member that has the largest, and of what is in it, in bytes
	Quota       int64    // the size at which etcd stops taking writes; 0 for one that does not tell, or has none
	Alarms      []string // that are raised
}

// The alarms that etcd knows, in its own words.
const (
	AlarmNoSpace = "NOSPACE"
	AlarmCorrupt = "CORRUPT"
)

// memberTimeout bounds what one member is given to answer: one that is down must not hide the others.
const memberTimeout = 2 * time.Second

// Condition asks the members of etcd that the store knows. It returns errdefs.ErrUnavailable when none answers.
func (s *Store) Condition(ctx context.Context) (Condition, error) {
	var condition Condition
	alarmed := false
	var failures []error
	endpoints := s.client.Endpoints()
	for _, endpoint := range endpoints {
		member, err := s.member(ctx, endpoint)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		alarmed = alarmed || len(member.Errors) > 0 // alarms are among them
		if member.DbSize > condition.Size {
			condition.Size, condition.InUse, condition.Quota = member.DbSize, member.DbSizeInUse, member.DbSizeQuota
		}
	}
	if len(failures) == len(endpoints) {
		return Condition{}, errors.Join(failures...)
	}
	if !alarmed { // every question costs the cluster a proposal
		return condition, nil
	}
	alarms, err := s.client.AlarmList(ctx)
	if err != nil {
		return Condition{}, etcdError("list alarms", err)
	}
	for _, alarm := range alarms.Alarms {
		condition.Alarms = append(condition.Alarms, alarm.Alarm.String())
	}
	return condition, nil
}

// member asks one member of etcd how it is.
func (s *Store) member(ctx context.Context, endpoint string) (*clientv3.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	status, err := s.client.Status(ctx, endpoint)
	if err != nil {
		return nil, etcdError("status of "+endpoint, err)
	}
	if status.DbSizeQuota == 0 {
		status.DbSizeQuota = s.quotas.of(endpoint, status.DbSize, time.Now(), func() (int64, error) {
			quota, err := s.quotaByMetrics(ctx, endpoint)
			if err != nil {
				s.logger.Debug("etcd does not tell its quota", zap.String("member", endpoint), zap.Error(err))
			}
			return quota, err
		})
	}
	return status, nil
}
