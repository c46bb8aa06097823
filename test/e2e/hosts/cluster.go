package hosts

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
)

// hostNames are the hosts of a cluster; a host's address ends in its position, counted from one.
var hostNames = [...]string{"hosta", "hostb"}

// defaultMemory is enough for ZFS, Incus, etcd and an agent.
const defaultMemory = "2500M"

// Options describe a cluster. The zero value is good for most tests.
type Options struct {
	BuildOptions

	DataSize int64  // size of a data disk in bytes, at least and by default 12 GiB; sparse
	Memory   string // memory of a guest as UML takes it, default 2500M
	Dir      string // where disks and console logs go and stay; default a folder in the cache that Down removes

	// Bare boots hosts as their admin gets them: the packages of ZFS and Incus are installed, and an empty disk is there.
	// The container image of Debian lies in /root.
	Bare bool
}

// Cluster is a pair of hosts on one network.
type Cluster struct {
	Hosts []*Host

	network network
	log     *stepLog
	keyFile string

	down     sync.Once
	downErr  error
	cleanups []func() error // undone by Down, last first
}

// Up builds what the cache lacks and boots both hosts: zfs and incus are set up, the container images busybox
// and debian/13 imported; or a bare one. When ctx ends, the hosts lose power. They never outlive this process.
func Up(ctx context.Context, options Options) (_ *Cluster, err error) {
	made, err := build(ctx, options.BuildOptions)
	if err != nil {
		return nil, err
	}
	ns, err := clusterNetns()
	if err != nil {
		return nil, err
	}
	cluster := newCluster(ns, newStepLog(options.Log))
	defer func() {
		if err != nil {
			err = errors.Join(err, cluster.Down())
		}
	}()
	dir := options.Dir
	if dir == "" {
		var remove func() error
		if dir, remove, err = newRunDir(filepath.Join(filepath.Dir(made.hosts), "run")); err != nil {
			return nil, err
		}
		cluster.cleanups = append(cluster.cleanups, remove)
	}
	done := cluster.log.step("up")
	disks := func(name string) (root, data string, err error) {
		return copyDisks(ctx, made.hosts, dir, name, options.DataSize)
	}
	if options.Bare {
		disks = func(name string) (root, data string, err error) {
			return bareDisks(made.root, dir, name, max(options.DataSize, dataDiskSize))
		}
	}
	for _, name := range hostNames {
		root, data, err := disks(name)
		if err != nil {
			return nil, err
		}
		vm := &machine{kernel: kernelProgram(made), preload: made.regset, root: root, data: data, dir: dir, memory: options.Memory}
		if err := cluster.add(name, vm, keyFile(made)); err != nil {
			return nil, err
		}
	}
	if err := cluster.boot(ctx); err != nil {
		return nil, err
	}
	if options.Bare {
		for _, host := range cluster.Hosts {
			if err = host.Push(ctx, filepath.Join(made.images, debianImage), "/root/"+debianImage, 0o644); err != nil {
				break
			}
		}
	} else {
		err = cluster.growPools(ctx, options.DataSize)
	}
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = cluster.Down() })
	done()
	return cluster, nil
}

// newCluster makes a cluster without hosts in a namespace that it takes over.
func newCluster(ns *netns, log *stepLog) *Cluster {
	return &Cluster{network: network{ns: ns}, log: log, cleanups: []func() error{ns.close}}
}

// add gives the cluster its next host, switched off. The machine needs no more than disks and a kernel.
func (c *Cluster) add(name string, vm *machine, keyFile string) error {
	c.keyFile = keyFile
	key, err := readKey(keyFile)
	if err != nil {
		return err
	}
	addr := hostAddr(len(c.Hosts))
	vm.name, vm.addr, vm.ns = name, addr, c.network.ns
	vm.mac, vm.tap = hostMAC(len(c.Hosts)), "tap-"+name
	if vm.memory == "" {
		vm.memory = defaultMemory
	}
	c.Hosts = append(c.Hosts, &Host{name: name, addr: addr, key: key, ns: c.network.ns, log: c.log, vm: vm})
	return nil
}

// boot makes the network and boots all hosts at once.
func (c *Cluster) boot(ctx context.Context) error {
	for _, host := range c.Hosts {
		c.network.taps = append(c.network.taps, host.vm.tap)
	}
	c.cleanups = append(c.cleanups, c.network.down, c.retire)
	if err := c.network.up(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, host := range c.Hosts {
		group.Go(func() error { return host.Boot(ctx) })
	}
	return group.Wait()
}

func (c *Cluster) growPools(ctx context.Context, size int64) error {
	if size <= dataDiskSize {
		return nil
	}
	for _, host := range c.Hosts {
		if _, err := host.Run(ctx, "zpool", "online", "-e", "tank", "/dev/ubdb"); err != nil {
			return fmt.Errorf("grow pool: %w", err)
		}
	}
	return nil
}

// Down takes the power from both hosts and removes all that Up made, apart from the cache. It may be called
// again, and at any time.
func (c *Cluster) Down() error {
	c.down.Do(func() {
		for i := len(c.cleanups) - 1; i >= 0; i-- {
			c.downErr = errors.Join(c.downErr, c.cleanups[i]())
		}
	})
	return c.downErr
}

func (c *Cluster) retire() error {
	for _, host := range c.Hosts {
		host.vm.retire()
		host.disconnect()
	}
	return nil
}
