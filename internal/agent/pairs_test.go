package agent_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// pairDocument has the table that TestOperationPairs checks.
const pairDocument = "../../docs/api.md"

// pair is a container with one operation under way that is held open.
type pair struct {
	*fleet
	source, copied store.Container
	snapshot       string          // of the container that the second operation is asked of
	target         store.Container // that one
	release        func()
}

// firsts are the operations that are held open, each at a moment that shows what it holds.
var firsts = []struct {
	name  string
	hold  string // the effect that waits
	on    func(p *pair) store.Container
	begin func(p *pair) error // returns when it is accepted, or runs beside
	held  func(p *pair) error // what is done to it while it is held
}{
	{"restart", "stop:before", source, func(p *pair) error {
		go func() { _, _ = p.servers[0].agent.Operate(p.ctx, caller, p.source.ID, agent.OperationRestart, 0) }()
		return nil
	}, nil},
	{"snapshot", "snapshot:before", source, func(p *pair) error {
		go func() {
			_, _ = p.servers[0].agent.CreateSnapshot(p.ctx, caller, p.source.ID, agent.CreateSnapshotRequest{})
		}()
		return nil
	}, nil},
	{"restore", "clone:before", source, func(p *pair) error {
		go func() { _, _ = p.servers[0].agent.RestoreSnapshot(p.ctx, caller, p.source.ID, "before") }()
		return nil
	}, nil},
	{"delete", "rename:before", source, func(p *pair) error {
		go func() { _ = p.servers[0].agent.DeleteContainer(p.ctx, caller, p.source.ID) }()
		return nil
	}, nil},
	{"sync of it", "clone:before", copied, func(p *pair) error {
		return second(p.servers[0].agent.Sync(p.ctx, caller, p.copied.ID))
	}, nil},
	{"sync of it, cancelled", "clone:before", copied, func(p *pair) error {
		return second(p.servers[0].agent.Sync(p.ctx, caller, p.copied.ID))
	}, func(p *pair) error { return p.servers[0].agent.CancelOperation(p.ctx, caller, p.copied.ID) }},
	{"copy that makes it", "clone:before", func(p *pair) store.Container { return p.target }, func(p *pair) error {
		made, err := p.servers[0].agent.Copy(p.ctx, caller, p.source.ID, agent.CopyRequest{TargetProjectID: p.project.ID})
		p.target = made.View.Container
		return err
	}, nil},
	{"copy or sync from it, not frozen yet", "snapshot:before", source, func(p *pair) error {
		return second(p.servers[0].agent.Sync(p.ctx, caller, p.copied.ID))
	}, nil},
	{"copy or sync from it, frozen", "clone:before", source, func(p *pair) error {
		return second(p.servers[0].agent.Sync(p.ctx, caller, p.copied.ID))
	}, nil},
}

func source(p *pair) store.Container { return p.source }
func copied(p *pair) store.Container { return p.copied }

// seconds are the operations that are asked for meanwhile. What ends the container comes last.
var seconds = []struct {
	name string
	do   func(p *pair, a *agent.Agent) error
}{
	{"read", func(p *pair, a *agent.Agent) error { return second(a.Container(p.ctx, caller, p.target.ID)) }},
	{"change", func(p *pair, a *agent.Agent) error {
		return second(a.UpdateContainer(p.ctx, caller, p.target.ID, agent.UpdateContainerRequest{SetComment: true}))
	}},
	{"copy", func(p *pair, a *agent.Agent) error {
		return second(a.Copy(p.ctx, caller, p.target.ID, agent.CopyRequest{TargetProjectID: p.project.ID}))
	}},
	{"sync", func(p *pair, a *agent.Agent) error { return second(a.Sync(p.ctx, caller, p.target.ID)) }},
	{"snapshot", func(p *pair, a *agent.Agent) error {
		return second(a.CreateSnapshot(p.ctx, caller, p.target.ID, agent.CreateSnapshotRequest{}))
	}},
	{"rename snapshot", func(p *pair, a *agent.Agent) error {
		return second(a.RenameSnapshot(p.ctx, caller, p.target.ID, p.snapshot, nil))
	}},
	{"restore", func(p *pair, a *agent.Agent) error {
		return second(a.RestoreSnapshot(p.ctx, caller, p.target.ID, p.snapshot))
	}},
	{"delete snapshot", func(p *pair, a *agent.Agent) error {
		return second(a.DeleteSnapshot(p.ctx, caller, p.target.ID, p.snapshot))
	}},
	{"restart", func(p *pair, a *agent.Agent) error {
		return second(a.Operate(p.ctx, caller, p.target.ID, agent.OperationRestart, 0))
	}},
	{"cancel", func(p *pair, a *agent.Agent) error { return a.CancelOperation(p.ctx, caller, p.target.ID) }},
	{"delete", func(p *pair, a *agent.Agent) error { return a.DeleteContainer(p.ctx, caller, p.target.ID) }},
}

// begun makes a source with a snapshot and a copy of it, and holds an operation open.
func begun(t *testing.T, i int) *pair {
	p := &pair{fleet: newFleet(t, 1)}
	here, first := p.servers[0], firsts[i]
	p.source = p.create(here, "source")
	p.must(second(here.agent.CreateSnapshot(p.ctx, caller, p.source.ID, agent.CreateSnapshotRequest{Alias: new("before")})))
	p.snapshot = "before"
	p.copied = p.settled(p.copy(p.source, here, agent.CopyRequest{}).ID, store.StatusRunning)
	p.write(p.source, "data/new", []byte("new"))

	held, gate := make(chan struct{}), make(chan struct{})
	var taken atomic.Bool // a sync.Once would hold up those that come after
	here.setFault(func(op, _ string) error {
		if op == first.hold && taken.CompareAndSwap(false, true) {
			close(held)
			<-gate
		}
		return nil
	})
	var open sync.Once
	p.release = func() { open.Do(func() { close(gate) }) }
	t.Cleanup(p.release)
	p.must(first.begin(p))
	select {
	case <-held:
	case <-p.ctx.Done():
		t.Fatalf("%s never came to %s", first.name, first.hold)
	}
	if first.held != nil {
		p.must(first.held(p))
	}
	p.catchUp()
	p.target = first.on(p)
	return p
}

// refusals are the codes of the table, as it calls them.
var refusals = map[string]string{
	"CONTAINER_OPERATION_IN_PROGRESS": "busy",
	"SNAPSHOT_OPERATION_IN_PROGRESS":  "snapshots busy",
	"OPERATION_STATE_CONFLICT":        "state",
	"RESOURCE_IN_USE":                 "in use",
	"container_finalizing":            "finalizing",
	"CONTAINER_NOT_COPIED":            "no copy",
}

// Every pair of operations on one container, and on a source and its copy: the second is done at once or refused with a code,
// never left waiting for the first. The table in the documentation is what this finds.
func TestOperationPairs(t *testing.T) {
	t.Parallel()
	var table strings.Builder
	table.WriteString("| under way | ")
	for _, next := range seconds {
		table.WriteString(next.name + " | ")
	}
	fmt.Fprintf(&table, "\n|%s\n", strings.Repeat(" --- |", len(seconds)+1))
	for i, first := range firsts {
		p := begun(t, i)
		fmt.Fprintf(&table, "| %s | ", first.name)
		for _, next := range seconds {
			cell := "yes"
			if (next.name == "cancel" || next.name == "delete") && slices.Contains([]string{"sync of it", "sync of it, cancelled", "copy that makes it"}, first.name) {
				cell = "cancels it"
				if next.name == "delete" {
					p.release() // it waits for what it cancels to let go
				}
			}
			if err := next.do(p, p.servers[0].agent); err != nil {
				if cell = refusals[code(err)]; cell == "" {
					t.Errorf("%s during %s: %v", next.name, first.name, err)
				}
			}
			fmt.Fprintf(&table, "%s | ", cell)
		}
		table.WriteString("\n")
		p.release()
	}
	written := strings.ReplaceAll(table.String(), " \n", "\n")
	document, err := os.ReadFile(pairDocument)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(document), written) {
		t.Errorf("%s does not have this table:\n%s", pairDocument, written)
	}
}
