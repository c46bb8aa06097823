package doctor

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Pool is what is asked of ZFS.
type Pool interface {
	// Root is the dataset that the agent shares with Incus, such as tank/incus; empty while it is not known.
	Root() string
	// Versions returns what the commands and the kernel module call themselves, such as "zfs-2.3.9-1" and "zfs-kmod-2.3.9-1".
	Versions(ctx context.Context) (commands, module string, err error)
	// State returns the pool's health and which part of it is in use, 0 to 1.
	State(ctx context.Context) (health string, used float64, err error)
	// Features returns the pool's features and their states: disabled, enabled or active.
	Features(ctx context.Context) (map[string]string, error)
	// Foreign lists the datasets below the agent's place in the pool that are not its own.
	Foreign(ctx context.Context) ([]string, error)
}

// oldestZFS is the first version that knows every flag and property that the agent uses.
var oldestZFS = [2]int{2, 2}

// ZFSVersion checks that ZFS works, is new enough, and of one piece.
func ZFSVersion(pool Pool) Check {
	return Check{Name: "zfs", Look: func(ctx context.Context) []Finding {
		commands, module, err := pool.Versions(ctx)
		if err != nil {
			return fail("install zfsutils-linux, load the module (modprobe zfs), and be root", "zfs does not work: %v", err)
		}
		version, readable := versionOf(module)
		switch {
		case !readable:
			return warn("", "the module calls itself %q; nothing is known of that version", module)
		case version[0] < oldestZFS[0] || version[0] == oldestZFS[0] && version[1] < oldestZFS[1]:
			return fail("install OpenZFS 2.2 or newer; Debian has it in backports", "%s is too old", module)
		}
		if other, readable := versionOf(commands); readable && other != version {
			return warn("reboot, or reload the module, so that both are of one version", "commands (%s) and module (%s) are of different versions", commands, module)
		}
		return ok("%s", module)
	}}
}

// versionOf reads 2 and 3 out of "zfs-kmod-2.3.9-1".
func versionOf(text string) (version [2]int, ok bool) {
	for part := range strings.SplitSeq(text, "-") {
		major, rest, found := strings.Cut(part, ".")
		minor, _, _ := strings.Cut(rest, ".")
		first, err := strconv.Atoi(major)
		second, err2 := strconv.Atoi(minor)
		if found && err == nil && err2 == nil {
			return [2]int{first, second}, true
		}
	}
	return version, false
}

// neededFeatures are what streams between agents make use of, whatever the containers hold.
var neededFeatures = []string{"bookmarks", "embedded_data", "enabled_txg", "extensible_dataset", "hole_birth", "large_blocks", "lz4_compress"}

// usefulFeatures are needed as soon as a source on another server uses them.
var usefulFeatures = []string{"large_dnode", "zstd_compress"}

// PoolFeatures checks that the pool can receive what other servers send.
func PoolFeatures(pool Pool) Check {
	return Check{Name: "features", Look: func(ctx context.Context) []Finding {
		features, err := pool.Features(ctx)
		if err != nil {
			return fail("zpool status", "the pool's features cannot be read: %v", err)
		}
		missing := func(name string) bool { return features[name] != "enabled" && features[name] != "active" }
		upgrade := fmt.Sprintf("zpool upgrade %s, once no older system has to import it", zpoolOf(pool.Root()))
		if lacks := filter(neededFeatures, missing); len(lacks) > 0 {
			return fail(upgrade, "the pool lacks %s: streams cannot be received", strings.Join(lacks, ", "))
		}
		if lacks := filter(usefulFeatures, missing); len(lacks) > 0 {
			return warn(upgrade,
				"the pool lacks %s: containers that use it on another server cannot be copied here", strings.Join(lacks, ", "))
		}
		return ok("all that streams need")
	}}
}

// zpoolOf is the pool that a dataset is in.
func zpoolOf(dataset string) string {
	pool, _, _ := strings.Cut(dataset, "/")
	return pool
}

func filter(names []string, keep func(string) bool) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !keep(name) })
}

// Where a pool gets slow, and where receives fail.
const (
	nearlyFull = 0.85
	full       = 0.95
)

// PoolState checks the pool's health and space.
func PoolState(pool Pool) Check {
	return Check{Name: "pool", Look: func(ctx context.Context) []Finding {
		health, used, err := pool.State(ctx)
		if err != nil {
			return fail("zpool status; zpool import; zpool clear for a suspended one", "the pool does not answer: %v", err)
		}
		findings := []Finding{}
		switch health {
		case "ONLINE":
		case "DEGRADED":
			findings = append(findings, warn("zpool status -x says what to replace", "the pool is DEGRADED")...)
		default:
			findings = append(findings, fail("zpool status -x says what to mend", "the pool is %s", health)...)
		}
		const hint = "delete containers and snapshots, then hoody-agent gc --apply; or add disks"
		switch {
		case used >= full:
			findings = append(findings, fail(hint, "the pool is %.0f %% full: copies and syncs will fail", 100*used)...)
		case used >= nearlyFull:
			findings = append(findings, warn(hint, "the pool is %.0f %% full", 100*used)...)
		}
		if len(findings) == 0 {
			return ok("%s, %.0f %% full", health, 100*used)
		}
		return findings
	}}
}

// ForeignDatasets checks that nobody else keeps anything where the agent works.
func ForeignDatasets(pool Pool) Check {
	return Check{Name: "datasets", Look: func(ctx context.Context) []Finding {
		foreign, err := pool.Foreign(ctx)
		if err != nil {
			return fail("zfs list", "datasets cannot be listed: %v", err)
		}
		if len(foreign) == 0 {
			return ok("nothing foreign below hoody/")
		}
		first, root := foreign[0], pool.Root()
		const shown = 5
		more := ""
		if len(foreign) > shown {
			foreign, more = foreign[:shown], " and more"
		}
		hint := fmt.Sprintf("move them elsewhere (zfs rename %s/%s %s/%s); the agent leaves them alone, but what they depend on cannot be collected",
			root, first, zpoolOf(root), path.Base(first))
		return warn(hint, "not the agent's: %s%s", strings.Join(foreign, ", "), more)
	}}
}
