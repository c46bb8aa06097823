package main

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/health"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/metrics"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// sick is a host of which a test says what is wrong.
type sick struct {
	agent.Pool
	agent.Runtime
	space               agent.Space
	poolErr, runtimeErr error
	stale, alive        bool
	server              store.Server
}

func (s *sick) Space(context.Context) (agent.Space, error)    { return s.space, s.poolErr }
func (s *sick) Check(context.Context) error                   { return s.runtimeErr }
func (s *sick) Stale() (time.Time, bool)                      { return time.Now(), s.stale }
func (s *sick) Alive(string) (alive bool, lastSeen time.Time) { return s.alive, time.Now() }
func (s *sick) Server(string) (*store.Server, bool)           { return &s.server, true }

func TestVitals(t *testing.T) {
	ca, err := pki.NewCA("test", 0)
	if err != nil {
		t.Fatal(err)
	}
	const id = "64c1aa00b2d34e5f60718001"
	certificate := func(age, life time.Duration) *pki.Credentials {
		credentials, err := ca.Credentials(pki.Request{ServerID: id, NotBefore: time.Now().Add(-age), Lifetime: life})
		if err != nil {
			t.Fatal(err)
		}
		return credentials
	}
	etcd := func(condition store.Condition, err error) func(context.Context) (store.Condition, error) {
		return func(context.Context) (store.Condition, error) { return condition, err }
	}
	const day = 24 * time.Hour
	for _, test := range []struct {
		name   string
		change func(v *vitals, s *sick, pool *poolState)
		want   []health.Code
		ready  bool
	}{
		{"well", func(*vitals, *sick, *poolState) {}, nil, true},
		{"store away", func(_ *vitals, s *sick, _ *poolState) { s.stale = true }, []health.Code{health.StoreUnreachable}, false},
		{"store away long enough for the lease", func(_ *vitals, s *sick, _ *poolState) { s.stale, s.alive = true, false }, []health.Code{health.StoreUnreachable}, false},
		{"lease lost", func(_ *vitals, s *sick, _ *poolState) { s.alive = false }, []health.Code{health.LeaseLost}, false},
		{"not registered yet", func(v *vitals, s *sick, _ *poolState) { v.lease, s.alive = false, false }, nil, true},
		{"draining", func(_ *vitals, s *sick, _ *poolState) { s.server.Draining = true }, []health.Code{health.Draining}, true},
		{"records not trusted", func(v *vitals, _ *sick, _ *poolState) {
			v.degraded = func() *agent.Finding { return &agent.Finding{Text: "other store"} }
		}, []health.Code{health.StoreUntrusted}, true},
		{"Incus away", func(_ *vitals, s *sick, _ *poolState) { s.runtimeErr = errdefs.ErrUnavailable }, []health.Code{health.IncusUnreachable}, false},
		{"pool away", func(_ *vitals, s *sick, _ *poolState) { s.poolErr = errors.New("suspended") }, []health.Code{health.PoolUnreachable}, false},
		{"pool suspended", func(_ *vitals, s *sick, p *poolState) {
			s.poolErr, p.health = errors.New("pool I/O is currently suspended"), "SUSPENDED"
		}, []health.Code{health.PoolUnreachable}, false},
		{"things out of order", func(v *vitals, _ *sick, _ *poolState) {
			v.findings = func() []agent.Finding { return make([]agent.Finding, 5) }
		}, []health.Code{health.OutOfOrder}, true},
		{"pool degraded", func(_ *vitals, _ *sick, p *poolState) { p.health = "DEGRADED" }, []health.Code{health.PoolNotOnline}, true},
		{"dataset nearly full", func(_ *vitals, s *sick, _ *poolState) { s.space.Free = 149 }, []health.Code{health.PoolNearlyFull}, true},
		{"pool nearly full", func(_ *vitals, _ *sick, p *poolState) { p.used = 0.86 }, []health.Code{health.PoolNearlyFull}, true},
		{"collection failed", func(v *vitals, _ *sick, _ *poolState) { v.collected(agent.Report{}, errdefs.ErrUnavailable) }, []health.Code{health.GCFailing}, true},
		{"collection works again", func(v *vitals, _ *sick, _ *poolState) {
			v.collected(agent.Report{}, errdefs.ErrUnavailable)
			v.collected(agent.Report{Objects: []lineage.Object{{Name: "hoody/generations/x@y", Verdict: lineage.VerdictRemoved}}}, nil)
		}, nil, true},
		{"dry run failed", func(v *vitals, _ *sick, _ *poolState) {
			v.collected(agent.Report{DryRun: true}, errdefs.ErrUnavailable)
		}, nil, true},
		{"certificate ends", func(v *vitals, _ *sick, _ *poolState) { v.credentials = certificate(77*day, 90*day) }, []health.Code{health.CertificateExpiring}, true},
		{"certificate ended", func(v *vitals, _ *sick, _ *poolState) { v.credentials = certificate(91*day, 90*day) }, []health.Code{health.CertificateExpiring}, true},
		{"etcd nearly full", func(v *vitals, _ *sick, _ *poolState) { v.condition = etcd(store.Condition{Size: 80, Quota: 100}, nil) }, []health.Code{health.StoreDegraded}, true},
		{"etcd of unknown quota", func(v *vitals, _ *sick, _ *poolState) { v.condition = etcd(store.Condition{Size: 80}, nil) }, nil, true},
		{"etcd's alarm", func(v *vitals, _ *sick, _ *poolState) {
			v.condition = etcd(store.Condition{Size: 1, Quota: 100, Alarms: []string{store.AlarmNoSpace}}, nil)
		}, []health.Code{health.StoreDegraded}, true},
		{"etcd does not tell", func(v *vitals, _ *sick, _ *poolState) { v.condition = etcd(store.Condition{}, errdefs.ErrUnavailable) }, nil, true},
		{"short-lived certificate", func(v *vitals, _ *sick, _ *poolState) { v.credentials = certificate(day, 7*day) }, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &sick{space: agent.Space{Size: 1000, Free: 500}, alive: true}
			state := poolState{root: "tank/incus", health: "ONLINE", used: 0.5, fragmentation: 3}
			v := &vitals{
				d: daemon{cfg: config.Default(), serverID: id, metrics: metrics.New(metrics.Build{}, nil)}, mirror: s, lease: true, credentials: certificate(0, 90*day),
				condition: etcd(store.Condition{Size: 79, Quota: 100}, nil),
				degraded:  func() *agent.Finding { return nil },
				findings:  func() []agent.Finding { return nil },
				host:      host{pool: s, runtime: s, poolState: func(context.Context) (poolState, error) { return state, nil }},
			}
			test.change(v, s, &state)
			found := make(map[health.Code]health.Problem)
			for _, check := range v.checks() {
				states := check.Look(t.Context())
				for code, problem := range states {
					if !slices.Contains(check.Codes, code) {
						t.Errorf("%s is not among what the check answers for, it would stay for ever", code)
					}
					if problem.Text == "" || test.want == nil {
						t.Errorf("%s: %+v", code, problem)
					}
				}
				maps.Copy(found, states)
			}
			if s.poolErr != nil && v.lastPool().Health != state.health {
				t.Errorf("the pool is told to be %q, it is %q", v.lastPool().Health, state.health)
			}
			if got := slices.Sorted(maps.Keys(found)); !cmp.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
			for code, problem := range found {
				if problem.Blocks == test.ready {
					t.Errorf("%s blocks %t", code, problem.Blocks)
				}
			}
		})
	}
}

// A certificate that is used towards the store alone is watched as well, whichever file it is in.
func TestTheStoresCertificateIsWatched(t *testing.T) {
	ca, err := pki.NewCA("test", 0)
	if err != nil {
		t.Fatal(err)
	}
	credentials, err := ca.Issue(pki.Request{ServerID: "64c1aa00b2d34e5f60718001"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Peer.Credentials = t.TempDir()
	file := filepath.Join(cfg.Peer.Credentials, pki.AgentFile)
	if err := os.WriteFile(file, credentials, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Store.TLS.Cert, cfg.Store.TLS.Key = file, file
	if found := (&vitals{d: daemon{cfg: cfg}}).certificates(); len(found) != 1 || found["store"].end.IsZero() {
		t.Errorf("%+v", found)
	}
}

// Of several certificates that should have been renewed the one that ends first is spoken of, and none that has time.
func TestTheFirstCertificateToEndIsTold(t *testing.T) {
	now, day := time.Now(), 24*time.Hour
	certificates := map[string]expiry{
		"authority": {end: now.Add(60 * day), lead: 90 * day}, "peer": {end: now.Add(3 * day), lead: 14 * day},
		"api": {end: now.Add(2 * day), lead: day}, "store": {end: now.Add(5 * day), lead: 14 * day},
	}
	if first := firstToRenew(certificates, now); first != "peer" {
		t.Errorf("%q, want peer", first)
	}
	if first := firstToRenew(map[string]expiry{"api": certificates["api"]}, now); first != "" {
		t.Errorf("%q, want none", first)
	}
}

// A certificate should name what clients reach the host by; nobody else reaches it over loopback or a wildcard.
func TestAPINames(t *testing.T) {
	cfg := config.Default()
	agentFile := filepath.Join(cfg.Peer.Credentials, pki.AgentFile)
	for _, test := range []struct {
		listen, advertise, certificate string
		want                           []string
	}{
		{"192.0.2.1:6470", "", "", nil},
		{"192.0.2.1:6470", "", "/etc/ssl/own.pem", nil},
		{"192.0.2.1:6470", "", agentFile, []string{"192.0.2.1"}},
		{"192.0.2.1:6470", "api.example.com:6470", agentFile, []string{"api.example.com"}},
		{"0.0.0.0:6470", "192.0.2.1:443", agentFile, []string{"192.0.2.1"}},
		{"0.0.0.0:6470", "", agentFile, nil},
		{"[::]:6470", "", agentFile, nil},
		{"127.0.0.1:6470", "", agentFile, nil},
		{"localhost:6470", "", agentFile, nil},
		{"[fe80::1%eth0]:6470", "", agentFile, nil},
	} {
		cfg.API.Listen, cfg.API.Advertise, cfg.API.TLS.Cert = test.listen, test.advertise, test.certificate
		if names := apiNames(cfg); !slices.Equal(names, test.want) {
			t.Errorf("%+v: %v", test, names)
		}
	}
}

// A token key that the agent made is looked at, too; before its first start there is none.
func TestDoctorReadsTheTokenKey(t *testing.T) {
	cfg := config.Default()
	cfg.StateDir = t.TempDir()
	if err := checkTokenKey(cfg); err != nil {
		t.Errorf("before the first start: %v", err)
	}
	keys, err := ensureTokenKeys(tokenKeyDir(cfg.StateDir))
	if err != nil {
		t.Fatal(err)
	}
	if err := checkTokenKey(cfg); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(keys.private, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkTokenKey(cfg); err == nil || !strings.Contains(err.Error(), keys.private) {
		t.Errorf("of a damaged key it says %v", err)
	}
}

// Replacing the authority touches every host, so its end is told earlier than that of a certificate it signed.
func TestTheAuthoritysEndIsToldEarly(t *testing.T) {
	ca, err := pki.NewCA("test", 400*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	credentials, err := ca.Credentials(pki.Request{ServerID: "64c1aa00b2d34e5f60718001"})
	if err != nil {
		t.Fatal(err)
	}
	found := (&vitals{credentials: credentials, d: daemon{cfg: config.Default()}}).certificates()
	if len(found) != 2 || found["peer"].lead != renewBefore || found["authority"].lead != renewAuthorityBefore || !found["authority"].end.After(found["peer"].end) {
		t.Errorf("%+v", found)
	}
}

// Collections that are put off every time let garbage grow as failed ones do.
func TestCollectionsThatArePutOffForLong(t *testing.T) {
	v := &vitals{d: daemon{metrics: newMetrics(build{})}}
	began := time.Now()
	failing := func() bool { return len(v.lookAtCollection(t.Context())) > 0 }
	for _, step := range []struct {
		after  time.Duration
		report agent.Report
		err    error
		want   bool
	}{
		{0, agent.Report{}, errdefs.ErrBusy, false},
		{5 * time.Hour, agent.Report{}, errdefs.ErrBusy, false},
		{7 * time.Hour, agent.Report{}, errdefs.ErrBusy, true},
		{8 * time.Hour, agent.Report{}, nil, false},
		{9 * time.Hour, agent.Report{}, errdefs.ErrBusy, false},
		{10 * time.Hour, agent.Report{}, errdefs.ErrInternal, true},
		{11 * time.Hour, agent.Report{ReadOnly: "not trusted"}, nil, false},
	} {
		v.collectedAt(began.Add(step.after), step.report, step.err)
		if failing() != step.want {
			t.Errorf("after %s: failing %t, want %t", step.after, failing(), step.want)
		}
	}
}
