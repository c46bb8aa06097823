package lineage

import (
	"fmt"
	"strings"
)

// agentPrefix starts every snapshot name that the agent gave; such names are unique, all others are somebody else's choice.
const agentPrefix = "hoody-"

// What the agent makes for itself says so in its name, which travels with a snapshot: nothing of a user's is lost with it.
// A name without a suffix may be a user's snapshot, whoever reads it.
const (
	FreezeSuffix = "-freeze" // the state of a source that a copy or sync wants
	MarkerSuffix = "-marker" // a generation as it was checked out
)

// OwnSnapshot tells whether a snapshot's short name says that the agent made it for itself.
func OwnSnapshot(name string) bool { return ownSuffix(name) != "" }

// ownSuffix returns what tells that a snapshot is the agent's own, and nothing for all others.
func ownSuffix(name string) string {
	for _, suffix := range []string{FreezeSuffix, MarkerSuffix} {
		if strings.HasPrefix(name, agentPrefix) && strings.HasSuffix(name, suffix) {
			return suffix
		}
	}
	return ""
}

// maxName is ZFS_MAX_DATASET_NAME_LEN without its terminating zero.
const maxName = 255

// TargetName is the short name that a node's snapshot gets on the target. The agent's own names travel; others give way to
// one that the GUID makes, since a name like "daily" is likely to be taken where it arrives.
func TargetName(n Node) string {
	if strings.HasPrefix(n.Name, agentPrefix) {
		return n.Name
	}
	return fmt.Sprintf("%sg%016x", agentPrefix, uint64(n.GUID))
}

// validDataset tells whether a name can be a dataset below a pool's root.
func validDataset(name string) bool {
	if len(name) > maxName {
		return false
	}
	for component := range strings.SplitSeq(name, "/") {
		if !validComponent(component) {
			return false
		}
	}
	return true
}

// validComponent follows zfs_namecheck.c: letters, digits and "-_.: ", but never "." or "..". A leading dash is legal
// there; here it is refused, since such a word can be read as an option.
func validComponent(name string) bool {
	if name == "" || name == "." || name == ".." || name[0] == '-' || len(name) > maxName {
		return false
	}
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && !strings.ContainsRune("-_.: ", rune(c)) {
			return false
		}
	}
	return true
}

// nameCheck finds names that ZFS would refuse and names that two nodes claim, on the source or on the target.
type nameCheck struct {
	source, target map[string]GUID
}

func newNameCheck(size int) nameCheck {
	return nameCheck{source: make(map[string]GUID, size), target: make(map[string]GUID, size)}
}

// add checks one more node's names.
func (c nameCheck) add(n Node) error {
	full := sourceName(n)
	if !validDataset(n.Dataset) || !validComponent(n.Name) || len(full) > maxName {
		return fmt.Errorf("%q of %s is not a name", full, n.GUID)
	}
	if other, taken := c.source[full]; taken {
		return fmt.Errorf("%s names both %s and %s", full, other, n.GUID)
	}
	c.source[full] = n.GUID
	if n.Bookmark {
		return nil
	}
	// Snapshots of one source dataset may come to lie in one dataset of the target.
	arrived := n.Dataset + "@" + TargetName(n)
	if other, taken := c.target[arrived]; taken {
		return fmt.Errorf("%s and %s would both be called %s", other, n.GUID, TargetName(n))
	}
	c.target[arrived] = n.GUID
	return nil
}
