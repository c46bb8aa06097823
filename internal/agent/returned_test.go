package agent_test

import (
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// An old state of the store may come back while agents run, whatever their manual says. A job that was open then has ended
// since: taking it up again would end in undoing it, and that destroys what the container has become.
func TestAJobThatComesBackWithAnOldStoreIsNotTakenUp(t *testing.T) {
	f := newFleet(t, 2, withProxy)
	here, there := f.servers[0], f.servers[1]
	there.recorded = time.Millisecond
	there.restart()
	source := f.create(here, "source")
	f.write(source, "data/file", []byte("one"))
	reached, release := make(chan struct{}), make(chan struct{})
	there.setFault(func(op, _ string) error {
		if op == "clone:before" {
			close(reached)
			<-release
		}
		return nil
	})
	copying := f.copy(source, there, agent.CopyRequest{})
	<-reached
	there.setFault(nil)

	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{f.etcd.Endpoint()}, Logger: zap.NewNop()})
	f.must(err)
	defer func() { _ = etcd.Close() }()
	old, err := etcd.Get(f.ctx, store.DefaultPrefix, clientv3.WithPrefix())
	f.must(err)
	close(release)

	copied := f.settled(copying.ID, store.StatusRunning)
	f.must(here.agent.DeleteContainer(f.ctx, caller, source.ID)) // so that the copy cannot be made again
	f.write(copied, "data/file", []byte("two"))
	stamped := f.stampOf(there)
	_, err = there.agent.CreateSnapshot(f.ctx, caller, copied.ID, agent.CreateSnapshotRequest{})
	f.must(err)
	f.until("the stamp moves on", func() bool { return f.stampOf(there) != stamped })
	before := f.holdings(there)

	f.proxy.set(true)
	_, err = etcd.Delete(f.ctx, store.DefaultPrefix, clientv3.WithPrefix())
	f.must(err)
	var last int64
	for _, kv := range old.Kvs {
		if !strings.HasPrefix(string(kv.Key), store.DefaultPrefix+"alive/") {
			put, err := etcd.Put(f.ctx, string(kv.Key), string(kv.Value))
			f.must(err)
			last = put.Header.Revision
		}
	}
	_, err = etcd.Compact(f.ctx, last) // as `etcdutl snapshot restore --mark-compacted` has it
	f.must(err)
	f.proxy.set(false)

	f.until("the agent notices", func() bool { return degraded(there) == agent.FindingRecordsOlder })
	f.until("the job is suspended", func() bool {
		err := there.agent.CancelOperation(f.ctx, caller, copied.ID)
		return err != nil && strings.Contains(err.Error(), "neither continued nor cancelled")
	})
	f.nothingLost(there, before)
}
