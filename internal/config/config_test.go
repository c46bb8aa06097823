package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const examplePath = "../../configs/hoody-agent.yaml"

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

func TestNoFileIsStandalone(t *testing.T) {
	got, err := Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got); diff != "" {
		t.Error(diff)
	}
	if !got.Standalone() || !got.EmbeddedStore() {
		t.Errorf("standalone %t, embedded store %t; want both", got.Standalone(), got.EmbeddedStore())
	}
}

func TestExampleHoldsEveryDefault(t *testing.T) {
	text, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	// Decoded over nothing, so that a key with another value, or none, cannot hide behind the default.
	var got Config
	seen, err := decode(examplePath, text, &got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got); diff != "" {
		t.Errorf("the example differs from the defaults (-default +example):\n%s", diff)
	}
	var all []string
	for _, f := range fields(&got) {
		all = append(all, f.path)
	}
	if diff := cmp.Diff(all, seen); diff != "" {
		t.Errorf("keys of the example, in the structs' order (-want +got):\n%s", diff)
	}
}

func TestYAMLRoundTrip(t *testing.T) {
	want := Default()
	want.Peer.SendLimit = 100 << 20
	want.Store.Embedded.Quota = 12345678901
	want.Store.Endpoints = []string{"https://10.0.0.1:2379", "https://10.0.0.2:2379"}
	want.Server.ID = "640000000000000000000e12" // reads as a number unless quoted
	text, err := want.YAML()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(write(t, string(text)), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\n%s", diff, text)
	}
}

func TestLoadFile(t *testing.T) {
	path := write(t, `
server:
  id: 640000000000000000000e12
  name: 17
  max_snapshots: 20
peer:
  # everything commented out
operations: {stop_timeout: 2m, force_stop_after_timeout: false}
store:
  endpoints:
    - https://10.0.0.1:2379
    - "https://10.0.0.2:2379"
  embedded:
    quota: 1.5GB
`)
	want := Default()
	want.Server.ID = "640000000000000000000e12"
	want.Server.Name = "17"
	want.Server.MaxSnapshots = 20
	want.Operations.StopTimeout = 2 * time.Minute
	want.Operations.ForceStopAfterTimeout = false
	want.Store.Endpoints = []string{"https://10.0.0.1:2379", "https://10.0.0.2:2379"}
	want.Store.Embedded.Quota = 1_500_000_000
	got, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyFiles(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n"} {
		got, err := Load(write(t, text), nil)
		if err != nil || !reflect.DeepEqual(got, Default()) {
			t.Errorf("%q: %+v, %v; want the defaults", text, got, err)
		}
	}
}

func TestLoadProblems(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"unknown key", "api:\n  lisen: :1\n", "FILE:2: api.lisen: unknown key; known here: listen, advertise, insecure_http, tls, limits"},
		{"unknown section", "\nfoo: 1\n", "FILE:2: foo: unknown key; known here: server, state_dir, runtime_dir, api, auth, peer, store, zfs, incus, operations, admin, metrics, log"},
		{"value for a section", "api: 5\n", "FILE:1: api: must be a section with keys: listen, advertise, insecure_http, tls, limits"},
		{"section for a value", "state_dir:\n  a: b\n", `FILE:2: state_dir: must be a single plain value ("" for none)`},
		{"no value", "log:\n  level:\n", `FILE:2: log.level: must be a single plain value ("" for none)`},
		{"duplicate key", "log:\n  level: info\n  level: warn\n", `FILE:3: mapping key "level" already defined at [2:3]`},
		{"duplicate section", "log:\n  level: info\napi: {}\nlog:\n  format: json\n", `FILE:4: mapping key "log" already defined at [1:1]`},
		{"not a list", "store:\n  endpoints: a\n", "FILE:2: store.endpoints: must be a list ([] for none)"},
		{"nested list", "store:\n  endpoints: [[a]]\n", "FILE:2: store.endpoints: must be a list of single plain values"},
		{"number", "server:\n  max_containers: many\n", `FILE:2: server.max_containers: must be a whole number, is "many"`},
		{"bool", "api:\n  insecure_http: yes\n", `FILE:2: api.insecure_http: must be true or false, is "yes"`},
		{"duration", "auth:\n  leeway: 30\n", `FILE:2: auth.leeway: must be a duration such as 30s or 1h30m, is "30"`},
		{"rate", "peer:\n  send_limit: 5MiB\n", `FILE:2: peer.send_limit: must be a rate such as 100MiB/s or 1Gbit/s, or 0 for no limit, is "5MiB"`},
		{"size", "store:\n  embedded:\n    quota: -1\n", `FILE:3: store.embedded.quota: must be a size such as 512MiB, is "-1"`},
		{"alias", "server:\n  name: &n x\n", `FILE:2: server.name: must be a single plain value ("" for none)`},
		{"two documents", "log: {}\n---\nlog: {}\n", "FILE:3: there must be one document only"},
		{"not a mapping", "- a\n", "FILE:1: must be a section with keys: server, state_dir, runtime_dir, api, auth, peer, store, zfs, incus, operations, admin, metrics, log"},
		{"all at once", "api:\n  a: 1\nauth:\n  leeway: x\nlog:\n  level: loud\n",
			"FILE:2: api.a: unknown key; known here: listen, advertise, insecure_http, tls, limits\n" +
				`FILE:4: auth.leeway: must be a duration such as 30s or 1h30m, is "x"` + "\n" +
				`log.level: must be one of debug, info, warn, error, is "loud"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, test.text)
			_, err := Load(path, nil)
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(test.want, strings.ReplaceAll(err.Error(), path, "FILE")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMissingFileIsAnError(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want not exist", err)
	}
}

func TestEnvironment(t *testing.T) {
	path := write(t, "log: {level: debug}\n")
	got, err := Load(path, []string{
		"HOODY_LOG_LEVEL=warn", "HOODY_STATE_DIR=/srv/state", "HOODY_STORE_EMBEDDED_QUOTA=1GiB",
		"HOODY_STORE_ENDPOINTS=https://a:1, https://b:2,", "HOODY_PEER_SEND_LIMIT=1Gbit/s",
		"HOODY_KIT=other program's", "HOODY_APIARY=5", "PATH=/bin", "HOODY_SERVER_NAME=a=b",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Log.Level = "warn"
	want.StateDir = "/srv/state"
	want.Store.Embedded.Quota = 1 << 30
	want.Store.Endpoints = []string{"https://a:1", "https://b:2"}
	want.Peer.SendLimit = 125_000_000
	want.Server.Name = "a=b"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironmentProblems(t *testing.T) {
	_, err := Load("", []string{"HOODY_API_LISTN=x", "HOODY_AUTH_LEEWAY=long", "HOODY_SERVER_MAX_SNAPSHOTS=0"})
	want := "environment: HOODY_API_LISTN: names no key of the configuration\n" +
		`environment: HOODY_AUTH_LEEWAY: must be a duration such as 30s or 1h30m, is "long"` + "\n" +
		"server.max_snapshots: must be between 1 and 1000, is 0"
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

// A key is "a.b_c" in the file and HOODY_A_B_C in the environment; two keys must not meet there.
func TestFieldsAreDistinctAndSettable(t *testing.T) {
	cfg := Default()
	var names []string
	for _, f := range fields(&cfg) {
		if slices.Contains(names, f.env()) {
			t.Errorf("%s is the variable of two keys", f.env())
		}
		names = append(names, f.env())
		if strings.Contains(f.path, "..") || strings.HasSuffix(f.path, ".") {
			t.Errorf("%q: a field has no yaml tag", f.path)
		}
		if err := f.set("1"); err != nil && strings.Contains(err.Error(), "no text can set") {
			t.Errorf("%s: %v", f.path, err)
		}
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
