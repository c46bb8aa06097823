package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/admin"
	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/health"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// poolState is how a pool as a whole is; what the stand-in has nothing of is left out.
type poolState struct {
	root          string
	health        string  // ONLINE, …
	used          float64 // part that is allocated
	fragmentation int     // percent; -1 for not known
}

// mirror is what is read of the store's mirror.
type mirror interface {
	Stale() (since time.Time, stale bool)
	Alive(serverID string) (alive bool, lastSeen time.Time)
	Server(id string) (*store.Server, bool)
}

// vitals looks after what the agent depends on: store, pool, Incus and certificates. Its checks feed the health registry,
// and what they see on the way the metrics and the admin socket.
type vitals struct {
	d           daemon
	host        host
	mirror      mirror
	condition   func(context.Context) (store.Condition, error)
	degraded    func() *agent.Finding
	findings    func() []agent.Finding // degraded first, if it is
	credentials *pki.Credentials       // nil for an agent that needs none

	mu             sync.Mutex
	pool           admin.Pool
	etcd           store.Condition // zero while it does not answer
	gc             error           // how the last garbage collection ended
	lastCollection time.Time       // or the first attempt
	lease          bool            // has been held
}

const (
	// nearlyFull is from where ZFS gets slow and a large receive may not fit any more.
	nearlyFull = 0.85
	// databaseNearlyFull is the part of etcd's quota from where somebody should look after it.
	databaseNearlyFull = 0.8
	// renewAuthorityBefore is how long before its end an authority should have been replaced: every host is touched for that.
	renewAuthorityBefore = 90 * 24 * time.Hour
	// renewBefore is how long before its end a certificate should have been renewed; of one that lives shorter, a third of its life.
	renewBefore = 14 * 24 * time.Hour
)

func (v *vitals) checks() []health.Check {
	return []health.Check{
		{Every: 3 * time.Second, Limit: 3 * time.Second, Look: v.lookAtStore,
			Codes: []health.Code{health.StoreUnreachable, health.LeaseLost, health.Draining, health.StoreUntrusted, health.OutOfOrder}},
		{Every: 30 * time.Second, Limit: 15 * time.Second, Look: v.lookAtDatabase, Codes: []health.Code{health.StoreDegraded}},
		{Every: 15 * time.Second, Limit: 10 * time.Second, Look: v.lookAtIncus, Codes: []health.Code{health.IncusUnreachable}},
		{Every: 30 * time.Second, Limit: 20 * time.Second, Look: v.lookAtPool,
			Codes: []health.Code{health.PoolUnreachable, health.PoolNotOnline, health.PoolNearlyFull}},
		{Every: 10 * time.Second, Limit: time.Second, Look: v.lookAtCollection, Codes: []health.Code{health.GCFailing}},
		{Every: time.Minute, Limit: 10 * time.Second, Look: v.lookAtCertificates, Codes: []health.Code{health.CertificateExpiring}},
	}
}

func (v *vitals) lookAtStore(context.Context) map[health.Code]health.Problem {
	found := make(map[health.Code]health.Problem)
	since, stale := v.mirror.Stale()
	alive, _ := v.mirror.Alive(v.d.serverID)
	server, registered := v.mirror.Server(v.d.serverID)
	v.mu.Lock()
	v.lease = v.lease || alive
	held := v.lease
	v.mu.Unlock()
	if stale {
		found[health.StoreUnreachable] = health.Problem{Blocks: true,
			Text: fmt.Sprintf("etcd has not answered since %s: reads are as old, changes are refused", since.UTC().Format(time.RFC3339)),
			Hint: "start etcd, or mend the network to it; containers and running streams go on meanwhile",
		}
	} else if held && !alive {
		found[health.LeaseLost] = health.Problem{Blocks: true,
			Text: "the lease that shows this server as alive has run out; other agents refuse requests for it",
			Hint: "the agent takes a new one by itself; when that does not happen, look for a stalled host or another host with the same server id",
		}
	}
	if registered && server.Draining {
		found[health.Draining] = health.Problem{Text: "the server takes no new containers", Hint: "hoody-agent drain --off"}
	}
	if finding := v.degraded(); finding != nil {
		found[health.StoreUntrusted] = health.Problem{Text: finding.Text, Hint: finding.Hint}
	} else if findings := v.findings(); len(findings) > 0 { // while the records are not trusted, all looks out of order
		found[health.OutOfOrder] = outOfOrder(findings)
	}
	return found
}

// lookAtDatabase leaves it to lookAtStore to say that etcd does not answer.
func (v *vitals) lookAtDatabase(ctx context.Context) map[health.Code]health.Problem {
	etcd, err := v.condition(ctx)
	v.mu.Lock()
	v.etcd = etcd
	v.mu.Unlock()
	if err != nil {
		return nil
	}
	hint := "compact and defragment it (etcdctl compact, defrag), and lift the alarm after that (etcdctl alarm disarm), or raise its quota"
	if v.d.cfg.EmbeddedStore() {
		hint = "raise store.embedded.quota and restart the agent; it compacts by itself"
	}
	if slices.Contains(etcd.Alarms, store.AlarmCorrupt) {
		hint = "its members disagree or its data is damaged: look at its log before anything else, and keep a backup"
	}
	if len(etcd.Alarms) > 0 {
		return map[health.Code]health.Problem{health.StoreDegraded: {
			Text: "etcd has raised the alarm " + strings.Join(etcd.Alarms, ", ") + ": it takes no writes", Hint: hint,
		}}
	}
	if etcd.Quota > 0 && float64(etcd.Size) >= databaseNearlyFull*float64(etcd.Quota) {
		return map[health.Code]health.Problem{health.StoreDegraded: {
			Text: fmt.Sprintf("etcd's database has used %d %% of its quota; full, it takes no writes", 100*etcd.Size/etcd.Quota), Hint: hint,
		}}
	}
	return nil
}

// outOfOrder sums up what happened to instances and datasets behind the agent's back; `hoody-agent findings` has each whole.
func outOfOrder(findings []agent.Finding) health.Problem {
	const shown = 3
	text := findings[0].Text
	for _, finding := range findings[1:min(shown, len(findings))] {
		text += "; " + finding.Text
	}
	if more := len(findings) - shown; more > 0 {
		text += fmt.Sprintf("; and %d more: hoody-agent findings", more)
	}
	return health.Problem{Text: text, Hint: findings[0].Hint}
}

func (v *vitals) lookAtIncus(ctx context.Context) map[health.Code]health.Problem {
	err := v.host.runtime.Check(ctx)
	if err == nil {
		return nil
	}
	return map[health.Code]health.Problem{health.IncusUnreachable: {Blocks: true,
		Text: err.Error(), Hint: "systemctl status incus; most operations fail and are undone if it stays away for more than some 20 s",
	}}
}

func (v *vitals) lookAtPool(ctx context.Context) map[health.Code]health.Problem {
	// A suspended pool still says that it is; its datasets do not answer.
	state, err := v.host.poolState(ctx)
	seen := admin.Pool{Root: state.root, Health: state.health, Fragmentation: state.fragmentation}
	var space agent.Space
	if err == nil {
		space, err = v.host.pool.Space(ctx)
		seen.Size, seen.Free = space.Size, space.Free
	}
	v.mu.Lock()
	v.pool = seen
	v.mu.Unlock()
	if err != nil {
		text := err.Error()
		if state.health != "" && state.health != "ONLINE" {
			text = "the pool is " + state.health + ": " + text
		}
		return map[health.Code]health.Problem{health.PoolUnreachable: {Blocks: true,
			Text: text, Hint: "zpool status; a suspended pool goes on after zpool clear",
		}}
	}
	found := make(map[health.Code]health.Problem)
	if state.health != "ONLINE" {
		found[health.PoolNotOnline] = health.Problem{Text: "the pool is " + state.health, Hint: "zpool status -x says what to replace"}
	}
	if used := max(seen.Used(), state.used); used >= nearlyFull {
		found[health.PoolNearlyFull] = health.Problem{
			Text: fmt.Sprintf("the pool is %.0f %% full", 100*used),
			Hint: "delete containers and snapshots and run hoody-agent gc --apply, add disks, or keep new containers off: hoody-agent drain",
		}
	}
	return found
}

func (v *vitals) lookAtCertificates(context.Context) map[health.Code]health.Problem {
	certificates := v.certificates()
	first := firstToRenew(certificates, time.Now())
	if first == "" {
		return nil
	}
	return map[health.Code]health.Problem{health.CertificateExpiring: {
		Text: fmt.Sprintf("the %s certificate ends at %s", first, certificates[first].end.UTC().Format(time.RFC3339)), Hint: certificates[first].hint,
	}}
}

// firstToRenew names the certificate that ends first of those that should have been renewed by now; empty for none.
func firstToRenew(certificates map[string]expiry, now time.Time) (first string) {
	for _, name := range slices.Sorted(maps.Keys(certificates)) {
		certificate := certificates[name]
		if certificate.end.Sub(now) < certificate.lead && (first == "" || certificate.end.Before(certificates[first].end)) {
			first = name
		}
	}
	return first
}

// putOffTooLong is for how long collections may be put off one after the other: garbage grows meanwhile.
const putOffTooLong = 6 * time.Hour

// collected takes note of a garbage collection.
func (v *vitals) collected(report agent.Report, err error) {
	v.collectedAt(time.Now(), report, err)
}

func (v *vitals) collectedAt(now time.Time, report agent.Report, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lastCollection.IsZero() {
		v.lastCollection = now
	}
	switch {
	case report.DryRun:
		return
	case err == nil && report.ReadOnly != "":
		v.gc, v.lastCollection = nil, now // another state says why it is
		return
	case errors.Is(err, errdefs.ErrBusy): // put off, not failed
		if since := now.Sub(v.lastCollection); since > putOffTooLong {
			v.gc = fmt.Errorf("put off for %s by operations: %w", since.Round(time.Minute), err)
		}
		return
	}
	if err == nil {
		v.lastCollection = now
	}
	removed := make(map[string]int)
	if err == nil {
		for _, object := range report.Objects {
			if object.Verdict == lineage.VerdictRemoved {
				removed[sortOf(object.Name)]++
			}
		}
	}
	v.d.metrics.Collected(removed, report.Freed, err)
	v.gc = err
}

// sortOf tells datasets, snapshots and bookmarks apart by name.
func sortOf(object string) string {
	switch {
	case strings.Contains(object, "@"):
		return "snapshot"
	case strings.Contains(object, "#"):
		return "bookmark"
	default:
		return "dataset"
	}
}

func (v *vitals) lookAtCollection(context.Context) map[health.Code]health.Problem {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.gc == nil {
		return nil
	}
	return map[health.Code]health.Problem{health.GCFailing: {
		Text: "the last garbage collection failed: " + v.gc.Error(), Hint: "hoody-agent gc shows what is in its way; space of what was deleted is not returned meanwhile",
	}}
}

// expiry is when a certificate that is in use ends, and what to do before.
type expiry struct {
	end  time.Time
	lead time.Duration // how long before its end it should have been renewed
	hint string
}

// renewable is a certificate that is valid from start to end; one that lives shorter than usual has a third of its life as lead.
func renewable(start, end time.Time, lead time.Duration, hint string) expiry {
	return expiry{end: end, lead: min(lead, end.Sub(start)/3), hint: hint}
}

// certificates are the ones in use, by what they are for.
func (v *vitals) certificates() map[string]expiry {
	found := make(map[string]expiry)
	if v.credentials != nil {
		start, end := v.credentials.Validity()
		found["peer"] = renewable(start, end, renewBefore, "renew it; hoody-agent doctor on this host says with which command")
		if start, end := v.credentials.AuthorityValidity(); !end.IsZero() {
			found["authority"] = renewable(start, end, renewAuthorityBefore, "replace the fleet's authority, and with it every certificate that it signed")
		}
	}
	files := map[string]config.KeyPair{"api": v.d.cfg.API.TLS}
	if secure := v.d.cfg.Store.TLS; v.credentials == nil || secure.Cert != filepath.Join(v.d.cfg.Peer.Credentials, pki.AgentFile) {
		files["store"] = config.KeyPair{Cert: secure.Cert, Key: secure.Key}
	}
	for name, pair := range files {
		if pair.Cert == "" {
			continue
		}
		if loaded, err := tls.LoadX509KeyPair(pair.Cert, pair.Key); err == nil && loaded.Leaf != nil {
			found[name] = renewable(loaded.Leaf.NotBefore, loaded.Leaf.NotAfter, renewBefore, "renew it where it comes from; the agent takes the new file up by itself")
		}
	}
	return found
}

// lastCondition is what was last heard of etcd; zero when it did not answer.
func (v *vitals) lastCondition() store.Condition {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.etcd
}

// lastPool is what was last heard of the pool.
func (v *vitals) lastPool() admin.Pool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.pool
}
