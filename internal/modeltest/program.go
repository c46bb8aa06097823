package modeltest

import (
	"bufio"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Program is a sequence of steps.
type Program []Step

// Step is one or more actions at once and what goes wrong meanwhile. The next step begins when all of it has settled.
type Step struct {
	Actions []Action
	Fault   Fault
}

// Action is one operation. Containers go by names that the program gives them when it makes them, so that a step means the
// same when others are left out.
type Action struct {
	Op        string
	Container string // worked on; a copy's source
	To        string // the copy to be made
	Server    int    // where a container is made or copied to, or whose garbage is collected
	Name      string // of a snapshot or file
	Value     string // of a file; another name of a snapshot
	At        int    // the effect on the disks of a container's server, from the request on, that an interruption waits for
}

// Fault is what goes wrong during a step.
type Fault struct {
	Kind   string // one of the fault… constants; empty for nothing
	Server int    // that crashes
	At     int    // the effect on the server's disks, or the sign of life of the network, that it happens at
}

// The operations. The runtime's own snapshots are made behind the agent's back, as `incus snapshot create` does.
const (
	opCreate          = "create"
	opWrite           = "write"
	opSnapshot        = "snapshot"
	opCopy            = "copy"
	opCopySnapshot    = "copy-snapshot"
	opSync            = "sync"
	opExpiring        = "snapshot-expiring" // a snapshot that goes with the next expire
	opRestore         = "restore"
	opDropSnapshot    = "delete-snapshot"
	opExpire          = "expire" // time passes, until whatever expires has expired
	opDelete          = "delete"
	opCancel          = "cancel"        // the copy or sync that makes or works on a container in the same step
	opDeleteMidway    = "delete-midway" // the container that a copy makes or a sync works on in the same step
	opAlias           = "alias"         // a snapshot's other name
	opNoAlias         = "no-alias"      // takes it away
	opHandSnapshot    = "hand-snapshot" // by `zfs snapshot`, which the agents know nothing of
	opHandDestroy     = "hand-destroy"  // by `zfs destroy`, of a snapshot that a container lists
	opStart           = "start"
	opStop            = "stop"
	opPause           = "pause"
	opResume          = "resume"
	opRuntimeSnapshot = "runtime-snapshot"
	opCollect         = "collect"     // garbage
	opRemember        = "remember"    // the store's records, for old-store
	opOldStore        = "old-store"   // the agents find the store as it was remembered, for a while
	opWrongStore      = "wrong-store" // the agents find another store, for a while
	opRecover         = "recover"     // the store is gone for good, the records are recovered from the pools
)

// The faults.
const (
	faultCrash = "crash" // a server's agent dies and is started again
	faultCut   = "cut"   // connections between servers break
	faultStore = "store" // the store is away for a while
)

// operands are what the words after an operation's name say.
var operands = map[string]string{
	opCreate: "container server", opWrite: "container name value", opSnapshot: "container name",
	opCopy: "container to server", opCopySnapshot: "container to server name", opSync: "container", opDelete: "container",
	opStart: "container", opStop: "container", opPause: "container", opResume: "container", opRuntimeSnapshot: "container name",
	opExpiring: "container name", opRestore: "container name", opDropSnapshot: "container name", opExpire: "",
	opCancel: "container at", opDeleteMidway: "container at", opAlias: "container name value", opNoAlias: "container name",
	opHandSnapshot: "container name", opHandDestroy: "container name", opCollect: "server", opRemember: "", opOldStore: "", opWrongStore: "", opRecover: "",
}

// Operations are all that programs know.
func Operations() []string { return slices.Sorted(maps.Keys(operands)) }

func (a *Action) operand(kind string) (text *string, number *int) {
	switch kind {
	case "container":
		return &a.Container, nil
	case "to":
		return &a.To, nil
	case "name":
		return &a.Name, nil
	case "value":
		return &a.Value, nil
	case "at":
		return nil, &a.At
	default:
		return nil, &a.Server
	}
}

func (a Action) String() string {
	words := []string{a.Op}
	for kind := range strings.FieldsSeq(operands[a.Op]) {
		if text, number := a.operand(kind); text != nil {
			words = append(words, *text)
		} else {
			words = append(words, strconv.Itoa(*number))
		}
	}
	return strings.Join(words, " ")
}

func (f Fault) String() string {
	if f.Kind == faultCrash {
		return fmt.Sprintf("%s %d %d", f.Kind, f.Server, f.At)
	}
	return fmt.Sprintf("%s %d", f.Kind, f.At)
}

func (s Step) String() string {
	actions := make([]string, len(s.Actions))
	for i, action := range s.Actions {
		actions[i] = action.String()
	}
	line := strings.Join(actions, " & ")
	if s.Fault.Kind != "" {
		line += " ! " + s.Fault.String()
	}
	return line
}

func (p Program) String() string {
	var text strings.Builder
	for _, step := range p {
		text.WriteString(step.String() + "\n")
	}
	return text.String()
}

// without is the program but for some of its steps.
func (p Program) without(from, to int) Program {
	return slices.Concat(p[:from], p[to:])
}

// Parse is the inverse of Program.String. Empty lines and what follows a # are passed over.
func Parse(text string) (Program, error) {
	var program Program
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		step, err := parseStep(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		program = append(program, step)
	}
	return program, nil
}

func parseStep(line string) (step Step, err error) {
	actions, fault, faulty := strings.Cut(line, "!")
	for action := range strings.SplitSeq(actions, "&") {
		parsed, err := parseAction(strings.Fields(action))
		if err != nil {
			return step, err
		}
		step.Actions = append(step.Actions, parsed)
	}
	if !faulty {
		return step, nil
	}
	words := strings.Fields(fault)
	switch {
	case len(words) == 3 && words[0] == faultCrash:
		step.Fault.Server, err = strconv.Atoi(words[1])
		if err != nil {
			return step, err
		}
	case len(words) == 2 && (words[0] == faultCut || words[0] == faultStore):
	default:
		return step, fmt.Errorf("no such fault: %q", fault)
	}
	step.Fault.Kind = words[0]
	step.Fault.At, err = strconv.Atoi(words[len(words)-1])
	return step, err
}

func parseAction(words []string) (action Action, err error) {
	if len(words) == 0 {
		return action, fmt.Errorf("an empty action")
	}
	action.Op = words[0]
	kinds, known := operands[action.Op]
	if !known {
		return action, fmt.Errorf("no such operation: %q", action.Op)
	}
	if want := len(strings.Fields(kinds)); len(words)-1 != want {
		return action, fmt.Errorf("%s takes %s", action.Op, kinds)
	}
	for i, kind := range strings.Fields(kinds) {
		text, number := action.operand(kind)
		if text != nil {
			*text = words[i+1]
		} else if *number, err = strconv.Atoi(words[i+1]); err != nil {
			return action, fmt.Errorf("%s of %s: %w", kind, action.Op, err)
		}
	}
	return action, nil
}
