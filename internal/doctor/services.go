package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Incus is what is asked of Incus.
type Incus interface {
	// Check answers whether Incus works and has the storage pool that is configured, with the zfs driver.
	Check(ctx context.Context) error
	// PoolDataset returns the dataset of that storage pool.
	PoolDataset(ctx context.Context) (string, error)
	// CountsHistory tells whether containers' size limits count their snapshots, too.
	CountsHistory(ctx context.Context) (bool, error)
}

// IncusPool checks that Incus can be reached, and that it keeps its instances where the agent looks for them: in a storage pool, and in dataset,
// the configured one; empty when it is asked from Incus.
func IncusPool(incus Incus, pool, dataset string) Check {
	return Check{Name: "incus", Look: func(ctx context.Context) []Finding {
		err := incus.Check(ctx)
		switch {
		case errors.Is(err, errdefs.ErrPermissionDenied):
			return fail("be root, or a member of incus-admin", "Incus does not let us: %v", err)
		case errors.Is(err, errdefs.ErrNotFound):
			return fail("set incus.pool to one of incus storage list, with the driver zfs", "Incus has no such storage pool: %v", err)
		case errors.Is(err, errdefs.ErrUnsupported):
			return fail("the pool needs the driver zfs, and Incus has to be 6.0 or newer", "%v", err)
		case err != nil:
			return fail("systemctl status incus; incus.socket says where it is looked for", "Incus does not answer: %v", err)
		}
		actual, err := incus.PoolDataset(ctx)
		if err != nil {
			return fail("incus storage show "+pool, "the storage pool's dataset is not known: %v", err)
		}
		if dataset != "" && dataset != actual {
			return fail("leave zfs.dataset empty, so that Incus is asked, or set it to "+actual,
				"zfs.dataset is %s, but Incus keeps its instances in %s", dataset, actual)
		}
		counts, err := incus.CountsHistory(ctx)
		if err != nil {
			return fail("incus storage show "+pool, "the storage pool's settings are not known: %v", err)
		}
		if counts {
			return warn(fmt.Sprintf("incus storage set %s volume.zfs.use_refquota=true; it holds for containers made from then on", pool),
				"size limits of containers count their snapshots, too: a copy with a limit may find it used up by the history of its source, which stays then")
		}
		return ok("answers, instances are in %s", actual)
	}}
}

// Store checks that etcd answers, is not too old (errdefs.ErrUnsupported), and drops the past now and then. ping says how long one linearizable read took
// and, where etcd does not drop it, how much of the past it keeps.
func Store(where string, ping func(context.Context) (took time.Duration, kept int64, err error)) Check {
	return Check{Name: "etcd", Look: func(ctx context.Context) []Finding {
		took, kept, err := ping(ctx)
		switch {
		case errors.Is(err, errdefs.ErrUnsupported):
			return fail("update it", "%v", err)
		case err != nil:
			return fail("start it, or mend the network or the certificates to it; until then changes are refused and reads are old",
				"%s does not answer: %v", where, err)
		case kept > 0:
			return warn("start each member with --auto-compaction-retention=1h; until then etcdctl compact and etcdctl defrag",
				"%s keeps %d revisions of the past and more: its quota fills up, and then changes are refused", where, kept)
		case took > time.Second:
			return warn("look at its disk and network: every phase of an operation waits for it", "%s takes %s to answer", where, took.Round(time.Millisecond))
		}
		return ok("%s answers", where)
	}}
}

// TokenKey checks that tokens can be verified. load reads the configured key.
func TokenKey(load func() error) Check {
	return Check{Name: "token key", Look: func(context.Context) []Finding {
		if err := load(); err != nil {
			return fail("auth.key_file needs the public key that fits auth.algorithm, as PEM (hoody-agent token keygen --dir ./auth makes a pair)",
				"tokens cannot be checked: %v", err)
		}
		return ok("readable, and fits the algorithm")
	}}
}

// Config checks the configuration. load reads and checks it.
func Config(load func() error) Check {
	return Check{Name: "config", Look: func(context.Context) []Finding {
		if err := load(); err != nil {
			return fail("mend the file, then hoody-agent config check", "%v", err)
		}
		return ok("valid")
	}}
}
