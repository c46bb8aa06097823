package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// BuildOptions say where artefacts are kept. The zero value is what tests and developers use.
type BuildOptions struct {
	Cache  string    // folder of artefacts; default $HOODY_E2E_CACHE or ~/.cache/hoody-agent-e2e
	Kernel string    // folder with a prebuilt kernel; default $HOODY_E2E_KERNEL or shared/vm beside the repository
	Log    io.Writer // takes a line per step; default standard error
}

// artefacts are what a cluster is booted from.
type artefacts struct {
	kernel string // folder: linux, spl.ko, zfs.ko
	root   string // folder: root.img, busybox, key
	images string // folder: debian.tar.zst, busybox.tar.gz
	hosts  string // folder: <host>.root.img and <host>.data.img, once prepared
	regset string // library to load into kernels; "" for none
}

// Build makes whatever the cache lacks. It needs root and, the first time, Debian's packages: call it where
// the network is, before entering a namespace. A full cache makes it return at once.
func Build(ctx context.Context, options BuildOptions) error {
	_, err := build(ctx, options)
	return err
}

func build(ctx context.Context, options BuildOptions) (*artefacts, error) {
	if options.Cache == "" {
		dir, err := CacheDir()
		if err != nil {
			return nil, err
		}
		options.Cache = dir
	}
	b := &builder{options: options}
	b.cache = cache{dir: options.Cache, log: newStepLog(options.Log)}
	return b.all(ctx)
}

// builder knows how the artefacts depend on each other.
type builder struct {
	options BuildOptions
	cache   cache
}

func (b *builder) all(ctx context.Context) (*artefacts, error) {
	kernelKey, makeKernel, err := b.kernelSource()
	if err != nil {
		return nil, err
	}
	rootKey, err := fingerprint([]string{"guestroot.sh", "guest"}, kernelKey, guestDiskSize)
	if err != nil {
		return nil, err
	}
	imagesKey, err := fingerprint([]string{"busybox-image.sh", "debian-image.sh"})
	if err != nil {
		return nil, err
	}
	hostsKey, err := fingerprint([]string{"prepare.sh", "preseed.yaml"}, rootKey, imagesKey)
	if err != nil {
		return nil, err
	}
	made := &artefacts{}
	if err := installTools(ctx, runTools); err != nil {
		return nil, err
	}
	if final := filepath.Join(b.cache.dir, "hosts-"+hostsKey); !exists(final) {
		if isolated() {
			return nil, errors.New("hosts are not built, and here is no network to build them: run `go run ./test/e2e/cmd/hosts build`")
		}
		if err := installTools(ctx, buildTools); err != nil {
			return nil, err
		}
	}
	// The two debootstraps mostly unpack archives, each on one core.
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		if made.kernel, err = b.cache.get(groupCtx, "kernel", kernelKey, makeKernel); err != nil {
			return err
		}
		made.root, err = b.cache.get(groupCtx, "root", rootKey, func(ctx context.Context, dir string) error {
			return b.makeRoot(ctx, dir, made.kernel)
		})
		return err
	})
	group.Go(func() (err error) {
		made.images, err = b.cache.get(groupCtx, "images", imagesKey, b.makeImages)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if made.regset, err = b.regsetLibrary(ctx); err != nil {
		return nil, err
	}
	made.hosts, err = b.cache.get(ctx, "hosts", hostsKey, func(ctx context.Context, dir string) error {
		return prepareHosts(ctx, dir, made, b.cache.log)
	})
	return made, err
}

// guestDiskSize is the size of a guest's root disk, a sparse file.
const guestDiskSize = "6G"

// makeRoot makes the image that every guest boots from, and the key that opens it.
func (b *builder) makeRoot(ctx context.Context, dir, kernel string) error {
	key := filepath.Join(dir, "key")
	if err := writeKey(key); err != nil {
		return err
	}
	work := filepath.Join(dir, "work")
	if err := unpackRecipe(work); err != nil {
		return err
	}
	root := filepath.Join(work, "root")
	if err := b.script(ctx, work, "guestroot.sh", root, filepath.Join(work, "guest"), kernel, key+".pub"); err != nil {
		return err
	}
	image := filepath.Join(dir, "root.img")
	if err := run(ctx, "mke2fs", "-q", "-t", "ext4", "-d", root, image, guestDiskSize); err != nil {
		return err
	}
	return os.RemoveAll(work)
}

// debianImage is the file of the container image debian/13.
const debianImage = "debian.tar.zst"

// makeImages makes the two container images.
func (b *builder) makeImages(ctx context.Context, dir string) error {
	work := filepath.Join(dir, "work")
	if err := unpackRecipe(work); err != nil {
		return err
	}
	if err := b.script(ctx, work, "debian-image.sh", filepath.Join(dir, debianImage)); err != nil {
		return err
	}
	if err := b.script(ctx, work, "busybox-image.sh", filepath.Join(dir, "busybox.tar.gz")); err != nil {
		return err
	}
	return os.RemoveAll(work)
}

// script runs a script of the recipe. Its mounts are its own: they vanish with it, however it ends.
func (b *builder) script(ctx context.Context, work, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, "sh", append([]string{filepath.Join(work, name)}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
	cmd.Env = append(os.Environ(), "TMPDIR="+work)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return runCommand(cmd)
}

// runTools and buildTools are the programs that running and building need, and the Debian packages they are in.
var (
	runTools = map[string]string{
		"ip":     "iproute2",
		"bridge": "iproute2",
		"cp":     "coreutils",
	}
	buildTools = map[string]string{
		"debootstrap": "debootstrap",
		"mke2fs":      "e2fsprogs",
		"zstd":        "zstd",
		"tar":         "tar",
		"mount":       "mount",
	}
)

// installTools installs the programs this machine lacks.
func installTools(ctx context.Context, tools map[string]string) error {
	var missing []string
	for program, pkg := range tools {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return aptInstall(ctx, missing...)
}

// aptInstall installs packages, refreshing the package lists only when that is what was missing.
func aptInstall(ctx context.Context, packages ...string) error {
	// Another pair of hosts may be installing the same just now, and apt does not wait for whoever refreshes the lists.
	unlock, err := lockFile(filepath.Join(os.TempDir(), "hoody-agent-e2e-apt.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	const wait = "DPkg::Lock::Timeout=600"
	install := append([]string{"apt-get", "install", "-o", wait, "-y", "-q", "--no-install-recommends"}, packages...)
	first := aptRun(ctx, install...)
	if first == nil {
		return nil
	}
	if err := aptRun(ctx, "apt-get", "update", "-q"); err != nil {
		return errors.Join(first, err)
	}
	if err := aptRun(ctx, install...); err != nil {
		return fmt.Errorf("install tools: %w", err)
	}
	return nil
}

func aptRun(ctx context.Context, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	return runCommand(cmd)
}
