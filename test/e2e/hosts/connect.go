package hosts

import (
	"context"
	"fmt"
	"os"
	"slices"
)

// Access is what another process needs to use a cluster that is up.
type Access struct {
	Netns   string // path of the network namespace
	KeyFile string // private key that opens the hosts
}

// Connect gives access to a host that another process has booted. Such a host takes commands and files;
// switching it on and off is left to its owner.
func Connect(ctx context.Context, access Access, name string) (*Host, error) {
	position := slices.Index(hostNames[:], name)
	if position < 0 {
		return nil, fmt.Errorf("no host is called %q: there are %v", name, hostNames)
	}
	key, err := readKey(access.KeyFile)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(access.Netns)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	host := &Host{name: name, addr: hostAddr(position), key: key, ns: &netns{file: file}, log: newStepLog(nil)}
	if _, err := host.connection(ctx); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("connect to %s: %w", name, err)
	}
	return host, nil
}

// KeyFile is the path of the private key that opens the hosts.
func (c *Cluster) KeyFile() string { return c.keyFile }
