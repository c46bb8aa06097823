package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hoodynetwork/hoody-agent/test/e2e/hosts"
)

// up starts the process that owns the hosts and waits until they are usable.
func up(ctx context.Context) error {
	dir, err := stateDir()
	if err != nil {
		return err
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := access(ctx); err == nil {
		return errors.New("the hosts are up already; `hosts down` ends them")
	}
	// Built here, where the network is and the user sees how it goes.
	if err := hosts.Build(ctx, hosts.BuildOptions{}); err != nil {
		return err
	}
	return startDaemon(ctx, dir)
}

// lock keeps two developers from bringing the hosts up at once: the second is to find them up.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("somebody else is bringing the hosts up (lock %s): %w", path, err), file.Close())
	}
	return func() { _ = file.Close() }, nil
}

func startDaemon(ctx context.Context, dir string) error {
	// What a daemon that was killed has left.
	_ = exec.CommandContext(ctx, "ip", "netns", "delete", netnsName).Run()
	if out, err := exec.CommandContext(ctx, "ip", "netns", "add", netnsName).CombinedOutput(); err != nil {
		return fmt.Errorf("create network namespace: %w: %s", err, out)
	}
	logPath := filepath.Join(dir, "log")
	log, err := os.Create(logPath)
	if err != nil {
		return err
	}
	defer log.Close()
	program, err := os.Executable()
	if err != nil {
		return err
	}
	daemon := exec.Command("ip", "netns", "exec", netnsName, program, "serve")
	daemon.Env = append(os.Environ(), hosts.IsolatedEnv+"=1")
	daemon.Stdout, daemon.Stderr = log, log
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := daemon.Start(); err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	for {
		if _, err := access(ctx); err == nil {
			fmt.Printf("hosts are up; log: %s\n", logPath)
			return nil
		}
		select {
		case err := <-ended:
			said, _ := os.ReadFile(logPath)
			return fmt.Errorf("hosts did not come up: %w\n%s", err, said)
		case <-ctx.Done():
			_ = daemon.Process.Signal(syscall.SIGTERM)
			return errors.Join(ctx.Err(), <-ended)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// daemon owns a cluster and does what comes in through its socket.
type daemon struct {
	cluster *hosts.Cluster
	stop    context.CancelFunc

	mu sync.Mutex // one change at a time
}

// hostVerbs are what can be asked for a host.
var hostVerbs = map[string]func(ctx context.Context, cluster *hosts.Cluster, host *hosts.Host) error{
	"boot":     func(ctx context.Context, _ *hosts.Cluster, host *hosts.Host) error { return host.Boot(ctx) },
	"poweroff": func(ctx context.Context, _ *hosts.Cluster, host *hosts.Host) error { return host.PowerOff(ctx) },
	"cut":      func(_ context.Context, _ *hosts.Cluster, host *hosts.Host) error { return host.PowerCut() },
	"unplug":   func(ctx context.Context, c *hosts.Cluster, host *hosts.Host) error { return c.Cut(ctx, host) },
	"plug":     func(ctx context.Context, c *hosts.Cluster, host *hosts.Host) error { return c.Heal(ctx, host) },
}

// serve boots the hosts and owns them until it is told to end.
func serve(ctx context.Context) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	dir, err := stateDir()
	if err != nil {
		return err
	}
	cluster, err := hosts.Up(ctx, hosts.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Down()) }()
	socket := filepath.Join(dir, "socket")
	if err := os.RemoveAll(socket); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	d := &daemon{cluster: cluster, stop: stop}
	server := &http.Server{Handler: d.handler(), ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err = <-served:
	case <-ctx.Done():
		// The answer to the request that ends us is still to be sent.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = server.Shutdown(last)
		<-served
	}
	return err
}

func (d *daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /access", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(hosts.Access{Netns: netnsPath, KeyFile: d.cluster.KeyFile()})
	})
	mux.HandleFunc("POST /down", func(w http.ResponseWriter, _ *http.Request) { d.answer(w, d.cluster.Down()); d.stop() })
	mux.HandleFunc("POST /link/{delay}/{loss}/{rate}", d.link)
	mux.HandleFunc("POST /{verb}/{host}", d.hostVerb)
	return mux
}

func (d *daemon) hostVerb(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	verb := hostVerbs[r.PathValue("verb")]
	if verb == nil {
		d.answer(w, fmt.Errorf("unknown verb %q", r.PathValue("verb")))
		return
	}
	for _, host := range d.cluster.Hosts {
		if host.Name() == r.PathValue("host") {
			d.answer(w, verb(r.Context(), d.cluster, host))
			return
		}
	}
	d.answer(w, fmt.Errorf("no host is called %q", r.PathValue("host")))
}

func (d *daemon) link(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delay, errDelay := time.ParseDuration(r.PathValue("delay"))
	loss, errLoss := strconv.ParseFloat(r.PathValue("loss"), 64)
	if err := errors.Join(errDelay, errLoss); err != nil {
		d.answer(w, err)
		return
	}
	link := hosts.Link{Delay: delay, Loss: loss, Rate: r.PathValue("rate")}
	if link.Rate == unlimited {
		link.Rate = ""
	}
	d.answer(w, d.cluster.Link(r.Context(), link))
}

func (d *daemon) answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
