package main

import (
	"context"
	"fmt"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// supervisor tells systemd what the daemon is doing (sd_notify). Without systemd its methods do nothing.
type supervisor struct{ log *zap.Logger }

// ready says that the agent serves. Units ordered after it may start now.
func (s supervisor) ready() { s.send(sdnotify.SdNotifyReady) }

// stopping says that the agent ends on purpose.
func (s supervisor) stopping() { s.send(sdnotify.SdNotifyStopping) }

// startingStill says that the start takes its time and is not to be cut off for that for so long. What an agent waits for is no nearer when it is
// started again.
func (s supervisor) startingStill(longer time.Duration) {
	s.send(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", longer.Microseconds()))
}

// status is the line that systemctl status shows.
func (s supervisor) status(text string) { s.send("STATUS=" + text) }

func (s supervisor) send(state string) {
	if _, err := sdnotify.SdNotify(false, state); err != nil {
		s.log.Warn("systemd does not hear us", zap.String("state", state), zap.Error(err))
	}
}

// watch feeds systemd's watchdog, if the unit has one, until ctx ends. alive is asked before each sign of life and must
// answer from the parts that a deadlock would take along; while it does not return, systemd's clock runs. It says
// nothing about ZFS, Incus or etcd: when one of those is away, a restarted agent would be no better.
func (s supervisor) watch(ctx context.Context, alive func()) {
	interval, err := sdnotify.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("systemd's watchdog setting is not readable", zap.Error(err))
	}
	if err != nil || interval <= 0 {
		return
	}
	ticker := time.NewTicker(interval / 3) // one late sign is not yet a restart
	defer ticker.Stop()
	for {
		alive()
		s.send(sdnotify.SdNotifyWatchdog)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
