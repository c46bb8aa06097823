package doctor

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
)

const (
	serverID = "64c1aa00b2d34e5f60718001"
	otherID  = "64c1aa00b2d34e5f60718002"
)

// patient is a host of which a test says what is wrong with it.
type patient struct {
	commands, module string
	zfs              error
	health           string
	used             float64
	features         map[string]string
	foreign          []string

	incus         error
	countsHistory bool
	dataset       string // that Incus has

	configured string // zfs.dataset
	store      error
	took       time.Duration
	past       int64
	token      error
	config     error
	cert       Certificate
	certErr    error
	names      []string // of the store
	apiNames   []string
	now        time.Time
	kept       bool
	peers      []Peer
}

func (p *patient) Root() string { return "tank/incus" }
func (p *patient) Versions(context.Context) (commands, module string, err error) {
	return p.commands, p.module, p.zfs
}
func (p *patient) State(context.Context) (string, float64, error)        { return p.health, p.used, p.zfs }
func (p *patient) Features(context.Context) (map[string]string, error)   { return p.features, p.zfs }
func (p *patient) Foreign(context.Context) ([]string, error)             { return p.foreign, p.zfs }
func (p *patient) Check(context.Context) error                           { return p.incus }
func (p *patient) CountsHistory(context.Context) (bool, error)           { return p.countsHistory, nil }
func (p *patient) PoolDataset(context.Context) (dataset string, _ error) { return p.dataset, nil }

func (p *patient) examine(t *testing.T) []Finding {
	return Examine(t.Context(), time.Minute,
		Config(func() error { return p.config }), ZFSVersion(p), PoolState(p), PoolFeatures(p), ForeignDatasets(p),
		IncusPool(p, "default", p.configured), TokenKey(func() error { return p.token }),
		Certificates(func() (Certificate, error) { return p.cert, p.certErr }, serverID, p.names, p.apiNames, p.now),
		Store("etcd", func(context.Context) (time.Duration, int64, error) { return p.took, p.past, p.store }), Peers(p.peers),
		Clock(func() (bool, error) { return p.kept, nil }, p.peers),
	)
}

// issued is a certificate as the fleet's authority issues it, and the authority that a host trusts.
func issued(t *testing.T, signer, trusted *pki.CA, request pki.Request) Certificate {
	t.Helper()
	bundle, err := signer.Issue(request)
	if err != nil {
		t.Fatal(err)
	}
	_, rest := pem.Decode(bundle)
	block, _ := pem.Decode(rest)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trusted.CertificatePEM())
	id, err := pki.Identity(leaf)
	if err != nil {
		t.Fatal(err)
	}
	return Certificate{Leaf: leaf, Roots: roots, ServerID: id}
}

func healthy(t *testing.T, ca *pki.CA) *patient {
	features := map[string]string{}
	for _, name := range append(usefulFeatures, neededFeatures...) {
		features[name] = "active"
	}
	return &patient{
		commands: "zfs-2.3.9-1", module: "zfs-kmod-2.3.9-1", health: "ONLINE", used: 0.3, features: features,
		dataset: "tank/incus", now: time.Now(), kept: true, names: []string{"192.0.2.1"},
		cert:  issued(t, ca, ca, pki.Request{ServerID: serverID, Names: []string{"192.0.2.1"}}),
		peers: []Peer{{Name: "b", Address: "192.0.2.2:6471", Skew: 100 * time.Millisecond}},
	}
}

func newCA(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA("test", 0)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestAHealthyHost(t *testing.T) {
	findings := healthy(t, newCA(t)).examine(t)
	if len(findings) != 11 || Failed(findings) {
		t.Errorf("%d findings", len(findings))
	}
	for _, finding := range findings {
		if finding.Level != OK || finding.Text == "" || finding.Hint != "" {
			t.Errorf("%+v", finding)
		}
	}
}

// Each planted fault is found by the check that it belongs to, and by no other; and it is said what to do.
func TestPlantedFaults(t *testing.T) {
	ca, stranger := newCA(t), newCA(t)
	const day = 24 * time.Hour
	away := errdefs.New(errdefs.ErrUnavailable, "", "connection refused")
	for _, test := range []struct {
		name  string
		plant func(p *patient)
		check string
		level Level
		text  string
		hint  string
	}{
		{"wrong pool", func(p *patient) { p.configured = "tank/other" }, "incus", Fail, "zfs.dataset is tank/other, but Incus keeps its instances in tank/incus", "tank/incus"},
		{"wrong pool of Incus", func(p *patient) { p.incus = errdefs.ErrNotFound }, "incus", Fail, "no such storage pool", "incus storage list"},
		{"limits that count history", func(p *patient) { p.countsHistory = true }, "incus", Warn, "size limits", "use_refquota=true"},
		{"Incus down", func(p *patient) { p.incus = away }, "incus", Fail, "does not answer", "systemctl status incus"},
		{"Incus not for us", func(p *patient) { p.incus = errdefs.ErrPermissionDenied }, "incus", Fail, "does not let us", "incus-admin"},
		{"expired certificate", func(p *patient) { p.now = p.now.Add(91 * day) }, "certificate", Fail, "it expired at", "pki issue --ca ./ca --out ./new --server " + serverID + " --name 192.0.2.1"},
		{"certificate about to expire", func(p *patient) { p.now = p.now.Add(80 * day) }, "certificate", Warn, "it expires in 10 days", "pki issue --ca ./ca --out ./new --server " + serverID + " --name 192.0.2.1"},
		{"certificate of tomorrow", func(p *patient) { p.now = p.now.Add(-day) }, "certificate", Fail, "not valid before", "clock"},
		{"another's certificate", func(p *patient) { p.cert = issued(t, ca, ca, pki.Request{ServerID: otherID}) }, "certificate", Fail, "it is server " + otherID + "'s", "--server " + serverID},
		{"another authority", func(p *patient) {
			p.cert = issued(t, stranger, ca, pki.Request{ServerID: serverID, Names: []string{"192.0.2.1"}})
		}, "certificate", Fail, "did not sign it", "pki issue --ca ./ca --out ./new --server " + serverID},
		{"name of the API not in the certificate", func(p *patient) { p.apiNames = []string{"api.example.com"} }, "certificate", Warn, "api.example.com", "--name api.example.com"},
		{"name not in the certificate", func(p *patient) { p.names = []string{"192.0.2.9"} }, "certificate", Fail, "192.0.2.9", "--name 192.0.2.9"},
		{"no certificate", func(p *patient) { p.certErr = errors.New("no such file") }, "certificate", Fail, "no such file", "pki issue"},
		{"clock off", func(p *patient) { p.peers[0].Skew = -time.Minute }, "clock", Fail, "b is -1m0s off", "NTP"},
		{"clock a little off", func(p *patient) { p.peers[0].Skew = 3 * time.Second }, "clock", Warn, "b is 3s off", "NTP"},
		{"clock not kept", func(p *patient) { p.kept = false }, "clock", Warn, "nobody keeps the clock right", "NTP"},
		{"clock of no use to compare with", func(p *patient) { p.peers = nil }, "clock", OK, "none to compare it with", ""},
		{"peer unreachable", func(p *patient) { p.peers[0].There, p.peers[0].Skew = "timeout", time.Hour }, "peers", Fail, "b cannot be reached: timeout", "192.0.2.2:6471"},
		{"unreachable for a peer", func(p *patient) { p.peers[0].Back = "timeout" }, "peers", Fail, "b cannot reach this server: timeout", "peer.advertise"},
		{"missing feature", func(p *patient) { p.features["large_blocks"] = "disabled" }, "features", Fail, "lacks large_blocks: streams cannot be received", "zpool upgrade tank,"},
		{"missing useful feature", func(p *patient) { delete(p.features, "zstd_compress") }, "features", Warn, "lacks zstd_compress", "zpool upgrade tank,"},
		{"full pool", func(p *patient) { p.used = 0.96 }, "pool", Fail, "96 % full", "gc --apply"},
		{"nearly full pool", func(p *patient) { p.used = 0.85 }, "pool", Warn, "85 % full", "gc --apply"},
		{"degraded pool", func(p *patient) { p.health = "DEGRADED" }, "pool", Warn, "DEGRADED", "zpool status"},
		{"suspended pool", func(p *patient) { p.health = "SUSPENDED" }, "pool", Fail, "SUSPENDED", "zpool status"},
		{"wrong token key", func(p *patient) { p.token = errors.New("RSA key where Ed25519 is needed") }, "token key", Fail, "RSA key", "auth.key_file"},
		{"etcd too old", func(p *patient) { p.store = fmt.Errorf("etcd is 3.4.23: %w", errdefs.ErrUnsupported) }, "etcd", Fail, "3.4.23", "update it"},
		{"etcd keeps everything", func(p *patient) { p.past = 250_000 }, "etcd", Warn, "250000", "auto-compaction-retention"},
		{"etcd slow", func(p *patient) { p.took = 2 * time.Second }, "etcd", Warn, "takes 2s", "disk"},
		{"etcd down", func(p *patient) { p.store = away }, "etcd", Fail, "does not answer: connection refused", "start it"},
		{"foreign dataset", func(p *patient) { p.foreign = []string{"hoody/backup"} }, "datasets", Warn, "not the agent's: hoody/backup", "zfs rename tank/incus/hoody/backup tank/backup"},
		{"old zfs", func(p *patient) { p.module, p.commands = "zfs-kmod-2.0.3-9", "zfs-2.0.3-9" }, "zfs", Fail, "too old", "OpenZFS 2.2"},
		{"half an upgrade", func(p *patient) { p.commands = "zfs-2.4.0-1" }, "zfs", Warn, "different versions", "reboot"},
		{"wrong configuration", func(p *patient) { p.config = errors.New("api.listen: must be host:port") }, "config", Fail, "api.listen", "config check"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := healthy(t, ca)
			p.features = maps.Clone(p.features)
			test.plant(p)
			for _, finding := range p.examine(t) {
				if finding.Check != test.check {
					if finding.Level != OK {
						t.Errorf("found by another check, too: %+v", finding)
					}
					continue
				}
				if finding.Level != test.level || !strings.Contains(finding.Text, test.text) || !strings.Contains(finding.Hint, test.hint) {
					t.Errorf("%+v, want %s with %q and %q", finding, test.level, test.text, test.hint)
				}
			}
		})
	}
}

func TestNoZFS(t *testing.T) {
	p := healthy(t, newCA(t))
	p.zfs = errors.New("zfs: not found")
	failed := 0
	for _, finding := range p.examine(t) {
		if finding.Level == Fail {
			failed++
		}
	}
	if failed != 4 {
		t.Errorf("%d failures, want one of each check that asks ZFS", failed)
	}
}
