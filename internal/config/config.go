// Package config is the agent's configuration: one YAML file, overrides from the environment, and defaults that make a
// standalone agent out of no file at all.
//
// Secrets are never values in here. The configuration names files, and ReadSecret refuses those that others can read.
package config

import (
	"path/filepath"
	"time"
)

// DefaultPath is where the agent looks for its file when nobody names one. That file may be missing.
const DefaultPath = "/etc/hoody-agent/hoody-agent.yaml"

// Config is the whole configuration. configs/hoody-agent.yaml explains every key to the people who set them.
type Config struct {
	Server     Server     `yaml:"server"`
	StateDir   string     `yaml:"state_dir"`
	RuntimeDir string     `yaml:"runtime_dir"`
	API        API        `yaml:"api"`
	Auth       Auth       `yaml:"auth"`
	Peer       Peer       `yaml:"peer"`
	Store      Store      `yaml:"store"`
	ZFS        ZFS        `yaml:"zfs"`
	Incus      Incus      `yaml:"incus"`
	Operations Operations `yaml:"operations"`
	Admin      Admin      `yaml:"admin"`
	Metrics    Metrics    `yaml:"metrics"`
	Log        Log        `yaml:"log"`
}

// Server is what this host is called and how much it takes.
type Server struct {
	ID            string `yaml:"id"`   // 24 hex digits; empty: made once and kept in the state directory, see ServerID
	Name          string `yaml:"name"` // empty: the host name
	Country       string `yaml:"country"`
	Region        string `yaml:"region"`
	City          string `yaml:"city"`
	Datacenter    string `yaml:"datacenter"`
	MaxContainers int    `yaml:"max_containers"` // 0 = no limit
	MaxSnapshots  int    `yaml:"max_snapshots"`  // per container
}

// API is where the HTTP API is served.
type API struct {
	Listen       string  `yaml:"listen"`
	Advertise    string  `yaml:"advertise"`     // what the server record says; empty: Listen
	InsecureHTTP bool    `yaml:"insecure_http"` // allows plain HTTP beyond loopback
	TLS          KeyPair `yaml:"tls"`
	Limits       Limits  `yaml:"limits"`
}

// Limits are what a client of the API may ask for. Operators are not limited.
type Limits struct {
	RequestsPerSecond int `yaml:"requests_per_second"` // of one token; 0 = no limit
	Burst             int `yaml:"burst"`               // of one token, at once
	Streams           int `yaml:"streams"`             // of events, of one user; 0 = no limit
}

// KeyPair is a certificate and its key, as PEM files. Both or none.
type KeyPair struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Auth is how the API's bearer tokens are checked.
type Auth struct {
	Algorithm string        `yaml:"algorithm"` // EdDSA, RS256 or HS256
	KeyFile   string        `yaml:"key_file"`  // both files empty: a key made once in the state directory
	JWKSFile  string        `yaml:"jwks_file"`
	Issuer    string        `yaml:"issuer"`   // the iss claim wanted; empty: any
	Audience  string        `yaml:"audience"` // an aud claim wanted; empty: any
	Leeway    time.Duration `yaml:"leeway"`
}

// Peer is the traffic between agents. An agent without Listen stands alone.
type Peer struct {
	Listen              string        `yaml:"listen"`
	Advertise           string        `yaml:"advertise"`   // what other agents dial; empty: Listen
	Credentials         string        `yaml:"credentials"` // directory as package pki makes it
	MaxTransfers        int           `yaml:"max_transfers"`
	MaxTransfersPerPeer int           `yaml:"max_transfers_per_peer"`
	Connections         int           `yaml:"connections"`   // of a session with another agent
	SendLimit           Rate          `yaml:"send_limit"`    // of all streams together; 0 = none
	ReceiveLimit        Rate          `yaml:"receive_limit"` // of all streams together; 0 = none
	SendLimitPerPeer    Rate          `yaml:"send_limit_per_peer"`
	ReceiveLimitPerPeer Rate          `yaml:"receive_limit_per_peer"`
	StallTimeout        time.Duration `yaml:"stall_timeout"`
}

// Store is where records and jobs live: an etcd cluster, or one embedded in this process.
type Store struct {
	Endpoints    []string  `yaml:"endpoints"` // empty: embedded
	TLS          ClientTLS `yaml:"tls"`
	Username     string    `yaml:"username"`
	PasswordFile string    `yaml:"password_file"`
	Prefix       string    `yaml:"prefix"`
	Events       Events    `yaml:"events"`
	Embedded     Embedded  `yaml:"embedded"`
}

// Events is how long what happened can be asked for.
type Events struct {
	Retention time.Duration `yaml:"retention"`
	Max       int           `yaml:"max"` // of the whole fleet
}

// ClientTLS is what a client shows and trusts, as PEM files.
type ClientTLS struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Embedded is the etcd inside the agent, used when Store.Endpoints is empty.
type Embedded struct {
	Listen string `yaml:"listen"` // for a second and third host, with the peer credentials; empty: unix socket only
	Quota  Bytes  `yaml:"quota"`  // database size at which etcd stops taking writes
}

// ZFS is which storage is used. The zfs and zpool commands are found in PATH.
type ZFS struct {
	Dataset         string `yaml:"dataset"`          // the Incus pool's dataset; empty: asked from Incus
	IdlePriority    bool   `yaml:"idle_priority"`    // zfs send and receive give way to everybody else
	AcceptDecrypted bool   `yaml:"accept_decrypted"` // containers of encrypted pools are received into one that is not
}

// Incus is how the runtime is reached.
type Incus struct {
	Socket string `yaml:"socket"`
	Pool   string `yaml:"pool"`
}

// Operations is how jobs behave.
type Operations struct {
	StopTimeout           time.Duration `yaml:"stop_timeout"`
	ForceStopAfterTimeout bool          `yaml:"force_stop_after_timeout"`
	StartTimeout          time.Duration `yaml:"start_timeout"`
	ShutdownTimeout       time.Duration `yaml:"shutdown_timeout"`
	DiffLimit             int           `yaml:"diff_limit"`
	UndoSnapshots         int           `yaml:"undo_snapshots"` // per container; 0 = none are kept
	UndoExpiry            time.Duration `yaml:"undo_expiry"`
}

// Admin is the unix socket of the commands for the people who run the agent.
type Admin struct {
	Socket string `yaml:"socket"` // empty: AdminSocketName in the runtime directory
	Group  string `yaml:"group"`  // may use it besides root, if there is such a group
}

// Metrics is where Prometheus scrapes.
type Metrics struct {
	Listen    string `yaml:"listen"`     // empty: not served
	MaxCopies int    `yaml:"max_copies"` // that have series of their own
}

// Log is what is written to standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn or error
	Format string `yaml:"format"` // auto, json or console
}

// Default returns the configuration of a standalone agent.
func Default() Config {
	return Config{
		Server:     Server{MaxSnapshots: 1000},
		StateDir:   "/var/lib/hoody-agent",
		RuntimeDir: "/run/hoody-agent",
		// Not 8443, the usual web port: a host that runs the agent runs Incus, which takes that one.
		API:  API{Listen: "127.0.0.1:6470", Limits: Limits{RequestsPerSecond: 50, Burst: 200, Streams: 20}},
		Auth: Auth{Algorithm: "EdDSA", Leeway: 30 * time.Second},
		Peer: Peer{
			Credentials:         "/etc/hoody-agent/pki",
			MaxTransfers:        4,
			MaxTransfersPerPeer: 2,
			Connections:         1,
			StallTimeout:        time.Minute, // a disk that flushes pauses for half a minute, and the stream with it
		},
		Store: Store{
			Endpoints: []string{},
			Prefix:    "/hoody/v1/",
			Events:    Events{Retention: 7 * 24 * time.Hour, Max: 10_000},
			Embedded:  Embedded{Quota: 2 << 30},
		},
		Incus: Incus{Socket: "/var/lib/incus/unix.socket", Pool: "default"},
		Operations: Operations{
			StopTimeout:           30 * time.Second,
			ForceStopAfterTimeout: true,
			StartTimeout:          time.Minute,
			ShutdownTimeout:       time.Minute,
			DiffLimit:             1000,
			UndoSnapshots:         3,
			UndoExpiry:            7 * 24 * time.Hour,
		},
		Admin:   Admin{Group: "hoody-agent"},
		Metrics: Metrics{Listen: "127.0.0.1:6473", MaxCopies: 200},
		Log:     Log{Level: "info", Format: "auto"},
	}
}

// AdminSocketName is the admin socket's name in the runtime directory.
const AdminSocketName = "admin.sock"

// AdminSocket is the path of the admin socket.
func (c Config) AdminSocket() string {
	if c.Admin.Socket != "" {
		return c.Admin.Socket
	}
	return filepath.Join(c.RuntimeDir, AdminSocketName)
}

// NeedsCredentials tells whether the agent serves others over mutual TLS, and so needs a certificate of the fleet.
func (c Config) NeedsCredentials() bool { return c.Peer.Listen != "" || c.Store.Embedded.Listen != "" }

// Standalone tells whether the agent talks to no other agent.
func (c Config) Standalone() bool { return c.Peer.Listen == "" }

// EmbeddedStore tells whether the agent runs its own etcd.
func (c Config) EmbeddedStore() bool { return len(c.Store.Endpoints) == 0 }
