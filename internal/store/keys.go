package store

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Kind names a sort of record. Its text is the record's place below the store's prefix.
type Kind string

// The kinds. Subscribe delivers the first seven.
const (
	KindServer    Kind = "servers"    // servers/<id>
	KindProject   Kind = "projects"   // projects/<id>
	KindContainer Kind = "containers" // containers/<id>
	KindHistory   Kind = "histories"  // histories/<container id>
	KindJob       Kind = "jobs"       // jobs/<server>/<id>
	KindUser      Kind = "users"      // users/<id>
	KindEvent     Kind = "events"     // events/<id>

	kindJobHistory Kind = "jobhistories" // jobhistories/<server>/<id>: the bulky part of a job, see codec.go
	kindUnique     Kind = "unique"       // unique/<kind>/<scope>/<value>: the owner's id
	kindAlive      Kind = "alive"        // alive/<server>, under a lease
	kindMeta       Kind = "meta"         // meta/store_id
	kindReceipt    Kind = "receipts"     // receipts/<user>/<digest of route and key>, under a lease; not in the mirror
	kindStamp      Kind = "stamps"       // stamps/<server>: how far its pool has been stamped; not in the mirror
	kindTombstone  Kind = "tombstones"   // tombstones/<container id>: deletions on purpose; read where they are true, not in the mirror
)

// noun is how messages call one record of the kind.
func (k Kind) noun() string {
	switch k {
	case KindHistory:
		return "snapshot history of container"
	case kindJobHistory:
		return "history of job"
	default:
		return strings.TrimSuffix(string(k), "s")
	}
}

// UniqueKind says what a unique key is for; the scope is what it is unique within.
type UniqueKind string

// The unique keys.
const (
	UniqueProjectAlias  UniqueKind = "project-alias"  // scope: user id; owner: project id
	UniqueContainerName UniqueKind = "container-name" // scope: project id; owner: container id
	UniqueSSHKey        UniqueKind = "ssh-key"        // scope: "" (the whole store); value: fingerprint; owner: container id
)

// keyspace builds keys below a prefix that ends in a slash.
type keyspace string

func (k keyspace) kind(kind Kind) string              { return string(k) + string(kind) + "/" }
func (k keyspace) record(kind Kind, id string) string { return k.kind(kind) + id }
func (k keyspace) storeID() string                    { return k.kind(kindMeta) + "store_id" }

// unique escapes scope and value: both are a user's text and may hold slashes.
func (k keyspace) unique(kind UniqueKind, scope, value string) string {
	return k.kind(kindUnique) + uniqueName(kind, scope, value)
}

func uniqueName(kind UniqueKind, scope, value string) string {
	return string(kind) + "/" + url.PathEscape(scope) + "/" + url.PathEscape(value)
}

// split is the inverse of record: the kind and what follows it. ok is false for a key that is not below the prefix.
func (k keyspace) split(key string) (kind Kind, rest string, ok bool) {
	below, ok := strings.CutPrefix(key, string(k))
	if !ok {
		return "", "", false
	}
	head, rest, ok := strings.Cut(below, "/")
	return Kind(head), rest, ok
}

// jobPath is a job's place below its kind: a server's jobs are one range.
func jobPath(server, id string) string { return server + "/" + id }

// checkID refuses identifiers that would end up elsewhere in the key space.
func checkID(kind Kind, id string) error {
	if id == "" || strings.ContainsRune(id, '/') {
		return fmt.Errorf("%s id %q: %w", kind.noun(), id, errdefs.ErrInvalid)
	}
	return nil
}

func notFound(kind Kind, id string) error {
	return errdefs.New(errdefs.ErrNotFound, "", "%s %s does not exist", kind.noun(), id)
}
