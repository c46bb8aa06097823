// Package embedded runs one etcd member inside the process, for hosts that have no etcd cluster of their own.
//
// The member keeps everything below one directory: its data, a lock that keeps a second process out, and the unix
// socket that the process itself talks to. It has no peers and listens for none. Other agents reach it only through the
// client URLs it is told to serve, with TLS and client certificates.
package embedded

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/pkg/v3/featuregate"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/features"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Defaults of Options.
const (
	DefaultQuotaBytes   = int64(2) << 30
	DefaultStartTimeout = 60 * time.Second
	DefaultCompaction   = 30 * time.Minute
)

const (
	memberName      = "hoody"
	defragAtBootMiB = 64 // less free space than this in the file is not worth a rewrite at start

	// Log entries between raft snapshots, and behind one for followers that lag (there are none). All of them are in
	// memory, and a single one can hold a history of hundreds of kilobytes.
	snapshotEntries, catchUpEntries = 1_000, 100

	// A member alone leads once an election timeout has passed without a leader, at every start: with etcd's defaults, meant for
	// networks, after up to a second.
	tickMillis, electionMillis = 20, 100
)

// Options says where a member lives and whom it serves.
type Options struct {
	Dir string // state directory; created with mode 0700

	// Listen holds further client URLs for other agents, such as https://10.0.0.1:2379. Only https is accepted, and it
	// needs TLS: whoever can connect can read and write every record.
	Listen []string
	TLS    TLSFiles

	QuotaBytes   int64         // size of the data file at which etcd stops taking writes; 0 = DefaultQuotaBytes
	Compaction   time.Duration // how much history is kept for watchers that were away; 0 = DefaultCompaction
	StartTimeout time.Duration // bound of Start; 0 = DefaultStartTimeout

	// Unsynced leaves it to the kernel when what was written reaches the disk. The end of the process costs nothing then, that
	// of the host may cost all of it: for tests that only kill processes.
	Unsynced bool
}

// TLSFiles names PEM files: the member's certificate and key, and the CA whose client certificates it accepts.
type TLSFiles struct {
	CertFile, KeyFile, CAFile string
}

// Server is a running member. Its methods are safe for concurrent use.
type Server struct {
	etcd     *embed.Etcd
	lock     *dirLock
	socket   *socketDir
	logger   *zap.Logger
	level    zap.AtomicLevel // of logger
	watching sync.WaitGroup  // the goroutine that reports etcd's late errors

	streams    context.Context // of all clients' streams
	endStreams context.CancelFunc
	closing    sync.Once
}

// Start runs a member on opts.Dir and returns when it serves. It returns errdefs.ErrBusy when another process has the
// directory, errdefs.ErrInvalid for options that cannot work, and errdefs.ErrUnavailable when the member is not ready
// in time. After kill -9 of the previous process it takes over at once: the lock died with that process.
//
// An unusable disk later ends the process: etcd logs at fatal level, as it must not go on with a log it cannot write.
func Start(ctx context.Context, opts Options, logger *zap.Logger) (_ *Server, err error) {
	if logger == nil {
		logger = zap.NewNop()
	}
	if err := prepareDir(opts.Dir); err != nil {
		return nil, err
	}
	// Its warnings while starting are all about the unix socket going without TLS.
	s := &Server{level: zap.NewAtomicLevelAt(zap.ErrorLevel)}
	s.logger = quiet(logger.Named("etcd"), s.level)
	s.streams, s.endStreams = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.lock, err = lockDir(opts.Dir); err != nil {
		return nil, err
	}
	if err := discardUnborn(dataDir(opts)); err != nil {
		return nil, fmt.Errorf("start embedded etcd in %s: %w", opts.Dir, err)
	}
	if s.socket, err = newSocketDir(opts.Dir); err != nil {
		return nil, err
	}
	config, err := s.config(opts)
	if err != nil {
		return nil, err
	}
	if s.etcd, err = embed.StartEtcd(config); err != nil {
		return nil, fmt.Errorf("start embedded etcd in %s: %w", opts.Dir, err)
	}
	if err := s.awaitReady(ctx, cmp.Or(opts.StartTimeout, DefaultStartTimeout)); err != nil {
		return nil, fmt.Errorf("start embedded etcd in %s: %w", opts.Dir, err)
	}
	s.level.SetLevel(zap.WarnLevel)
	s.watching.Go(s.reportErrors)
	return s, nil
}

// Endpoint is where the process itself reaches the member: its unix socket.
func (s *Server) Endpoint() string { return "unix://" + s.socket.grpc() }

// Close stops the member, ending the streams of its clients, and gives up the directory. Further calls do nothing.
func (s *Server) Close() {
	s.closing.Do(func() {
		s.endStreams()
		if s.etcd != nil {
			s.level.SetLevel(zap.FatalLevel) // it reports each listener that it closes itself as an error
			s.etcd.Close()
			s.watching.Wait()
		}
		if s.socket != nil {
			s.socket.close()
		}
		if s.lock != nil {
			s.lock.release()
		}
	})
}

func (s *Server) config(opts Options) (*embed.Config, error) {
	config := embed.NewConfig()
	config.Name = memberName
	config.Dir = dataDir(opts)
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(s.logger)
	config.LogLevel = "warn"

	// A cluster of one forever: the peer URL is only the member's name in its own membership, nothing listens there.
	config.ListenPeerUrls = nil
	config.InitialCluster = memberName + "=" + config.AdvertisePeerUrls[0].String()
	config.InitialClusterToken = rand.Text() // makes the cluster's id unique to this data, so that a client notices other data
	config.SnapshotCount, config.SnapshotCatchUpEntries = snapshotEntries, catchUpEntries
	config.TickMs, config.ElectionMs = tickMillis, electionMillis

	// Request limits stay etcd's defaults, so that what is written here also fits an external cluster.
	config.QuotaBackendBytes = cmp.Or(opts.QuotaBytes, DefaultQuotaBytes)
	config.AutoCompactionMode = embed.CompactorModePeriodic
	config.AutoCompactionRetention = cmp.Or(opts.Compaction, DefaultCompaction).String()
	config.BootstrapDefragThresholdMegabytes = defragAtBootMiB
	config.UnsafeNoFsync = opts.Unsynced

	// Else every start gives all leases their whole time again, and where there is one a day those of a day never end.
	gate, ok := config.ServerFeatureGate.(featuregate.MutableFeatureGate)
	if !ok {
		return nil, fmt.Errorf("embedded etcd: its features cannot be chosen: %w", errdefs.ErrInternal)
	}
	if err := gate.SetFromMap(map[string]bool{string(features.LeaseCheckpoint): true, string(features.LeaseCheckpointPersist): true}); err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}

	config.GRPCAdditionalServerOptions = []grpc.ServerOption{endStreamsWith(s.streams)}
	config.AuthToken = "" // no users here: the directory's mode and client certificates say who may connect
	own := url.URL{Scheme: "unix", Path: s.socket.grpc()}
	config.ListenClientUrls = []url.URL{own}
	config.AdvertiseClientUrls = []url.URL{own}
	// A place of its own for etcd's plain HTTP (health, metrics) leaves nothing but gRPC on the other listeners; sharing
	// them would also let long answers starve watches (etcd issue 15402).
	config.ListenClientHttpUrls = []url.URL{{Scheme: "unix", Path: s.socket.http()}}
	if len(opts.Listen) == 0 {
		return config, nil
	}
	if opts.TLS.CertFile == "" || opts.TLS.KeyFile == "" || opts.TLS.CAFile == "" {
		return nil, fmt.Errorf("embedded etcd: listening for other agents needs certificate, key and CA files: %w", errdefs.ErrInvalid)
	}
	for _, listen := range opts.Listen {
		u, err := url.Parse(listen)
		if err != nil {
			return nil, fmt.Errorf("embedded etcd: listen url: %w: %w", errdefs.ErrInvalid, err)
		}
		if u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("embedded etcd: listen url %q: only https://host:port is served: %w", listen, errdefs.ErrInvalid)
		}
		config.ListenClientUrls = append(config.ListenClientUrls, *u)
	}
	config.TlsMinVersion = "TLS1.3"
	config.ClientTLSInfo = transport.TLSInfo{
		CertFile:       opts.TLS.CertFile,
		KeyFile:        opts.TLS.KeyFile,
		TrustedCAFile:  opts.TLS.CAFile,
		ClientCertAuth: true,
	}
	return config, nil
}

func (s *Server) awaitReady(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var err error
	select {
	case <-s.etcd.Server.ReadyNotify():
		return nil
	case <-s.etcd.Server.StopNotify():
		err = errors.New("it stopped while starting")
	case <-ctx.Done():
		err = fmt.Errorf("not ready: %w", ctx.Err())
	}
	// embed.Etcd.Close waits for handlers that wait for the server to be ready; stopping the server first frees them.
	s.etcd.Server.Stop()
	return fmt.Errorf("%w: %w", errdefs.ErrUnavailable, err)
}

// reportErrors ends when etcd closes its channel, which Close brings about.
func (s *Server) reportErrors() {
	for err := range s.etcd.Err() {
		s.logger.Error("embedded etcd", zap.Error(err))
	}
}

func dataDir(opts Options) string { return filepath.Join(opts.Dir, "data") }

func prepareDir(dir string) error {
	if dir == "" {
		return fmt.Errorf("embedded etcd: no directory given: %w", errdefs.ErrInvalid)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("embedded etcd: state directory: %w", err)
	}
	// The socket inside gives full access to every record; the directory's mode is what guards it.
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("embedded etcd: state directory: %w", err)
	}
	return nil
}

// quiet drops what is below the level, such as etcd's chatter. A logger that shows no errors stays as it is.
func quiet(logger *zap.Logger, level zap.AtomicLevel) *zap.Logger {
	if !logger.Core().Enabled(zap.ErrorLevel) {
		return logger
	}
	return logger.WithOptions(zap.IncreaseLevel(level), zap.WrapCore(func(core zapcore.Core) zapcore.Core { return muted{core} }))
}

// tooEarly is an error that etcd logs when it looks at its storage's version before it has first written down how far it has come ("missing term
// information", storage/schema of 3.7.3). It looks again every few seconds.
const tooEarly = "failed to update storage version"

// muted drops tooEarly.
type muted struct{ zapcore.Core }

func (m muted) With(fields []zapcore.Field) zapcore.Core { return muted{m.Core.With(fields)} }

func (m muted) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if entry.Message == tooEarly {
		return checked
	}
	return m.Core.Check(entry, checked)
}
