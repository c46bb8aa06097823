package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/hoodynetwork/hoody-agent/internal/config"
)

// reloadable are the keys that a running agent takes over. Certificates and token keys are files: those that were replaced
// are taken up without being told.
var reloadable = []string{
	"log.level", "api.limits.requests_per_second", "api.limits.burst", "api.limits.streams",
	"peer.send_limit", "peer.receive_limit", "peer.send_limit_per_peer", "peer.receive_limit_per_peer",
}

// reloader reads the configuration again when it is told to, and hands on what can change. What is not valid changes nothing.
type reloader struct {
	load  func() (config.Config, error)
	held  config.Config // as last taken over
	level zap.AtomicLevel
	log   *zap.Logger
	fresh chan config.Config // for the agent's parts; each value replaces the one before
}

func newReloader(load func() (config.Config, error), held config.Config, level zap.AtomicLevel, log *zap.Logger) *reloader {
	return &reloader{load: load, held: held, level: level, log: log, fresh: make(chan config.Config, 1)}
}

// follow reloads at each SIGHUP until ctx ends.
func (r *reloader) follow(ctx context.Context) {
	hangups := make(chan os.Signal, 1) // several at once are one
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			r.reload()
		}
	}
}

func (r *reloader) reload() {
	cfg, err := r.load()
	if err != nil {
		r.log.Error("configuration not reloaded, the former one stays in force", zap.Error(err))
		return
	}
	var taken, later []string
	for _, key := range config.Changed(r.held, cfg) {
		if slices.Contains(reloadable, key) {
			taken = append(taken, key)
		} else {
			later = append(later, key)
		}
	}
	r.log.Info("configuration reloaded", zap.Strings("changed", taken))
	if len(later) > 0 {
		r.log.Warn("keys have changed that count from the next start on", zap.Strings("keys", later))
	}
	if level, err := zapcore.ParseLevel(cfg.Log.Level); err == nil { // checked with the rest
		r.level.SetLevel(level)
	}
	r.held.Log.Level, r.held.API.Limits = cfg.Log.Level, cfg.API.Limits
	r.held.Peer.SendLimit, r.held.Peer.ReceiveLimit = cfg.Peer.SendLimit, cfg.Peer.ReceiveLimit
	r.held.Peer.SendLimitPerPeer, r.held.Peer.ReceiveLimitPerPeer = cfg.Peer.SendLimitPerPeer, cfg.Peer.ReceiveLimitPerPeer
	select {
	case <-r.fresh: // nobody has taken it yet
	default:
	}
	r.fresh <- r.held
}
