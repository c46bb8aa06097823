package sim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// ImageFlag is how the containers of an image behave.
type ImageFlag string

// Noisy containers write a log whenever they start, as a Debian does; others leave their files alone.
const Noisy ImageFlag = "noisy"

// noisyMarker makes noise a matter of the files, so that it travels with copies.
const noisyMarker = "etc/hoody-sim-noisy"

const imageSnapshot = "@readonly"

// AddImage makes an image under an alias; fill gets its empty root file system. ErrAlreadyExists when the alias is taken.
func (r *Runtime) AddImage(ctx context.Context, alias string, fill func(root *os.Root) error, flags ...ImageFlag) error {
	return r.act(ctx, "add-image", alias, func() error {
		r.mu.Lock()
		_, taken := r.state.Images[alias]
		r.mu.Unlock()
		if taken {
			return fmt.Errorf("image: %w", errdefs.ErrAlreadyExists)
		}
		hash := sha256.Sum256([]byte(alias))
		fingerprint := hex.EncodeToString(hash[:])
		dataset := "images/" + fingerprint
		// What a crash left of a first attempt has no clones: its alias was never recorded.
		if err := r.pool.Destroy(ctx, dataset); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
		if err := r.pool.Create(ctx, dataset, instanceProperties); err != nil {
			return err
		}
		err := r.within(ctx, dataset, func(root *os.Root) error { return fillImage(root, fill, flags) })
		if err != nil {
			return err
		}
		if _, err := r.pool.Snapshot(ctx, dataset, imageSnapshot[1:]); err != nil {
			return err
		}
		return r.commit(func(s *runtimeState) error { s.Images[alias] = fingerprint; return nil })
	})
}

func fillImage(root *os.Root, fill func(root *os.Root) error, flags []ImageFlag) error {
	err := errors.Join(root.Mkdir("rootfs", 0o755), root.Mkdir("templates", 0o755),
		root.WriteFile("metadata.yaml", []byte("architecture: x86_64\ncreation_date: 0\n"), 0o644),
		root.WriteFile("templates/hostname.tpl", []byte("{{ container.name }}\n"), 0o644))
	if err != nil {
		return err
	}
	inside, err := root.OpenRoot("rootfs")
	if err != nil {
		return err
	}
	defer inside.Close()
	if slices.Contains(flags, Noisy) {
		if err := writeAll(inside, map[string]string{noisyMarker: ""}, 0o644); err != nil {
			return err
		}
	}
	return fill(inside)
}

// image finds the snapshot of an image by alias or fingerprint. The built-in ones are made when they are first asked for.
func (r *Runtime) image(ctx context.Context, name string) (string, error) {
	for range 2 {
		r.mu.Lock()
		fingerprint, ok := r.state.Images[name]
		for _, known := range r.state.Images {
			if known == name {
				fingerprint, ok = known, true
			}
		}
		r.mu.Unlock()
		if ok {
			return "images/" + fingerprint + imageSnapshot, nil
		}
		fill, ok := builtin[name]
		if !ok {
			break
		}
		if err := r.AddImage(ctx, name, fill); err != nil && !errors.Is(err, errdefs.ErrAlreadyExists) {
			return "", err
		}
	}
	return "", fmt.Errorf("image %q: %w", name, errdefs.ErrNotFound)
}

// builtin images are there without anybody adding them. They are no systems, only what the agent looks at in one.
var builtin = map[string]func(root *os.Root) error{
	"busybox": func(root *os.Root) error {
		return errors.Join(
			writeAll(root, map[string]string{"bin/busybox": program(1, 256<<10)}, 0o755),
			writeAll(root, map[string]string{"etc/hostname": "busybox\n", "etc/passwd": "root:x:0:0::/root:/bin/sh\n"}, 0o644),
			root.Symlink("busybox", "bin/sh"), root.Mkdir("root", 0o700), root.MkdirAll("var/log", 0o755))
	},
	"debian/13": func(root *os.Root) error {
		return errors.Join(
			writeAll(root, map[string]string{"usr/bin/bash": program(2, 1<<20), "usr/sbin/sshd": program(3, 1<<20)}, 0o755),
			writeAll(root, map[string]string{
				"etc/hostname": "debian\n", "etc/machine-id": "0123456789abcdef0123456789abcdef\n", "etc/os-release": "ID=debian\nVERSION_ID=\"13\"\n",
				"etc/hosts": "127.0.0.1 localhost\n127.0.1.1 debian\n", "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
				"etc/ssh/ssh_host_ed25519_key.pub": "ssh-ed25519 AAAA image\n", "usr/lib/libc.so.6": program(4, 2<<20),
			}, 0o644),
			writeAll(root, map[string]string{"etc/ssh/ssh_host_ed25519_key": "the image's own key, to be replaced\n"}, 0o600),
			root.Symlink("usr/bin", "bin"), root.MkdirAll("var/log", 0o755), root.MkdirAll("root/.ssh", 0o755),
			root.Chmod("root", 0o700), root.Chmod("root/.ssh", 0o700))
	},
}

// writeAll makes files, with their directories.
func writeAll(root *os.Root, files map[string]string, mode os.FileMode) error {
	for name, content := range files {
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(name, []byte(content), mode); err != nil {
			return err
		}
	}
	return nil
}

// program is something of a size that does not compress, the same on every host.
func program(seed byte, size int) string {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // never fails
	return string(data)
}
