package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/auth"
	"github.com/hoodynetwork/hoody-agent/internal/client"
	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
	"github.com/hoodynetwork/hoody-agent/internal/store/embedded"
)

// fleetUser owns what is made in a fleet of stand-ins.
const fleetUser = "64c1aa00b2d34e5f60718201"

// fleetOptions say what a fleet is like.
type fleetOptions struct {
	dir     string // everything is kept below it
	servers int
	port    int // of the first server's API, the others' follow; 0: free ones
	log     *zap.Logger
}

// fleet is several agents in this process. Their storage and their containers are stand-ins (package sim); all else is
// what real hosts have: an etcd that they share, mutual TLS between them, an API and a state directory for each.
type fleet struct {
	dir     string
	log     *zap.Logger
	ca      *pki.CA // of this process: what it signed is worth nothing afterwards
	keys    tokenKeys
	token   string
	records *embedded.Server
	servers []*fleetServer
	died    chan error // an agent that ended without being told to
}

// openFleet starts a fleet, or continues the one that the directory holds, and returns when every server knows that all
// are there. ctx bounds the start only; close ends the fleet.
func openFleet(ctx context.Context, o fleetOptions) (_ *fleet, err error) {
	f := &fleet{log: o.log, died: make(chan error, o.servers)}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start fleet: %w", errors.Join(err, f.close()))
		}
	}()
	if f.dir, err = filepath.Abs(o.dir); err != nil {
		return nil, err
	}
	if err := f.openTrust(); err != nil {
		return nil, err
	}
	f.records, err = embedded.Start(ctx, embedded.Options{Dir: filepath.Join(f.dir, "etcd")}, o.log.Named("store"))
	if err != nil {
		return nil, err
	}
	for i := range o.servers {
		port := 0
		if o.port != 0 {
			port = o.port + i
		}
		server, err := f.newServer(i, port)
		if err != nil {
			return nil, err
		}
		f.servers = append(f.servers, server)
	}
	var group errgroup.Group
	for _, server := range f.servers {
		server.begin()
		group.Go(func() error { return server.awaitFleet(ctx) })
	}
	return f, group.Wait()
}

// openTrust makes or finds what the agents know each other and their user by.
func (f *fleet) openTrust() (err error) {
	if f.ca, err = pki.NewCA("stand-ins", 0); err != nil {
		return err
	}
	if f.keys, err = ensureTokenKeys(filepath.Join(f.dir, "auth")); err != nil {
		return err
	}
	key, err := auth.LoadSigningKey(auth.EdDSA, f.keys.private, "")
	if err != nil {
		return err
	}
	f.token, err = auth.Sign(key, auth.Token{UserID: fleetUser, IssuedAt: time.Now(), Lifetime: 7 * 24 * time.Hour})
	return err
}

// missing says which server is not alive, as far as the list of one of them knows; nil for none.
func (f *fleet) missing(known []contract.ServerEntry) error {
	alive := make(map[string]bool)
	for _, entry := range known {
		alive[entry.ServerID] = entry.Alive
	}
	for _, server := range f.servers {
		if !alive[server.id] {
			return fmt.Errorf("%s is not alive", server.cfg.Server.Name)
		}
	}
	return nil
}

// wait returns nil when ctx ends, or sooner why an agent ended.
func (f *fleet) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-f.died:
		return err
	}
}

// close ends the agents at once, the store after them.
func (f *fleet) close() error {
	var group errgroup.Group
	for _, server := range f.servers {
		group.Go(server.end)
	}
	err := group.Wait()
	if f.records != nil {
		f.records.Close()
	}
	return err
}

// place is where a server says it is.
type place struct{ name, country, region, city string }

// placeOf is where the i-th server is: as in the API's documentation, numbered on in a bigger fleet.
func placeOf(i int) place {
	known := []place{
		{"node-us", "US", "us-east", "Ashburn"},
		{"node-eu", "DE", "eu-central", "Falkenstein"},
		{"node-asia", "SG", "ap-southeast", "Singapore"},
	}
	if i < len(known) {
		return known[i]
	}
	return place{name: "node-" + strconv.Itoa(i+1)}
}

// newServer prepares the i-th server.
func (f *fleet) newServer(i, port int) (*fleetServer, error) {
	where := placeOf(i)
	dir := filepath.Join(f.dir, where.name)
	cfg := config.Default()
	cfg.Server.Name, cfg.Server.Country, cfg.Server.Region, cfg.Server.City = where.name, where.country, where.region, where.city
	cfg.StateDir, cfg.RuntimeDir = filepath.Join(dir, "state"), filepath.Join(dir, "run")
	cfg.Store.Endpoints = []string{f.records.Endpoint()}
	cfg.Auth.KeyFile = f.keys.public
	cfg.Metrics.Listen = ""
	cfg.Operations.ShutdownTimeout = 10 * time.Second
	var err error
	if cfg.Peer.Listen, err = freeLoopback(0); err != nil {
		return nil, err
	}
	if cfg.API.Listen, err = freeLoopback(port); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	id, err := cfg.ServerID()
	if err != nil {
		return nil, err
	}
	return &fleetServer{
		fleet: f, dir: dir, cfg: cfg, id: id, log: f.log.Named(where.name), probe: newProbe(),
		api: &client.Client{Base: "http://" + cfg.API.Listen, Token: f.token},
	}, nil
}

// freeLoopback finds a port that is free now, or makes sure that the given one is. The address has to be known before
// the agent listens there: it stands in the server's record. And it must outlast a restart of the agent.
func freeLoopback(port int) (string, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return "", fmt.Errorf("find a port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}
