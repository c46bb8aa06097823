// Package identity gives a container's file tree what is the container's own: its authorized SSH key, SSH host keys,
// machine id and host name. It works on a tree that nothing runs on, before the tree is swapped in, so that nothing
// ever boots with another container's identity.
//
// The tree may come from another host and is hostile until checked: every access goes through an os.Root, and nothing
// is written through a symbolic link.
package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Spec is what a container's tree shall carry.
type Spec struct {
	AuthorizedKey string   // one authorized_keys line; empty for none
	RemoveKeys    []string // keys of other containers that may have come along; every other line stays
	Hostname      string
	Carried       *Kept // taken from the generation that is displaced; nil for a first copy: everything is made new
}

// Kept is the part of an identity that lives only in a tree and has to survive a change of generations.
type Kept struct {
	MachineID string
	HostKeys  []HostKey
}

// HostKey is one SSH host key pair as sshd keeps it.
type HostKey struct {
	Name    string // file name, such as "ssh_host_ed25519_key"
	Private []byte
	Public  []byte
}

// Check tells whether a dataset's tree has the shape of an instance: rootfs a real directory, the runtime's side files
// absent or regular and in no other place by a hard link, its templates for files of the tree. Anything else is ErrUnsupported and must
// not reach the runtime (CVE-2026-48749, CVE-2026-63125, CVE-2026-23954).
func Check(dataset *os.Root) error {
	info, err := dataset.Lstat("rootfs")
	if err != nil {
		return fmt.Errorf("check instance tree: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("check instance tree: rootfs is %s, not a directory: %w", kind(info), errdefs.ErrUnsupported)
	}
	for _, name := range []string{"backup.yaml", metadataFile} {
		if err := checkAbsentOr(dataset, name, sideFile); err != nil {
			return err
		}
	}
	if err := checkAbsentOr(dataset, "templates", fs.FileInfo.IsDir); err != nil {
		return err
	}
	names, err := tree{root: dataset}.names("templates")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("check instance tree: %w", err)
	}
	for _, name := range names {
		if err := checkAbsentOr(dataset, "templates/"+name, sideFile); err != nil {
			return err
		}
	}
	return nil
}

// sideFile is a regular file without a second name, by which a container could change it.
func sideFile(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return info.Mode().IsRegular() && (!ok || stat.Nlink == 1)
}

func checkAbsentOr(dataset *os.Root, name string, want func(fs.FileInfo) bool) error {
	info, err := dataset.Lstat(name)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("check instance tree: %w", err)
	}
	if !want(info) {
		return fmt.Errorf("check instance tree: %s is %s: %w", name, kind(info), errdefs.ErrUnsupported)
	}
	return nil
}

func kind(info fs.FileInfo) string {
	switch mode := info.Mode(); {
	case mode.IsDir():
		return "a directory"
	case mode.IsRegular() && !sideFile(info):
		return "a file with several names"
	case mode.IsRegular():
		return "a regular file"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	default:
		return "a special file"
	}
}

// Apply writes the identity into a dataset's tree. It may be run again on a tree that it left half done.
func Apply(dataset *os.Root, spec Spec) error {
	tree, err := openTree(dataset)
	if err != nil {
		return err
	}
	defer tree.root.Close()
	if err := tree.setAuthorizedKey(spec.AuthorizedKey, spec.RemoveKeys); err != nil {
		return fmt.Errorf("set authorized key: %w", err)
	}
	if err := tree.setHostKeys(spec.Carried); err != nil {
		return fmt.Errorf("set ssh host keys: %w", err)
	}
	if err := tree.setMachineID(spec.Carried); err != nil {
		return fmt.Errorf("set machine id: %w", err)
	}
	if err := tree.setHostname(spec.Hostname); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	templates, err := templatesOf(dataset)
	if err != nil {
		return fmt.Errorf("check templates: %w", err)
	}
	if err := tree.clearTemplateTargets(templates, spec.Carried == nil); err != nil {
		return fmt.Errorf("check templates: %w", err)
	}
	return nil
}

// Authorize changes only who may log in to the tree, which may be in use: key is the container's own, empty for none, and
// the others are taken out. The change is on disk when it returns.
func Authorize(dataset *os.Root, key string, others []string) error {
	tree, err := openTree(dataset)
	if err != nil {
		return err
	}
	defer tree.root.Close()
	tree.durable = true
	if err := tree.setAuthorizedKey(key, others); err != nil {
		return fmt.Errorf("set authorized key: %w", err)
	}
	return nil
}

// Keep reads the part of an identity that the next generation of the same container has to carry.
func Keep(dataset *os.Root) (*Kept, error) {
	tree, err := openTree(dataset)
	if err != nil {
		return nil, err
	}
	defer tree.root.Close()
	kept := &Kept{}
	if kept.MachineID, err = tree.machineID(); err != nil {
		return nil, fmt.Errorf("read machine id: %w", err)
	}
	if kept.HostKeys, err = tree.hostKeys(); err != nil {
		return nil, fmt.Errorf("read ssh host keys: %w", err)
	}
	return kept, nil
}
