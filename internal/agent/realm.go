package agent

import "slices"

// A realm is a namespace: a request that is made in one sees and makes only what belongs to it. Realms are not made; one is
// there as soon as a project or a container names it.

// sees tells whether what belongs to the given realms can be seen in the caller's realm.
func (c Caller) sees(realms []string) bool { return inRealm(c.RealmID, realms) }

// withRealm adds the caller's realm to those of what he makes.
func (c Caller) withRealm(realms []string) []string {
	if c.sees(realms) {
		return realms
	}
	return append(realms[:len(realms):len(realms)], c.RealmID)
}

func inRealm(wanted string, realms []string) bool {
	return wanted == "" || slices.Contains(realms, wanted)
}
