package embedded

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// etcd starts it once per process and never ends it.
		goleak.IgnoreAnyFunction("go.etcd.io/etcd/client/pkg/v3/logutil.(*MergeLogger).outputLoop"))
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestOneProcessPerDirectory(t *testing.T) {
	t.Parallel()
	opts := Options{Dir: filepath.Join(t.TempDir(), "made", "here")}
	core, logs := observer.New(zap.DebugLevel)
	first, err := Start(testContext(t), opts, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(opts.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory's mode is %v, %v", info.Mode(), err)
	}
	if _, err := Start(testContext(t), opts, nil); !errors.Is(err, errdefs.ErrBusy) {
		t.Errorf("a second member on the directory: %v", err)
	}
	first.Close()
	first.Close()
	for _, entry := range logs.All() {
		t.Errorf("a run without incident logs %s: %s", entry.Level, entry.Message)
	}
	second, err := Start(testContext(t), opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

// A client that watches and never goes away does not hold up Close, it is told.
func TestCloseEndsStreams(t *testing.T) {
	t.Parallel()
	server, err := Start(testContext(t), Options{Dir: t.TempDir()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	watch := client.Watch(testContext(t), "key", clientv3.WithCreatedNotify())
	if created := <-watch; !created.Created {
		t.Fatalf("no watch: %+v", created)
	}
	server.Close()
	if ended := <-watch; ended.Err() == nil {
		t.Errorf("the watch goes on: %+v", ended)
	}
}

// Whatever moment of its first start a member is ended in, the next start works.
func TestStartAfterOneThatWasCutOff(t *testing.T) {
	t.Parallel()
	for range 5 {
		ctx, cancel := context.WithCancel(testContext(t))
		cancel()
		opts := Options{Dir: t.TempDir()}
		if _, err := Start(ctx, opts, nil); !errors.Is(err, errdefs.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Fatalf("started under a cancelled context: %v", err)
		}
		server, err := Start(testContext(t), opts, nil)
		if err != nil {
			t.Fatalf("after a start that was cut off: %v", err)
		}
		server.Close()
	}
}

// A log that is made but empty is what the unluckiest of those moments leaves.
func TestUnbornMemberIsDiscarded(t *testing.T) {
	t.Parallel()
	opts := Options{Dir: t.TempDir()}
	log, err := wal.Create(zap.NewNop(), filepath.Join(dataDir(opts), "member", "wal"), []byte("whoever"))
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	server, err := Start(testContext(t), opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	server.Close()

	if err := discardUnborn(dataDir(opts)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dataDir(opts), "member", "snap", "db")); err != nil {
		t.Errorf("a member that ran was discarded: %v", err)
	}
}

// What etcd says too early is dropped, everything else of its level is not, with whatever fields.
func TestWhatIsSaidTooEarlyIsDropped(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	logger := quiet(zap.New(core), zap.NewAtomicLevelAt(zap.WarnLevel)).With(zap.String("member", "a"))
	logger.Error(tooEarly)
	logger.Info("chatter")
	logger.Error("disk is slow")
	if got := logs.All(); len(got) != 1 || got[0].Message != "disk is slow" {
		t.Errorf("logged %+v", got)
	}
}
