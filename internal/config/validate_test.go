package config

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config)
		want   string // empty: valid
	}{
		{"server id", func(c *Config) { c.Server.ID = "64C1" }, `server.id: must be 24 lower-case hex digits, is "64C1"`},
		{"snapshots", func(c *Config) { c.Server.MaxSnapshots = 1001 }, "server.max_snapshots: must be between 1 and 1000, is 1001"},
		{"containers", func(c *Config) { c.Server.MaxContainers = -1 }, "server.max_containers: must be between 0 and 1000000, is -1"},
		{"relative dir", func(c *Config) { c.StateDir = "state" }, `state_dir: must be an absolute path below /, is "state"`},
		{"root dir", func(c *Config) { c.RuntimeDir = "//" }, `runtime_dir: must be an absolute path below /, is "//"`},
		{"deep dir", func(c *Config) { c.StateDir = "/" + strings.Repeat("a", 80) }, "state_dir: must be at most 80 bytes long, so that unix sockets fit below it, is 81"},

		{"api listen", func(c *Config) { c.API.Listen = "here" }, "api.listen: must be host:port, is \"here\"\n" +
			"api.listen: is plain HTTP on here, where others could read the tokens: set api.tls, listen on loopback, or set api.insecure_http"},
		{"plain http", func(c *Config) { c.API.Listen = ":80" }, "api.listen: is plain HTTP on :80, where others could read the tokens: set api.tls, listen on loopback, or set api.insecure_http"},
		{"plain http on purpose", func(c *Config) { c.API.Listen, c.API.InsecureHTTP = ":80", true }, ""},
		{"plain http on ::1", func(c *Config) { c.API.Listen = "[::1]:80" }, ""},
		{"https", func(c *Config) { c.API.Listen, c.API.TLS = ":443", KeyPair{"/c", "/k"} }, ""},
		{"cert alone", func(c *Config) { c.API.TLS.Cert = "/c" }, "api.tls.key: is needed with api.tls.cert"},
		{"key alone", func(c *Config) { c.API.TLS.Key = "/k" }, "api.tls.cert: is needed with api.tls.key"},
		{"relative cert", func(c *Config) { c.API.TLS = KeyPair{"c", "/k"} }, `api.tls.cert: must be an absolute path, is "c"`},

		{"algorithm", func(c *Config) { c.Auth.Algorithm = "none" }, "auth.algorithm: must be one of EdDSA, RS256, HS256, is \"none\"\n" +
			"auth.key_file: or auth.jwks_file is needed for none; a key is made on the first start for EdDSA only"},
		{"hs256 without key", func(c *Config) { c.Auth.Algorithm = "HS256" }, "auth.key_file: or auth.jwks_file is needed for HS256; a key is made on the first start for EdDSA only"},
		{"two key sources", func(c *Config) { c.Auth.KeyFile, c.Auth.JWKSFile = "/a", "/b" }, "auth.jwks_file: and auth.key_file exclude each other"},
		{"leeway", func(c *Config) { c.Auth.Leeway = time.Hour }, "auth.leeway: must be between 0s and 2m0s, is 1h0m0s"},

		{"fleet", fleet, ""},
		{"no place for credentials", func(c *Config) { fleet(c); c.Peer.Credentials = "" }, "peer.credentials: is needed"},
		{"wildcard advertised", func(c *Config) { fleet(c); c.Peer.Listen = "0.0.0.0:6471" },
			`peer.advertise: must be an address that other hosts can dial; peer.listen is "0.0.0.0:6471"`},
		{"advertised port", func(c *Config) { fleet(c); c.Peer.Advertise = "10.0.0.1:647100" }, `peer.advertise: must be host:port, is "10.0.0.1:647100"`},
		{"two ports", func(c *Config) { fleet(c); c.Peer.Listen = "[192.0.2.2:6470]:6471" }, `peer.listen: must be host:port, is "[192.0.2.2:6470]:6471"`},
		{"wildcard with a name", func(c *Config) { fleet(c); c.Peer.Listen, c.Peer.Advertise = ":6471", "a.example:6471" }, ""},
		{"peers without a shared store", func(c *Config) { fleet(c); c.Store.Endpoints = nil },
			"peer.listen: needs a store that other agents share: set store.endpoints or store.embedded.listen"},
		{"first of two hosts", func(c *Config) { fleet(c); c.Store.Endpoints, c.Store.Embedded.Listen = nil, "10.0.0.1:6472" }, ""},
		{"first of two hosts by name", func(c *Config) { fleet(c); c.Store.Endpoints, c.Store.Embedded.Listen = nil, "a.example:6472" },
			`store.embedded.listen: must name its host by IP address, is "a.example:6472"`},
		{"first of two hosts anywhere", func(c *Config) { fleet(c); c.Store.Endpoints, c.Store.Embedded.Listen = nil, ":6472" },
			`store.embedded.listen: must name its host by IP address, is ":6472"`},
		{"two stores", func(c *Config) { fleet(c); c.Store.Embedded.Listen = "10.0.0.1:6472" },
			"store.embedded.listen: and store.endpoints exclude each other"},
		{"more per peer than a session carries", func(c *Config) { c.Peer.MaxTransfers, c.Peer.MaxTransfersPerPeer = 100, 29 }, "peer.max_transfers_per_peer: must be between 1 and 28, is 29"},
		{"per peer above all", func(c *Config) { c.Peer.MaxTransfersPerPeer = 5 }, "peer.max_transfers_per_peer: must be between 1 and 4, is 5"},
		{"stall", func(c *Config) { c.Peer.StallTimeout = 0 }, "peer.stall_timeout: must be between 1s and 1h0m0s, is 0s"},

		{"endpoint", func(c *Config) { c.Store.Endpoints = []string{"https://a:1", "b:2"} }, `store.endpoints[1]: must be http(s)://host:port, is "b:2"`},
		{"plain endpoint", func(c *Config) { c.Store.Endpoints = []string{"http://127.0.0.1:1", "http://b:2"} }, `store.endpoints[1]: must be https beyond loopback, is "http://b:2"`},
		{"user in endpoint", func(c *Config) { c.Store.Endpoints = []string{"https://u:p@a:1"} }, "store.endpoints[0]: must not carry a user: set store.username and store.password_file"},
		{"user without password", func(c *Config) { c.Store.Username = "u" }, "store.password_file: is needed with store.username"},
		{"prefix", func(c *Config) { c.Store.Prefix = "/" }, `store.prefix: must start and end with a slash, is "/"`},
		{"quota", func(c *Config) { c.Store.Embedded.Quota = 5 }, "store.embedded.quota: must be between 64MiB and 16GiB, is 5"},

		{"undo snapshots", func(c *Config) { c.Operations.UndoSnapshots = 101 }, "operations.undo_snapshots: must be between 0 and 100, is 101"},
		{"no undo snapshots", func(c *Config) { c.Operations.UndoSnapshots = 0 }, ""},
		{"undo expiry", func(c *Config) { c.Operations.UndoExpiry = 0 }, "operations.undo_expiry: must be between 1m0s and 87600h0m0s, is 0s"},

		{"state directory with a URL's fragment", func(c *Config) { c.StateDir = "/srv/a#b" },
			`state_dir: must have none of #?%[* in it, which etcd takes for parts of a URL or of a pattern, is "/srv/a#b"`},
		{"state directory with spaces", func(c *Config) { c.StateDir = "/srv/a b" }, ""},
		{"dataset", func(c *Config) { c.ZFS.Dataset = "tank/a@b" }, `zfs.dataset: must be a dataset name such as tank/incus, is "tank/a@b"`},
		{"incus", func(c *Config) { c.Incus.Pool = "" }, "incus.pool: is needed"},
		{"admin socket", func(c *Config) { c.Admin.Socket = "admin.sock" }, `admin.socket: must be an absolute path, is "admin.sock"`},
		{"long admin socket", func(c *Config) { c.Admin.Socket = "/" + strings.Repeat("a", 107) }, "admin.socket: must be at most 107 bytes long, is 108"},
		{"same address", func(c *Config) { c.Metrics.Listen = c.API.Listen }, "metrics.listen: is the address of api.listen, too: 127.0.0.1:6470"},
		{"any port twice", func(c *Config) { c.Metrics.Listen, c.API.Listen = "127.0.0.1:0", "127.0.0.1:0" }, ""},
		{"no metrics", func(c *Config) { c.Metrics.Listen = "" }, ""},
		{"log", func(c *Config) { c.Log = Log{"loud", "xml"} }, "log.level: must be one of debug, info, warn, error, is \"loud\"\n" +
			`log.format: must be one of auto, json, console, is "xml"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := Default()
			test.change(&c)
			got := ""
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

func fleet(c *Config) {
	c.Peer.Listen = "10.0.0.1:6471"
	c.Store.Endpoints = []string{"https://10.0.0.9:2379"}
}

func TestFieldErrorIsFound(t *testing.T) {
	c := Default()
	c.Log.Level = "loud"
	var fieldError *FieldError
	if err := c.Validate(); !errors.As(err, &fieldError) || fieldError.Field != "log.level" {
		t.Errorf("%v: no FieldError of log.level in it", err)
	}
}
