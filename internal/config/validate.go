package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// FieldError says which key breaks which rule.
type FieldError struct {
	Field string // "api.listen"
	Rule  string // "must be host:port, is \"x\""
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Rule }

// Limits that come from elsewhere.
const (
	noneInStateDir  = "#?%[*"
	maxDirLength    = 80              // a unix socket's whole path has to fit into 107 bytes (unix(7)), and ours have names below these directories
	maxSocketLength = 107             // unix(7)
	maxSnapshots    = 1000            // a history is one bounded value in the store
	minQuota        = 64 << 20        // etcd alone wants that much to start and compact
	maxQuota        = 16 << 30        // far above what etcd advises; a typing error above that
	maxLeeway       = 2 * time.Minute // more would let expired tokens live
	maxDiff         = 10_000_000

	maxUndoSnapshots = 100
	maxUndoExpiry    = 10 * 365 * 24 * time.Hour
)

// Validate checks everything that can be told without touching the host, and returns all *FieldErrors joined.
// CheckFiles looks at the files that the configuration names.
func (c Config) Validate() error {
	var v validator
	v.server(c.Server)
	v.dir("state_dir", c.StateDir)
	if strings.ContainsAny(c.StateDir, noneInStateDir) {
		v.fail("state_dir", "must have none of %s in it, which etcd takes for parts of a URL or of a pattern, is %q", noneInStateDir, c.StateDir)
	}
	v.dir("runtime_dir", c.RuntimeDir)
	v.api(c.API)
	v.auth(c.Auth)
	v.peer(c.Peer)
	v.store(c)
	v.drivers(c.ZFS, c.Incus)
	v.operations(c.Operations)
	v.admin(c.Admin)
	v.optionalAddress("metrics.listen", c.Metrics.Listen)
	inRange(&v, "metrics.max_copies", c.Metrics.MaxCopies, 0, 10_000)
	v.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	v.oneOf("log.format", c.Log.Format, "auto", "json", "console")
	v.distinctListeners(c)
	return errors.Join(v.problems...)
}

type validator struct{ problems []error }

func (v *validator) fail(field, format string, args ...any) {
	v.problems = append(v.problems, &FieldError{Field: field, Rule: fmt.Sprintf(format, args...)})
}

func (v *validator) server(s Server) {
	if s.ID != "" && !serverID.MatchString(s.ID) {
		v.fail("server.id", "must be 24 lower-case hex digits, is %q", s.ID)
	}
	inRange(v, "server.max_containers", s.MaxContainers, 0, 1_000_000)
	inRange(v, "server.max_snapshots", s.MaxSnapshots, 1, maxSnapshots)
}

func (v *validator) api(a API) {
	v.address("api.listen", a.Listen)
	v.optionalAddress("api.advertise", a.Advertise)
	v.pair("api.tls.cert", a.TLS.Cert, "api.tls.key", a.TLS.Key)
	v.paths(map[string]string{"api.tls.cert": a.TLS.Cert, "api.tls.key": a.TLS.Key})
	inRange(v, "api.limits.requests_per_second", a.Limits.RequestsPerSecond, 0, 1_000_000)
	inRange(v, "api.limits.burst", a.Limits.Burst, 1, 1_000_000)
	inRange(v, "api.limits.streams", a.Limits.Streams, 0, 1000)
	if a.TLS.Cert == "" && !a.InsecureHTTP && !isLoopback(a.Listen) {
		v.fail("api.listen", "is plain HTTP on %s, where others could read the tokens: set api.tls, "+
			"listen on loopback, or set api.insecure_http", a.Listen)
	}
}

func (v *validator) auth(a Auth) {
	v.oneOf("auth.algorithm", a.Algorithm, "EdDSA", "RS256", "HS256")
	v.paths(map[string]string{"auth.key_file": a.KeyFile, "auth.jwks_file": a.JWKSFile})
	switch {
	case a.KeyFile != "" && a.JWKSFile != "":
		v.fail("auth.jwks_file", "and auth.key_file exclude each other")
	case a.KeyFile == "" && a.JWKSFile == "" && a.Algorithm != "EdDSA":
		v.fail("auth.key_file", "or auth.jwks_file is needed for %s; a key is made on the first start for EdDSA only", a.Algorithm)
	}
	inRange(v, "auth.leeway", a.Leeway, 0, maxLeeway)
}

// mostPerPeer is how many transfers a session with another agent carries, with two streams each and some room for other requests
// (transfer.DefaultMaxStreams).
const mostPerPeer = 28

func (v *validator) peer(p Peer) {
	v.paths(map[string]string{"peer.credentials": p.Credentials})
	v.required(map[string]string{"peer.credentials": p.Credentials})
	v.optionalAddress("peer.listen", p.Listen)
	if p.Listen != "" {
		v.dialable("peer.advertise", p.Advertise, "peer.listen", p.Listen)
	}
	inRange(v, "peer.max_transfers", p.MaxTransfers, 1, 1000)
	inRange(v, "peer.max_transfers_per_peer", p.MaxTransfersPerPeer, 1, min(mostPerPeer, max(1, p.MaxTransfers)))
	inRange(v, "peer.connections", p.Connections, 1, 8) // transfer.MaxConnections
	inRange(v, "peer.stall_timeout", p.StallTimeout, time.Second, time.Hour)
}

func (v *validator) store(c Config) {
	s := c.Store
	for i, endpoint := range s.Endpoints {
		v.endpoint(fmt.Sprintf("store.endpoints[%d]", i), endpoint)
	}
	v.pair("store.tls.cert", s.TLS.Cert, "store.tls.key", s.TLS.Key)
	v.pair("store.username", s.Username, "store.password_file", s.PasswordFile)
	v.paths(map[string]string{
		"store.tls.ca": s.TLS.CA, "store.tls.cert": s.TLS.Cert, "store.tls.key": s.TLS.Key,
		"store.password_file": s.PasswordFile,
	})
	if len(s.Prefix) < 2 || !strings.HasPrefix(s.Prefix, "/") || !strings.HasSuffix(s.Prefix, "/") {
		v.fail("store.prefix", "must start and end with a slash, is %q", s.Prefix)
	}
	inRange(v, "store.events.retention", s.Events.Retention, time.Hour, 366*24*time.Hour)
	inRange(v, "store.events.max", s.Events.Max, 100, 100_000)
	inRange(v, "store.embedded.quota", s.Embedded.Quota, minQuota, maxQuota)
	v.optionalAddress("store.embedded.listen", s.Embedded.Listen)
	v.bindable("store.embedded.listen", s.Embedded.Listen)
	switch {
	case s.Embedded.Listen != "" && !c.EmbeddedStore():
		v.fail("store.embedded.listen", "and store.endpoints exclude each other")
	case c.Peer.Listen != "" && c.EmbeddedStore() && s.Embedded.Listen == "":
		v.fail("peer.listen", "needs a store that other agents share: set store.endpoints or store.embedded.listen")
	}
}

func (v *validator) endpoint(field, endpoint string) {
	u, err := url.Parse(endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Port() == "" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		v.fail(field, "must be http(s)://host:port, is %q", endpoint)
		return
	}
	if u.User != nil {
		v.fail(field, "must not carry a user: set store.username and store.password_file")
	}
	if u.Scheme == "http" && !isLoopback(u.Host) {
		v.fail(field, "must be https beyond loopback, is %q", endpoint)
	}
}

func (v *validator) drivers(z ZFS, i Incus) {
	if z.Dataset != "" && !datasetName.MatchString(z.Dataset) {
		v.fail("zfs.dataset", "must be a dataset name such as tank/incus, is %q", z.Dataset)
	}
	v.paths(map[string]string{"incus.socket": i.Socket})
	v.required(map[string]string{"incus.socket": i.Socket, "incus.pool": i.Pool})
}

func (v *validator) operations(o Operations) {
	inRange(v, "operations.stop_timeout", o.StopTimeout, time.Second, 20*time.Minute) // less than the runtime driver waits for anything
	inRange(v, "operations.start_timeout", o.StartTimeout, time.Second, time.Hour)
	inRange(v, "operations.shutdown_timeout", o.ShutdownTimeout, time.Second, time.Hour)
	inRange(v, "operations.diff_limit", o.DiffLimit, 1, maxDiff)
	inRange(v, "operations.undo_snapshots", o.UndoSnapshots, 0, maxUndoSnapshots)
	inRange(v, "operations.undo_expiry", o.UndoExpiry, time.Minute, maxUndoExpiry)
}

func (v *validator) admin(a Admin) {
	v.paths(map[string]string{"admin.socket": a.Socket})
	if len(a.Socket) > maxSocketLength {
		v.fail("admin.socket", "must be at most %d bytes long, is %d", maxSocketLength, len(a.Socket))
	}
}

// distinctListeners catches what would otherwise show as "address already in use" at start.
func (v *validator) distinctListeners(c Config) {
	taken := map[string]string{}
	for _, l := range []struct{ field, address string }{
		{"api.listen", c.API.Listen}, {"peer.listen", c.Peer.Listen},
		{"store.embedded.listen", c.Store.Embedded.Listen}, {"metrics.listen", c.Metrics.Listen},
	} {
		if l.address == "" || strings.HasSuffix(l.address, ":0") { // port 0 is a different one each time
			continue
		}
		if other, ok := taken[l.address]; ok {
			v.fail(l.field, "is the address of %s, too: %s", other, l.address)
			continue
		}
		taken[l.address] = l.field
	}
}

func (v *validator) oneOf(field, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		v.fail(field, "must be one of %s, is %q", strings.Join(allowed, ", "), value)
	}
}

func (v *validator) pair(fieldA, a, fieldB, b string) {
	switch {
	case a == "" && b != "":
		v.fail(fieldA, "is needed with %s", fieldB)
	case a != "" && b == "":
		v.fail(fieldB, "is needed with %s", fieldA)
	}
}

func (v *validator) required(values map[string]string) {
	for _, field := range slices.Sorted(maps.Keys(values)) {
		if values[field] == "" {
			v.fail(field, "is needed")
		}
	}
}

// paths are absolute: a service has no working directory worth relying on.
func (v *validator) paths(values map[string]string) {
	for _, field := range slices.Sorted(maps.Keys(values)) {
		if path := values[field]; path != "" && !filepath.IsAbs(path) {
			v.fail(field, "must be an absolute path, is %q", path)
		}
	}
}

func (v *validator) dir(field, path string) {
	switch {
	case !filepath.IsAbs(path) || filepath.Clean(path) == "/":
		v.fail(field, "must be an absolute path below /, is %q", path)
	case len(path) > maxDirLength:
		v.fail(field, "must be at most %d bytes long, so that unix sockets fit below it, is %d", maxDirLength, len(path))
	}
}

func inRange[T cmp.Ordered](v *validator, field string, value, low, high T) {
	if value < low || value > high {
		v.fail(field, "must be between %v and %v, is %v", low, high, value)
	}
}

var (
	serverID    = regexp.MustCompile(`^[0-9a-f]{24}$`)
	datasetName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.:-]*(/[A-Za-z0-9_.:-]+)*$`)
)
