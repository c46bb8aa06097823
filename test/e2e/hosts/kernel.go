package hosts

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// kernelFiles are what a guest's kernel consists of.
var kernelFiles = []string{"linux", "spl.ko", "zfs.ko"}

// kernelSource decides where the kernel comes from: a folder with a prebuilt one whose checksums hold,
// otherwise Debian's kernel and OpenZFS sources, built for a quarter of an hour.
func (b *builder) kernelSource() (key string, provide func(ctx context.Context, dir string) error, err error) {
	prebuilt := b.options.Kernel
	if prebuilt == "" {
		prebuilt = defaultKernel()
	}
	sums, err := os.ReadFile(filepath.Join(prebuilt, "SHA256SUMS"))
	if err != nil {
		b.cache.log.say("no prebuilt kernel in %s (HOODY_E2E_KERNEL names another folder): compiling one if need be", prebuilt)
		key, err = fingerprint([]string{"kernel.sh", "kernel.fragment"})
		return key, b.compileKernel, err
	}
	if err := verifySums(prebuilt, sums); err != nil {
		return "", nil, fmt.Errorf("prebuilt kernel: %w", err)
	}
	key, err = fingerprint(nil, string(sums))
	return key, func(ctx context.Context, dir string) error { return unpackKernel(ctx, prebuilt, dir) }, err
}

// defaultKernel is shared/vm beside the repository: the one this source file belongs to, or, in a program
// compiled with -trimpath, the one it runs in.
func defaultKernel() string {
	if dir := os.Getenv("HOODY_E2E_KERNEL"); dir != "" {
		return dir
	}
	_, file, _, _ := runtime.Caller(0)
	start := filepath.Dir(file)
	if !filepath.IsAbs(start) {
		start, _ = os.Getwd() // an empty path finds nothing, and the kernel is compiled
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		found := filepath.Join(dir, "shared", "vm")
		if exists(filepath.Join(found, "SHA256SUMS")) || dir == filepath.Dir(dir) {
			return found
		}
	}
}

// verifySums checks the files of dir against lines as sha256sum prints them.
func verifySums(dir string, sums []byte) error {
	lines := bufio.NewScanner(bytes.NewReader(sums))
	for lines.Scan() {
		want, name, ok := strings.Cut(lines.Text(), "  ")
		if !ok {
			return fmt.Errorf("%s/SHA256SUMS: no checksum in %q", dir, lines.Text())
		}
		got, err := sha256File(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s/%s: checksum is %s, want %s", dir, name, got, want)
		}
	}
	return lines.Err()
}

func sha256File(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("checksum: %w", err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", fmt.Errorf("checksum of %s: %w", path, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func unpackKernel(ctx context.Context, from, to string) error {
	for _, name := range kernelFiles {
		target := filepath.Join(to, name)
		if err := run(ctx, "zstd", "-d", "-q", filepath.Join(from, name+".zst"), "-o", target); err != nil {
			return err
		}
		if err := os.Chmod(target, 0o755); err != nil {
			return fmt.Errorf("unpack kernel: %w", err)
		}
	}
	return nil
}

// compileKernel builds the kernel and its modules from Debian's packages.
func (b *builder) compileKernel(ctx context.Context, dir string) error {
	if err := aptInstall(ctx, kernelTools...); err != nil {
		return err
	}
	work := filepath.Join(dir, "work")
	if err := unpackRecipe(work); err != nil {
		return err
	}
	if err := b.script(ctx, work, "kernel.sh", filepath.Join(work, "kernel.fragment"), dir); err != nil {
		return err
	}
	return os.RemoveAll(work)
}

// kernelTools are the packages that a kernel is built with. The kernel is linked with this machine's
// libraries, so it must be built by this machine's compiler and not in a chroot.
var kernelTools = []string{
	"gcc", "make", "flex", "bison", "bc", "libelf-dev", "libssl-dev", "xz-utils", "python3", "perl", "kmod",
	"cpio", "file", "debootstrap",
}
