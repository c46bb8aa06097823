package store

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Ping tells whether the etcd at the options' endpoints answers a linearizable read, and is one that the agents can rely on (errdefs.ErrUnsupported). kept
// is how many revisions it has made without ever dropping old ones; 0 when it does drop them. Ping opens nothing and writes nothing.
func Ping(ctx context.Context, opts Options) (kept int64, err error) {
	opts, err = opts.withDefaults()
	if err != nil {
		return 0, err
	}
	if opts.Embedded != nil {
		return 0, fmt.Errorf("ping: an embedded etcd is its agent's alone: %w", errdefs.ErrUnsupported)
	}
	client, err := connect(opts.Endpoints, opts)
	if err != nil {
		return 0, fmt.Errorf("ping: %w", err)
	}
	defer func() {
		if closed := client.Close(); err == nil && closed != nil && !errors.Is(closed, context.Canceled) {
			err = fmt.Errorf("ping: %w", closed)
		}
	}()
	key := keyspace(opts.Prefix).storeID()
	newest, err := client.Get(ctx, key)
	if err != nil {
		return 0, etcdError("ping", err)
	}
	if err := checkVersions(ctx, client); err != nil {
		return 0, fmt.Errorf("ping: %w", err)
	}
	_, err = client.Get(ctx, key, clientv3.WithRev(1))
	if errors.Is(err, rpctypes.ErrCompacted) {
		return 0, nil
	}
	return newest.Header.Revision, etcdError("ping", err)
}
