package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/client"
	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
	"github.com/hoodynetwork/hoody-agent/internal/sim"
)

// fleetServer is one server of a fleet. Its agent can be ended and begun again; begin, end, Start and StopMidway are for
// one goroutine at a time.
type fleetServer struct {
	fleet *fleet
	dir   string
	cfg   config.Config
	id    string
	log   *zap.Logger
	api   *client.Client
	probe *probe
	life  *life // nil while the agent is ended

	mu   sync.Mutex
	pool *sim.Pool // of the life of now
}

// life is an agent from its start to its end.
type life struct {
	finish context.CancelFunc
	over   chan struct{}
	err    error // once over
}

// begin starts the agent the way `hoody-agent run` does.
func (s *fleetServer) begin() {
	ctx, finish := context.WithCancel(context.Background())
	l := &life{finish: finish, over: make(chan struct{})}
	s.life = l
	go func() {
		defer close(l.over)
		l.err = run(ctx, s.cfg, s.log, s.assemble)
		if ctx.Err() == nil {
			s.fleet.died <- s.ended(l)
		}
	}()
}

// ended says why a life was over before its time.
func (s *fleetServer) ended(l *life) error {
	return fmt.Errorf("agent of %s ended: %w", s.cfg.Server.Name, l.err)
}

// end ends the agent and waits for it. It hands over what it works on, like one that is told to by systemd.
func (s *fleetServer) end() error {
	if s.life == nil {
		return nil
	}
	l := s.life
	s.life = nil
	l.finish()
	<-l.over
	if l.err != nil {
		return fmt.Errorf("agent of %s: %w", s.cfg.Server.Name, l.err)
	}
	return nil
}

// assemble puts the agent together on stand-ins.
func (s *fleetServer) assemble(ctx context.Context, d daemon) (_ *node, err error) {
	credentials, err := s.fleet.ca.Credentials(pki.Request{ServerID: d.serverID})
	if err != nil {
		return nil, err
	}
	h, err := s.openHost()
	if err != nil {
		return nil, err
	}
	records, err := openStore(ctx, d)
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	n, err := assembleFrom(d, h, credentials, records)
	if err != nil {
		return nil, errors.Join(err, records.Close(), h.close())
	}
	return n, nil
}

// openHost opens the stand-ins for storage and runtime.
func (s *fleetServer) openHost() (host, error) {
	pool, err := sim.NewPool(filepath.Join(s.dir, "pool"), sim.Options{Fault: s.probe.see})
	if err != nil {
		return host{}, err
	}
	runtime, err := sim.NewRuntime(pool, filepath.Join(s.dir, "runtime"), sim.RuntimeOptions{})
	if err != nil {
		return host{}, errors.Join(err, pool.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool = pool
	state := func(context.Context) (poolState, error) {
		return poolState{root: s.dir, health: "ONLINE", fragmentation: -1}, nil
	}
	return host{pool: pool, runtime: runtime, poolState: state, close: func() error { return errors.Join(runtime.Close(), pool.Close()) }}, nil
}

// awaitFleet returns when this server's API answers and knows all servers as alive.
func (s *fleetServer) awaitFleet(ctx context.Context) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		var known []contract.ServerEntry
		err := s.api.Do(ctx, http.MethodGet, "/api/v1/servers", nil, &known)
		if err == nil {
			err = s.fleet.missing(known)
		}
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-s.life.over:
			return s.ended(s.life)
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", s.cfg.Server.Name, ctx.Err(), err)
		}
	}
}

// storage is the pool of now.
func (s *fleetServer) storage() *sim.Pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pool
}

// Use implements demo.Guest.
func (s *fleetServer) Use(ctx context.Context, containerID string, use func(root *os.Root) error) (err error) {
	mount, err := s.storage().Mount(ctx, agent.ContainerDataset(containerID))
	if err != nil {
		return fmt.Errorf("files of container %s: %w", containerID, err)
	}
	defer func() { err = errors.Join(err, mount.Unmount(ctx)) }()
	root, err := mount.Root().OpenRoot("rootfs")
	if err != nil {
		return fmt.Errorf("files of container %s: %w", containerID, err)
	}
	defer root.Close()
	return use(root)
}

// Used implements demo.Host.
func (s *fleetServer) Used(ctx context.Context) (int64, error) {
	space, err := s.storage().Space(ctx)
	return int64(space.Size - space.Free), err
}

// Boots implements demo.Host.
func (s *fleetServer) Boots(containerID string) int {
	return s.probe.boots(agent.InstanceName(containerID))
}

// StopMidway implements demo.Host.
func (s *fleetServer) StopMidway(ctx context.Context, after int64) (func() (int64, error), error) {
	before, err := s.Used(ctx)
	if err != nil {
		return nil, err
	}
	pause := s.probe.pauseWhen(func() bool {
		used, err := s.Used(ctx)
		return err != nil || used >= before+after
	})
	return func() (int64, error) {
		defer pause.over()
		select {
		case <-pause.reached:
		case <-s.life.over:
			return 0, s.ended(s.life)
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for a stream to be in its middle: %w", ctx.Err())
		}
		used, err := s.Used(ctx)
		if err != nil {
			return 0, err
		}
		// Ended while the stream stands still, as a crash would: what goes on finds nothing left to write to.
		s.life.finish()
		if err := s.storage().Kill(); err != nil {
			return 0, fmt.Errorf("end agent in the middle of a stream: %w", err)
		}
		pause.over()
		return used - before, s.end()
	}, nil
}

// Start implements demo.Host.
func (s *fleetServer) Start(ctx context.Context) error {
	if s.life != nil {
		return fmt.Errorf("agent of %s runs", s.cfg.Server.Name)
	}
	s.begin()
	return s.awaitFleet(ctx)
}
