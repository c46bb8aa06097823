package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestStoreIDStays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	embeddedIn := func(o *Options) { o.Embedded.Dir = dir }
	first := openEmbedded(t, embeddedIn)
	id := first.StoreID()
	if len(id) != 32 {
		t.Errorf("store id %q", id)
	}
	if got := beside(t, first).StoreID(); got != id {
		t.Errorf("a second client reads the id %s, want %s", got, id)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if got := openEmbedded(t, embeddedIn).StoreID(); got != id {
		t.Errorf("after a restart the id is %s, want %s", got, id)
	}
}

func TestSecondProcessIsRefusedAndTakesOverAfterAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kill := startChild(t, dir)
	opts := Options{Embedded: &EmbeddedOptions{Dir: dir}, ServerID: "s1", Instance: "machine-1"}
	if _, err := Open(testContext(t), opts); !errors.Is(err, errdefs.ErrBusy) {
		t.Fatalf("opening a directory in use: %v", err)
	}
	kill()

	s := open(t, opts)
	if _, ok := s.Mirror().Project("p1"); !ok {
		t.Error("the record of the killed process is gone")
	}
	// The dead process's lease still runs: it holds up another host, not this one.
	if alive, _ := s.Mirror().Alive("s1"); !alive {
		t.Error("the killed process's lease ended with it")
	}
	elsewhere := beside(t, s, func(o *Options) { o.Instance = "machine-2" })
	if _, err := elsewhere.Register(testContext(t), Server{ID: "s1"}); !errors.Is(err, errdefs.ErrBusy) {
		t.Errorf("another host registers under a living id: %v", err)
	}
	lease, err := s.Register(testContext(t), Server{ID: "s1"})
	if err != nil {
		t.Fatalf("the same host does not get its id back: %v", err)
	}
	if err := lease.Close(); err != nil {
		t.Error(err)
	}
}

func TestDirectoryWithALongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	s := openEmbedded(t, func(o *Options) { o.Embedded.Dir = dir })
	update(t, s, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1"}) })
	info, err := os.Stat(filepath.Join(dir, "etcd.sock"))
	if err != nil || info.Mode().Type() != os.ModeSocket {
		t.Errorf("the socket is not in the directory: %v, %v", info, err)
	}
	if info, err = os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory's mode is %v, %v", info.Mode(), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	files, _ := certificates(t)
	for name, c := range map[string]struct {
		opts Options
		want error
	}{
		"nothing to open":     {Options{}, errdefs.ErrInvalid},
		"two things to open":  {Options{Endpoints: []string{"x"}, Embedded: &EmbeddedOptions{Dir: "x"}}, errdefs.ErrInvalid},
		"no directory":        {Options{Embedded: &EmbeddedOptions{}}, errdefs.ErrInvalid},
		"listen without TLS":  {Options{Embedded: &EmbeddedOptions{Dir: t.TempDir(), Listen: []string{"https://127.0.0.1:0"}}}, errdefs.ErrInvalid},
		"listen in the clear": {Options{Embedded: &EmbeddedOptions{Dir: t.TempDir(), Listen: []string{"http://127.0.0.1:0"}, TLS: files}}, errdefs.ErrInvalid},
		"nobody there":        {Options{Endpoints: []string{"unix:///nonexistent.sock"}, UpdateTimeout: 1}, errdefs.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := Open(testContext(t), c.opts); !errors.Is(err, c.want) || s != nil {
				t.Errorf("got %v, %v, want %v", s, err, c.want)
			}
		})
	}
}

func TestAgentsShareAnEmbeddedStoreOverTLS(t *testing.T) {
	t.Parallel()
	etcd := newRemote(t)
	one, two := etcd.open(), etcd.open()
	revision := update(t, one, func(tx *Tx) error { return tx.PutProject(Project{ID: "p1", Alias: "shared"}) })
	if err := two.Mirror().waitRevision(testContext(t), revision); err != nil {
		t.Fatal(err)
	}
	if project, ok := two.Mirror().Project("p1"); !ok || project.Alias != "shared" {
		t.Errorf("the second agent has %+v", project)
	}
	// Without a client certificate there is no way in.
	stranger := etcd.client.Clone()
	stranger.Certificates = nil
	_, err := Open(testContext(t), Options{Endpoints: etcd.options.Listen, TLS: stranger, UpdateTimeout: 2e9})
	if !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("a client without a certificate: %v", err)
	}
}

func TestCloseEndsWaits(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	update(t, s, func(tx *Tx) error { return tx.PutJob(Job{ID: "j1", ServerID: "s1", State: JobRunning}) })
	subscription := s.Mirror().Subscribe()
	ended := make(chan error, 2)
	go func() { ended <- s.Mirror().waitRevision(testContext(t), 1<<40) }()
	go func() { _, err := s.WaitJob(testContext(t), "s1", "j1"); ended <- err }()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-ended; !errors.Is(err, errClosed) {
			t.Errorf("a wait ended with %v", err)
		}
	}
	if _, open := <-subscription.Changes(); open {
		t.Error("a subscription delivers after Close")
	}
	subscription.Close()
	if _, err := s.Update(testContext(t), func(*Tx) error { return nil }); err == nil {
		t.Error("updated a closed store")
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
