package agent

import (
	"slices"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/identity"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// keyFor returns the container's public key: the caller's, or a fresh pair whose private half goes to the caller alone.
func keyFor(given, comment string) (public, private string, err error) {
	if given != "" {
		return given, "", nil
	}
	return identity.NewUserKey(comment)
}

// withLateKeys adds to a copy's inherited keys those that the source was given between the request and the freeze.
func withLateKeys(keys []string, job store.Job) []string {
	keys = slices.Clone(keys)
	for _, key := range job.LateKeys {
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// inheritedKeys are the keys that may be in a copy's files and are not the copy's: the source's and what the source inherited. The order
// counts: Job.KnownKeys is a length of this list, which grows at its end only while a freeze is pending.
func inheritedKeys(source store.Container) []string {
	keys := slices.Clone(source.InheritedKeys)
	if source.SSHPublicKey == "" || slices.Contains(keys, source.SSHPublicKey) {
		return keys
	}
	if bare := withoutComment(source.SSHPublicKey); !slices.Contains(keys, bare) {
		keys = append(keys, bare)
	}
	return keys
}

// withoutComment is a key as it is remembered: who has had many, with long comments, must not fill the record.
func withoutComment(key string) string {
	fields := strings.Fields(key)
	return strings.Join(fields[:min(2, len(fields))], " ")
}
