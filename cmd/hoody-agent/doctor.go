package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/hoodynetwork/hoody-agent/internal/admin"
	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/doctor"
	"github.com/hoodynetwork/hoody-agent/internal/lxc"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
	"github.com/hoodynetwork/hoody-agent/internal/store"
	"github.com/hoodynetwork/hoody-agent/internal/zfs"
)

// checkLimit bounds each check: what hangs is a finding, too.
const checkLimit = 30 * time.Second

func (p *program) doctorCommand() *cobra.Command {
	a := asking{p: p}
	return a.register(&cobra.Command{
		Use:   "doctor",
		Short: "Look for what is wrong with this host, its agent and its neighbours, and say what to do",
		Long: "Look at configuration, ZFS, pool, Incus, certificates, token key, etcd, the other agents in both directions and the\n" +
			"clocks. Nothing is changed. It works without a running agent, too, and then looks at what can be seen without.\n\n" +
			"Exit codes: 0 nothing failed, 5 something did, as printed.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil && !errors.Is(err, errConfig) {
				return err
			}
			findings := p.diagnose(cmd.Context(), client)
			if err := a.show(findings, func(w io.Writer) { printFindings(w, findings) }); err != nil {
				return err
			}
			if doctor.Failed(findings) {
				return errProblem
			}
			return nil
		},
	})
}

// diagnose runs all checks that make sense. client is nil when the configuration does not even say where the agent is.
func (p *program) diagnose(ctx context.Context, client *admin.Client) []doctor.Finding {
	cfg, err := p.checkedConfig()
	findings := doctor.Examine(ctx, checkLimit, doctor.Config(func() error { return err }))
	if client == nil {
		return findings
	}
	serverID, _ := cfg.KnownServerID() // empty before the first start
	seen := &visit{client: client}
	incus := lxc.New(lxc.Options{Socket: cfg.Incus.Socket, Pool: cfg.Incus.Pool, Logger: zap.NewNop()})
	pool := &poolOnSite{dataset: cfg.ZFS.Dataset, incus: incus}
	checks := []doctor.Check{
		doctor.ZFSVersion(pool), doctor.PoolState(pool), doctor.PoolFeatures(pool), doctor.ForeignDatasets(pool),
		doctor.IncusPool(incus, cfg.Incus.Pool, cfg.ZFS.Dataset),
		{Name: "agent", Look: seen.look},
		doctor.TokenKey(func() error { return checkTokenKey(cfg) }),
	}
	if !cfg.EmbeddedStore() {
		checks = append(checks, doctor.Store(strings.Join(cfg.Store.Endpoints, ", "), func(ctx context.Context) (time.Duration, int64, error) { return pingStore(ctx, cfg) }))
	}
	if cfg.NeedsCredentials() && serverID != "" {
		load := func() (doctor.Certificate, error) { return readCertificate(cfg.Peer.Credentials) }
		checks = append(checks, doctor.Certificates(load, serverID, namesIn(cfg.Store.Embedded.Listen), apiNames(cfg), time.Now()))
	}
	findings = append(findings, doctor.Examine(ctx, checkLimit, checks...)...)
	var peers []doctor.Peer
	if seen.status != nil && !cfg.Standalone() {
		if peers, err = meetAll(ctx, client); err != nil {
			findings = append(findings, doctor.Finding{Check: "peers", Level: doctor.Fail, Text: err.Error(), Hint: "journalctl -u hoody-agent"})
		} else {
			findings = append(findings, doctor.Examine(ctx, checkLimit, doctor.Peers(peers))...)
		}
	}
	return append(findings, doctor.Examine(ctx, checkLimit, doctor.Clock(clockIsKept, peers))...)
}

func printFindings(w io.Writer, findings []doctor.Finding) {
	for _, finding := range findings {
		fmt.Fprintf(w, "%-5s %-12s %s\n", finding.Level, finding.Check, oneLine(finding.Text))
		if finding.Level != doctor.OK && finding.Hint != "" {
			fmt.Fprintf(w, "%18s -> %s\n", "", oneLine(finding.Hint))
		}
	}
}

// visit asks the running agent how it is.
type visit struct {
	client *admin.Client
	status *admin.Status // nil when it did not answer
}

func (v *visit) look(ctx context.Context) []doctor.Finding {
	status, err := v.client.Status(ctx)
	if err != nil {
		return []doctor.Finding{{Level: doctor.Fail, Text: err.Error(), Hint: "systemctl status hoody-agent; journalctl -u hoody-agent says why it does not start"}}
	}
	v.status = &status
	var findings []doctor.Finding
	for _, state := range status.Health {
		level := doctor.Warn
		if state.Blocks {
			level = doctor.Fail
		}
		findings = append(findings, doctor.Finding{Level: level, Text: string(state.Code) + ": " + state.Text, Hint: state.Hint})
	}
	if findings == nil {
		findings = []doctor.Finding{{Level: doctor.OK, Text: "runs, " + status.Server.Version + ", nothing degraded"}}
	}
	return findings
}

// poolOnSite is doctor.Pool on this host. The pool is opened when it is first needed: it may be what is wrong.
type poolOnSite struct {
	dataset string // configured; empty: asked from Incus
	incus   doctor.Incus

	once sync.Once
	root string // of the pool, once it was asked for
	pool *zfs.Pool
	err  error
}

func (p *poolOnSite) open(ctx context.Context) (*zfs.Pool, error) {
	p.once.Do(func() {
		p.root = p.dataset
		if p.root == "" {
			if p.root, p.err = p.incus.PoolDataset(ctx); p.err != nil {
				p.err = fmt.Errorf("which dataset it is could not be asked from Incus: %w", p.err)
				return
			}
		}
		p.pool, p.err = zfs.Open(ctx, p.root, zfs.Options{})
	})
	return p.pool, p.err
}

// Root implements doctor.Pool.
func (p *poolOnSite) Root() string { return p.root }

// Versions implements doctor.Pool.
func (p *poolOnSite) Versions(ctx context.Context) (commands, module string, err error) {
	return zfs.Versions(ctx)
}

// State implements doctor.Pool.
func (p *poolOnSite) State(ctx context.Context) (health string, used float64, err error) {
	pool, err := p.open(ctx)
	if err != nil {
		return "", 0, err
	}
	status, err := pool.Status(ctx)
	if err != nil {
		return "", 0, err
	}
	space, err := pool.Space(ctx)
	return status.Health, max(status.Used, admin.Pool{Size: space.Size, Free: space.Free}.Used()), err
}

// Features implements doctor.Pool.
func (p *poolOnSite) Features(ctx context.Context) (map[string]string, error) {
	pool, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	return pool.Features(ctx)
}

// Foreign implements doctor.Pool.
func (p *poolOnSite) Foreign(ctx context.Context) ([]string, error) {
	pool, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	inventory, err := pool.Inventory(ctx)
	return agent.ForeignDatasets(inventory), err
}

func checkTokenKey(cfg config.Config) error {
	if cfg.Auth.KeyFile == "" && cfg.Auth.JWKSFile == "" {
		_, err := readTokenKey(filepath.Join(tokenKeyDir(cfg.StateDir), privateKeyName))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // made at the first start
		}
		return err
	}
	_, err := openVerifier(daemon{cfg: cfg, log: zap.NewNop()})
	return err
}

func pingStore(ctx context.Context, cfg config.Config) (took time.Duration, kept int64, err error) {
	secure, err := clientTLS(cfg.Store.TLS)
	if err != nil {
		return 0, 0, err
	}
	options := store.Options{Endpoints: cfg.Store.Endpoints, TLS: secure, Username: cfg.Store.Username, Prefix: cfg.Store.Prefix}
	if cfg.Store.PasswordFile != "" {
		if options.Password, err = config.ReadSecret(cfg.Store.PasswordFile); err != nil {
			return 0, 0, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	pong, err := store.Ping(ctx, options)
	return pong.Took, pong.Kept, err
}

// readCertificate reads the agent's certificate as it stands in the file, valid or not.
func readCertificate(dir string) (doctor.Certificate, error) {
	file := filepath.Join(dir, pki.AgentFile)
	pair, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		return doctor.Certificate{}, err
	}
	ca, err := os.ReadFile(filepath.Join(dir, pki.CAFile))
	if err != nil {
		return doctor.Certificate{}, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return doctor.Certificate{}, fmt.Errorf("no certificate in %s", filepath.Join(dir, pki.CAFile))
	}
	id, err := pki.Identity(pair.Leaf)
	return doctor.Certificate{Leaf: pair.Leaf, Roots: roots, ServerID: id}, err
}

// apiNames is what clients of the API call this host, when it shows them the agent's certificate.
func apiNames(cfg config.Config) []string {
	if cfg.API.TLS.Cert != filepath.Join(cfg.Peer.Credentials, pki.AgentFile) {
		return nil
	}
	return namesIn(cmp.Or(cfg.API.Advertise, cfg.API.Listen))
}

// namesIn is the host of an address, if others can know this host by it.
func namesIn(address string) []string {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	if err != nil || host == "" || host == "localhost" || strings.Contains(host, "%") || ip.IsUnspecified() || ip.IsLoopback() {
		return nil
	}
	return []string{host}
}

func meetAll(ctx context.Context, client *admin.Client) ([]doctor.Peer, error) {
	meetings, err := client.Meet(ctx)
	if err != nil {
		return nil, err
	}
	peers := make([]doctor.Peer, 0, len(meetings))
	for _, m := range meetings {
		peers = append(peers, doctor.Peer{Name: m.Server.String(), Address: m.Address, There: m.There, Back: m.Back, Skew: m.Skew})
	}
	return peers, nil
}

// clockIsKept asks the kernel whether somebody keeps the clock right.
func clockIsKept() (bool, error) {
	var clock unix.Timex // asks, changes nothing
	state, err := unix.Adjtimex(&clock)
	return state != unix.TIME_ERROR && clock.Status&unix.STA_UNSYNC == 0, err
}
