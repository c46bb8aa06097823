package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hoodynetwork/hoody-agent/test/e2e/hosts"
)

// unlimited stands for the absent rate in the path of a request.
const unlimited = "unlimited"

// errNotUp is what a command says that needs running hosts.
var errNotUp = errors.New("the hosts are not up: run `go run ./test/e2e/cmd/hosts up`")

// call sends a request to the process that owns the hosts.
func call(ctx context.Context, method, path string) ([]byte, error) {
	dir, err := stateDir()
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "socket"))
		},
	}}
	request, err := http.NewRequestWithContext(ctx, method, "http://hosts"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", errNotUp, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("ask the hosts' owner: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(strings.TrimSpace(string(body)))
	}
	return body, nil
}

// ask has the owner do something.
func ask(ctx context.Context, path string) error {
	_, err := call(ctx, http.MethodPost, path)
	return err
}

// access asks how to reach the hosts; it fails when they are not up.
func access(ctx context.Context) (hosts.Access, error) {
	var access hosts.Access
	body, err := call(ctx, http.MethodGet, "/access")
	if err != nil {
		return access, err
	}
	return access, json.Unmarshal(body, &access)
}

func connect(ctx context.Context, name string) (*hosts.Host, error) {
	access, err := access(ctx)
	if err != nil {
		return nil, err
	}
	return hosts.Connect(ctx, access, name)
}

func status(ctx context.Context) error {
	access, err := access(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("up; network namespace %s, key %s\n", netnsName, access.KeyFile)
	return nil
}

func down(ctx context.Context) error {
	if err := ask(ctx, "/down"); err != nil {
		return err
	}
	return exec.CommandContext(ctx, "ip", "netns", "delete", netnsName).Run()
}

func setLink(ctx context.Context, args []string) error {
	rate := unlimited
	if len(args) > 2 {
		rate = args[2]
	}
	return ask(ctx, "/link/"+args[0]+"/"+strings.TrimSuffix(args[1], "%")+"/"+rate)
}

func runOn(ctx context.Context, name string, argv []string) error {
	host, err := connect(ctx, name)
	if err != nil {
		return err
	}
	return host.Stream(ctx, hosts.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, argv...)
}

func push(ctx context.Context, name, local, remote string) error {
	info, err := os.Stat(local)
	if err != nil {
		return err
	}
	host, err := connect(ctx, name)
	if err != nil {
		return err
	}
	return host.Push(ctx, local, remote, info.Mode())
}

func pull(ctx context.Context, name, remote, local string) error {
	host, err := connect(ctx, name)
	if err != nil {
		return err
	}
	return host.Pull(ctx, remote, local)
}

// execInside runs a command of this machine where the hosts can be reached.
func execInside(ctx context.Context, argv []string) error {
	if _, err := access(ctx); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", netnsName}, argv...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
