package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/time/rate"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api"
	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/transfer"
)

func TestReload(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	fresh := config.Default()
	var broken error
	level := zap.NewAtomicLevel()
	r := newReloader(func() (config.Config, error) { return fresh, broken }, config.Default(), level, zap.New(core))

	broken = errors.New("api.listen: must be host:port")
	r.reload()
	broken, fresh.Log.Level, fresh.Peer.SendLimit, fresh.API.Limits.Burst, fresh.API.Listen = nil, "debug", 1000, 7, "127.0.0.1:1"
	r.reload()
	if cfg := <-r.fresh; cfg.Peer.SendLimit != 1000 || cfg.API.Limits.Burst != 7 || cfg.API.Listen != config.Default().API.Listen {
		t.Errorf("handed on: %+v", cfg)
	}
	if level.Level() != zap.DebugLevel {
		t.Errorf("log level %s", level)
	}
	var said []string
	for _, entry := range logs.All() {
		said = append(said, entry.Message)
	}
	want := []string{"configuration not reloaded, the former one stays in force", "configuration reloaded", "keys have changed that count from the next start on"}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Error(diff)
	}
	if keys := logs.All()[2].ContextMap()["keys"]; !cmp.Equal(keys, []any{"api.listen"}) {
		t.Errorf("keys %v", keys)
	}
	r.reload()
	r.reload() // nobody has taken the first one: it must not wait
	<-r.fresh
}

// `systemctl reload` sends SIGHUP, which ends a program that does not expect it.
func TestSIGHUP(t *testing.T) {
	reloaded := make(chan struct{}, 1)
	r := newReloader(func() (config.Config, error) {
		select {
		case reloaded <- struct{}{}:
		default:
		}
		return config.Config{}, errors.New("enough")
	}, config.Default(), zap.NewAtomicLevel(), zap.NewNop())
	ended := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	go func() { defer close(ended); r.follow(ctx) }()
	shield := make(chan os.Signal, 1) // keeps this process alive while follow does not listen yet
	signal.Notify(shield, syscall.SIGHUP)
	defer signal.Stop(shield)
	for done := false; !done; {
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		<-shield
		select {
		case <-reloaded:
			done = true
		case <-time.After(10 * time.Millisecond): // it did not listen yet
		}
	}
	stop()
	<-ended
	if got := unitSettings(t)["ExecReload"]; len(got) != 1 || !strings.Contains(got[0], "-HUP $MAINPID") {
		t.Errorf("ExecReload=%q", got)
	}
}

func TestLimitsChangeWhileStreamsRun(t *testing.T) {
	l := &links{send: transfer.NewLimits(0, 0), receive: transfer.NewLimits(1<<20, 0)}
	limits := func(of *transfer.Limits) (perPeer, all rate.Limit) { // of a stream under way
		type limited interface{ Limit() rate.Limit }
		limiters := of.For("peer")
		return limiters[0].(limited).Limit(), limiters[1].(limited).Limit()
	}
	cfg := config.Default()
	cfg.Peer.SendLimit, cfg.Peer.SendLimitPerPeer = 2<<20, 1<<20
	l.reload(cfg)
	if perPeer, all := limits(l.send); perPeer != 1<<20 || all != 2<<20 {
		t.Errorf("send limits %v and %v", perPeer, all)
	}
	if perPeer, all := limits(l.receive); perPeer != rate.Inf || all != rate.Inf {
		t.Errorf("receive limits %v and %v", perPeer, all)
	}
	(&links{}).reload(cfg) // stands alone
}

// anybody is an API that everybody may ask for its servers.
type anybody struct{ api.Operations }

func (anybody) Authenticate(*http.Request) (agent.Caller, error)                  { return agent.Caller{}, nil }
func (anybody) Admit(agent.Caller) error                                          { return nil }
func (anybody) Servers(context.Context, agent.Caller) ([]agent.ServerView, error) { return nil, nil }

func TestRequestLimitsChangeWhileTheAgentRuns(t *testing.T) {
	cfg := config.Default()
	cfg.API.Limits.RequestsPerSecond = 0
	limiter := api.NewLimiter(limitsOf(cfg))
	handler := api.New(anybody{}, anybody{}, api.Options{Limiter: limiter})
	refused := func() bool {
		for range 20 {
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/api/v1/servers", nil))
			if answer.Code == http.StatusTooManyRequests {
				return true
			}
		}
		return false
	}
	if refused() {
		t.Error("refused without a limit")
	}
	reload := reloadParts(&links{}, limiter)
	cfg.API.Limits.RequestsPerSecond, cfg.API.Limits.Burst = 1, 1
	reload(cfg)
	if !refused() {
		t.Error("nothing is refused under the new limit")
	}
}
