//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/client"
)

// box is a container seen from its host.
type box struct {
	*node
	id string
}

func (n *node) box(id string) box { return box{n, id} }

func (b box) instance() string { return "hoody-" + b.id }
func (b box) dataset() string  { return pool + "/containers/" + b.instance() }

// identityPaths are the container's own and differ between a source and its copy.
var identityPaths = []string{
	"./root/.ssh/authorized_keys", "./etc/hostname", "./etc/machine-id", "./var/lib/dbus/machine-id", "./etc/ssh/ssh_host_*", "./etc/hosts",
}

// noisyPaths are written by a booting Debian; whether they are equal depends on who was up when.
var noisyPaths = []string{"./var/log", "./run", "./tmp", "./var/lib/systemd", "./var/tmp", "./etc/resolv.conf", "./etc/.pwd.lock", "./var/cache", "./etc/ld.so.cache"}

// treeHash is the sha256 of names, modes and contents of the container's files, apart from its identity. The dataset is
// read through a mount of its own, so that it works whether the container runs or not.
func (b box) treeHash(ctx context.Context) string { return b.hashOf(ctx, b.dataset()) }

// snapshotHash is treeHash of a snapshot.
func (b box) snapshotHash(ctx context.Context, snapshot string) string {
	return b.hashOf(ctx, b.dataset()+"@"+snapshot)
}

func (b box) hashOf(ctx context.Context, dataset string) string {
	b.t.Helper()
	var prune []string
	for _, path := range append(slices.Clone(identityPaths), noisyPaths...) {
		prune = append(prune, "-path '"+path+"' -prune -o")
	}
	script := `set -e
dir=$(mktemp -d)
mount -t zfs "$0" "$dir"
trap 'umount "$dir"; rmdir "$dir"' EXIT
cd "$dir/rootfs"
{ find . -xdev ` + strings.Join(prune, " ") + ` -type f -print0 | sort -z | xargs -0 -r sha256sum
  find . -xdev ` + strings.Join(prune, " ") + ` \( -type d -o -type l -o -type f \) -printf '%p %y %m %l\n' | sort; } | sha256sum | cut -d' ' -f1
cd /`
	return b.run(ctx, "sh", "-c", script, dataset)
}

// rootfs is where a running container's files are on its host.
func (b box) rootfs() string {
	return "/var/lib/incus/storage-pools/default/containers/" + b.instance() + "/rootfs"
}

// fill writes bytes of random data from outside: an order of magnitude faster than from within.
func (b box) fill(ctx context.Context, path string, bytes int64, seed uint64) {
	b.t.Helper()
	b.writeFrom(ctx, filepath.Join(b.rootfs(), path), io.LimitReader(rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}), bytes))
}

func (b box) put(ctx context.Context, path, content string) {
	b.t.Helper()
	b.write(ctx, filepath.Join(b.rootfs(), path), content)
}

// exec runs a command inside the container.
func (b box) exec(ctx context.Context, argv ...string) string {
	b.t.Helper()
	return b.run(ctx, append([]string{"incus", "exec", b.instance(), "-T", "-n", "--"}, argv...)...)
}

// file reads a file of the container, running or not.
func (b box) file(ctx context.Context, path string) string {
	b.t.Helper()
	script := `set -e
dir=$(mktemp -d)
mount -t zfs "$0" "$dir"
trap 'umount "$dir"; rmdir "$dir"' EXIT
cat "$dir/rootfs/$1" 2>/dev/null || true
cd /`
	return b.run(ctx, "sh", "-c", script, b.dataset(), path)
}

func (b box) state(ctx context.Context) string {
	b.t.Helper()
	return b.run(ctx, "incus", "list", "-f", "csv", "-c", "s", "^"+b.instance()+"$")
}

// pid of the container's init tells whether it was restarted.
func (b box) pid(ctx context.Context) string {
	b.t.Helper()
	return b.run(ctx, "sh", "-c", `incus info "$0" | sed -n 's/^PID: //p'`, b.instance())
}

// guids are the snapshots' GUIDs that a container's current lineage holds, by short name.
func (b box) guids(ctx context.Context) map[string]string {
	b.t.Helper()
	guids := make(map[string]string)
	dataset := b.dataset()
	for dataset != "-" && dataset != "" {
		listed := b.run(ctx, "zfs", "list", "-Hp", "-t", "snapshot", "-d", "1", "-o", "name,guid", dataset)
		for line := range strings.Lines(listed) {
			name, guid, _ := strings.Cut(strings.TrimSpace(line), "\t")
			_, short, _ := strings.Cut(name, "@")
			guids[short] = guid
		}
		origin := b.run(ctx, "zfs", "get", "-Hp", "-o", "value", "origin", dataset)
		dataset, _, _ = strings.Cut(origin, "@")
	}
	return guids
}

// settled waits for the operation on a container and requires its state after.
func (n *node) settled(ctx context.Context, id string, want contract.ContainerStatus) contract.Container {
	n.t.Helper()
	container, err := n.api.Settle(ctx, id)
	if err != nil {
		n.t.Fatal(err)
	}
	if container.Status != want {
		reason := ""
		if container.FailureReason != nil {
			reason = *container.FailureReason
		}
		n.t.Fatalf("container %s (%s) is %s, want %s: %s", id, container.Name, container.Status, want, reason)
	}
	return container
}

// sync syncs a copy, waits, and returns what it took.
func (n *node) sync(ctx context.Context, id string, want contract.ContainerStatus) contract.LastOperation {
	n.t.Helper()
	if err := n.api.Sync(ctx, id); err != nil {
		n.t.Fatal(err)
	}
	container := n.settled(ctx, id, want)
	last := container.LastOperation
	if last == nil || last.Kind != "sync" || last.State != "done" {
		n.t.Fatalf("last operation of %s: %+v, want a finished sync", id, last)
	}
	return *last
}

func (n *node) copy(ctx context.Context, source string, body map[string]any) client.Created {
	n.t.Helper()
	created, err := n.api.Copy(ctx, source, body)
	if err != nil {
		n.t.Fatal(err)
	}
	if created.Status != "copying" {
		n.t.Fatalf("copy is answered with status %s, want copying", created.Status)
	}
	return created
}

// holdings lists everything that an operation could leave behind on a host: datasets, snapshots, instances.
func (n *node) holdings(ctx context.Context) string {
	n.t.Helper()
	return n.run(ctx, "zfs list -H -r -t all -o name "+pool+" && incus list -f csv -c n && incus snapshot list -f csv 2>/dev/null; true")
}

func runLocal(t *testing.T, name string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, stderrOf(err))
	}
	return string(out)
}

func stderrOf(err error) string {
	if failed, ok := err.(*exec.ExitError); ok {
		return string(failed.Stderr)
	}
	return ""
}

// repository is a path below the repository's root.
func repository(path string) string { return filepath.Join("..", "..", path) }

func mib[N int | int64 | uint64](bytes N) string {
	return fmt.Sprintf("%.2f MiB", float64(bytes)/(1<<20))
}
