package agent_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// A key that the source is given after a copy or sync was asked for, and before it is frozen, lets nobody into the copy: neither now nor
// when one of the snapshots that came along is restored there.
func TestAKeyGivenToTheSourceBeforeTheFreezeStaysThere(t *testing.T) {
	t.Parallel()
	gate := make(chan chan struct{}, 1)
	f := newFleet(t, 2, func(f *fleet) {
		f.freezing = func() {
			select {
			case opened := <-gate:
				<-opened
			default:
			}
		}
	})
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	late := func(ask func()) (key string) {
		t.Helper()
		opened := make(chan struct{})
		gate <- opened
		defer close(opened)
		ask()
		key = newKey(t)
		f.must(second(here.agent.UpdateContainer(f.ctx, caller, source.ID, agent.UpdateContainerRequest{SetSSHPublicKey: true, SSHPublicKey: key})))
		source = f.applied(source.ID)
		if keys := f.read(source, "root/.ssh/authorized_keys"); !strings.Contains(keys, key) {
			t.Fatalf("the source has %q", keys)
		}
		f.snapshot(source, "with-"+fmt.Sprint(len(f.listed(source)))) // which a copy will list
		return key
	}
	without := func(copied store.Container, key string) {
		t.Helper()
		keys := f.read(copied, "root/.ssh/authorized_keys")
		if strings.Contains(keys, key) || !strings.Contains(keys, copied.SSHPublicKey) {
			t.Errorf("the copy lets in %q, want its own key and not %q", keys, key)
		}
	}

	var copied store.Container
	key := late(func() { copied = f.copy(source, there, agent.CopyRequest{}) })
	copied = f.settled(copied.ID, store.StatusRunning)
	without(copied, key)
	copied = f.restore(copied, "with-0", store.StatusRunning)
	without(copied, key)

	f.write(copied, "data/local", []byte("a change to be kept"))
	key = late(func() {
		f.must(second(here.agent.Sync(f.ctx, caller, copied.ID)))
	})
	copied = f.settled(copied.ID, store.StatusRunning)
	without(copied, key)

	again := f.settled(f.copy(copied, there, agent.CopyRequest{}).ID, store.StatusRunning)
	without(again, key)
}
