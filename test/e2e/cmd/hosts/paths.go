package main

import (
	"os"
	"path/filepath"

	"github.com/hoodynetwork/hoody-agent/test/e2e/hosts"
)

// netnsName is the network namespace of the hosts: others may join it with `ip netns exec`.
const netnsName = "hoody-e2e"

const netnsPath = "/run/netns/" + netnsName

// stateDir holds what belongs to the running hosts: their log, socket and disks.
func stateDir() (string, error) {
	cache, err := hosts.CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "up")
	return dir, os.MkdirAll(dir, 0o755)
}
