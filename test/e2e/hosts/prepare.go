package hosts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// dataDiskSize is the size of a prepared host's data disk, a sparse file.
const dataDiskSize = 12 << 30

// prepareHosts boots both hosts for the first time and sets them up. dir then holds their disks, switched off.
func prepareHosts(ctx context.Context, dir string, made *artefacts, log *stepLog) (err error) {
	work := filepath.Join(dir, "work")
	if err := unpackRecipe(work); err != nil {
		return err
	}
	for _, name := range hostNames {
		if err := copySparse(ctx, filepath.Join(made.root, "root.img"), rootDisk(dir, name)); err != nil {
			return err
		}
		if err := makeSparse(dataDisk(dir, name), dataDiskSize); err != nil {
			return err
		}
	}
	ns, err := newNetns()
	if err != nil {
		return err
	}
	cluster := newCluster(ns, log)
	defer func() { err = errors.Join(err, cluster.Down()) }()
	for _, name := range hostNames {
		vm := &machine{kernel: kernelProgram(made), preload: made.regset, root: rootDisk(dir, name), data: dataDisk(dir, name), dir: work}
		if err := cluster.add(name, vm, keyFile(made)); err != nil {
			return err
		}
	}
	if err := cluster.boot(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, host := range cluster.Hosts {
		group.Go(func() error { return prepareHost(ctx, host, work, made) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return os.RemoveAll(work)
}

// prepareHost runs prepare.sh on a host and switches it off.
func prepareHost(ctx context.Context, host *Host, recipe string, made *artefacts) error {
	const remote = "/var/tmp/prepare"
	files := []string{
		filepath.Join(recipe, "prepare.sh"),
		filepath.Join(recipe, "preseed.yaml"),
		filepath.Join(made.images, "busybox.tar.gz"),
		filepath.Join(made.images, debianImage),
	}
	for _, file := range files {
		if err := host.Push(ctx, file, path.Join(remote, filepath.Base(file)), 0o755); err != nil {
			return err
		}
	}
	done := host.log.step("prepare %s", host.name)
	if _, err := host.Run(ctx, path.Join(remote, "prepare.sh")); err != nil {
		return fmt.Errorf("prepare %s: %w", host.name, err)
	}
	done()
	if _, err := host.Run(ctx, "rm", "-r", remote); err != nil {
		return fmt.Errorf("prepare %s: %w", host.name, err)
	}
	return host.PowerOff(ctx)
}
