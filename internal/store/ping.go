package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Pong is what Ping found out.
type Pong struct {
	Took time.Duration // of a linearizable read
	Kept int64         // how many revisions of the past etcd keeps at least, where those are more than it would keep if it compacted; else 0
}

// manyRevisions is what a fleet that works makes in a day or two.
const manyRevisions = 250_000

// Ping tells whether the etcd at the options' endpoints answers, and is one that the agents can rely on (errdefs.ErrUnsupported). It opens nothing and
// writes nothing.
func Ping(ctx context.Context, opts Options) (pong Pong, err error) {
	opts, err = opts.withDefaults()
	if err != nil {
		return Pong{}, err
	}
	if opts.Embedded != nil {
		return Pong{}, fmt.Errorf("ping: an embedded etcd is its agent's alone: %w", errdefs.ErrUnsupported)
	}
	client, err := connect(opts.Endpoints, opts)
	if err != nil {
		return Pong{}, fmt.Errorf("ping: %w", err)
	}
	defer func() {
		if closed := client.Close(); err == nil && closed != nil && !errors.Is(closed, context.Canceled) {
			err = fmt.Errorf("ping: %w", closed)
		}
	}()
	key, began := keyspace(opts.Prefix).storeID(), time.Now()
	newest, err := client.Get(ctx, key)
	if err != nil {
		return Pong{}, etcdError("ping", err)
	}
	pong.Took = time.Since(began)
	if err := checkVersions(ctx, client); err != nil {
		return Pong{}, fmt.Errorf("ping: %w", err)
	}
	if newest.Header.Revision <= manyRevisions {
		return pong, nil
	}
	_, err = client.Get(ctx, key, clientv3.WithRev(newest.Header.Revision-manyRevisions))
	if errors.Is(err, rpctypes.ErrCompacted) {
		return pong, nil
	}
	pong.Kept = manyRevisions
	return pong, etcdError("ping", err)
}
