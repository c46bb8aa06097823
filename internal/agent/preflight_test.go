package agent_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

func TestACopyWithoutRoomIsRefusedBeforeBytesFlow(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", random(1, 4<<20))
	there.pool.SetSize(2 << 20)
	var asked atomic.Int32
	f.asked = func(agent.StreamRequest) { asked.Add(1) }
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusFailed)
	if asked.Load() > 0 || copied.LastOperation.Progress.BytesDone > 0 {
		t.Errorf("%d streams, %+v", asked.Load(), copied.LastOperation.Progress)
	}
	if !strings.Contains(copied.FailureReason, "Not enough space on the target server") || !strings.Contains(copied.FailureReason, "MiB are needed") {
		t.Errorf("reason %q", copied.FailureReason)
	}
	if left := f.leftovers(there); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	there.pool.SetSize(1 << 30)
	f.must(there.agent.DeleteContainer(f.ctx, caller, copied.ID))
	f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
}

func TestAPoolThatRunsFullDuringAStreamFailsTheCopy(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", random(1, 4<<20))
	there.setFault(func(op, _ string) error {
		if op == "receive:frame" {
			there.pool.SetSize(1 << 20)
		}
		return nil
	})
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusFailed)
	if !strings.Contains(copied.FailureReason, "ran out of space or quota") {
		t.Errorf("reason %q", copied.FailureReason)
	}
	if left := f.leftovers(there); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A name of the manifest may lead to another snapshot by the time that it is asked for. Once that is no failure; a peer that
// goes on is refused.
func TestAStreamOfAnotherSnapshotIsRefused(t *testing.T) {
	f := newFleet(t, 2)
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", random(1, 1<<20))
	_, err := here.agent.CreateSnapshot(f.ctx, caller, source.ID, agent.CreateSnapshotRequest{})
	f.must(err)
	f.write(source, "data/file", random(2, 1<<20))
	lies := 1
	f.substitute = func(request *agent.StreamRequest, nodes []lineage.Node) {
		if request.From != 0 && lies > 0 {
			lies--
			for _, node := range nodes { // an earlier one, in full
				if node.Parent == 0 {
					request.To, request.From = node.GUID, 0
				}
			}
		}
	}
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	if f.hash(copied) != f.hash(source) || lies != 0 {
		t.Errorf("%d lies left, or the copy is not the source", lies)
	}
	f.must(there.agent.DeleteContainer(f.ctx, caller, copied.ID))
	f.write(source, "data/file", random(3, 1<<20))
	lies = 10
	copied = f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusFailed)
	if !strings.Contains(copied.FailureReason, errdefs.ErrCorrupt.Error()) {
		t.Errorf("reason %q", copied.FailureReason)
	}
	if left := f.leftovers(there); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// cramped is a pool that estimates streams to be nothing, and has room for nothing but its reserve.
type cramped struct{ agent.Pool }

func (cramped) Estimate(context.Context, ...agent.SendSpec) (uint64, error) { return 0, nil }

func (cramped) Space(context.Context) (agent.Space, error) {
	return agent.Space{Size: 100 << 20, Free: 10 << 20}, nil
}

// What a peer says of a stream's size is its word; the reserve does not depend on it.
func TestAStreamIsHeldToItsEstimate(t *testing.T) {
	f := newFleet(t, 2, func(f *fleet) {
		f.watch = func(_ string, pool agent.Pool) agent.Pool { return cramped{pool} }
	})
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", random(1, 1<<20))
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusFailed)
	if !strings.Contains(copied.FailureReason, "ran out of space or quota during the transfer") {
		t.Errorf("the reason: %s", copied.FailureReason)
	}
	if left := f.leftovers(there); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// roomy is a pool that estimates streams to be nothing, and has a little room beyond its reserve.
type roomy struct{ cramped }

func (roomy) Space(context.Context) (agent.Space, error) {
	return agent.Space{Size: 100 << 20, Free: 60 << 20}, nil
}

// An estimate that is too low is no failure as long as there is room, and none of it is shown as what is to come.
func TestAStreamMayBeLargerThanItsEstimate(t *testing.T) {
	f := newFleet(t, 2, func(f *fleet) {
		f.watch = func(_ string, pool agent.Pool) agent.Pool { return roomy{cramped{pool}} }
	})
	here, there := f.servers[0], f.servers[1]
	source := f.create(here, "source")
	f.write(source, "data/file", random(1, 1<<20))
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusRunning)
	if moved := copied.LastOperation.Progress; moved.BytesDone < 1<<20 || moved.BytesTotal != moved.BytesDone {
		t.Errorf("%+v", moved)
	}
}

// sealed is a pool that says that it is encrypted.
type sealed struct{ agent.Pool }

func (sealed) Encrypted(context.Context) (bool, error) { return true, nil }

// What is encrypted where it is does not end up in the clear elsewhere unless somebody said that it may.
func TestWhatIsEncryptedIsNotStoredInTheClear(t *testing.T) {
	sealedServer := ""
	f := newFleet(t, 2, func(f *fleet) {
		f.watch = func(server string, pool agent.Pool) agent.Pool {
			if sealedServer == "" || sealedServer == server {
				sealedServer = server
				return sealed{pool}
			}
			return pool
		}
	})
	here, there := f.servers[0], f.servers[1]
	source, open := f.create(here, "source"), f.create(there, "open")
	f.write(source, "data/file", random(1, 1<<20))
	copied := f.settled(f.copy(source, there, agent.CopyRequest{}).ID, store.StatusFailed)
	if !strings.Contains(copied.FailureReason, "in the clear") || copied.LastOperation.Progress.BytesDone > 0 {
		t.Errorf("%+v: reason %q", copied.LastOperation.Progress, copied.FailureReason)
	}
	if left := f.leftovers(there); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	f.settled(f.copy(source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	f.settled(f.copy(open, here, agent.CopyRequest{}).ID, store.StatusRunning)
	there.acceptDecrypted = true
	there.restart()
	f.settled(f.copy(source, there, agent.CopyRequest{Name: "allowed"}).ID, store.StatusRunning)
}
