package store

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Barrier returns once the mirror shows everything that was written anywhere before the call: reads from the mirror
// are then as good as reads from etcd. It returns the revision; errdefs.ErrUnavailable when etcd does not answer, and
// errdefs.ErrCorrupt when it answers but holds another store or an older state of this one.
func (s *Store) Barrier(ctx context.Context) (revision int64, err error) {
	err = s.bounded(ctx, func(ctx context.Context) error {
		known := s.mirror.Revision()
		response, err := s.client.Get(ctx, s.keys.storeID())
		if err != nil {
			return etcdError("barrier", err)
		}
		revision = response.Header.Revision
		if len(response.Kvs) == 0 || string(response.Kvs[0].Value) != s.id || revision < known {
			return fmt.Errorf("barrier: %w: %w", errdefs.ErrCorrupt, errReplaced)
		}
		if s.mirror.Revision() < revision {
			s.mirror.ask()
		}
		return s.mirror.waitRevision(ctx, revision)
	})
	return revision, err
}

// GetServer reads from etcd, linearizably, for the case that the mirror has no such record (yet).
func (s *Store) GetServer(ctx context.Context, id string) (Server, error) {
	return getLinearizable[Server](ctx, s, KindServer, id)
}

// GetProject is GetServer for projects.
func (s *Store) GetProject(ctx context.Context, id string) (Project, error) {
	return getLinearizable[Project](ctx, s, KindProject, id)
}

// GetContainer is GetServer for containers.
func (s *Store) GetContainer(ctx context.Context, id string) (Container, error) {
	return getLinearizable[Container](ctx, s, KindContainer, id)
}

// GetHistory is GetServer for snapshot lists.
func (s *Store) GetHistory(ctx context.Context, containerID string) (History, error) {
	return getLinearizable[History](ctx, s, KindHistory, containerID)
}

// GetJob is GetServer for jobs. Jobs are kept by server, which need not be known here: the read is a Barrier and a look
// into the mirror. The job's slices are shared and must not be changed.
func (s *Store) GetJob(ctx context.Context, id string) (Job, error) {
	if _, err := s.Barrier(ctx); err != nil {
		return Job{}, fmt.Errorf("read job %s: %w", id, err)
	}
	if job, ok := s.mirror.Job(id); ok {
		return *job, nil
	}
	return Job{}, notFound(KindJob, id)
}

func getLinearizable[T any](ctx context.Context, s *Store, kind Kind, id string) (T, error) {
	var none T
	if err := checkID(kind, id); err != nil {
		return none, err
	}
	what := kind.noun() + " " + id
	var response *clientv3.GetResponse
	err := s.bounded(ctx, func(ctx context.Context) (err error) {
		defer func(began time.Time) { s.opts.Observe("read", time.Since(began), err) }(time.Now())
		response, err = s.client.Get(ctx, s.keys.record(kind, id))
		return etcdError("read "+what, err)
	})
	if err != nil {
		return none, err
	}
	if len(response.Kvs) == 0 {
		return none, notFound(kind, id)
	}
	record, err := decode[T](what, response.Kvs[0].Value)
	if err != nil {
		return none, err
	}
	return *record, nil
}

// How many records one request of readAll brings, at first, at least and at most: answers stay in the low megabytes, and etcd, which counts what is left
// for each of them, is not asked too often.
const (
	pageSize     = 500
	smallestPage = 50
	largestPage  = 2000
	fewBytes     = 1 << 20
	aLotOfBytes  = 4 << 20
)

// getter is the client's Get, or one that bounds it.
type getter func(ctx context.Context, key string, options ...clientv3.OpOption) (*clientv3.GetResponse, error)

// readAll hands all keys with the prefix to each, in their order and all as of one revision, which it returns. A revision
// of 0 means the newest one, read linearizably.
func readAll(ctx context.Context, get getter, prefix string, revision int64, each func(*mvccpb.KeyValue)) (int64, error) {
	from, end, limit := prefix, clientv3.GetPrefixRangeEnd(prefix), int64(pageSize)
	for {
		page, err := get(ctx, from,
			clientv3.WithRange(end), clientv3.WithRev(revision), clientv3.WithLimit(limit),
			clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
		if err != nil && limit > smallestPage && ctx.Err() == nil { // too much at once, perhaps
			limit = max(limit/4, smallestPage)
			continue
		}
		if err != nil {
			return 0, err
		}
		if revision == 0 {
			revision = page.Header.Revision
		}
		bytes := 0
		for _, kv := range page.Kvs {
			bytes += len(kv.Value)
			each(kv)
		}
		switch {
		case bytes > aLotOfBytes:
			limit = max(limit/2, smallestPage)
		case bytes < fewBytes:
			limit = min(2*limit, largestPage)
		}
		if !page.More || len(page.Kvs) == 0 {
			return revision, nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}
