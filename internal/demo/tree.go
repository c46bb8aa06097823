package demo

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
)

// identityFiles are a container's own: they differ between a source and its copies.
var identityFiles = []string{
	"root/.ssh/authorized_keys", "etc/hostname", "etc/hosts", "etc/machine-id", "var/lib/dbus/machine-id", "etc/ssh/ssh_host_*",
}

// identityDirectories may be made for them.
var identityDirectories = []string{"root/.ssh", "etc/ssh", "var/lib/dbus"}

// treeHash is the sha256 of names, modes, links and contents below a directory, apart from the identity.
func treeHash(root *os.Root) (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || ownIdentity(name) {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%q %s", name, info.Mode())
		switch {
		case info.Mode().IsRegular():
			fmt.Fprintf(sum, " %d\n", info.Size())
			return copyFile(sum, root, name)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := root.Readlink(name)
			fmt.Fprintf(sum, " %q\n", target)
			return err
		}
		fmt.Fprintln(sum)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("read files: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func ownIdentity(name string) bool {
	return slices.Contains(identityDirectories, name) || slices.ContainsFunc(identityFiles, func(pattern string) bool {
		own, err := path.Match(pattern, name)
		return err == nil && own
	})
}

func copyFile(w io.Writer, root *os.Root, name string) error {
	file, err := root.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(w, file)
	return err
}
