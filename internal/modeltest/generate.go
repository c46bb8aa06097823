package modeltest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// maxContainers is how many containers a program has at once.
const maxContainers = 20

// generator makes programs. It follows the model, so that most of what it asks for can be done.
type generator struct {
	rand  *rand.Rand
	model *Model
	named int // containers, snapshots and values so far

	doubtful []string // copies that may have been cancelled, and are good for nothing then but to be deleted
}

// Generate makes the program of a seed.
func Generate(seed uint64, steps int) Program {
	g := &generator{rand: rand.New(rand.NewPCG(seed, 1)), model: NewModel()}
	program := make(Program, steps)
	for i := range program {
		program[i] = g.step()
		for _, action := range program[i].Actions {
			if g.model.meaningful(action) && g.model.Outcome(action) == success {
				g.model.Apply(action, Seen{})
			}
		}
	}
	return program
}

// name makes a name that no other thing of the program has.
func (g *generator) name(prefix string) string {
	g.named++
	return fmt.Sprintf("%s%d", prefix, g.named)
}

func (g *generator) chance(percent int) bool { return g.rand.IntN(100) < percent }

func pick[T any](g *generator, from []T) T { return from[g.rand.IntN(len(from))] }

func (g *generator) server() int { return g.rand.IntN(servers) }

func (g *generator) step() Step {
	if len(g.model.containers) == 0 {
		return Step{Actions: []Action{g.create()}}
	}
	if len(g.doubtful) > 0 && g.chance(40) {
		name := g.doubtful[0]
		g.doubtful = g.doubtful[1:]
		if g.model.containers[name] != nil {
			return Step{Actions: []Action{{Op: opDelete, Container: name}}}
		}
	}
	var step Step
	if g.chance(3) {
		return Step{Actions: []Action{g.disaster()}}
	}
	if g.chance(20) {
		step.Actions = g.together()
	} else {
		step.Actions = []Action{g.action()}
	}
	step.Fault = g.fault(step.Actions)
	if len(step.Actions) > 0 && step.Fault.Kind != faultStore && g.chance(25) {
		step.Actions = append(step.Actions, g.interruption(step.Actions)...)
	}
	return step
}

// interruption cancels one of some copies and syncs, or deletes its container, if nothing else reads from that.
func (g *generator) interruption(actions []Action) []Action {
	var transfers []Action
	for _, a := range actions {
		if a.Op == opCopy || a.Op == opCopySnapshot || a.Op == opSync {
			transfers = append(transfers, a)
		}
	}
	if len(transfers) == 0 {
		return nil
	}
	of := pick(g, transfers)
	made := Action{Op: opCancel, Container: of.worksOn(), At: g.rand.IntN(pick(g, []int{2, 10, 40}))}
	read := slices.ContainsFunc(actions, func(a Action) bool {
		c := g.model.containers[a.Container]
		return a.Container == made.Container && a.To != "" || a.Op == opSync && c != nil && c.source == made.Container
	})
	switch {
	case g.chance(30) && !read:
		made.Op = opDeleteMidway
	case of.Op != opSync:
		g.doubtful = append(g.doubtful, made.Container)
	}
	return []Action{made}
}

// fault is what goes wrong during some steps.
func (g *generator) fault(actions []Action) Fault {
	behind := slices.ContainsFunc(actions, func(a Action) bool { return a.behind() })
	asynchronous := !slices.ContainsFunc(actions, func(a Action) bool { return a.Op != opCopy && a.Op != opCopySnapshot && a.Op != opSync })
	switch {
	case behind:
		return Fault{}
	case g.chance(15):
		return Fault{Kind: faultCrash, Server: g.server(), At: g.rand.IntN(pick(g, []int{5, 20, 60}))}
	case asynchronous && g.chance(10):
		return Fault{Kind: faultCut, At: g.rand.IntN(pick(g, []int{3, 12, 40}))}
	case asynchronous && g.chance(1):
		return Fault{Kind: faultStore, At: g.rand.IntN(100)}
	default:
		return Fault{}
	}
}

// disaster is what happens to the store.
func (g *generator) disaster() Action {
	if g.chance(20) {
		return Action{Op: opRecover}
	}
	if !g.model.remembered || g.chance(20) {
		return Action{Op: opRemember}
	}
	return Action{Op: pick(g, []string{opOldStore, opOldStore, opWrongStore})}
}

func (g *generator) create() Action {
	return Action{Op: opCreate, Container: g.name("c"), Server: g.server()}
}

// containers are those of the model that fit, in an order that depends on nothing but the program.
func (g *generator) containers(fit func(*container) bool) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(g.model.containers)) {
		if fit == nil || fit(g.model.containers[name]) {
			names = append(names, name)
		}
	}
	return names
}

// action is one operation, weighted by how much can go wrong with it.
func (g *generator) action() Action {
	if g.chance(4) {
		return g.impossible()
	}
	name := pick(g, g.containers(nil))
	room := len(g.model.containers) < maxContainers
	switch roll := g.rand.IntN(100); {
	case roll < 3 && room:
		return g.create()
	case roll < 30:
		return g.write(name)
	case roll < 41:
		return Action{Op: pick(g, []string{opSnapshot, opSnapshot, opExpiring}), Container: name, Name: g.name("n")}
	case roll < 54 && room:
		return g.copy(name)
	case roll < 69:
		return g.ofSnapshot(opRestore, name)
	case roll < 71:
		return g.ofSnapshot(opDropSnapshot, name)
	case roll < 73:
		a := g.ofSnapshot(pick(g, []string{opAlias, opAlias, opNoAlias}), name)
		if a.Op == opAlias {
			a.Value = g.name("a")
		}
		return a
	case roll < 74:
		return Action{Op: opExpire}
	case roll < 87:
		if copies := g.containers(g.syncable); len(copies) > 0 {
			return Action{Op: opSync, Container: pick(g, copies)}
		}
		return g.write(name)
	case roll < 89:
		return g.byHand(name)
	case roll < 92:
		return g.power(name)
	case roll < 96:
		return Action{Op: opCollect, Server: g.server()}
	case len(g.model.containers) > 2:
		return Action{Op: opDelete, Container: name}
	default:
		return g.write(name)
	}
}

// ofSnapshot is an operation on a snapshot of a container, or of another one if that has none.
func (g *generator) ofSnapshot(op, name string) Action {
	if !g.restorable(g.model.containers[name]) {
		listing := g.containers(g.restorable)
		if len(listing) == 0 {
			return g.write(name)
		}
		name = pick(g, listing)
	}
	return Action{Op: op, Container: name, Name: pick(g, g.model.containers[name].snapshots).name}
}

// byHand is what somebody does behind the agent's back, with the runtime or in the pool.
func (g *generator) byHand(name string) Action {
	switch g.rand.IntN(4) {
	case 0:
		return Action{Op: opHandSnapshot, Container: name, Name: g.name("hand")}
	case 1:
		return g.ofSnapshot(opHandDestroy, name)
	default:
		return Action{Op: opRuntimeSnapshot, Container: name, Name: g.name("h")}
	}
}

func (g *generator) restorable(c *container) bool {
	return len(c.snapshots) > 0 && c.status != store.StatusPaused
}

func (g *generator) write(name string) Action {
	file := fmt.Sprintf("f%d", g.rand.IntN(4))
	if g.chance(10) {
		file = "big"
	}
	return Action{Op: opWrite, Container: name, Name: file, Value: g.name("v")}
}

func (g *generator) copy(name string) Action {
	a := Action{Op: opCopy, Container: name, To: g.name("c"), Server: g.server()}
	if c := g.model.containers[name]; len(c.snapshots) > 0 && g.chance(30) {
		a.Op, a.Name = opCopySnapshot, pick(g, c.snapshots).name
	}
	return a
}

func (g *generator) power(name string) Action {
	switch g.model.containers[name].status {
	case store.StatusRunning:
		return Action{Op: pick(g, []string{opStop, opStop, opPause}), Container: name}
	case store.StatusPaused:
		return Action{Op: opResume, Container: name}
	default:
		return Action{Op: opStart, Container: name}
	}
}

func (g *generator) syncable(c *container) bool {
	return c.source != "" && g.model.containers[c.source] != nil && c.status != store.StatusPaused
}

// impossible is a request that is refused, most of the time.
func (g *generator) impossible() Action {
	names := slices.Concat(g.containers(nil), slices.Sorted(maps.Keys(g.model.gone)))
	name := pick(g, names)
	switch g.rand.IntN(6) {
	case 5:
		return Action{Op: pick(g, []string{opRestore, opDropSnapshot}), Container: name, Name: "none"}
	case 0:
		return Action{Op: opSync, Container: name}
	case 1:
		return Action{Op: opCopySnapshot, Container: name, To: g.name("c"), Server: g.server(), Name: "none"}
	case 2:
		return Action{Op: pick(g, []string{opStart, opStop, opPause, opResume}), Container: name}
	case 3:
		if c := g.model.containers[name]; c != nil {
			if i := slices.IndexFunc(c.snapshots, func(s snapshot) bool { return strings.HasPrefix(s.name, "n") }); i >= 0 {
				return Action{Op: opSnapshot, Container: name, Name: c.snapshots[i].name} // automatic ones have other names in the fleet
			}
		}
		return Action{Op: opSnapshot, Container: name, Name: g.name("n")}
	default:
		if len(g.model.gone) == 0 {
			return Action{Op: opSync, Container: name}
		}
		return Action{Op: opDelete, Container: pick(g, slices.Sorted(maps.Keys(g.model.gone)))}
	}
}

// together are copies and syncs at the same time, of few sources, and now and then the deletion or stop of one of these.
// No container is worked on by two of them, and none that is read from is changed.
func (g *generator) together() (actions []Action) {
	source := pick(g, g.containers(nil))
	read, worked := map[string]bool{source: true}, map[string]bool{}
	for _, name := range g.containers(g.syncable) {
		from := g.model.containers[name].source
		if !read[name] && !worked[from] && g.chance(50) {
			actions = append(actions, Action{Op: opSync, Container: name})
			read[from], worked[name] = true, true
		}
	}
	for range 1 + g.rand.IntN(3) {
		if len(g.model.containers)+len(actions) < maxContainers {
			actions = append(actions, g.copy(source))
		}
	}
	for _, name := range g.containers(nil) {
		if !read[name] && !worked[name] && g.chance(10) && g.restorable(g.model.containers[name]) {
			actions = append(actions, g.ofSnapshot(opRestore, name))
			worked[actions[len(actions)-1].Container] = true
		} else if !read[name] && !worked[name] && g.chance(10) {
			actions = append(actions, Action{Op: opSnapshot, Container: name, Name: g.name("n")})
			worked[name] = true
		}
	}
	if !worked[source] && g.chance(15) && len(g.model.containers) > 3 {
		actions = append(actions, Action{Op: opDelete, Container: source})
	} else if !worked[source] && g.chance(15) && g.restorable(g.model.containers[source]) {
		actions = append(actions, g.ofSnapshot(opDropSnapshot, source))
	} else if !worked[source] && g.chance(15) {
		actions = append(actions, g.power(source))
	}
	if g.chance(30) {
		actions = append(actions, Action{Op: opCollect, Server: g.server()})
	}
	if len(actions) == 0 {
		return []Action{g.write(source)}
	}
	return actions
}
