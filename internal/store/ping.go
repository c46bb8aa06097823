package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Ping tells whether the etcd at the options' endpoints answers a linearizable read. It opens nothing and writes nothing.
func Ping(ctx context.Context, opts Options) (err error) {
	opts, err = opts.withDefaults()
	if err != nil {
		return err
	}
	if opts.Embedded != nil {
		return fmt.Errorf("ping: an embedded etcd is its agent's alone: %w", errdefs.ErrUnsupported)
	}
	client, err := connect(opts.Endpoints, opts)
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	defer func() {
		if closed := client.Close(); err == nil && closed != nil && !errors.Is(closed, context.Canceled) {
			err = fmt.Errorf("ping: %w", closed)
		}
	}()
	_, err = client.Get(ctx, keyspace(opts.Prefix).storeID())
	return etcdError("ping", err)
}
